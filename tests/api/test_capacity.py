"""What the nodes and the namespace allow, and what the plan makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import yaml

from tests.api.namespace_under_test import COMPONENT, NamespaceUnderTest, Object

GPU = "nvidia.com/gpu"


def test_waits_for_capacity_and_goes_on_when_a_pod_ends(space: NamespaceUnderTest) -> None:
    pool = space.nodes(1, nvidia_com__gpu=3)
    _block(space, pool, gpus=1)
    space.create(placement={"strategy": "OneNode", "nodeSelector": pool})
    planned = space.until("Planned", status="True", reason="WaitingForCapacity")
    assert "3 x nvidia.com/gpu" in planned["message"]
    assert f"{space.made_nodes[0]}: 2" in planned["message"]
    stuck = space.until("RayClusterReady", status="False", reason="Unschedulable")
    assert "Insufficient nvidia.com/gpu" in stuck["message"]
    assert space.condition("Ready")["status"] == "False"
    space.control_plane.ok("DELETE", space.child_path("Pod", "blocker"), {"gracePeriodSeconds": 0})
    space.ready()
    space.until("Planned", status="True", reason="PlanFits")


def test_a_plan_that_fits_no_nodes_makes_nothing_until_they_come(space: NamespaceUnderTest) -> None:
    pool = space.nodes(1, nvidia_com__gpu=2)
    space.create(placement={"strategy": "OneNode", "nodeSelector": pool})
    planned = space.until("Planned", status="False", reason="NoLayout")
    assert f"{space.made_nodes[0]}: 2" in planned["message"]
    assert not space.children(pods=True)
    space.nodes(1, nvidia_com__gpu=4)
    assert space.ready()["status"]["plan"]["strategy"] == "OneNode"


def test_required_rdma_without_rdma_creates_nothing(space: NamespaceUnderTest) -> None:
    pool = space.nodes(2, nvidia_com__gpu=2)
    space.create(placement={"strategy": "Spread", "nodeSelector": pool}, transport={"rdma": "Require"})
    planned = space.until("Planned", status="False", reason="PolicyCannotBeMet")
    assert "NoRdmaOnNode" in planned["message"]
    assert "thinker -> talker" in planned["message"]
    time.sleep(1)
    assert not space.children(pods=True)
    assert space.condition("Ready")["reason"] == "PolicyCannotBeMet"


def test_nodes_that_get_rdma_are_used_by_the_next_revision(space: NamespaceUnderTest) -> None:
    pool = space.nodes(2, nvidia_com__gpu=3)
    space.create(placement={"strategy": "Spread", "nodeSelector": pool})
    first = space.ready()
    assert first["status"]["transport"] == "MooncakeStore/tcp"
    for node in space.made_nodes:
        more = {"status": {"allocatable": {"rdma/hca": "8"}, "capacity": {"rdma/hca": "8"}}}
        space.control_plane.ok("PATCH", f"/api/v1/nodes/{node}/status", more, content="application/merge-patch+json")
    space.operator.settle(calm=1)
    assert space.get()["status"]["revision"] == first["status"]["revision"], "a node's change moved a running pipeline"

    space.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    second = space.ready()
    assert second["status"]["transport"] == "MooncakeStore/rdma"
    revision = second["status"]["revision"]
    config = space.child("ConfigMap", f"demo-{revision}")
    assert config is not None
    connectors = yaml.safe_load(config["data"]["stages.yaml"])["runtime"]["connectors"]
    assert {c["extra"]["proto"] for c in connectors.values()} == {"rdma"}
    for pod in space.list("Pod", f"{COMPONENT}=serving") + space.list("Pod", f"{COMPONENT}=worker"):
        container = pod["spec"]["containers"][0]
        assert container["resources"]["limits"]["rdma/hca"] == "1"
        assert container["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]
    told = space.condition("TransportAsPlanned")
    assert (told["status"], told["reason"]) == ("Unknown", "RdmaNotVerified")


def test_a_restricted_namespace_gets_pods_that_it_admits(make_space: Callable[..., NamespaceUnderTest]) -> None:
    space = make_space(pod_security="restricted")
    pool = space.nodes(1, nvidia_com__gpu=3, rdma__hca=8)
    space.create(placement={"strategy": "OneNode", "nodeSelector": pool})
    omni = space.ready()
    assert omni["status"]["transport"] == "MooncakeStore/tcp"
    rejected = {r["choice"]: r["code"] for r in omni["status"]["plan"]["edges"][0]["rejected"]}
    assert rejected["SharedMemory/shm"] == "HostMemoryForbidden"
    assert rejected["MooncakeStore/rdma"] == "CapabilityForbidden"
    pods = space.list("Pod")
    assert len(pods) == 4
    for pod in pods:
        assert not [volume for volume in pod["spec"].get("volumes", ()) if "hostPath" in volume]


def test_an_existing_ray_cluster_is_joined(space: NamespaceUnderTest) -> None:
    space.create(ray={"clusterRef": {"name": "theirs"}})
    told = space.until("RayClusterReady", status="False", reason="RayClusterMissing")
    assert "RayCluster theirs of ray.clusterRef" in told["message"]
    space.control_plane.ok("POST", f"/apis/ray.io/v1/namespaces/{space.namespace}/rayclusters", _ray_cluster())
    omni = space.ready()
    assert [c["metadata"]["name"] for c in space.list("RayCluster")] == ["theirs"]
    assert omni["status"]["transport"] == "MooncakeStore/tcp"
    server = next(c for (kind, name), c in space.children().items() if kind == "Deployment" and name.endswith("-serve"))
    command = server["spec"]["template"]["spec"]["containers"][0]["command"]
    assert f"--ray-address=theirs-head-svc.{space.namespace}.svc:6399" in command
    version = space.list("RayCluster")[0]["metadata"]["generation"]
    space.delete()
    space.wait("ours gone", lambda: not space.children(pods=True))
    assert space.list("RayCluster")[0]["metadata"]["generation"] == version


def _block(space: NamespaceUnderTest, pool: dict[str, str], *, gpus: int) -> None:
    resources = {"limits": {GPU: str(gpus)}}
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "blocker"},
        "spec": {"nodeSelector": pool, "containers": [{"name": "main", "image": "other:1", "resources": resources}]},
    }
    space.control_plane.ok("POST", space.child_path("Pod", "").rstrip("/"), pod)
    space.wait("blocker placed", lambda: (space.child("Pod", "blocker") or {})["spec"].get("nodeName"))


def _ray_cluster() -> Object:
    def group(name: str) -> Object:
        return {"metadata": {}, "spec": {"containers": [{"name": name, "image": "rayproject/ray:2.53.0"}]}}

    workers = {"groupName": "gpu", "replicas": 3, "minReplicas": 3, "maxReplicas": 3, "rayStartParams": {}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "theirs"},
        "spec": {
            "rayVersion": "2.53.0",
            "headGroupSpec": {"rayStartParams": {"port": "6399"}, "template": group("ray-head")},
            "workerGroupSpecs": [{**workers, "template": group("ray-worker")}],
        },
    }
