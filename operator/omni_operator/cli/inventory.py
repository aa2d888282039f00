"""The cluster that a plan is made for, read from a cluster or from a file.

That is: nodes, resources that pods request, and the pod security level of the namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_operator.children.names import NAME
from omni_operator.cli.access import Access, AccessError
from omni_operator.cli.manifest import ManifestError, items
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.read import held_by, node

ACTIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed"  # only these hold resources of a node


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The OmniDeployment to plan for; resources that its own pods request are available to it."""

    namespace: str
    name: str

    def owns(self, pod: dict[str, Any]) -> bool:
        """Whether a pod belongs to this OmniDeployment."""
        meta = pod["metadata"]
        return meta.get("namespace") == self.namespace and (meta.get("labels") or {}).get(NAME) == self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """Nodes with their capacity and the pod security level; `notes` say what was assumed."""

    inventory: Inventory
    security: PodSecurity
    notes: tuple[str, ...] = ()


def from_file(path: Path, *, identity: Identity | None = None) -> ClusterView:
    """Reads Nodes, Pods and Namespaces of a file (`kubectl get nodes,pods,ns -A -o yaml`).

    Raises:
        ManifestError: The file has no Node, or an object that cannot be read.
    """
    objects = items(path)
    nodes, pods, namespaces = ([o for o in objects if o.get("kind") == kind] for kind in ("Node", "Pod", "Namespace"))
    if not nodes:
        msg = f"{path}: holds no Node; make one with `kubectl get nodes -o yaml`"
        raise ManifestError(msg)
    try:
        inventory = inventory_of(nodes, pods, identity)
        own = [n for n in namespaces if identity is not None and n["metadata"]["name"] == identity.namespace]
    except (KeyError, TypeError, ValueError) as exc:
        msg = f"{path}: an object is not as the API server writes it: {exc!r}"
        raise ManifestError(msg) from exc
    return ClusterView(inventory=inventory, security=_level(own[0]) if own else PodSecurity.PRIVILEGED)


def from_cluster(
    access: Access, *, identity: Identity | None = None, security: PodSecurity | None = None
) -> ClusterView:
    """Reads nodes and pods of the cluster, and the namespace when `security` is not given.

    Raises:
        AccessError: The cluster cannot be reached, or denies to list nodes or pods.
    """
    nodes = access.list("/api/v1/nodes")
    pods = access.list("/api/v1/pods", fieldSelector=ACTIVE_PODS)
    inventory = inventory_of(nodes, pods, identity)
    if identity is None or security is not None:
        return ClusterView(inventory=inventory, security=security or PodSecurity.PRIVILEGED)
    try:
        namespace = access.request("GET", f"/api/v1/namespaces/{identity.namespace}")
    except AccessError as exc:
        if exc.status not in {403, 404}:
            raise
        why = "does not exist yet" if exc.status == 404 else "may not be read by you"
        note = (
            f"namespace {identity.namespace} {why}; planned for pod security level privileged "
            "(--pod-security says otherwise)"
        )
        return ClusterView(inventory=inventory, security=PodSecurity.PRIVILEGED, notes=(note,))
    return ClusterView(inventory=inventory, security=_level(namespace))


def inventory_of(
    nodes: Iterable[dict[str, Any]], pods: Iterable[dict[str, Any]], identity: Identity | None
) -> Inventory:
    """Nodes with what the pods of all others request taken off, from objects of the API."""
    others = [pod for pod in pods if identity is None or not identity.owns(pod)]
    return Inventory.of([node(n) for n in nodes], [found for pod in others if (found := held_by(pod)) is not None])


def _level(namespace: dict[str, Any]) -> PodSecurity:
    return PodSecurity.of(namespace["metadata"].get("labels") or {})
