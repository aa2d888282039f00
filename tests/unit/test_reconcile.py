"""What a look writes, against the real cache and a client that only notes: races and orders that no server test can force."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from omni_operator.children import sweeper
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
from omni_operator.controller import objects
from omni_operator.controller.act import Act
from omni_operator.controller.cache import Cache
from omni_operator.controller.child_writer import ChildWriter
from omni_operator.controller.node_memory import NodeMemory
from omni_operator.controller.objects import Child, Omni, Pod
from omni_operator.controller.observed import Observed
from omni_operator.controller.omni_writer import OmniWriter
from omni_operator.controller.reconcile import Reconciler
from omni_operator.controller.settings import Settings
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


def observed(
    subject: Omni, *, pods: tuple[Pod, ...] = (), children: dict[tuple[str, str], Child] | None = None
) -> Observed:
    return Observed(
        omni=subject, owner=OWNER, known={}, children=children or {}, pods=pods, referenced=None, kuberay_missing=False,
        missing_nodes=frozenset(),
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


def sweep_pod(phase: str, **changes: Any) -> Pod:
    name = sweeper.name_for(OWNER, node="n", folder=FOLDER)
    created = "2026-01-01T11:59:55Z"
    return pod(name, Component.SWEEPER, phase=phase, owner_uid=OWNER.uid, created=created, **changes)


@dataclass
class Notes:
    """A client that notes what it is asked, and answers with what it is told."""

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
        return obj

    async def delete(self, resource: Any, namespace: str, name: str, **_: Any) -> bool:
        self.calls.append(("delete", name))
        return True


def raw_omni(*, generation: int, version: str) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": "omni", "uid": OWNER.uid, "resourceVersion": version, "generation": generation}
    return {"metadata": meta, "spec": {}, "status": {}}


@pytest.mark.parametrize(("generation", "looks"), [(1, []), (2, ["ns/omni"])])
async def test_an_edit_that_arrives_with_our_own_answer_is_looked_at(generation: int, looks: list[str]) -> None:
    """The events of such an edit are not newer than the answer, so nothing else would bring us back."""
    seen: list[str] = []
    client: Any = Notes(answer=raw_omni(generation=generation, version="7"))
    cache = Cache(kube=client, look=seen.append, capacity_changed=lambda: None)
    cache.learn(omni())
    writer = OmniWriter(kube=client, cache=cache, instance="test", now=lambda: NOW)
    assert await writer.status(omni(), {"observedGeneration": 1})
    assert seen == looks


async def test_a_sweeper_of_a_folder_that_is_wanted_again_goes_first() -> None:
    client: Any = Notes()
    subject = omni(status={"nodeMemory": [{"node": "n", "revision": FOLDER}]})
    memory = NodeMemory(kube=client, now=lambda: NOW)
    assert not await memory.clear_the_way(observed(subject, pods=(sweep_pod("Running"),)), [FOLDER])
    assert [call for call, _ in client.calls] == ["delete"]
    assert await memory.clear_the_way(observed(subject), [FOLDER])


async def test_a_failed_sweeper_is_not_replaced_at_api_speed() -> None:
    client: Any = Notes()
    subject = omni(status={"nodeMemory": [{"node": "n", "revision": FOLDER}]})
    memory, act = NodeMemory(kube=client, now=lambda: NOW), Act()
    left = await memory.sweep(observed(subject, pods=(sweep_pod("Failed", last_words="OutOfpods"),)), (), act)
    assert left == {("n", FOLDER)}
    assert client.calls == []
    assert act.again is not None
    assert "OutOfpods" in act.blockers[0]


@pytest.mark.parametrize("text", ["x; rm -rf /", "../../etc", "bbbbbbbb-0c0ffee0-0", "aaaaaaaa-0c0ffee0-0/..", ""])
async def test_status_names_no_folder_but_our_own(text: str) -> None:
    """Whoever may write status must not choose what a pod with the node's memory removes."""
    client: Any = Notes()
    subject = omni(status={"nodeMemory": [{"node": "n", "revision": text}]})
    assert observed(subject).folders() == frozenset()
    assert await NodeMemory(kube=client, now=lambda: NOW).sweep(observed(subject), (), Act()) == frozenset()
    assert client.calls == []


def raw_pod(version: int, **labels: str) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": "p", "resourceVersion": str(version), "labels": {NAME: "omni", **labels}}
    return {"metadata": meta, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}


def test_a_pod_that_becomes_somebody_elses_is_forgotten() -> None:
    client: Any = Notes()
    looks: list[str] = []
    cache = Cache(kube=client, look=looks.append, capacity_changed=lambda: None)
    cache.pods.learn(raw_pod(1, **{REPLICA: "0"}))
    assert [p.name for p in cache.pods_of("ns/omni")] == ["p"]
    cache.pods.learn(raw_pod(2, **{REPLICA: "x"}))
    assert cache.pods_of("ns/omni") == ()
    cache.pods.learn(raw_pod(3, **{NAME: "other"}))
    assert [p.name for p in cache.pods_of("ns/other")] == ["p"]
    assert looks == ["ns/omni", "ns/omni", "ns/other"]


@pytest.mark.parametrize(("rendered_by", "calls"), [("0.0.9", []), (None, [("apply", "d")])])
async def test_workloads_of_another_version_are_left_as_they_are(
    rendered_by: str | None, calls: list[tuple[str, str]]
) -> None:
    """An upgrade of the operator must not restart servers."""
    from omni_operator import __version__

    meta = {"namespace": "ns", "name": "d", "uid": "d", "resourceVersion": "1", "ownerReferences": [OWNER.reference()]}
    meta["labels"] = {MANAGED_BY: MANAGER, NAME: "omni"}
    live = objects.child("Deployment", {"metadata": meta, "spec": {"replicas": 1, "paused": False}})
    client: Any = Notes(answer={"metadata": {**meta, "resourceVersion": "2"}, "spec": {}})
    cache = Cache(kube=client, look=lambda _: None, capacity_changed=lambda: None)
    writer = ChildWriter(kube=client, cache=cache, omni=OmniWriter(kube=client, cache=cache, instance="test"))
    intent = {"kind": "Deployment", "metadata": {"name": "d", "namespace": "ns"}, "spec": {"replicas": 2}}
    look = observed(omni(), children={("Deployment", "d"): live})
    await writer.ensure(look, intent, Act(), rendered_by=rendered_by or __version__)
    assert client.calls == calls


@pytest.mark.parametrize(
    ("labels", "ready", "told"),
    [
        ({}, "True", True),  # the public Service
        ({REVISION: "0c0ffee0"}, "True", True),
        ({REVISION: "0c0ffee0", REPLICA: "1"}, "True", True),
        ({REVISION: "0c0ffee0", REPLICA: "2"}, "True", False),  # scaled up just now
        ({REVISION: "0c0ffee1", REPLICA: "0"}, "True", False),
        ({REVISION: "0c0ffee0", REPLICA: "0"}, "False", False),
    ],
)
async def test_only_what_was_there_can_have_gone(labels: dict[str, str], ready: str, *, told: bool) -> None:
    conditions = [{"type": "Ready", "status": ready}]
    subject = omni(status={"revision": "0c0ffee0", "readyReplicas": 2, "conditions": conditions})
    meta = {"namespace": "ns", "name": "d", "labels": labels}
    client: Any = Notes(answer={"metadata": {**meta, "uid": "d", "resourceVersion": "2"}})
    cache = Cache(kube=client, look=lambda _: None, capacity_changed=lambda: None)
    writer = ChildWriter(kube=client, cache=cache, omni=OmniWriter(kube=client, cache=cache, instance="test"))
    act = Act()
    await writer.ensure(observed(subject), {"kind": "Deployment", "metadata": meta}, act, rendered_by="0.1.0")
    assert client.calls == [("apply", "d")]
    assert [story.message for story in act.stories] == (
        ["Deployment d was gone and has been made again"] if told else []
    )


def raw_node(name: str, *, ready: str = "True") -> dict[str, Any]:
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"nvidia.com/gpu": "4"}}
    return {"metadata": {"name": name, "resourceVersion": "1"}, "status": status}


async def test_status_says_what_the_removal_of_a_revision_waits_for() -> None:
    """And the policies of the old revision stay until its last pod is gone."""
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    cache = Cache(kube=client, look=lambda _: None, capacity_changed=lambda: None)
    cache.learn(omni(spec={"model": {"name": "Qwen/Qwen2.5-Omni-7B"}, "engine": ENGINE}))
    cache.namespaces.learn({"metadata": {"name": "ns", "resourceVersion": "1"}})
    cache.nodes.learn(raw_node("n"))
    labels = {MANAGED_BY: MANAGER, NAME: "omni", REVISION: "0ld0ld00", REPLICA: "0"}
    meta = {
        "namespace": "ns",
        "uid": "u",
        "resourceVersion": "1",
        "labels": labels,
        "ownerReferences": [OWNER.reference()],
    }
    cache.children["NetworkPolicy"].learn({"metadata": {**meta, "name": "policy"}, "spec": {}})
    worker = {**labels, COMPONENT: Component.WORKER.value}
    body = {"spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}}
    cache.pods.learn({"metadata": {**meta, "name": "old-worker", "labels": worker}, **body})
    reconciler = Reconciler(kube=client, cache=cache, settings=Settings(), instance="test", now=lambda: NOW)
    await reconciler.look("ns/omni")
    progressing = next(c for c in client.statuses[-1]["conditions"] if c["type"] == "Progressing")
    assert progressing["reason"] == "Retiring"
    assert "it waits for pod old-worker on node n" in progressing["message"]
    assert ("delete", "policy") not in client.calls


@pytest.mark.parametrize(("deleted_at", "told"), [("2026-01-01T11:59:30Z", False), ("2026-01-01T11:58:00Z", True)])
async def test_a_deletion_that_takes_long_says_what_it_waits_for(deleted_at: str, *, told: bool) -> None:
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    cache = Cache(kube=client, look=lambda _: None, capacity_changed=lambda: None)
    cache.learn(omni(deleting=True, deleted_at=deleted_at, finalizers=(FINALIZER,)))
    cache.nodes.learn(raw_node("n"))
    labels = {MANAGED_BY: MANAGER, NAME: "omni", REVISION: "0ld0ld00", REPLICA: "0"}
    stuck = {"name": "stuck", "namespace": "ns", "resourceVersion": "1", "labels": labels}
    cache.pods.learn({"metadata": stuck, "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}})
    reconciler = Reconciler(kube=client, cache=cache, settings=Settings(), instance="test", now=lambda: NOW)
    again = await reconciler.look("ns/omni")
    said = [c["message"] for status in client.statuses for c in status["conditions"] if c["reason"] == "Deleting"]
    assert said == ([f"being deleted since {deleted_at}; it waits for pod stuck on node n"] if told else [])
    assert (again is None) == told  # a pod's going brings the next look; time alone brings the first word
    assert [call for call, _ in client.calls] == (["apply", "create"] if told else [])


async def test_a_sweeper_that_is_refused_is_what_a_deletion_waits_for() -> None:
    """The namespace was made stricter, or its quota is used up: a look fails then, but not without a word."""
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    words = 'pods "omni-sweep-1" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes'
    client.refuse["Pod"] = ApiError(403, "Forbidden", words)
    cache = Cache(kube=client, look=lambda _: None, capacity_changed=lambda: None)
    memory = {"nodeMemory": [{"node": "n", "revision": FOLDER}]}
    deleted_at = "2026-01-01T11:58:00Z"
    spec = {"model": {"name": "m"}, "engine": ENGINE}
    cache.learn(omni(deleting=True, deleted_at=deleted_at, finalizers=(FINALIZER,), status=memory, spec=spec))
    cache.nodes.learn(raw_node("n"))
    reconciler = Reconciler(kube=client, cache=cache, settings=Settings(), instance="test", now=lambda: NOW)
    with pytest.raises(ApiError, match="hostPath volumes"):
        await reconciler.look("ns/omni")
    (said,) = [c["message"] for status in client.statuses for c in status["conditions"] if c["reason"] == "Deleting"]
    assert said.startswith(f"being deleted since {deleted_at}; it waits for ")
    assert words in said


async def test_a_revision_that_cannot_be_read_is_told_and_nothing_is_touched() -> None:
    client: Any = Notes(answer=raw_omni(generation=1, version="7"))
    cache = Cache(kube=client, look=lambda _: None, capacity_changed=lambda: None)
    cache.learn(omni())
    labels = {MANAGED_BY: MANAGER, NAME: "omni", REVISION: "0ld0ld00", COMPONENT: Component.CONFIG.value}
    meta = {"name": "omni-0ld0ld00", "namespace": "ns", "uid": "c", "resourceVersion": "1", "labels": labels}
    meta["ownerReferences"] = [OWNER.reference()]
    cache.children["ConfigMap"].learn({"metadata": meta, "data": {"plan.json": "of tomorrow"}})
    reconciler = Reconciler(kube=client, cache=cache, settings=Settings(), instance="test", now=lambda: NOW)
    assert await reconciler.look("ns/omni") is None
    conditions = {c["type"]: c for status in client.statuses for c in status["conditions"]}
    assert conditions["Progressing"]["reason"] == "RevisionUnreadable"
    assert "0ld0ld00" in conditions["Progressing"]["message"]
    assert client.calls[0] == ("apply", "omni")
    assert {call for call, _ in client.calls[1:]} == {"create"}  # the event
