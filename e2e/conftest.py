"""Fixtures: one cluster for the whole run, a namespace per test, and the tests of the full run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from e2e import cluster_under_test, demo
from e2e.cluster import kind, nodes, shell

FULL = os.environ.get("OMNI_E2E_FULL") == "1"
# A developer's cluster stays; CI sets 0.
KEEP = os.environ.get("OMNI_E2E_KEEP", "1") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects tests that are marked `full`, except with OMNI_E2E_FULL=1."""
    later = [] if FULL else [item for item in items if item.get_closest_marker("full")]
    if later:
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if item not in later]


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """The kind cluster with KubeRay, the operator by Helm, and the stand-in image."""
    cluster_under_test.up(with_engine=False, with_standin=True)
    with shell.step("removing what `make demo` keeps, whose CPU the tests need"):
        nodes.kubectl("delete", "omni", demo.NAME, "-n", demo.NAMESPACE, "--ignore-not-found", "--timeout=180s")
    yield
    if not KEEP:
        kind.down()


@pytest.fixture(scope="session")
def real_engine(cluster: None) -> None:
    """The image with the real engine, on the nodes."""
    cluster_under_test.up(with_engine=True, with_standin=False)


@pytest.fixture(scope="session")
def modern_engine(cluster: None) -> None:
    """The image with vllm-omni 0.30, on the nodes."""
    cluster_under_test.modern()


@pytest.fixture
def space(cluster: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test; gone, with all that was in it, before the next one starts."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    cluster_under_test.namespace(name)
    yield name
    nodes.kubectl("delete", "omni", "--all", "-n", name, "--timeout=180s")
    nodes.kubectl("delete", "namespace", name, "--wait=false")
