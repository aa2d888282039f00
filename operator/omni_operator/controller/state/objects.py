"""What is kept of each watched object: frozen values with the few fields that decisions read.

Made by `state/decode.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omni_operator.children.names import NAME, REPLICA, REVISION
from omni_operator.topology.inventory import Node
from omni_operator.topology.namespace import PodSecurity

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
    """An object that carries our labels, or a RayCluster of anybody's.

    Attributes:
        body: Without status and managedFields.
        status: Only what conditions read.
    """

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

    def differs_from(self, other: Child) -> bool:
        """Whether anything that is read is different; a resourceVersion alone says nothing."""
        return replace(other, resource_version=self.resource_version) != self


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of an OmniDeployment. Times are RFC 3339 in UTC, empty where they do not apply.

    Attributes:
        started: When its youngest container started.
        ready_since: When it became ready.
        deletion_requested_at: When its deletion was asked for.
        grace_deadline: When the grace period of its deletion is over.
        unschedulable: The scheduler's message when it finds no node.
        waiting_reason: Why a container does not run, in the kubelet's words.
        termination_message: What the container that ended with an error left.
        restarts: Of all its containers, init containers too.
        unresponsive: It has been ready since its containers started, and is not now.
        group: KubeRay's worker group.
    """

    namespace: str
    name: str
    resource_version: str
    node: str
    phase: str
    ready: bool
    deleting: bool
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, int] = field(default_factory=dict)
    owner_uid: str = ""
    created: str = ""
    started: str = ""
    ready_since: str = ""
    deletion_requested_at: str = ""
    grace_deadline: str = ""
    unschedulable: str = ""
    waiting_reason: str = ""
    termination_message: str = ""
    address: str = ""
    restarts: int = 0
    unresponsive: bool = False
    group: str = ""

    def differs_from(self, before: Pod | None) -> bool:
        """Whether a reconcile could find something new in it.

        That it exists, got an address or pulls its image is read when it has a node, is ready or is
        stuck.
        """
        if before is None:
            return self._reported != (False,) * len(self._reported)
        return (before.uid, before.labels, before._reported) != (self.uid, self.labels, self._reported)

    @property
    def _reported(self) -> tuple[object, ...]:
        ended = self.phase in {"Succeeded", "Failed"}
        stuck = (self.unschedulable, self.waiting_reason, self.termination_message)
        reported = (self.node, self.deleting, ended, self.ready_since, self.unresponsive, self.restarts, *stuck)
        return tuple(each or False for each in reported)

    @property
    def occupies_node(self) -> bool:
        """Whether it holds resources of its node."""
        return bool(self.node) and self.phase not in {"Succeeded", "Failed"}

    @property
    def omni(self) -> str:
        """Name of the OmniDeployment it belongs to, or nothing.

        A replica that cannot be is of somebody else's making.
        """
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
class ResourceHolder:
    """A pod of somebody else: only the extended resources that it holds of its node."""

    namespace: str
    name: str
    resource_version: str
    node: str
    requests: Mapping[str, int]

    @property
    def occupies_node(self) -> bool:
        """Whether it holds anything that a plan counts.

        Its watch has only pods that are bound and have not ended.
        """
        return bool(self.requests)


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
    terminating: bool = False
