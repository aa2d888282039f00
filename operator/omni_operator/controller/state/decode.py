"""From the API server's JSON to the values of `state/objects.py`.

The one place that knows where fields are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from omni_operator.children import names
from omni_operator.controller.state.objects import Child, NamespaceObject, NodeObject, Omni, Pod, ResourceHolder
from omni_operator.kube.kinds import RAY_CLUSTER
from omni_operator.topology import read
from omni_operator.topology.namespace import PodSecurity

_RECORD = frozenset({names.SPEC_FILE, names.PLAN_FILE})
_CONDITIONS_READ = {
    RAY_CLUSTER.kind: frozenset({"HeadPodReady", "ReplicaFailure", "RayClusterReplicaFailure"}),
    "Deployment": frozenset({"ReplicaFailure"}),
}


def omni(raw: dict[str, Any]) -> Omni:
    """From the JSON of an OmniDeployment."""
    meta = raw["metadata"]
    return Omni(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        generation=meta.get("generation", 0),
        deleting="deletionTimestamp" in meta,
        finalizers=tuple(meta.get("finalizers") or ()),
        spec=raw.get("spec") or {},
        status=raw.get("status") or {},
        deleted_at=meta.get("deletionTimestamp", ""),
    )


def child(kind: str, raw: dict[str, Any]) -> Child:
    """From the JSON of a child."""
    meta = raw["metadata"]
    owner: dict[str, Any] = next((ref for ref in meta.get("ownerReferences") or () if ref.get("controller")), {})
    body = {key: value for key, value in raw.items() if key not in {"status", "metadata"}}
    body["metadata"] = {
        key: meta[key] for key in ("name", "namespace", "labels", "annotations", "ownerReferences") if key in meta
    }
    if "data" in body:
        # A revision is read from these; of what its pods mount only the names are needed.
        body["data"] = {key: value if key in _RECORD else "" for key, value in (body["data"] or {}).items()}
    return Child(
        kind=kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        created=meta.get("creationTimestamp", ""),
        deleting="deletionTimestamp" in meta,
        owner_uid=owner.get("uid", ""),
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        body=body,
        status=_child_status(kind, raw.get("status") or {}),
    )


def _child_status(kind: str, status: dict[str, Any]) -> dict[str, Any]:
    """The part that conditions read.

    The rest changes with every pod and is no reason to reconcile.
    """
    conditions = [
        {key: condition.get(key, "") for key in ("type", "status", "reason", "message")}
        for condition in status.get("conditions") or ()
        if condition["type"] in _CONDITIONS_READ.get(kind, ())
    ]
    if kind != RAY_CLUSTER.kind:
        return {"conditions": conditions} if conditions else {}
    if not status:
        return {}  # KubeRay has not seen it
    found: dict[str, Any] = {"conditions": conditions}
    return found | {key: status[key] for key in ("desiredWorkerReplicas", "readyWorkerReplicas") if key in status}


def pod(raw: dict[str, Any]) -> Pod:
    """From the JSON of a pod of an OmniDeployment."""
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    labels = meta.get("labels") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    ready = conditions.get("Ready", {})
    entries = status.get("containerStatuses") or ()
    running = [(c.get("state") or {}).get("running") or {} for c in entries]
    started, all_run = max((r.get("startedAt", "") for r in running), default=""), all(running)
    owner: dict[str, Any] = next((ref for ref in meta.get("ownerReferences") or () if ref.get("controller")), {})
    containers = read.containers(status)
    became = ready.get("lastTransitionTime", "")
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        node=spec.get("nodeName", ""),
        phase=status.get("phase", ""),
        deleting="deletionTimestamp" in meta,
        requests=read.pod_requests(spec),
        ready=ready.get("status") == "True",
        address=status.get("podIP", ""),
        owner_uid=owner.get("uid", ""),
        created=meta.get("creationTimestamp", ""),
        started=started,
        ready_since=became if ready.get("status") == "True" else "",
        deletion_requested_at=_deletion_requested_at(meta),
        grace_deadline=meta.get("deletionTimestamp", ""),
        labels=labels,
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        waiting_reason=_waiting_reason(containers),
        termination_message=next((c.termination_message for c in containers if c.termination_message), ""),
        unresponsive=ready.get("status") == "False" and "" < started < became and all_run,
        restarts=sum(c.get("restartCount", 0) for c in (*entries, *(status.get("initContainerStatuses") or ()))),
        group=labels.get("ray.io/group", ""),
    )


def _deletion_requested_at(meta: dict[str, Any]) -> str:
    """When a pod's deletion was asked for: its deletionTimestamp is that plus the grace period."""
    if "deletionTimestamp" not in meta:
        return ""
    asked = datetime.fromisoformat(meta["deletionTimestamp"])
    asked -= timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)
    return asked.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _waiting_reason(containers: Sequence[read.Container]) -> str:
    """What keeps a container from running."""
    stuck = [c for c in containers if c.waits]
    return f"container {stuck[-1].name}: {stuck[-1].waits}: {stuck[-1].message}".rstrip(": ") if stuck else ""


def node(raw: dict[str, Any]) -> NodeObject:
    """From the JSON of a node."""
    meta = raw["metadata"]
    return NodeObject(name=meta["name"], resource_version=meta["resourceVersion"], node=read.node(raw))


def namespace(raw: dict[str, Any]) -> NamespaceObject:
    """From the JSON of a namespace."""
    meta = raw["metadata"]
    return NamespaceObject(
        name=meta["name"],
        resource_version=meta["resourceVersion"],
        pod_security=PodSecurity.of(meta.get("labels") or {}),
        terminating="deletionTimestamp" in meta,
    )


class _Resources(msgspec.Struct):
    limits: dict[str, Any] | None = None


class _Container(msgspec.Struct):
    resources: _Resources | None = None


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class NarrowPod(msgspec.Struct):
    """The part of a pod's JSON that is read of pods of others.

    The rest is skipped without making objects of it.
    """

    metadata: _Metadata
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)


def resource_holder(raw: NarrowPod) -> ResourceHolder:
    """From the narrow JSON of a pod of somebody else."""
    return ResourceHolder(
        namespace=raw.metadata.namespace,
        name=raw.metadata.name,
        resource_version=raw.metadata.resource_version,
        node=raw.spec.node_name,
        requests=read.requested(_limits(raw.spec.containers), _limits(raw.spec.init_containers)),
    )


def _limits(containers: list[_Container] | None) -> list[dict[str, Any]]:
    return [c.resources.limits for c in containers or () if c.resources is not None and c.resources.limits]
