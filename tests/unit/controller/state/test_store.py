"""What the store keeps of OmniDeployments, and which events are a reason to reconcile."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.children.names import COMPONENT, MANAGED_BY, MANAGER, NAME, Component
from omni_operator.controller.state import decode
from omni_operator.controller.state.store import Store


class Woken:
    """A store, and the keys that it asked to reconcile."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        client: Any = None
        self.store = Store(kube=client, enqueue=self.keys.append, capacity_changed=lambda: None)

    def by(self, kind: str, raw: dict[str, Any]) -> bool:
        """Whether a new state of an object is a reason."""
        self.keys.clear()
        reflectors: dict[str, Any] = {"Pod": self.store.pods, "Node": self.store.nodes, **self.store.children}
        reflectors[kind].upsert(raw)
        assert set(self.keys) <= {"ns/omni"}
        return bool(self.keys)


@pytest.fixture
def woken() -> Woken:
    return Woken()


def omni(uid: str, version: int) -> Any:
    meta = {"namespace": "ns", "name": "omni", "uid": uid, "resourceVersion": str(version)}
    return decode.omni({"metadata": meta})


def test_a_late_answer_brings_no_ghost_back(woken: Woken) -> None:
    """The answer to the removal of the finalizer may come after the watch's DELETED."""
    store = woken.store
    assert store.upsert(omni("first", 5))
    store.end("ns/omni", "first")
    assert not store.upsert(omni("first", 7))
    assert store.omnis == {}
    assert store.upsert(omni("second", 8)), "another of its name is no ghost"


def test_what_a_watch_brings_is_there_whatever_was_believed(woken: Woken) -> None:
    """A proxy's 404 to one write must not hide an OmniDeployment until the operator restarts."""
    woken.store.upsert(omni("first", 5))
    woken.store.remove("ns/omni", "first")
    assert woken.store.upsert(omni("first", 6))
    assert woken.store.upsert(omni("first", 7))


def test_a_late_answer_hides_no_successor(woken: Woken) -> None:
    store = woken.store
    store.upsert(omni("second", 8))
    assert not store.upsert(omni("first", 7))
    assert store.omnis["ns/omni"].uid == "second"


def pod(version: int, *, node: str = "", ready: str = "False", **status: Any) -> dict[str, Any]:
    labels = {NAME: "omni", COMPONENT: Component.WORKER.value}
    meta = {"namespace": "ns", "name": "p", "uid": "p", "resourceVersion": str(version), "labels": labels}
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    return {"metadata": meta, "spec": {"nodeName": node}, "status": {"conditions": conditions, **status}}


def test_a_pod_on_its_way_is_a_reason_when_it_is_placed_and_when_it_is_ready(woken: Woken) -> None:
    assert not woken.by("Pod", pod(1))
    assert woken.by("Pod", pod(2, node="n"))
    assert not woken.by("Pod", pod(3, node="n", phase="Pending"))
    assert not woken.by("Pod", pod(4, node="n", phase="Running", podIP="10.0.0.1"))
    assert woken.by("Pod", pod(5, node="n", phase="Running", ready="True"))


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Failed"},
        {"conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "no node"}]},
        {"containerStatuses": [{"name": "c", "restartCount": 1}]},
        {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ErrImagePull", "message": "x"}}}]},
    ],
)
def test_what_keeps_a_pod_from_running_is_a_reason(woken: Woken, status: dict[str, Any]) -> None:
    woken.by("Pod", pod(1))
    assert woken.by("Pod", pod(2) | {"status": status})


def test_a_pod_that_is_found_at_the_start_is_a_reason(woken: Woken) -> None:
    assert woken.by("Pod", pod(1, node="n", ready="True"))


def test_an_inventory_is_the_same_until_capacity_changes(woken: Woken) -> None:
    """Also that of a pipeline with pods, so that an edit that cannot be planned is planned once."""
    gpus = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}

    def placed(version: int, **status: Any) -> dict[str, Any]:
        raw = pod(version, node="n", **status)
        return {**raw, "spec": {**raw["spec"], **gpus}}

    woken.store.nodes.upsert(
        {"metadata": {"name": "n", "resourceVersion": "1"}, "status": {"allocatable": {"nvidia.com/gpu": "2"}}}
    )
    woken.by("Pod", placed(2))
    first = woken.store.inventory(without="ns/omni")
    assert first.nodes[0].available["nvidia.com/gpu"] == 2
    woken.by("Pod", placed(3, podIP="10.0.0.1"))
    assert woken.store.inventory(without="ns/omni") is first
    woken.by("Pod", placed(4, phase="Succeeded"))
    assert woken.store.inventory(without="ns/omni") is not first


def child(version: int, **parts: Any) -> dict[str, Any]:
    labels = {NAME: "omni", MANAGED_BY: MANAGER}
    meta = {"namespace": "ns", "name": "c", "uid": "c", "resourceVersion": str(version), "labels": labels}
    return {"metadata": meta, "spec": {"maxUnavailable": 1}, **parts}


def test_a_budget_whose_counts_change_is_none(woken: Woken) -> None:
    assert woken.by("PodDisruptionBudget", child(1))
    assert not woken.by("PodDisruptionBudget", child(2, status={"currentHealthy": 3}))
    assert woken.by("PodDisruptionBudget", child(3, spec={"maxUnavailable": 2}))


@pytest.mark.parametrize("label", [NAME, MANAGED_BY])
@pytest.mark.parametrize("kind", ["RayCluster", "Deployment"])
def test_a_child_that_somebody_labels_otherwise_leaves_the_index(woken: Woken, kind: str, label: str) -> None:
    """A ghost there would hide that the child is missing, and hold a deletion for ever."""
    woken.by(kind, child(1))
    changed = child(2)
    changed["metadata"]["labels"] = {**changed["metadata"]["labels"], label: "other"}
    keys: set[str] = set()
    woken.store.enqueue = keys.add
    woken.store.children[kind].upsert(changed)
    assert "ns/omni" in keys
    assert woken.store.children_of("ns/omni") == {}
    assert bool(woken.store.children_of("ns/other")) is (label == NAME)


def test_a_node_that_is_lost_is_a_reason_for_what_runs_there(woken: Woken) -> None:
    def node(version: int, ready: str) -> dict[str, Any]:
        status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {}}
        return {"metadata": {"name": "n", "resourceVersion": str(version)}, "status": status}

    woken.by("Node", node(1, "True"))
    woken.by("Pod", pod(2, node="n"))
    assert woken.by("Node", node(3, "Unknown"))
    assert not woken.by("Node", node(4, "Unknown"))
