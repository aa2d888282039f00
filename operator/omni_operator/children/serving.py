"""The serving Deployment of one replica: the API server, the orchestrator and their stages.

With Ray it has no accelerator; on the other backends it runs stage 0 (Headless) or all stages
(Local).
"""

from __future__ import annotations

from typing import Any

from omni_operator.children import command, names, pod
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision, copy_of

_PROBE_PERIOD = 5
_LIVENESS_PERIOD = 15


def build(owner: Owner, revision: Revision, replica: int) -> dict[str, Any]:
    """The Deployment.

    It never carries ray.io/cluster: KubeRay deletes pods by that label alone (1.6.2).
    """
    plan, spec = revision.plan, revision.spec
    sizes, stages = plan.serving.sizes, plan.serving.stages
    found, mounts = pod.volumes(owner, revision, replica=replica, shm_bytes=sizes.shm_bytes, config=True)
    env = command.environment(owner, revision, replica=replica, server=True)
    server = pod.container(owner, revision, name=names.SERVER_CONTAINER, env=env, rdma=plan.serving.rdma, mounts=mounts)
    server["command"] = command.serving_command(owner, revision, replica)
    server["ports"] = [{"name": "http", "containerPort": spec.serving.port, "protocol": "TCP"}]
    server["resources"] = pod.resources(
        pod.together(spec.serving.resources, *pod.stage_resources(revision, stages)),
        cpu=f"{250 * (1 + plan.serving.accelerators)}m",
        memory_bytes=sizes.memory_bytes,
        devices=pod.accelerator_devices(revision, plan.serving.accelerators, rdma=plan.serving.rdma),
        extra_memory_bytes=sizes.shm_bytes + sizes.pool_bytes,
        disk_bytes=sizes.disk_bytes,
    )
    server |= _probes(revision)
    metadata = pod.pod_metadata(owner, revision, Component.SERVING, replica=replica)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(
            owner,
            names.serving(owner, revision.name, replica),
            Component.SERVING,
            revision=revision.name,
            replica=replica,
            annotations={names.RECORD: copy_of(revision)},
            extra_labels=dict(spec.placement.labels),
        ),
        "spec": {
            "replicas": 1,
            # Two servers on one RayCluster would wait for each other's accelerators for ever.
            "strategy": {"type": "Recreate"},
            "selector": {
                "matchLabels": names.selector(owner, Component.SERVING, revision=revision.name, replica=replica)
            },
            "template": {
                "metadata": metadata,
                "spec": pod.pod_spec(
                    owner,
                    revision,
                    component=Component.SERVING,
                    replica=replica,
                    containers=[server],
                    pod_volumes=found,
                    grace_seconds=spec.serving.termination_grace_period_seconds,
                    devices=plan.serving.accelerators > 0,
                    stages=stages,
                ),
            },
        },
    }


def _probes(revision: Revision) -> dict[str, Any]:
    """Probes of the server.

    It does not listen before all stages are ready, so /health cannot be reached while it starts
    (0.14 - 0.30).
    """
    spec = revision.spec.serving
    health = {"httpGet": {"path": "/health", "port": "http"}}
    budget = command.startup_seconds(revision)
    return {
        "startupProbe": {
            **health,
            "periodSeconds": _PROBE_PERIOD,
            "timeoutSeconds": 5,
            "failureThreshold": -(-budget // _PROBE_PERIOD),
        },
        "readinessProbe": {**health, "periodSeconds": _PROBE_PERIOD, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {
            **health,
            "periodSeconds": _LIVENESS_PERIOD,
            "timeoutSeconds": 10,
            "failureThreshold": max(2, -(-spec.probes.liveness_failure_seconds // _LIVENESS_PERIOD)),
        },
    }
