"""Real servers for tests/api: one control plane without kubelets, and the real operator with the rights of its manifests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest

from e2e.plane import OPERATOR_USER, Plane
from tests.api.operator_process import Operator
from tests.api.world import World

_numbers = itertools.count()


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """etcd, kube-apiserver, controller manager, scheduler, KWOK and KubeRay, with three roomy nodes."""
    made = Plane(tmp_path_factory.mktemp("plane") / "work")
    try:
        made.up(controllers=True, nodes=3, gpus=64, audit=True)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def session_operator(plane: Plane) -> Iterator[Operator]:
    """The one operator of the session; tests that kill it use `operator`, which has it running again for the next."""
    made = Operator(plane)
    made.start()
    yield made
    if made.running:
        made.stop()
    denied = [line for line in (plane.work / "audit.log").read_text().splitlines() if _denied(line)]
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
def make_world(plane: Plane, operator: Operator) -> Iterator[Callable[..., World]]:
    """Worlds with labels on their namespaces, such as pod_security="restricted"."""
    made: list[World] = []

    def make(*, pod_security: str | None = None) -> World:
        namespace = f"t{next(_numbers):03d}"
        labels = {"pod-security.kubernetes.io__enforce": pod_security} if pod_security else {}
        plane.ensure_namespace(namespace, **labels)
        made.append(World(plane=plane, operator=operator, namespace=namespace))
        return made[-1]

    yield make
    for world in made:
        world.clean()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
