"""What nodes offer, to whom, and what pods have taken of it."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.topology import read
from omni_operator.topology.inventory import Inventory, Node, Taint, Toleration, rdma_resources
from tests.unit.make import GPU, node

HARD, SOFT = Taint("gpu", "yes", "NoSchedule"), Taint("gpu", "yes", "PreferNoSchedule")
EVICT = Taint("down", "", "NoExecute")


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        (Toleration(key="gpu", value="yes"), True),
        (Toleration(key="gpu", value="no"), False),
        (Toleration(key="gpu", operator="Exists"), True),
        (Toleration(key="gpu", operator="Exists", effect="NoExecute"), False),
        (Toleration(key="gpu", operator="Exists", effect="NoSchedule"), True),
        (Toleration(operator="Exists"), True),
        (Toleration(operator="Exists", effect="NoExecute"), False),
        (Toleration(), False),
        (Toleration(key="other", operator="Exists"), False),
    ],
)
def test_tolerations(toleration: Toleration, tolerated: bool) -> None:
    assert toleration.tolerates(HARD) is tolerated


@pytest.mark.parametrize(
    ("it", "selector", "tolerations", "admitted"),
    [
        (node("a"), {}, (), True),
        (node("a", ready=False), {}, (), False),
        (node("a", cordoned=True), {}, (), False),
        (node("a", labels={"pool": "gpu"}), {"pool": "gpu"}, (), True),
        (node("a", labels={"pool": "cpu"}), {"pool": "gpu"}, (), False),
        (node("a"), {"pool": "gpu"}, (), False),
        (node("a", taints=(HARD,)), {}, (), False),
        (node("a", taints=(SOFT,)), {}, (), True),
        (node("a", taints=(HARD,)), {}, (Toleration(key="gpu", operator="Exists"),), True),
        (node("a", taints=(HARD, EVICT)), {}, (Toleration(key="gpu", operator="Exists"),), False),
    ],
)
def test_who_may_use_a_node(
    it: Node, selector: dict[str, str], tolerations: tuple[Toleration, ...], admitted: bool
) -> None:
    assert it.admits(selector=selector, tolerations=tolerations) is admitted
    found = Inventory.of([it]).admitting(selector=selector, tolerations=iter(tolerations))
    assert bool(found) is admitted


def test_tolerations_may_be_an_iterator_for_many_nodes() -> None:
    both = Inventory.of([node("a", taints=(HARD,)), node("b", taints=(HARD,))])
    assert len(both.admitting(selector={}, tolerations=iter([Toleration(operator="Exists")]))) == 2


def test_what_pods_hold_is_taken_off_and_nodes_are_sorted() -> None:
    held = [("b", {GPU: 1}), ("b", {GPU: 2, "rdma/hca": 1}), ("gone", {GPU: 5}), ("a", {GPU: 9})]
    found = Inventory.of([node("b", 4, rdma=2), node("a", 2)], held)
    assert [n.name for n in found.nodes] == ["a", "b"]
    assert found.nodes[1].available == {GPU: 1, "rdma/hca": 1}
    assert found.nodes[0].available == {GPU: 0}  # never negative, even when a device has vanished below its pod
    assert found.nodes[1].allocatable == {GPU: 4, "rdma/hca": 2}


def test_rdma_resources_are_known_by_their_prefix() -> None:
    assert rdma_resources(node("a", 1, rdma=1, allocatable={"rdma/b": 1, "rdma/none": 0, "x/rdma": 1})) == (
        "rdma/b",
        "rdma/hca",
    )


RAW_NODE: dict[str, Any] = {
    "metadata": {"name": "a", "labels": {"zone": "x"}},
    "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoSchedule"}]},
    "status": {
        "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
        "allocatable": {
            "cpu": "7910m",
            "memory": "1Gi",
            "hugepages-2Mi": "0",
            GPU: "8",
            "rdma/shared": "1k",
            "rdma/ib": "0",
        },
    },
}


def test_a_node_is_read() -> None:
    found = read.node(RAW_NODE)
    assert (found.name, found.ready, found.cordoned) == ("a", True, True)
    assert found.taints == (Taint("k", "", "NoSchedule"),)
    assert found.labels == {"zone": "x"}


def test_devices_are_quantities() -> None:
    """A shared RDMA device plugin offers 1000 by default, which the API server writes as 1k."""
    assert read.node(RAW_NODE).allocatable == {GPU: 8, "rdma/shared": 1000, "rdma/ib": 0}


@pytest.mark.parametrize("ready", ["False", "Unknown", None])
def test_a_node_that_does_not_say_it_is_ready_is_not(ready: str | None) -> None:
    conditions = [] if ready is None else [{"type": "Ready", "status": ready}]
    assert not read.node({"metadata": {"name": "a"}, "status": {"conditions": conditions}}).ready


def _pod(node_name: str = "a", phase: str = "Running", **spec: Any) -> dict[str, Any]:
    containers = [{"resources": {"limits": {"cpu": "1", GPU: "1"}}}, {"resources": {"limits": {GPU: "2"}}}, {}]
    return {"spec": {"nodeName": node_name, "containers": containers, **spec}, "status": {"phase": phase}}


def test_what_a_pod_holds() -> None:
    assert read.held_by(_pod()) == ("a", {GPU: 3})
    starting = [{"resources": {"limits": {GPU: "5"}}}, {"resources": {"limits": {GPU: "4"}}}]
    assert read.held_by(_pod(initContainers=starting)) == ("a", {GPU: 5})


@pytest.mark.parametrize(
    "pod", [_pod(node_name=""), _pod(phase="Succeeded"), _pod(phase="Failed"), _pod(containers=[{}])]
)
def test_pods_that_hold_nothing(pod: dict[str, Any]) -> None:
    assert read.held_by(pod) is None
