"""Causes: what fails, in whose words, and whether placement is what the plan relies on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omni_operator.children.names import COMPONENT, Component
from tests.unit import make
from tests.unit.controller.fake_cluster import FakeCluster, child
from tests.unit.launcher.contract import reported
from tests.unit.make import ONE_NODE, RDMA_NODES, inventory, node

QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod", "message": "quota"}
HEAD_READY = [{"type": "HeadPodReady", "status": "True"}]


@pytest.fixture
def starting() -> FakeCluster:
    """Ray is up, the server is not."""
    cluster = FakeCluster()
    cluster.reconcile()
    cluster.bring_up_ray()
    cluster.serve(available=0)
    cluster.reconcile()
    return cluster


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        ("RayVersionMismatch", "RayVersionMismatch", "the serving image has Ray 2.52.1, the Ray cluster has 2.53.0"),
        ("RayStartFailed", "RayUnreachable", "`ray start`: exit code 1: "),
        ("RayResourcesMissing", "RayResourcesMissing", "3 accelerators in Ray: Ray has 2 on 1 nodes"),
        ("StageLost", "StageLost", "Ray actor OmniStage (pid 3533 at 10.0.0.7) has died"),
        ("CannotStart", "EngineImageMismatch", "stage 1 cannot start: the engine image cannot run `vllm`"),
    ],
)
def test_what_a_launcher_reported_is_the_reason(starting: FakeCluster, code: str, reason: str, text: str) -> None:
    starting.serve(available=0, termination_message=reported(code))
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", reason)
    message = starting.condition("ServingReady")["message"]
    assert message.startswith(text)
    assert starting.says("Ready") == ("False", "NotServing")
    assert message in starting.condition("Ready")["message"]


@pytest.mark.parametrize(
    "message",
    [
        '{"omni": 2, "code": "RayVersionMismatch", "found": "2.52.1"}',
        '{"omni": 1, "code": "OfTheFuture"}',
        '{"a": 1}',
        "RayUnreachable: no",
    ],
)
def test_a_message_that_is_not_known_is_shown_as_it_is(starting: FakeCluster, message: str) -> None:
    starting.serve(available=0, termination_message=message)
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", "ServerFailing")
    assert starting.condition("ServingReady")["message"].endswith(message)


def test_a_process_that_ended_is_reported_with_its_pod(starting: FakeCluster) -> None:
    waiting = "container server: CrashLoopBackOff: back-off 10s"
    starting.serve(available=0, waiting_reason=waiting, termination_message=reported("ProcessEnded", process="stage 0"))
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", "ServerFailing")
    message = starting.condition("ServingReady")["message"]
    assert "-serve-0" in message
    assert f"{waiting}: stage 0 ended (exit code 1); all processes of this pod were ended with it" in message


def test_other_termination_messages_are_reported_with_their_pod(starting: FakeCluster) -> None:
    waiting = "container server: CrashLoopBackOff: back-off 10s"
    starting.serve(available=0, waiting_reason=waiting, termination_message="OOMKilled, exit code 137")
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", "ServerFailing")
    message = starting.condition("ServingReady")["message"]
    assert waiting in message
    assert "OOMKilled" in message
    assert "-serve-0" in message


def test_a_supervisor_knows_addresses_and_status_names_their_pods(starting: FakeCluster) -> None:
    lost = starting.pod(Component.WORKER, 1, address="10.1.0.7").name
    starting.serve(available=0, termination_message=reported("PeerLost", address="10.1.0.7"))
    starting.reconcile()
    assert f"the stages at 10.1.0.7 (pod {lost}) ended" in starting.condition("ServingReady")["message"]


@pytest.mark.parametrize("code", ["HeadRestarted", "HeadGone", "PeerLost"])
def test_a_stage_that_ended_is_reported_before_those_that_followed_its_head(starting: FakeCluster, code: str) -> None:
    waiting = "container ray-worker: CrashLoopBackOff"
    followed = reported(code, address="10.1.0.9")
    for number, words in enumerate((followed, reported("ProcessEnded"), followed)):
        starting.pod(Component.WORKER, 10 + number, ready=False, waiting_reason=waiting, termination_message=words)
    starting.bring_up_ray(ready=2)
    starting.reconcile()
    assert "stage 1 ended (exit code 1)" in starting.condition("RayClusterReady")["message"]


def test_a_server_that_cannot_be_placed_is_a_cause_once_ray_is_up(starting: FakeCluster) -> None:
    starting.serve(available=0, node="", unschedulable="0/2 nodes are available")
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", "Unschedulable")


def test_a_server_that_waits_for_its_worker_is_none() -> None:
    cluster = FakeCluster(nodes=ONE_NODE)
    cluster.reconcile()
    cluster.serve(available=0, node="", unschedulable="didn't match pod affinity rules")
    cluster.pod(Component.WORKER, node="", ready=False, unschedulable="Insufficient nvidia.com/gpu")
    cluster.reconcile()
    assert cluster.says("ServingReady") == ("False", "ServerStarting")
    assert cluster.says("RayClusterReady") == ("False", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in cluster.condition("Ready")["message"]


def test_one_restart_is_no_failure_and_more_are_until_the_pod_is_ready(starting: FakeCluster) -> None:
    """Also between two ends, while its container runs: RayClusterReady must not change at each."""
    back_off = "container ray-worker: CrashLoopBackOff: back-off 10s"
    seen = []
    starting.bring_up_ray(ready=2)
    for restarts, waiting in ((0, ""), (1, back_off), (1, ""), (2, back_off), (2, ""), (3, back_off), (3, "")):
        del starting.pods[3:]
        starting.pod(Component.WORKER, 8, ready=False, restarts=restarts, waiting_reason=waiting)
        starting.reconcile()
        seen.append(starting.says("RayClusterReady")[1])
    assert seen == ["RayStarting"] * 3 + ["RayPodsFailing"] * 4
    assert "(ended 3 times): not ready since then" in starting.condition("RayClusterReady")["message"]
    del starting.pods[3:]
    starting.pod(Component.WORKER, 8, restarts=3)
    starting.reconcile()
    assert starting.says("RayClusterReady")[1] == "RayStarting"


def test_pods_that_end_are_no_cause(starting: FakeCluster) -> None:
    starting.serve(available=0)
    starting.pod(Component.SERVING, 8, deleting=True, ready=False, termination_message=reported("RayUnreachable"))
    starting.pod(Component.SERVING, 9, phase="Failed", ready=False, termination_message="Evicted")
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", "ServerStarting")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({}, "KubeRay has not reconciled RayCluster"),
        ({"conditions": [], "desiredWorkerReplicas": 3, "readyWorkerReplicas": 3}, "head not ready, 3 of 3"),
        ({"conditions": HEAD_READY, "desiredWorkerReplicas": 3, "readyWorkerReplicas": 2}, "head ready, 2 of 3"),
        ({"conditions": HEAD_READY, "desiredWorkerReplicas": 0, "readyWorkerReplicas": 0}, "0 of 3"),
        ({"conditions": HEAD_READY, "desiredWorkerReplicas": 2, "readyWorkerReplicas": 2}, "2 of 3"),
        (
            {"conditions": [*HEAD_READY, QUOTA],
             "desiredWorkerReplicas": 3, "readyWorkerReplicas": 3},
            "FailedCreateWorkerPod: quota",
        ),
    ],
)  # fmt: skip
def test_a_cluster_is_judged_by_head_and_workers(starting: FakeCluster, status: dict[str, Any], words: str) -> None:
    """And not by status.state, which stays "ready" when pods fail later (KubeRay 1.6.2)."""
    for key in [key for key in starting.children if key[0] == "RayCluster"]:
        starting.children[key] = child(*key, state="ready", **status) if status else child(*key)
    starting.reconcile()
    reason = "RayPodsFailing" if "Failed" in words else "RayStarting"
    assert starting.says("RayClusterReady") == ("False", reason)
    assert words in starting.condition("RayClusterReady")["message"]


def test_a_failing_ray_pod_is_told_in_its_own_words(starting: FakeCluster) -> None:
    starting.children = {key: it for key, it in starting.children.items() if key[0] != "RayCluster"}
    starting.pod(
        Component.WORKER,
        5,
        ready=False,
        waiting_reason="container ray-worker: ImagePullBackOff",
        termination_message="no such image",
    )
    starting.reconcile()
    assert starting.says("RayClusterReady") == ("False", "RayPodsFailing")
    message = starting.condition("RayClusterReady")["message"]
    assert "ImagePullBackOff" in message
    assert "no such image" in message


def test_a_stage_that_starts_once_more_is_reported_in_words(starting: FakeCluster) -> None:
    starting.pod(Component.WORKER, 5, ready=False, termination_message=reported("ProcessEnded"))
    starting.bring_up_ray(ready=2)
    starting.reconcile()
    assert starting.says("RayClusterReady") == ("False", "RayStarting")
    assert "starts again after: stage 1 ended (exit code 1)" in starting.condition("RayClusterReady")["message"]


def test_kuberay_is_missing() -> None:
    cluster = FakeCluster(kuberay_missing=True)
    cluster.reconcile()
    assert cluster.says("RayClusterReady") == ("False", "KubeRayMissing")
    assert cluster.says("Ready") == ("False", "NotServing")
    assert "install KubeRay" in cluster.condition("Ready")["message"]


@pytest.mark.parametrize("left", [{}, {"deleting": True}, {"phase": "Failed"}, {"ready": False}])
def test_without_its_store_nothing_serves_whatever_servers_say(left: dict[str, Any]) -> None:
    cluster = FakeCluster()
    cluster.bring_up()
    stores = [p for p in cluster.pods if p.labels[COMPONENT] == Component.STORE]
    cluster.pods = [p for p in cluster.pods if p not in stores] + [replace(p, **left) for p in stores if left]
    events = cluster.reconcile()
    assert cluster.says("ServingReady") == ("False", "StoreNotReady")
    assert f"Deployment omni-{cluster.revision}-store" in cluster.condition("ServingReady")["message"]
    assert cluster.says("Ready") == ("False", "NotServing")
    assert cluster.status["replicasSummary"] == "0/1"
    assert [(event.warning, event.reason) for event in events] == [(True, "StoreNotReady")]
    cluster.pods = [p for p in cluster.pods if p.labels[COMPONENT] != Component.STORE] + stores
    cluster.reconcile()
    assert cluster.says("Ready") == ("True", "Serving")


def test_a_store_is_a_cause_while_servers_start_only_when_it_fails(starting: FakeCluster) -> None:
    stores = [p for p in starting.pods if p.labels[COMPONENT] == Component.STORE]
    rest = [p for p in starting.pods if p not in stores]
    starting.pods = rest
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", "ServerStarting")
    starting.pods = rest + [
        replace(p, ready=False, waiting_reason="container mooncake-master: ErrImagePull") for p in stores
    ]
    starting.reconcile()
    assert starting.says("ServingReady") == ("False", "StoreNotReady")
    assert "ErrImagePull" in starting.condition("Ready")["message"]


def test_a_pipeline_that_shares_memory_needs_no_store(one_node: FakeCluster) -> None:
    assert not [p for p in one_node.pods if p.labels[COMPONENT] == Component.STORE]
    assert one_node.says("Ready") == ("True", "Serving")


@pytest.fixture
def one_node() -> FakeCluster:
    """A pipeline that shares memory, serving."""
    cluster = FakeCluster(nodes=ONE_NODE)
    cluster.bring_up(workers=1)
    return cluster


def test_pods_on_two_nodes_break_shared_memory(one_node: FakeCluster) -> None:
    one_node.serve(node="b")
    one_node.reconcile()
    assert one_node.says("TransportAsPlanned") == ("False", "PlacementDiffers")
    assert "a, b" in one_node.condition("TransportAsPlanned")["message"]
    assert one_node.says("Ready") == ("False", "Degraded")


@pytest.mark.parametrize("left", [{"phase": "Failed"}, {"phase": "Succeeded"}, {"deleting": True}])
def test_what_is_left_of_old_pods_breaks_nothing(one_node: FakeCluster, left: dict[str, Any]) -> None:
    one_node.pod(Component.WORKER, 7, node="b", ready=False, **left)
    one_node.reconcile()
    assert one_node.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    assert one_node.says("Ready") == ("True", "Serving")


def test_replicas_may_be_on_different_nodes() -> None:
    cluster = FakeCluster(spec=make.raw_spec(replicas=2), nodes=inventory(node("a", 3), node("b", 3)))
    cluster.reconcile()
    for replica, where in enumerate("ab"):
        cluster.bring_up_ray(replica, workers=1, node=where)
        cluster.serve(replica, node=where)
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    assert cluster.says("Ready") == ("True", "Serving")


@pytest.mark.parametrize("missing", [True, False])
def test_a_replica_serves_only_with_its_own_ray_cluster(*, missing: bool) -> None:
    """Whatever its server says: /health does not notice a lost worker."""
    cluster = FakeCluster(spec=make.raw_spec(replicas=2), nodes=inventory(node("a", 3), node("b", 3)))
    cluster.bring_up(2, workers=1)
    key = next(key for key in cluster.children if key[0] == "RayCluster" and key[1].endswith("-1"))
    lost = child(*key, conditions=HEAD_READY, desiredWorkerReplicas=1, readyWorkerReplicas=0)
    cluster.children = {k: it for k, it in cluster.children.items() if k != key} | ({} if missing else {key: lost})
    cluster.reconcile()
    assert cluster.says("ServingReady") == ("True", "ServerReady")
    assert cluster.says("Ready") == ("False", "Degraded")
    assert (cluster.status["readyReplicas"], cluster.status["replicasSummary"]) == (1, "1/2")
    assert key[1] in cluster.condition("Ready")["message"]


def test_transport_is_unknown_until_all_pods_are_placed(one_node: FakeCluster) -> None:
    one_node.pods = [p for p in one_node.pods if "-serve-" not in p.name]
    one_node.reconcile()
    assert one_node.says("TransportAsPlanned") == ("Unknown", "NotObservedYet")
    assert "1 of 2 pods are placed" in one_node.condition("TransportAsPlanned")["message"]


def test_rdma_is_planned_but_never_called_seen() -> None:
    cluster = FakeCluster(nodes=RDMA_NODES)
    cluster.bring_up()
    assert cluster.says("TransportAsPlanned") == ("Unknown", "RdmaNotVerified")
    assert cluster.says("Ready") == ("True", "Serving")


def test_their_cluster() -> None:
    cluster = FakeCluster(spec=make.raw_spec(ray={"clusterRef": {"name": "theirs"}}))
    cluster.reconcile()
    assert cluster.says("RayClusterReady") == ("False", "RayClusterMissing")
    head = [{"type": "HeadPodReady", "status": "True"}]
    theirs = child("RayCluster", "theirs", conditions=head, desiredWorkerReplicas=1, readyWorkerReplicas=1)
    cluster.referenced = theirs
    cluster.reconcile()
    assert cluster.says("RayClusterReady") == ("False", "RayUnreachable"), "its GCS is on KubeRay's default port"
    assert "set ray.port to 6379" in cluster.condition("RayClusterReady")["message"]
    cluster.referenced = replace(theirs, body=_with_port("http"))
    cluster.reconcile()
    assert cluster.says("RayClusterReady") == ("False", "RayUnreachable")
    assert "port http," in cluster.condition("RayClusterReady")["message"]
    assert "correct rayStartParams.port of its head" in cluster.condition("RayClusterReady")["message"]
    cluster.referenced = replace(theirs, body=_with_port("6399"))
    cluster.serve()
    cluster.reconcile()
    assert cluster.says("Ready") == ("True", "Serving")
    assert [pod["role"] for pod in cluster.status["plan"]["pods"]] == ["serving", "store"]


def _with_port(port: str) -> dict[str, Any]:
    return {"spec": {"headGroupSpec": {"rayStartParams": {"port": port}}}}


def test_a_server_that_is_being_ended_serves_no_more(starting: FakeCluster) -> None:
    """Its Deployment still counts it as available.

    Requests have no endpoint, or reach actors that are gone (run on kind).
    """
    starting.serve(ready_since="2026-01-01T11:10:00Z")
    starting.reconcile()
    assert starting.says("Ready") == ("True", "Serving")
    server = starting.pods.pop()
    for pod in (replace(server, deleting=True), replace(server, ready=False)):
        starting.pods.append(pod)
        starting.reconcile()
        assert starting.says("ServingReady")[0] == "False"
        assert starting.says("Ready")[0] == "False"
        starting.pods.remove(pod)
    starting.pods = [server, *(p for p in starting.pods if not p.name.endswith("stages-worker-0"))]
    starting.reconcile()
    assert starting.says("ServingReady")[0] == "False", "the reconcile that ends it says so"
