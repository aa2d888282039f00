"""OmniDeployments on the stand-in server: changes, suspension, deletion, repair, restrictions."""

from __future__ import annotations

from typing import Any

from e2e import cluster_under_test
from e2e.cluster import nodes
from e2e.cluster_under_test import GPU, STANDIN, Omni, devices, eventually, kubectl_json, node_memory

CPU = {
    "model": {"name": "/models/tiny-omni"},
    "engine": {"version": "0.16.0", "image": STANDIN},
    "accelerator": {"type": "cpu"},
    "serving": {"terminationGracePeriodSeconds": 60},
}


def _gone(omni: Omni) -> None:
    eventually("no object with our label", lambda: not omni.objects(), seconds=120)
    eventually("no shared memory on the nodes", lambda: not node_memory(), seconds=30)


def test_update_suspend_resume_delete(space: str) -> None:
    """A change makes a new revision and deletes old children; suspension keeps only the plan."""
    omni = Omni(space, "life")
    env = [{"name": "STANDIN_LEAK_SHM", "value": "1"}]
    omni.apply(**{**CPU, "engine": {**CPU["engine"], "env": env}})
    omni.wait("Ready", seconds=240)
    first = omni.status()["revision"]
    assert omni.ask()["text"]
    assert any("/" in text for text in node_memory().values()), "the stand-in leaks a segment, as a crash would"

    omni.patch({"engine": {"env": [*env, {"name": "ROUND", "value": "2"}]}})
    omni.wait("Ready", seconds=300)
    second = omni.status()["revision"]
    assert second != first
    assert omni.ask()["text"]
    eventually(
        "children of the first revision are gone", lambda: not any(first in name for name in omni.objects()), seconds=60
    )
    assert all(first not in text for text in node_memory().values())

    omni.patch({"suspend": True})
    omni.wait("Ready", "False", reason="Suspended", seconds=60)
    eventually("no pods while suspended", lambda: not omni.pods(), seconds=120)
    eventually("no shared memory while suspended", lambda: not node_memory(), seconds=60)
    omni.patch({"suspend": False})
    omni.wait("Ready", seconds=240)
    assert omni.status()["revision"] == second

    omni.delete()
    _gone(omni)


def test_bad_edit_touches_nothing(space: str) -> None:
    """An edit that cannot be used says why and leaves the running pods as they are."""
    omni = Omni(space, "steady")
    omni.apply(**CPU)
    omni.wait("Ready", seconds=240)
    before = sorted(pod["metadata"]["uid"] for pod in omni.pods())
    omni.patch({"model": {"pipeline": "no_such_pipeline"}})
    told = omni.wait("Accepted", "False", reason="UnknownPipeline", seconds=30)
    assert "no_such_pipeline" in told["message"]
    assert "docs/reference/pipelines.md" in told["message"], "the remedy says where what exists is listed"
    assert sorted(pod["metadata"]["uid"] for pod in omni.pods()) == before
    assert omni.ask()["text"]
    assert omni.condition("Ready")["status"] == "True"
    omni.delete()


def test_children_are_repaired_and_neighbours_left_alone(space: str) -> None:
    """A child that is edited or deleted by hand is restored; other objects do not change."""
    one, two = Omni(space, "one"), Omni(space, "two")
    one.apply(**CPU)
    two.apply(**CPU)
    one.wait("Ready", seconds=300)
    two.wait("Ready", seconds=300)
    untouched = sorted(pod["metadata"]["uid"] for pod in two.pods())
    nodes.kubectl(
        "patch",
        "service",
        "one",
        "-n",
        space,
        "--type=merge",
        "-p",
        '{"spec":{"selector":{"omni.vllm.ai/revision":"x"}}}',
    )
    eventually(
        "the Service selects the revision again",
        lambda: _revision_of_service(space, "one") == one.status()["revision"],
        seconds=30,
    )
    policy = f"one-{one.status()['revision']}"
    nodes.kubectl("delete", "networkpolicy", policy, "-n", space)
    eventually(
        "the NetworkPolicy is back", lambda: nodes.kubectl("get", "networkpolicy", policy, "-n", space), seconds=30
    )
    nodes.kubectl("delete", "raycluster", f"{policy}-0", "-n", space)
    eventually("a new RayCluster", lambda: nodes.kubectl("get", "raycluster", f"{policy}-0", "-n", space), seconds=60)
    one.wait("Ready", seconds=300)
    eventually("an answer again", lambda: one.ask()["text"], seconds=180, every=5)
    reasons = {
        e["reason"]
        for e in kubectl_json("get", "events", "-n", space, "--field-selector=involvedObject.name=one")["items"]
    }
    assert {"Planned", "Ready", "Repaired"} <= reasons
    assert sorted(pod["metadata"]["uid"] for pod in two.pods()) == untouched
    one.delete()
    two.delete()
    _gone(one)
    _gone(two)


def test_server_follows_its_ray_cluster(space: str) -> None:
    """After a worker is replaced, /health is 200 without actors: the server restarts once."""
    omni = Omni(space, "follows")
    omni.apply(**CPU)
    omni.wait("Ready", seconds=240)
    server = omni.pods("serving")[0]["metadata"]["uid"]
    worker = omni.pods("worker")[0]["metadata"]["name"]
    nodes.kubectl("delete", "pod", worker, "-n", space, "--wait=false")
    omni.wait("Ready", "False", seconds=60)
    eventually(
        "another server", lambda: [p for p in omni.pods("serving") if p["metadata"]["uid"] != server], seconds=180
    )
    omni.wait("Ready", seconds=240)
    second = [p["metadata"]["uid"] for p in omni.pods("serving") if "deletionTimestamp" not in p["metadata"]]
    assert omni.ask()["text"]
    events = kubectl_json("get", "events", "-n", space, "--field-selector=involvedObject.name=follows")["items"]
    assert [e["reason"] for e in events].count("ServerRestarted") == 1
    assert [p["metadata"]["uid"] for p in omni.pods("serving") if "deletionTimestamp" not in p["metadata"]] == second
    omni.delete()
    _gone(omni)


def _revision_of_service(space: str, name: str) -> str:
    return str(kubectl_json("get", "service", name, "-n", space)["spec"]["selector"]["omni.vllm.ai/revision"])


def test_restricted_namespace(cluster: None) -> None:
    """At pod security level restricted, pods have no hostPath and run; status has the reason."""
    space = cluster_under_test.namespace("restricted", labels={"pod-security.kubernetes.io/enforce": "restricted"})
    omni = Omni(space, "careful")
    omni.apply(**CPU)
    omni.wait("Ready", seconds=240)
    status = omni.status()
    assert status["transport"] == "MooncakeStore/tcp"
    rejected = {r["code"] for edge in status["plan"]["edges"] for r in edge["rejected"]}
    assert "HostMemoryForbidden" in rejected
    for pod in omni.pods():
        assert not any("hostPath" in volume for volume in pod["spec"].get("volumes", ()))
    assert omni.ask()["text"]
    omni.delete()
    _gone(omni)
    nodes.kubectl("delete", "namespace", space, "--wait=false")


def test_waits_and_policies_take_no_accelerator(space: str) -> None:
    """RDMA required but absent creates nothing; a GPU that is missing is named."""
    with devices(worker={GPU: 2}, worker2={GPU: 2}):
        strict = Omni(space, "strict")
        strict.apply(**{**_gpu(), "transport": {"rdma": "Require"}})
        told = strict.wait("Planned", "False", reason="PolicyCannotBeMet", seconds=30)
        assert "NoRdmaOnNode" in told["message"]
        assert strict.objects() == []
        packed = Omni(space, "packed")
        packed.apply(**{**_gpu(), "placement": {"strategy": "OneNode"}})
        told = packed.wait("Planned", "False", reason="NoLayout", seconds=30)
        assert "3 x nvidia.com/gpu" in told["message"]
        strict.delete()
        packed.delete()


def test_version_mismatch_is_a_condition(space: str) -> None:
    """A Ray cluster of another version gives a condition; one of the same version is joined."""
    cluster_under_test.apply(
        _ray_cluster(space, "other-version", ray="2.52.1"), _ray_cluster(space, "same-version", ray="2.53.0")
    )
    stranger, guest = Omni(space, "stranger"), Omni(space, "guest")
    stranger.apply(**{**CPU, "ray": {"clusterRef": {"name": "other-version"}, "tokenAuth": "Disabled"}})
    guest.apply(**{**CPU, "ray": {"clusterRef": {"name": "same-version"}, "tokenAuth": "Disabled"}})
    told = stranger.wait("ServingReady", "False", reason="RayVersionMismatch", seconds=180)
    assert "2.53.0" in told["message"]
    assert "2.52.1" in told["message"]
    guest.wait("Ready", seconds=180)
    assert guest.ask()["text"]
    rejected = {r["code"] for edge in guest.status()["plan"]["edges"] for r in edge["rejected"]}
    assert "PodsNotOurs" in rejected
    stranger.delete()
    guest.delete()
    _gone(stranger)
    _gone(guest)
    assert len(kubectl_json("get", "rayclusters", "-n", space)["items"]) == 2, "clusters of others stay"


def test_an_image_of_another_release_is_a_condition(space: str) -> None:
    """vllm-omni 0.16 in the image would reject a configuration for 0.30, or ignore parts of it."""
    omni = Omni(space, "newer")
    model = {**CPU["model"], "pipeline": "qwen2_5_omni"}
    omni.apply(**{**CPU, "model": model, "engine": {**CPU["engine"], "version": "0.30.0"}})
    told = omni.wait("ServingReady", "False", reason="EngineImageMismatch", seconds=120)
    assert "has vllm-omni 0.16.0, but engine.version is 0.30.0" in told["message"]
    assert "set engine.version to 0.16.0" in told["message"]
    omni.delete()


def _ray_cluster(space: str, name: str, *, ray: str) -> dict[str, Any]:
    """A RayCluster of somebody else's, with three accelerators to Ray."""
    env = [{"name": "STANDIN_RAY_VERSION", "value": ray}]
    container = {"image": STANDIN, "imagePullPolicy": "IfNotPresent", "env": env}
    worker = {"spec": {"containers": [{**container, "name": "ray-worker"}]}}
    group = {
        "groupName": "team", "replicas": 1, "minReplicas": 1, "maxReplicas": 1,
        "rayStartParams": {"num-gpus": "3", "num-cpus": "3"}, "template": worker,
    }  # fmt: skip
    head = {
        "rayStartParams": {"port": "6399", "num-cpus": "0"},
        "template": {"spec": {"containers": [{**container, "name": "ray-head"}]}},
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name, "namespace": space},
        "spec": {"rayVersion": ray, "headGroupSpec": head, "workerGroupSpecs": [group]},
    }


def _gpu() -> dict[str, Any]:
    return {key: value for key, value in CPU.items() if key != "accelerator"}
