"""The RayCluster of one replica: a head that runs no stage, and worker groups from the layout."""

from __future__ import annotations

from typing import Any

from omni_operator.api import ports
from omni_operator.api.spec import Backend
from omni_operator.children import command, names, pod
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision
from omni_operator.planning.model import WorkerGroup

_MIB = 1 << 20
_HEAD_MEMORY = 1024 * _MIB
_HEAD_OBJECT_STORE = 128 * _MIB


def build(owner: Owner, revision: Revision, replica: int) -> dict[str, Any]:
    """The RayCluster."""
    plan, spec = revision.plan, revision.spec
    cluster: dict[str, Any] = {
        "rayVersion": plan.ray_version,
        "headGroupSpec": _head(owner, revision, replica),
        "workerGroupSpecs": [_workers(owner, revision, replica, group) for group in plan.groups],
    }
    if plan.token_auth:
        cluster["authOptions"] = {"mode": "token"}
    # KubeRay then leaves command and args as they are and gives `ray start` in a variable (1.6.2,
    # common/pod.go).
    own_command = {"ray.io/overwrite-container-cmd": "true"} if plan.backend is Backend.HEADLESS else None
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": names.metadata(
            owner,
            names.ray_cluster(owner, revision.name, replica),
            Component.RAY,
            revision=revision.name,
            replica=replica,
            annotations=own_command,
            extra_labels=dict(spec.placement.labels),
        ),
        "spec": cluster,
    }


def _head(owner: Owner, revision: Revision, replica: int) -> dict[str, Any]:
    spec = revision.spec
    found, mounts = _private_shm(_HEAD_OBJECT_STORE + 64 * _MIB)
    env = command.environment(owner, revision, replica=replica, server=False)
    ray = pod.container(owner, revision, name="ray-head", env=env, rdma=False, mounts=mounts)
    # One declared port replaces KubeRay's default set, so all that are used are declared (1.6.2,
    # common/pod.go).
    ray["ports"] = [
        {"name": name, "containerPort": port, "protocol": "TCP"}
        for name, port in (
            ("gcs-server", spec.ray.port),
            ("dashboard", ports.RAY_DASHBOARD),
            ("client", ports.RAY_CLIENT),
            ("metrics", ports.RAY_METRICS),
        )
    ]
    if revision.plan.backend is Backend.HEADLESS:
        ray["command"] = command.ray_head_command()
    ray["resources"] = pod.resources(spec.ray.head.resources, cpu="100m", memory_bytes=_HEAD_MEMORY, devices={})
    return {
        "rayStartParams": {
            "object-store-memory": str(_HEAD_OBJECT_STORE),
            **spec.ray.head_start_params,
            "dashboard-host": "0.0.0.0",  # noqa: S104  the server asks it for versions and resources
            "num-cpus": "0",
            "num-gpus": "0",
            "port": str(spec.ray.port),
        },
        "template": {
            "metadata": pod.pod_metadata(owner, revision, Component.HEAD, replica=replica),
            "spec": pod.pod_spec(
                owner,
                revision,
                component=Component.HEAD,
                replica=replica,
                containers=[ray],
                pod_volumes=found,
                grace_seconds=60,
            ),
        },
    }


def _private_shm(size: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volume = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{size // _MIB}Mi"}}
    return [volume], [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108


def _workers(owner: Owner, revision: Revision, replica: int, group: WorkerGroup) -> dict[str, Any]:
    plan, spec = revision.plan, revision.spec
    sizes, headless = group.sizes, plan.backend is Backend.HEADLESS
    found, mounts = pod.volumes(owner, revision, replica=replica, shm_bytes=sizes.shm_bytes, config=headless)
    env = command.environment(owner, revision, replica=replica, server=False)
    if group.spans:
        env += command.spanning_environment(owner, revision, replica)
    ray = pod.container(owner, revision, name=names.WORKER_CONTAINER, env=env, rdma=group.rdma, mounts=mounts)
    if headless:
        ray["command"] = command.worker_command(owner, revision, replica, group)
    ray["resources"] = pod.resources(
        pod.folded(
            pod.stage_resources(revision, group.stages), together=headless or group.pods == 1, stages=len(group.stages)
        ),
        cpu=f"{250 * group.accelerators}m",
        memory_bytes=sizes.memory_bytes,
        devices=pod.accelerator_devices(revision, group.accelerators, rdma=group.rdma),
        extra_memory_bytes=sizes.shm_bytes + sizes.pool_bytes,
        disk_bytes=sizes.disk_bytes,
    )
    # What Ray may give to the workers of a stage that spans pods must be that stage's own.
    for_ray = group.accelerators if group.spans or not any(g.spans for g in plan.groups) else 0
    count = 1 if group.spans else group.pods
    return {
        "groupName": group.name,
        "replicas": count,
        "minReplicas": count,
        "maxReplicas": count,
        **({"numOfHosts": group.pods} if group.spans else {}),
        # vllm-omni asks for bundles of {GPU: 1, CPU: 1}; the counts are said outright since KubeRay
        # cannot guess every device.
        "rayStartParams": {
            "object-store-memory": str(sizes.object_store_bytes),
            **spec.ray.worker_start_params,
            "num-cpus": str(for_ray),
            "num-gpus": str(for_ray),
        },
        "template": {
            "metadata": pod.pod_metadata(owner, revision, Component.WORKER, replica=replica),
            "spec": pod.pod_spec(
                owner,
                revision,
                component=Component.WORKER,
                replica=replica,
                containers=[ray],
                pod_volumes=found,
                grace_seconds=60,
                devices=True,
                stages=group.stages if headless else (),
            ),
        },
    }
