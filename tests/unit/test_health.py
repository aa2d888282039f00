"""Causes: what fails, in whose words, and whether placement is what the plan relies on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omni_operator.children.names import COMPONENT, Component
from tests.unit import make
from tests.unit.make import ONE_NODE, RDMA_NODES, inventory, node
from tests.unit.scene import Scene, child

HEAD_READY = [{"type": "HeadPodReady", "status": "True"}]


@pytest.fixture
def starting() -> Scene:
    """Ray is up, the server is not."""
    scene = Scene()
    scene.look()
    scene.bring_up_ray()
    scene.serve(available=0)
    scene.look()
    return scene


@pytest.mark.parametrize("code", ["RayVersionMismatch", "RayUnreachable", "RayResourcesMissing"])
def test_the_launchers_last_words_become_the_reason(starting: Scene, code: str) -> None:
    words = "the serving image has Ray 2.52.0, the Ray cluster has 2.53.0; use one engine image for both"
    starting.serve(available=0, last_words=f"{code}: {words}")
    starting.look()
    assert starting.says("ServingReady") == ("False", code)
    assert starting.condition("ServingReady")["message"] == words
    assert starting.says("Ready") == ("False", "NotServing")
    assert words in starting.condition("Ready")["message"]


def test_other_last_words_are_told_with_their_pod(starting: Scene) -> None:
    trouble = "container server: CrashLoopBackOff: back-off 10s"
    starting.serve(available=0, trouble=trouble, last_words="OOMKilled, exit code 137")
    starting.look()
    assert starting.says("ServingReady") == ("False", "ServerFailing")
    message = starting.condition("ServingReady")["message"]
    assert trouble in message
    assert "OOMKilled" in message
    assert "-serve-0" in message


def test_a_supervisor_knows_addresses_and_status_names_their_pods(starting: Scene) -> None:
    lost = starting.pod(Component.WORKER, 1, address="10.1.0.7").name
    starting.serve(available=0, last_words="the stages at 10.1.0.7 ended when they had joined")
    starting.look()
    assert f"the stages at 10.1.0.7 (pod {lost}) ended" in starting.condition("ServingReady")["message"]


def test_a_stage_that_ended_is_told_before_those_that_followed_its_head(starting: Scene) -> None:
    trouble = "container ray-worker: CrashLoopBackOff"
    followed = "the head at 10.1.0.9 has started anew, and takes no stages of its predecessor; all processes"
    for number, words in enumerate((followed, "stage 1 ended (exit code 1)", followed)):
        starting.pod(Component.WORKER, 10 + number, ready=False, trouble=trouble, last_words=words)
    starting.bring_up_ray(ready=2)
    starting.look()
    assert "stage 1 ended (exit code 1)" in starting.condition("RayClusterReady")["message"]


def test_a_server_that_cannot_be_placed_is_a_cause_once_ray_is_up(starting: Scene) -> None:
    starting.serve(available=0, node="", unschedulable="0/2 nodes are available")
    starting.look()
    assert starting.says("ServingReady") == ("False", "Unschedulable")


def test_a_server_that_waits_for_its_worker_is_none() -> None:
    scene = Scene(nodes=ONE_NODE)
    scene.look()
    scene.serve(available=0, node="", unschedulable="didn't match pod affinity rules")
    scene.pod(Component.WORKER, node="", ready=False, unschedulable="Insufficient nvidia.com/gpu")
    scene.look()
    assert scene.says("ServingReady") == ("False", "ServerStarting")
    assert scene.says("RayClusterReady") == ("False", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in scene.condition("Ready")["message"]


def test_pods_that_end_are_no_cause(starting: Scene) -> None:
    starting.serve(available=0)
    starting.pod(Component.SERVING, 8, deleting=True, ready=False, last_words="RayUnreachable: gone")
    starting.pod(Component.SERVING, 9, phase="Failed", ready=False, last_words="Evicted")
    starting.look()
    assert starting.says("ServingReady") == ("False", "ServerStarting")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({}, "KubeRay has not looked at RayCluster"),
        ({"conditions": [], "desiredWorkerReplicas": 3, "readyWorkerReplicas": 3}, "head not ready, 3 of 3"),
        ({"conditions": HEAD_READY, "desiredWorkerReplicas": 3, "readyWorkerReplicas": 2}, "head ready, 2 of 3"),
        ({"conditions": HEAD_READY, "desiredWorkerReplicas": 0, "readyWorkerReplicas": 0}, "0 of 3"),
        ({"conditions": HEAD_READY, "desiredWorkerReplicas": 2, "readyWorkerReplicas": 2}, "2 of 3"),
        (
            {"conditions": [*HEAD_READY, {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod", "message": "quota"}],
             "desiredWorkerReplicas": 3, "readyWorkerReplicas": 3},
            "FailedCreateWorkerPod: quota",
        ),
    ],
)  # fmt: skip
def test_a_cluster_is_judged_by_head_and_workers(starting: Scene, status: dict[str, Any], words: str) -> None:
    """And not by status.state, which stays "ready" when pods fail later (KubeRay 1.6.2)."""
    for key in [key for key in starting.children if key[0] == "RayCluster"]:
        starting.children[key] = child(*key, state="ready", **status) if status else child(*key)
    starting.look()
    reason = "RayPodsFailing" if "Failed" in words else "RayStarting"
    assert starting.says("RayClusterReady") == ("False", reason)
    assert words in starting.condition("RayClusterReady")["message"]


def test_a_failing_ray_pod_is_told_in_its_own_words(starting: Scene) -> None:
    starting.children = {key: it for key, it in starting.children.items() if key[0] != "RayCluster"}
    starting.pod(
        Component.WORKER, 5, ready=False, trouble="container ray-worker: ImagePullBackOff", last_words="no such image"
    )
    starting.look()
    assert starting.says("RayClusterReady") == ("False", "RayPodsFailing")
    message = starting.condition("RayClusterReady")["message"]
    assert "ImagePullBackOff" in message
    assert "no such image" in message


def test_kuberay_is_missing() -> None:
    scene = Scene(kuberay_missing=True)
    scene.look()
    assert scene.says("RayClusterReady") == ("False", "KubeRayMissing")
    assert scene.says("Ready") == ("False", "NotServing")
    assert "install KubeRay" in scene.condition("Ready")["message"]


@pytest.mark.parametrize("left", [{}, {"deleting": True}, {"phase": "Failed"}, {"ready": False}])
def test_without_its_store_nothing_serves_whatever_servers_say(left: dict[str, Any]) -> None:
    scene = Scene()
    scene.bring_up()
    stores = [p for p in scene.pods if p.labels[COMPONENT] == Component.STORE]
    scene.pods = [p for p in scene.pods if p not in stores] + [replace(p, **left) for p in stores if left]
    stories = scene.look()
    assert scene.says("ServingReady") == ("False", "StoreNotReady")
    assert f"Deployment omni-{scene.revision}-store" in scene.condition("ServingReady")["message"]
    assert scene.says("Ready") == ("False", "NotServing")
    assert scene.status["replicasSummary"] == "0/1"
    assert [(story.warning, story.reason) for story in stories] == [(True, "StoreNotReady")]
    scene.pods = [p for p in scene.pods if p.labels[COMPONENT] != Component.STORE] + stores
    scene.look()
    assert scene.says("Ready") == ("True", "Serving")


def test_a_store_is_a_cause_while_servers_start_only_when_it_fails(starting: Scene) -> None:
    stores = [p for p in starting.pods if p.labels[COMPONENT] == Component.STORE]
    rest = [p for p in starting.pods if p not in stores]
    starting.pods = rest
    starting.look()
    assert starting.says("ServingReady") == ("False", "ServerStarting")
    starting.pods = rest + [replace(p, ready=False, trouble="container mooncake-master: ErrImagePull") for p in stores]
    starting.look()
    assert starting.says("ServingReady") == ("False", "StoreNotReady")
    assert "ErrImagePull" in starting.condition("Ready")["message"]


def test_a_pipeline_that_shares_memory_needs_no_store(one_node: Scene) -> None:
    assert not [p for p in one_node.pods if p.labels[COMPONENT] == Component.STORE]
    assert one_node.says("Ready") == ("True", "Serving")


@pytest.fixture
def one_node() -> Scene:
    """A pipeline that shares memory, serving."""
    scene = Scene(nodes=ONE_NODE)
    scene.bring_up(workers=1)
    return scene


def test_pods_on_two_nodes_break_shared_memory(one_node: Scene) -> None:
    one_node.serve(node="b")
    one_node.look()
    assert one_node.says("TransportAsPlanned") == ("False", "PlacementDiffers")
    assert "a, b" in one_node.condition("TransportAsPlanned")["message"]
    assert one_node.says("Ready") == ("False", "Degraded")


@pytest.mark.parametrize("left", [{"phase": "Failed"}, {"phase": "Succeeded"}, {"deleting": True}])
def test_what_is_left_of_old_pods_breaks_nothing(one_node: Scene, left: dict[str, Any]) -> None:
    one_node.pod(Component.WORKER, 7, node="b", ready=False, **left)
    one_node.look()
    assert one_node.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    assert one_node.says("Ready") == ("True", "Serving")


def test_replicas_may_be_on_different_nodes() -> None:
    scene = Scene(spec=make.raw_spec(replicas=2), nodes=inventory(node("a", 3), node("b", 3)))
    scene.look()
    for replica, where in enumerate("ab"):
        scene.bring_up_ray(replica, workers=1, node=where)
        scene.serve(replica, node=where)
    scene.look()
    assert scene.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    assert scene.says("Ready") == ("True", "Serving")


@pytest.mark.parametrize("missing", [True, False])
def test_a_replica_serves_only_with_its_own_ray_cluster(*, missing: bool) -> None:
    """Whatever its server says: /health does not notice a lost worker."""
    scene = Scene(spec=make.raw_spec(replicas=2), nodes=inventory(node("a", 3), node("b", 3)))
    scene.bring_up(2, workers=1)
    key = next(key for key in scene.children if key[0] == "RayCluster" and key[1].endswith("-1"))
    lost = child(*key, conditions=HEAD_READY, desiredWorkerReplicas=1, readyWorkerReplicas=0)
    scene.children = {k: it for k, it in scene.children.items() if k != key} | ({} if missing else {key: lost})
    scene.look()
    assert scene.says("ServingReady") == ("True", "ServerReady")
    assert scene.says("Ready") == ("False", "Degraded")
    assert (scene.status["readyReplicas"], scene.status["replicasSummary"]) == (1, "1/2")
    assert key[1] in scene.condition("Ready")["message"]


def test_transport_is_unknown_until_all_pods_are_placed(one_node: Scene) -> None:
    one_node.pods = [p for p in one_node.pods if "-serve-" not in p.name]
    one_node.look()
    assert one_node.says("TransportAsPlanned") == ("Unknown", "NotObservedYet")
    assert "1 of 2 pods are placed" in one_node.condition("TransportAsPlanned")["message"]


def test_rdma_is_planned_but_never_called_seen() -> None:
    scene = Scene(nodes=RDMA_NODES)
    scene.bring_up()
    assert scene.says("TransportAsPlanned") == ("Unknown", "RdmaNotVerified")
    assert scene.says("Ready") == ("True", "Serving")


def test_their_cluster() -> None:
    scene = Scene(spec=make.raw_spec(ray={"clusterRef": {"name": "theirs"}}))
    scene.look()
    assert scene.says("RayClusterReady") == ("False", "RayClusterMissing")
    head = [{"type": "HeadPodReady", "status": "True"}]
    theirs = child("RayCluster", "theirs", conditions=head, desiredWorkerReplicas=1, readyWorkerReplicas=1)
    scene.referenced = theirs
    scene.look()
    assert scene.says("RayClusterReady") == ("False", "RayUnreachable"), "its GCS is on KubeRay's default port"
    assert "set ray.port to 6379" in scene.condition("RayClusterReady")["message"]
    scene.referenced = replace(theirs, body=_with_port("http"))
    scene.look()
    assert scene.says("RayClusterReady") == ("False", "RayUnreachable")
    assert "port http," in scene.condition("RayClusterReady")["message"]
    assert "correct rayStartParams.port of its head" in scene.condition("RayClusterReady")["message"]
    scene.referenced = replace(theirs, body=_with_port("6399"))
    scene.serve()
    scene.look()
    assert scene.says("Ready") == ("True", "Serving")
    assert [pod["role"] for pod in scene.status["plan"]["pods"]] == ["serving", "store"]


def _with_port(port: str) -> dict[str, Any]:
    return {"spec": {"headGroupSpec": {"rayStartParams": {"port": port}}}}


def test_a_server_that_is_being_ended_serves_no_more(starting: Scene) -> None:
    """Its Deployment still counts it as available; requests have no endpoint, or reach actors that are gone (run on kind)."""
    starting.serve(ready_since="2026-01-01T11:10:00Z")
    starting.look()
    assert starting.says("Ready") == ("True", "Serving")
    server = starting.pods.pop()
    for pod in (replace(server, deleting=True), replace(server, ready=False)):
        starting.pods.append(pod)
        starting.look()
        assert starting.says("ServingReady")[0] == "False"
        assert starting.says("Ready")[0] == "False"
        starting.pods.remove(pod)
    starting.pods = [server, *(p for p in starting.pods if not p.name.endswith("stages-worker-0"))]
    starting.look()
    assert starting.says("ServingReady")[0] == "False", "the look that ends it says so"
