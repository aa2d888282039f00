"""Servers for tests/api: a control plane without kubelets, and the operator with its own RBAC."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest

from e2e.control_plane import OPERATOR_USER, ControlPlane
from tests.api.namespace_under_test import NamespaceUnderTest
from tests.api.operator_process import Operator

_numbers = itertools.count()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane with KWOK and KubeRay, and three nodes of 64 accelerators."""
    made = ControlPlane(tmp_path_factory.mktemp("control-plane") / "work")
    try:
        made.up(controllers=True, nodes=3, gpus=64, audit=True)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def session_operator(control_plane: ControlPlane) -> Iterator[Operator]:
    """The one operator of the session; `operator` starts it again after a test that killed it."""
    made = Operator(control_plane)
    made.start()
    yield made
    if made.running:
        made.stop()
    denied = [line for line in (control_plane.work / "audit.log").read_text().splitlines() if _denied(line)]
    assert not denied, f"manifests/base/rbac.yaml does not allow: {denied[:3]}"


def _denied(line: str) -> bool:
    if OPERATOR_USER not in line or 'k8s.io/decision":"forbid"' not in line:
        return False
    return bool(json.loads(line)["responseStatus"]["code"] == 403)


@pytest.fixture
def operator(session_operator: Operator) -> Operator:
    if not session_operator.running:
        session_operator.start()
    return session_operator


@pytest.fixture
def make_space(control_plane: ControlPlane, operator: Operator) -> Iterator[Callable[..., NamespaceUnderTest]]:
    """Makes namespaces, also with a pod security level such as "restricted"."""
    made: list[NamespaceUnderTest] = []

    def make(*, pod_security: str | None = None) -> NamespaceUnderTest:
        namespace = f"t{next(_numbers):03d}"
        labels = {"pod-security.kubernetes.io__enforce": pod_security} if pod_security else {}
        control_plane.ensure_namespace(namespace, **labels)
        made.append(NamespaceUnderTest(control_plane=control_plane, operator=operator, namespace=namespace))
        return made[-1]

    yield make
    for space in made:
        space.clean()


@pytest.fixture
def space(make_space: Callable[..., NamespaceUnderTest]) -> NamespaceUnderTest:
    return make_space()
