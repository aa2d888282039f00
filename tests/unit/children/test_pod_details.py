"""Requests, environment and counts: the arithmetic inside the pods."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.serving_spec import ContainerResources
from omni_operator.children import command, pod, ray_cluster, serving
from omni_operator.children.render import with_record as children
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.quantity import binary
from tests.unit import make
from tests.unit.make import ONE_NODE, OWNER, TWO_NODES, revision, spec

GIB = 1 << 30


@pytest.mark.parametrize(
    ("asked", "requests", "limits"),
    [
        ({}, {"cpu": "250m", "memory": "2Gi"}, None),
        ({"requests": {"memory": "4Gi"}}, {"cpu": "250m", "memory": "5Gi"}, None),
        ({"limits": {"memory": "4Gi"}}, {"cpu": "250m", "memory": "2Gi"}, {"memory": "5Gi"}),
        ({"limits": {"memory": "512Mi"}}, {"cpu": "250m", "memory": "1536Mi"}, {"memory": "1536Mi"}),
        ({"limits": {"cpu": "100m"}}, {"cpu": "100m", "memory": "2Gi"}, {"cpu": "100m"}),
        ({"requests": {"cpu": 2}}, {"cpu": "2", "memory": "2Gi"}, None),
    ],
)
def test_resources(asked: dict[str, Any], requests: dict[str, str], limits: dict[str, str] | None) -> None:
    """Derived values are added to the user's, and defaults stay below the user's limits."""
    user = ContainerResources.model_validate(asked)
    made = pod.resources(user, cpu="250m", memory_bytes=2 * GIB, devices={}, extra_memory_bytes=GIB)
    assert made["requests"] == requests
    assert made.get("limits") == limits


def test_devices_are_requests_and_limits() -> None:
    made = pod.resources(None, cpu="1", memory_bytes=GIB, devices={"nvidia.com/gpu": 3, "rdma/hca": 0})
    assert made["limits"] == {"nvidia.com/gpu": "3"}
    assert made["requests"]["nvidia.com/gpu"] == "3"


STAGES = [
    {"name": "thinker", "resources": {"requests": {"cpu": "1500m", "memory": "2Gi"}, "limits": {"cpu": 4}}},
    {"name": "talker", "resources": {"requests": {"cpu": "1", "memory": "3Gi"}}},
]


def _worker_resources(nodes: Inventory) -> tuple[dict[str, Any], int]:
    made = revision(spec(stages=STAGES), nodes)
    (group,) = ray_cluster.build(OWNER, made, 0)["spec"]["workerGroupSpecs"]
    sizes = made.plan.groups[0].sizes
    return group["template"]["spec"]["containers"][0]["resources"], sizes.shm_bytes + sizes.pool_bytes


def test_one_pod_for_all_stages_asks_for_their_sum() -> None:
    resources, derived = _worker_resources(ONE_NODE)
    assert resources["requests"]["cpu"] == "2500m"
    assert resources["requests"]["memory"] == binary(5 * GIB + derived)
    assert "cpu" not in resources.get("limits", {}), "a limit of the thinker would bind the talker"


def test_a_pod_per_stage_asks_for_the_largest_since_ray_places_stages() -> None:
    resources, derived = _worker_resources(TWO_NODES)
    assert resources["requests"]["cpu"] == "1500m"
    assert resources["requests"]["memory"] == binary(3 * GIB + derived)


def _environment(*given: dict[str, Any]) -> list[dict[str, Any]]:
    return command.environment(OWNER, revision(spec(engine={"env": list(given)})), replica=0, server=True)


def test_a_variable_of_the_user_comes_where_ours_was() -> None:
    """$(POD_IP) is expanded from variables that come before it, so its place matters."""
    names = [variable["name"] for variable in _environment({"name": "POD_IP", "value": "10.0.0.1"})]
    assert names.index("POD_IP") < names.index("VLLM_HOST_IP")
    assert names.count("POD_IP") == 1


def test_variables_of_the_user_replace_ours_and_follow_them() -> None:
    made = _environment(
        {"name": "RAY_USAGE_STATS_ENABLED", "value": "1"}, {"name": "EMPTY"}, {"name": "X", "value": "y"}
    )
    found = {variable["name"]: variable.get("value") for variable in made}
    assert found["RAY_USAGE_STATS_ENABLED"] == "1"
    assert found["EMPTY"] == ""
    assert made[-1] == {"name": "X", "value": "y"}


def test_the_startup_probe_allows_every_budget_together() -> None:
    probes = {"rayWaitSeconds": 101, "initTimeoutSeconds": 99, "livenessFailureSeconds": 31}
    made = serving.build(OWNER, revision(spec(serving={"probes": probes})), 0)
    server = made["spec"]["template"]["spec"]["containers"][0]
    startup, live = server["startupProbe"], server["livenessProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 101 + 99 + 60
    assert live["failureThreshold"] * live["periodSeconds"] >= 31
    assert "--wait-seconds=101" in server["command"]


@pytest.mark.parametrize(
    ("parts", "nodes", "replicas", "kept"),
    [
        ({}, ONE_NODE, 1, 0),  # else its server, once evicted, would wait for ever for a worker that may not go
        ({}, ONE_NODE, 3, 6),  # twice head, worker and server
        ({}, TWO_NODES, 2, 5),  # head, three workers and server
        ({"ray": {"clusterRef": {"name": "theirs"}}}, TWO_NODES, 3, 2),  # servers
    ],
)
def test_a_drain_may_take_one_replica_at_a_time(parts: dict[str, Any], nodes: Any, replicas: int, kept: int) -> None:
    made = revision(spec(**parts), nodes)
    objects = children(OWNER, made, replicas=replicas, service=made.spec.serving.service)
    (budget,) = [obj for obj in objects if obj["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["minAvailable"] == kept
    (expression,) = budget["spec"]["selector"]["matchExpressions"]
    assert expression["values"] == ["store", "cleanup"], "pods that are not of one replica are not counted"


def test_suspended_keeps_the_plan_and_the_public_service_only() -> None:
    made = revision()
    objects = children(OWNER, made, replicas=0, service=made.spec.serving.service)
    assert [obj["kind"] for obj in objects] == ["ConfigMap", "Service"]
    assert objects[1]["metadata"]["name"] == OWNER.name


def test_user_labels_cannot_replace_ours() -> None:
    made = revision(spec(placement={"labels": {"omni.vllm.ai/name": "other", "queue": "q"}}))
    for obj in (serving.build(OWNER, made, 0), ray_cluster.build(OWNER, made, 0)):
        assert obj["metadata"]["labels"]["omni.vllm.ai/name"] == OWNER.name
        assert obj["metadata"]["labels"]["queue"] == "q"


def test_user_affinity_stays_beside_ours() -> None:
    term = {"labelSelector": {"matchLabels": {"app": "cache"}}, "topologyKey": "zone"}
    rule = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = {"podAffinity": {rule: [term]}, "nodeAffinity": {rule: {"nodeSelectorTerms": []}}}
    made = serving.build(OWNER, revision(spec(placement={"affinity": affinity}), ONE_NODE), 0)
    found = made["spec"]["template"]["spec"]["affinity"]
    assert found["podAffinity"][rule][0] == term
    assert found["podAffinity"][rule][1]["labelSelector"]["matchLabels"]["omni.vllm.ai/component"] == "worker"
    assert found["nodeAffinity"] == affinity["nodeAffinity"]
    assert affinity["podAffinity"][rule] == [term]  # the user's own value is not changed


def test_weights_of_nodes_are_mounted_read_only() -> None:
    weights = {"hostPath": {"path": "/data"}, "mountPath": "/models"}
    made = revision(spec(model={"name": "/models/q", "pipeline": "qwen2_5_omni", "weights": weights}))
    found, mounts = pod.volumes(make.OWNER, made, replica=0, shm_bytes=GIB, config=False)
    assert {"name": "weights", "hostPath": {"path": "/data", "type": "Directory"}} in found
    assert {"name": "weights", "mountPath": "/models", "readOnly": True} in mounts
