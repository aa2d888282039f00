"""What a reconcile writes, against the real store and a client that only notes.

Races and orders that no server test can force.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from omni_operator.children import cleanup_pod
from omni_operator.children.names import (
    COMPONENT,
    FINALIZER,
    MANAGED_BY,
    MANAGER,
    NAME,
    REPLICA,
    REVISION,
    Component,
    Owner,
)
from omni_operator.controller.apply.omnideployment import OmniWriter
from omni_operator.controller.reconcile import Reconciler
from omni_operator.controller.rollout import shared_memory
from omni_operator.controller.rollout.actions import Builder, DeletePod
from omni_operator.controller.state.build import parse
from omni_operator.controller.state.objects import Child, Omni, Pod
from omni_operator.controller.state.snapshot import Snapshot
from omni_operator.controller.state.store import Store
from omni_operator.kube.client import ApiError

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
OWNER = Owner(namespace="ns", name="omni", uid="aaaaaaaa-0000")
FOLDER = "aaaaaaaa-0c0ffee0-0"
ENGINE = {"version": "0.16.0"}


def omni(**changes: Any) -> Omni:
    base = Omni(
        namespace="ns", name="omni", uid=OWNER.uid, resource_version="5", generation=1, deleting=False, finalizers=(),
        spec={"model": {"name": "m"}, "engine": ENGINE}, status={},
    )  # fmt: skip
    return replace(base, **changes)


def snapshot(
    subject: Omni, *, pods: tuple[Pod, ...] = (), children: dict[tuple[str, str], Child] | None = None
) -> Snapshot:
    return Snapshot(
        omni=subject, owner=OWNER, parsed=parse(subject.spec), now=NOW, revisions={},
        children=children or {}, pods=pods,
    )  # fmt: skip


def pod(name: str, component: Component, **changes: Any) -> Pod:
    labels = {NAME: "omni", REVISION: "0c0ffee0", REPLICA: "0", COMPONENT: component.value}
    base = Pod(
        namespace="ns",
        name=name,
        resource_version="1",
        node="n",
        phase="Running",
        ready=True,
        deleting=False,
        labels=labels,
    )
    return replace(base, **changes)


def cleanup_pod_of(phase: str, **changes: Any) -> Pod:
    name = cleanup_pod.name_for(OWNER, node="n", folder=FOLDER)
    created = "2026-01-01T11:59:55Z"
    return pod(name, Component.CLEANUP, phase=phase, owner_uid=OWNER.uid, created=created, **changes)


@dataclass
class Notes:
    """A client that notes what it is asked, and answers with what it is reported."""

    answer: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    refuse: dict[str, ApiError] = field(default_factory=dict)

    async def apply(self, resource: Any, obj: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.calls.append(("apply", obj["metadata"]["name"]))
        if "status" in obj:
            self.statuses.append(obj["status"])
        return self.answer

    async def create(self, resource: Any, obj: dict[str, Any]) -> dict[str, Any]:
        if resource.kind in self.refuse:
            raise self.refuse[resource.kind]
        self.calls.append(("create", obj["metadata"]["name"]))
        return {**obj, "metadata": {"uid": obj["metadata"]["name"], "resourceVersion": "1", **obj["metadata"]}}

    async def delete(self, resource: Any, namespace: str, name: str, **_: Any) -> bool:
        self.calls.append(("delete", name))
        return True


def raw_omni(*, generation: int, version: str) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": "omni", "uid": OWNER.uid, "resourceVersion": version, "generation": generation}
    return {"metadata": meta, "spec": {}, "status": {}}


@pytest.mark.parametrize(("generation", "keys"), [(1, []), (2, ["ns/omni"])])
async def test_an_edit_that_arrives_with_our_own_answer_is_reconciled(generation: int, keys: list[str]) -> None:
    """The events of such an edit are not newer than the answer.

    So nothing else would bring us back.
    """
    seen: list[str] = []
    client: Any = Notes(answer=raw_omni(generation=generation, version="7"))
    store = Store(kube=client, enqueue=seen.append, capacity_changed=lambda: None)
    store.upsert(omni())
    writer = OmniWriter(kube=client, store=store, instance="test", now=lambda: NOW)
    assert await writer.status(omni(), {"observedGeneration": 1})
    assert seen == keys


def test_a_cleanup_pod_of_a_folder_that_is_wanted_again_goes_first() -> None:
    subject, builder = omni(status={"nodeMemory": [{"node": "n", "revision": FOLDER}]}), Builder()
    running = cleanup_pod_of("Running")
    assert not shared_memory.cancel_cleanups(builder, snapshot(subject, pods=(running,)), [FOLDER])
    assert builder.steps == [[DeletePod(namespace="ns", name=running.name, uid=running.uid)]]
    assert shared_memory.cancel_cleanups(builder, snapshot(subject), [FOLDER])


def test_a_failed_cleanup_pod_is_not_replaced_at_api_speed() -> None:
    subject, builder = omni(status={"nodeMemory": [{"node": "n", "revision": FOLDER}]}), Builder()
    failed = cleanup_pod_of("Failed", termination_message="OutOfpods")
    left = shared_memory.clean(builder, snapshot(subject, pods=(failed,)), keep=())
    assert left == {("n", FOLDER)}
    assert builder.steps == []
    assert builder.requeue_after is not None
    assert "OutOfpods" in next(iter(builder.waits))


@pytest.mark.parametrize("text", ["x; rm -rf /", "../../etc", "bbbbbbbb-0c0ffee0-0", "aaaaaaaa-0c0ffee0-0/..", ""])
def test_status_names_no_folder_but_our_own(text: str) -> None:
    """Whoever may write status must not choose what a pod with the node's memory removes."""
    subject, builder = omni(status={"nodeMemory": [{"node": "n", "revision": text}]}), Builder()
    assert snapshot(subject).folders() == frozenset()
    assert shared_memory.clean(builder, snapshot(subject), keep=()) == frozenset()
    assert builder.steps == []


def raw_pod(version: int, **labels: str) -> dict[str, Any]:
    meta = {
        "namespace": "ns",
        "name": "p",
        "uid": "p",
        "resourceVersion": str(version),
        "labels": {NAME: "omni", **labels},
    }
    return {"metadata": meta, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}


def test_a_pod_that_becomes_somebody_elses_is_forgotten() -> None:
    client: Any = Notes()
    keys: list[str] = []
    store = Store(kube=client, enqueue=keys.append, capacity_changed=lambda: None)
    store.pods.upsert(raw_pod(1, **{REPLICA: "0"}))
    assert [p.name for p in store.pods_of("ns/omni")] == ["p"]
    store.pods.upsert(raw_pod(2, **{REPLICA: "x"}))
    assert store.pods_of("ns/omni") == ()
    store.pods.upsert(raw_pod(3, **{NAME: "other"}))
    assert [p.name for p in store.pods_of("ns/other")] == ["p"]
    assert keys == ["ns/omni", "ns/omni", "ns/other"]


def raw_node(name: str, *, ready: str = "True") -> dict[str, Any]:
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"nvidia.com/gpu": "4"}}
    return {"metadata": {"name": name, "resourceVersion": "1"}, "status": status}


async def test_status_says_what_the_removal_of_a_revision_waits_for() -> None:
    """And the policies of the old revision stay until its last pod is gone."""
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    store = Store(kube=client, enqueue=lambda _: None, capacity_changed=lambda: None)
    store.upsert(omni(spec={"model": {"name": "Qwen/Qwen2.5-Omni-7B"}, "engine": ENGINE}))
    store.namespaces.upsert({"metadata": {"name": "ns", "resourceVersion": "1"}})
    store.nodes.upsert(raw_node("n"))
    labels = {MANAGED_BY: MANAGER, NAME: "omni", REVISION: "0ld0ld00", REPLICA: "0"}
    meta = {
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "1",
        "labels": labels,
        "ownerReferences": [OWNER.reference()],
    }
    store.children["NetworkPolicy"].upsert({"metadata": {**meta, "name": "policy"}, "spec": {}})
    worker = {**labels, COMPONENT: Component.WORKER.value}
    body = {"spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}}
    store.pods.upsert({"metadata": {**meta, "name": "old-worker", "labels": worker}, **body})
    reconciler = Reconciler(kube=client, store=store, instance="test", now=lambda: NOW)
    await reconciler.reconcile("ns/omni")
    progressing = next(c for c in client.statuses[-1]["conditions"] if c["type"] == "Progressing")
    assert progressing["reason"] == "Draining"
    assert "it waits for pod old-worker on node n" in progressing["message"]
    assert ("delete", "policy") not in client.calls


@pytest.mark.parametrize(("deleted_at", "reported"), [("2026-01-01T11:59:30Z", False), ("2026-01-01T11:58:00Z", True)])
async def test_a_deletion_that_takes_long_says_what_it_waits_for(deleted_at: str, *, reported: bool) -> None:
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    store = Store(kube=client, enqueue=lambda _: None, capacity_changed=lambda: None)
    store.upsert(omni(deleting=True, deleted_at=deleted_at, finalizers=(FINALIZER,)))
    store.nodes.upsert(raw_node("n"))
    labels = {MANAGED_BY: MANAGER, NAME: "omni", REVISION: "0ld0ld00", REPLICA: "0"}
    stuck = {"name": "stuck", "namespace": "ns", "uid": "stuck", "resourceVersion": "1", "labels": labels}
    store.pods.upsert({"metadata": stuck, "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}})
    reconciler = Reconciler(kube=client, store=store, instance="test", now=lambda: NOW)
    requeue_after = await reconciler.reconcile("ns/omni")
    said = [c["message"] for status in client.statuses for c in status["conditions"] if c["reason"] == "Deleting"]
    assert said == ([f"being deleted since {deleted_at}; it waits for pod stuck on node n"] if reported else [])
    # a pod's going brings the next reconcile; time alone brings the first word
    assert (requeue_after is None) == reported
    assert [call for call, _ in client.calls] == (["apply", "create"] if reported else [])


async def test_a_cleanup_pod_that_is_refused_is_what_a_deletion_waits_for() -> None:
    """The namespace was made stricter, or its quota is used up.

    A reconcile fails then, but not without a word.
    """
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    words = 'pods "omni-cleanup-1" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes'
    client.refuse["Pod"] = ApiError(403, "Forbidden", words)
    store = Store(kube=client, enqueue=lambda _: None, capacity_changed=lambda: None)
    memory = {"nodeMemory": [{"node": "n", "revision": FOLDER}]}
    deleted_at = "2026-01-01T11:58:00Z"
    spec = {"model": {"name": "m"}, "engine": ENGINE}
    store.upsert(omni(deleting=True, deleted_at=deleted_at, finalizers=(FINALIZER,), status=memory, spec=spec))
    store.nodes.upsert(raw_node("n"))
    reconciler = Reconciler(kube=client, store=store, instance="test", now=lambda: NOW)
    with pytest.raises(ApiError, match="hostPath volumes"):
        await reconciler.reconcile("ns/omni")
    (said,) = [c["message"] for status in client.statuses for c in status["conditions"] if c["reason"] == "Deleting"]
    assert said.startswith(f"being deleted since {deleted_at}; it waits for ")
    assert words in said


async def test_a_revision_that_cannot_be_read_is_reported_and_nothing_is_touched() -> None:
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    store = Store(kube=client, enqueue=lambda _: None, capacity_changed=lambda: None)
    store.upsert(omni())
    labels = {MANAGED_BY: MANAGER, NAME: "omni", REVISION: "0ld0ld00", COMPONENT: Component.CONFIG.value}
    meta = {"name": "omni-0ld0ld00", "namespace": "ns", "uid": "c", "resourceVersion": "1", "labels": labels}
    meta["ownerReferences"] = [OWNER.reference()]
    store.children["ConfigMap"].upsert({"metadata": meta, "data": {"plan.json": "of tomorrow"}})
    reconciler = Reconciler(kube=client, store=store, instance="test", now=lambda: NOW)
    assert await reconciler.reconcile("ns/omni") is None
    conditions = {c["type"]: c for status in client.statuses for c in status["conditions"]}
    assert conditions["Progressing"]["reason"] == "RevisionUnreadable"
    assert "0ld0ld00" in conditions["Progressing"]["message"]
    assert client.calls[0] == ("apply", "omni")
    assert {call for call, _ in client.calls[1:]} == {"create"}  # the event
