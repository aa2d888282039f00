"""What is kept of pods, children and namespaces, from JSON as the API server sends it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omni_operator.controller.state import decode
from omni_operator.controller.state.objects import Pod, ResourceHolder
from omni_operator.kube.decoder import NarrowDecoder, WatchEvent
from omni_operator.topology.namespace import PodSecurity

OURS = {"omni.vllm.ai/name": "omni", "omni.vllm.ai/revision": "r", "omni.vllm.ai/replica": "0"}


def pod(*, labels: dict[str, str] | None = None, spec: dict[str, Any] | None = None, **status: Any) -> Pod:
    meta = {
        "namespace": "ns",
        "name": "p",
        "uid": "u",
        "resourceVersion": "1",
        "labels": OURS if labels is None else labels,
    }
    return decode.pod({"metadata": meta, "spec": spec or {"nodeName": "a"}, "status": {"phase": "Running", **status}})


def container(**parts: Any) -> dict[str, Any]:
    return {"name": "server", **parts}


def test_a_running_pod() -> None:
    found = pod(conditions=[{"type": "Ready", "status": "True"}])
    assert (found.node, found.ready, found.occupies_node) == ("a", True, True)
    assert (found.omni, found.revision, found.replica) == ("omni", "r", "0")
    assert (found.waiting_reason, found.termination_message, found.unschedulable) == ("", "", "")


@pytest.mark.parametrize(
    ("replica", "omni"), [(None, "omni"), ("0", "omni"), ("31", "omni"), ("x", ""), ("1.0", ""), ("100", "")]
)
def test_a_pod_whose_replica_cannot_be_is_not_ours(replica: str | None, omni: str) -> None:
    """Whoever may label a pod must not make every reconcile at an OmniDeployment raise."""
    mine = {} if replica is None else {"omni.vllm.ai/replica": replica}
    assert pod(labels={"omni.vllm.ai/name": "omni", "omni.vllm.ai/revision": "r", **mine}).omni == omni


def test_a_pod_that_is_being_deleted() -> None:
    meta = {"deletionTimestamp": "2026-01-01T12:01:00Z", "deletionGracePeriodSeconds": 60}
    found = decode.pod(
        {
            "metadata": {"namespace": "ns", "name": "p", "uid": "u", "resourceVersion": "1", "labels": OURS, **meta},
            "spec": {},
        }
    )
    assert (found.deleting, found.deletion_requested_at, found.grace_deadline) == (
        True,
        "2026-01-01T12:00:00Z",
        "2026-01-01T12:01:00Z",
    )
    assert (pod().deleting, pod().deletion_requested_at, pod().grace_deadline) == (False, "", "")


@pytest.mark.parametrize(
    ("started", "since", "unresponsive"),
    [
        # it has not been ready yet, whatever its startup probe says
        ("12:00:05", "12:00:00", False),
        ("12:00:05", "12:10:00", True),  # it has been
        ("12:10:05", "12:10:00", False),  # it has been started again since
    ],
)
def test_a_server_is_unresponsive_when_it_was_ready_since_it_started(
    started: str, since: str, *, unresponsive: bool
) -> None:
    running = container(started=True, state={"running": {"startedAt": f"2026-01-01T{started}Z"}})
    unready = {"type": "Ready", "status": "False", "lastTransitionTime": f"2026-01-01T{since}Z"}
    assert pod(conditions=[unready], containerStatuses=[running]).unresponsive is unresponsive


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_ended_pod_holds_nothing(phase: str) -> None:
    assert not pod(phase=phase).occupies_node


def test_of_strangers_only_what_they_hold_is_kept() -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "1"}}}
    raw = {
        "metadata": {"namespace": "ns", "name": "p", "resourceVersion": "7", "labels": {"app": "x"}},
        "spec": {"nodeName": "a", "containers": [limits, {}], "initContainers": [{"resources": {}}]},
        "status": {"phase": "Running"},
    }
    decoder = NarrowDecoder(decode.NarrowPod, decode.resource_holder, keep=lambda found: found.occupies_node)
    holder = ResourceHolder(namespace="ns", name="p", resource_version="7", node="a", requests={"nvidia.com/gpu": 2})
    assert decoder.value(raw) == holder
    line = json.dumps({"type": "ADDED", "object": raw}).encode()
    assert decoder.event(line) == WatchEvent("7", ("ns", "p"), holder)
    raw["spec"] = {"nodeName": "a", "containers": [{}]}
    line = json.dumps({"type": "MODIFIED", "object": raw}).encode()
    assert decoder.event(line) == WatchEvent("7", ("ns", "p"), None), "what holds nothing is not kept"


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}, "no room"),
        ({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "queue"}, ""),
        ({"type": "PodScheduled", "status": "True"}, ""),
    ],
)
def test_what_the_scheduler_says(condition: dict[str, str], words: str) -> None:
    assert pod(spec={}, conditions=[condition]).unschedulable == words


@pytest.mark.parametrize(
    ("state", "waiting"),
    [
        ({"waiting": {"reason": "ContainerCreating"}}, ""),
        ({"waiting": {"reason": "PodInitializing"}}, ""),
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
            "container server: ImagePullBackOff: not found",
        ),
        ({"waiting": {"reason": "CreateContainerConfigError"}}, "container server: CreateContainerConfigError"),
        ({"running": {}}, ""),
        ({}, ""),
    ],
)
def test_what_the_kubelet_says(state: dict[str, Any], waiting: str) -> None:
    assert pod(containerStatuses=[container(state=state)]).waiting_reason == waiting


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"lastState": {"terminated": {"exitCode": 1, "message": "RayUnreachable: no"}}}, "RayUnreachable: no"),
        ({"lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}, "OOMKilled, exit code 137"),
        (
            {
                "state": {"terminated": {"exitCode": 1, "message": "now"}},
                "lastState": {"terminated": {"exitCode": 1, "message": "before"}},
            },
            "now",
        ),
        ({"lastState": {"terminated": {"exitCode": 0, "message": "fine"}}}, ""),
    ],
)
def test_termination_messages(parts: dict[str, Any], words: str) -> None:
    assert pod(containerStatuses=[container(**parts)]).termination_message == words


def test_an_init_container_can_be_the_cause() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    ended = {"terminated": {"exitCode": 1, "message": "no head"}}
    found = pod(initContainerStatuses=[{"name": "wait-gcs-ready", "state": waiting, "lastState": ended}])
    assert found.waiting_reason == "container wait-gcs-ready: CrashLoopBackOff: back-off"
    assert found.termination_message == "no head"


def test_a_child_keeps_what_can_differ() -> None:
    meta = {
        "namespace": "ns", "name": "c", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
        "managedFields": [{}], "generation": 4,
        "ownerReferences": [{"uid": "other"}, {"uid": "owner", "controller": True}],
    }  # fmt: skip
    found = decode.child("Service", {"kind": "Service", "metadata": meta, "spec": {"x": 1}, "status": {"y": 2}})
    assert found.owner_uid == "owner"
    assert found.status == {}
    assert found.body["spec"] == {"x": 1}
    assert found.body["metadata"].keys() == {"namespace", "name", "labels", "ownerReferences"}
    assert not found.deleting
    assert decode.child("Service", {"metadata": {**meta, "deletionTimestamp": "now"}}).deleting


def test_of_a_status_only_what_conditions_read_is_kept() -> None:
    """The rest changes with every pod, and a child that is as it was is no reason to reconcile."""
    meta = {"namespace": "ns", "name": "c", "uid": "u", "resourceVersion": "7"}
    head = {"type": "HeadPodReady", "status": "True", "reason": "R", "message": "m"}
    status = {"conditions": [{**head, "lastTransitionTime": "t"}, {"type": "Other", "status": "True"}]}
    status |= {"readyWorkerReplicas": 1, "desiredWorkerReplicas": 2, "lastUpdateTime": "t", "state": "ready"}
    found = decode.child("RayCluster", {"metadata": meta, "spec": {}, "status": status})
    assert found.status == {"conditions": [head], "readyWorkerReplicas": 1, "desiredWorkerReplicas": 2}
    later = decode.child(
        "RayCluster",
        {"metadata": {**meta, "resourceVersion": "8"}, "spec": {}, "status": {**status, "lastUpdateTime": "u"}},
    )
    assert not later.differs_from(found)
    up = decode.child("RayCluster", {"metadata": meta, "spec": {}, "status": {**status, "readyWorkerReplicas": 2}})
    assert up.differs_from(found)


def test_restarts_of_init_containers_count() -> None:
    found = pod(
        containerStatuses=[{"name": "main", "restartCount": 1}],
        initContainerStatuses=[{"name": "wait-gcs-ready", "restartCount": 2}],
    )
    assert found.restarts == 3


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        ({"pod-security.kubernetes.io/enforce": "restricted"}, PodSecurity.RESTRICTED),
        ({"pod-security.kubernetes.io/enforce": "baseline"}, PodSecurity.BASELINE),
        ({"pod-security.kubernetes.io/enforce": "nonsense"}, PodSecurity.PRIVILEGED),
        ({"pod-security.kubernetes.io/warn": "restricted"}, PodSecurity.PRIVILEGED),
        ({}, PodSecurity.PRIVILEGED),
    ],
)
def test_the_level_that_a_namespace_enforces(labels: dict[str, str], level: PodSecurity) -> None:
    raw = {"metadata": {"name": "ns", "resourceVersion": "1", "labels": labels}}
    assert decode.namespace(raw).pod_security is level
