"""Local and Headless on a real API server with KubeRay, and `omni plan -o manifests`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from omni_operator.controller.rollout.diff import first_difference
from tests.api.namespace_under_test import NamespaceUnderTest

MODERN: dict[str, Any] = {"engine": {"version": "0.30.0"}}


def test_local_is_one_pod_and_no_ray_cluster(space: NamespaceUnderTest) -> None:
    space.create(**MODERN, placement={"nodeSelector": space.nodes(1, nvidia_com__gpu=4)})
    omni = space.ready()
    assert omni["status"]["backend"] == "Local"
    assert omni["status"]["transport"] == "shm"
    assert space.condition("RayClusterReady")["reason"] == "NotApplicable"
    assert not space.list("RayCluster")
    (server,) = space.list("Pod")
    container = server["spec"]["containers"][0]
    assert container["command"][:2] == ["python3", "/etc/omni/check_image.py"]
    assert "vllm-omni serve" in " ".join(container["command"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"  # code2wav shares the thinker's

    space.edit(suspend=True)
    space.wait("its pod to go", lambda: not space.list("Pod"))
    space.edit(suspend=False)
    again = space.ready()
    assert again["status"]["revision"] == omni["status"]["revision"]


def test_headless_runs_stage_0_beside_the_server_and_others_in_worker_groups(space: NamespaceUnderTest) -> None:
    space.create(**MODERN, placement={"nodeSelector": space.nodes(2, nvidia_com__gpu=1)})
    omni = space.ready()
    assert omni["status"]["backend"] == "Headless"
    assert omni["status"]["transport"] == "MooncakeStore/tcp"
    (cluster,) = space.list("RayCluster")
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert group["groupName"] == "stage-1"
    worker = next(p for p in space.list("Pod") if p["metadata"]["labels"].get("ray.io/node-type") == "worker")
    assert worker["spec"]["containers"][0]["command"][0] == "python3", "KubeRay replaced the command"
    name = f"{cluster['metadata']['name']}-head"
    service = space.child("Service", name)
    assert service is not None
    assert service["spec"]["publishNotReadyAddresses"] is True
    space.delete()
    space.wait("all children to go", lambda: not space.children(pods=True))


def test_a_stage_that_no_node_can_hold_spans_pods(space: NamespaceUnderTest) -> None:
    """KubeRay makes its pods together and numbers them; only they have GPUs for Ray."""
    pool = space.nodes(4, nvidia_com__gpu=1)
    stages = [{"name": "talker", "accelerators": 2}]
    space.create(**MODERN, stages=stages, placement={"nodeSelector": pool})
    omni = space.ready()
    assert omni["status"]["backend"] == "Headless"
    assert "talker over 2 of them" in omni["status"]["plan"]["summary"]
    assert any("talker spans 2 pods" in note for note in omni["status"]["plan"]["notes"])
    workers = [p for p in space.list("Pod") if p["metadata"]["labels"].get("ray.io/node-type") == "worker"]
    assert sorted(p["metadata"]["labels"]["ray.io/replica-host-index"] for p in workers) == ["0", "1"]
    assert len({p["spec"]["nodeName"] for p in workers}) == 2
    (command,) = {tuple(p["spec"]["containers"][0]["command"]) for p in workers}
    assert "--first-host=$(OMNI_HOST_INDEX)" in command
    (config,) = space.list("ConfigMap", "omni.vllm.ai/component=config")
    talker = yaml.safe_load(config["data"]["stages.yaml"])["stages"][1]
    assert (talker["tensor_parallel_size"], talker["distributed_executor_backend"]) == (2, "ray")
    assert "devices" not in talker


def test_an_edit_goes_from_one_backend_to_another(space: NamespaceUnderTest) -> None:
    space.create(placement={"nodeSelector": space.nodes(1, nvidia_com__gpu=4)})
    first = space.ready()
    assert first["status"]["backend"] == "Ray"
    space.edit(**MODERN)
    space.wait("the other backend", lambda: space.get()["status"].get("backend") == "Local")
    second = space.ready(seconds=120)
    assert second["status"]["revision"] != first["status"]["revision"]
    space.wait("the Ray cluster to go", lambda: not space.list("RayCluster"))


CASES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "ray": (2, 2, {}),
    "ray one node": (1, 4, {}),
    "local": (1, 4, MODERN),
    "headless": (2, 1, {**MODERN, "replicas": 1}),
}


@pytest.mark.parametrize(("nodes", "gpus", "parts"), CASES.values(), ids=CASES)
def test_manifests_are_what_the_operator_makes(
    space: NamespaceUnderTest, nodes: int, gpus: int, parts: dict[str, Any]
) -> None:
    selector = space.nodes(nodes, nvidia_com__gpu=gpus)
    space.operator.stop()
    created = space.create(**parts, placement={"nodeSelector": selector})
    planned = _manifests(space, created)
    space.operator.start()
    space.ready()
    made = space.children()
    assert {(obj["kind"], obj["metadata"]["name"]) for obj in planned} == made.keys()
    for obj in planned:
        live = made[obj["kind"], obj["metadata"]["name"]]
        assert obj["metadata"]["labels"].items() <= live["metadata"]["labels"].items()
        assert obj["metadata"]["ownerReferences"] == live["metadata"]["ownerReferences"]
        body = {key: value for key, value in obj.items() if key not in {"apiVersion", "kind"}}  # lists leave them out
        assert first_difference(live, body) is None, (obj["kind"], obj["metadata"]["name"])


def _manifests(space: NamespaceUnderTest, created: dict[str, Any]) -> list[dict[str, Any]]:
    """What `omni plan -o manifests` prints of an object that exists."""
    kubeconfig = str(space.control_plane.kubeconfig("admin"))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "omni"), "plan", "-f", "-", "-o", "manifests"],
        input=json.dumps(created),
        env={**os.environ, "KUBECONFIG": kubeconfig},
        capture_output=True,
        text=True,
        check=True,
    )
    return list(yaml.safe_load_all(done.stdout))
