"""What is kept of each watched object: frozen values with the few fields that decisions read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from omni_operator.children.names import NAME, REPLICA, REVISION
from omni_operator.planning.model import PodSecurity
from omni_operator.topology import read
from omni_operator.topology.inventory import Node

_REPLICA = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Omni:
    """An OmniDeployment."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    spec: dict[str, Any]
    status: dict[str, Any]
    deleted_at: str = ""

    @property
    def key(self) -> str:
        """Its key in the queue."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """An object that carries our labels, or a RayCluster of anybody's; `body` has no status and no managedFields."""

    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    created: str
    deleting: bool
    owner_uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    body: dict[str, Any]
    status: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod; `trouble` is what keeps it from running, in the words of the scheduler or the kubelet.

    Of one that is being deleted, `ending_since` is when that was asked for, and `gone_by` when its grace period is over.
    """

    namespace: str
    name: str
    resource_version: str
    node: str
    phase: str
    ready: bool
    deleting: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    owner_uid: str = ""
    created: str = ""
    started: str = ""  # when its youngest container started
    ready_since: str = ""
    ending_since: str = ""
    gone_by: str = ""
    unschedulable: str = ""
    trouble: str = ""
    last_words: str = ""
    address: str = ""
    restarts: int = 0
    silent: bool = False  # it has been ready since its containers started, and is not now
    group: str = ""  # KubeRay's worker group

    @property
    def holds(self) -> bool:
        """Whether it holds resources of its node."""
        return bool(self.node) and self.phase not in {"Succeeded", "Failed"}

    @property
    def omni(self) -> str:
        """Name of the OmniDeployment it belongs to, or nothing; a replica that cannot be is of somebody else's making."""
        return self.labels.get(NAME, "") if not self.replica or _REPLICA.fullmatch(self.replica) else ""

    @property
    def revision(self) -> str:
        """Revision it belongs to, or nothing."""
        return self.labels.get(REVISION, "")

    @property
    def replica(self) -> str:
        """Replica of the pipeline it belongs to, or nothing."""
        return self.labels.get(REPLICA, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeObject:
    """A node."""

    namespace: str = ""
    name: str
    resource_version: str
    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceObject:
    """A namespace."""

    namespace: str = ""
    name: str
    resource_version: str
    pod_security: PodSecurity


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
        status=raw.get("status") or {},
    )


def pod(raw: dict[str, Any]) -> Pod:
    """From the JSON of a pod; details are kept for our own pods only."""
    meta, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    labels = meta.get("labels") or {}
    base: dict[str, Any] = {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "resource_version": meta["resourceVersion"],
        "node": spec.get("nodeName", ""),
        "phase": status.get("phase", ""),
        "deleting": "deletionTimestamp" in meta,
        "requests": read.pod_requests(spec),
    }
    if NAME not in labels:
        return Pod(**base, ready=False)
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    ready = conditions.get("Ready", {})
    entries = status.get("containerStatuses") or ()
    running = [(c.get("state") or {}).get("running") or {} for c in entries]
    started, all_run = max((r.get("startedAt", "") for r in running), default=""), all(running)
    owner: dict[str, Any] = next((ref for ref in meta.get("ownerReferences") or () if ref.get("controller")), {})
    stuck = scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else ""
    containers = read.containers(status)
    return Pod(
        **base,
        ready=ready.get("status") == "True",
        address=status.get("podIP", ""),
        owner_uid=owner.get("uid", ""),
        created=meta.get("creationTimestamp", ""),
        started=started,
        ready_since=ready.get("lastTransitionTime", "") if ready.get("status") == "True" else "",
        ending_since=_asked_at(meta),
        gone_by=meta.get("deletionTimestamp", ""),
        labels=labels,
        unschedulable=stuck,
        trouble=_trouble(containers),
        last_words=next((c.last_words for c in containers if c.last_words), ""),
        silent=ready.get("status") == "False" and "" < started < ready.get("lastTransitionTime", "") and all_run,
        restarts=sum(c.get("restartCount", 0) for c in entries),
        group=labels.get("ray.io/group", ""),
    )


def _asked_at(meta: dict[str, Any]) -> str:
    """When a pod's deletion was asked for: its deletionTimestamp is that plus the grace period."""
    if "deletionTimestamp" not in meta:
        return ""
    asked = datetime.fromisoformat(meta["deletionTimestamp"])
    asked -= timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)
    return asked.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _trouble(containers: Sequence[read.Container]) -> str:
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
    )
