"""What a plan stands on: nodes, what pods hold of them, the namespace's level; from the cluster or from a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_operator.children.names import NAME
from omni_operator.cli.access import Access, AccessError
from omni_operator.cli.manifest import ManifestError, items
from omni_operator.planning.model import PodSecurity
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.read import held_by, node


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """The OmniDeployment to plan for: what its own pods hold is free for it."""

    namespace: str
    name: str

    def owns(self, pod: dict[str, Any]) -> bool:
        """Whether a pod is one of its own."""
        meta = pod["metadata"]
        return meta.get("namespace") == self.namespace and (meta.get("labels") or {}).get(NAME) == self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Nodes and the level of a namespace; `notes` say what had to be assumed."""

    inventory: Inventory
    security: PodSecurity
    notes: tuple[str, ...] = ()


def from_file(path: Path, *, whose: Whose | None = None) -> Surroundings:
    """Nodes of a file, and the Pods and Namespaces that are in it too (`kubectl get nodes,pods,ns -A -o yaml`).

    Raises:
        ManifestError: There is no Node in it, or an object of it cannot be read.
    """
    objects = items(path)
    nodes, pods, namespaces = ([o for o in objects if o.get("kind") == kind] for kind in ("Node", "Pod", "Namespace"))
    if not nodes:
        msg = f"{path}: holds no Node; make one with `kubectl get nodes -o yaml`"
        raise ManifestError(msg)
    try:
        inventory = _inventory(nodes, pods, whose)
        own = [n for n in namespaces if whose is not None and n["metadata"]["name"] == whose.namespace]
    except (KeyError, TypeError, ValueError) as exc:
        msg = f"{path}: an object is not as the API server writes it: {exc!r}"
        raise ManifestError(msg) from exc
    return Surroundings(inventory=inventory, security=_level(own[0]) if own else PodSecurity.PRIVILEGED)


def from_cluster(access: Access, *, whose: Whose | None = None, security: PodSecurity | None = None) -> Surroundings:
    """Nodes of the cluster with what pods hold of them; the namespace is not asked for when its level is given."""
    nodes = access.list("/api/v1/nodes")
    pods = access.list("/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed")
    inventory = _inventory(nodes, pods, whose)
    if whose is None or security is not None:
        return Surroundings(inventory=inventory, security=security or PodSecurity.PRIVILEGED)
    try:
        return Surroundings(
            inventory=inventory, security=_level(access.request("GET", f"/api/v1/namespaces/{whose.namespace}"))
        )
    except AccessError as exc:
        if exc.status not in {403, 404}:
            raise
        why = "does not exist yet" if exc.status == 404 else "may not be read by you"
        note = f"namespace {whose.namespace} {why}; planned for pod security level privileged (--pod-security says otherwise)"
        return Surroundings(inventory=inventory, security=PodSecurity.PRIVILEGED, notes=(note,))


def _inventory(nodes: Iterable[dict[str, Any]], pods: Iterable[dict[str, Any]], whose: Whose | None) -> Inventory:
    others = [pod for pod in pods if whose is None or not whose.owns(pod)]
    return Inventory.of([node(n) for n in nodes], [found for pod in others if (found := held_by(pod)) is not None])


def _level(namespace: dict[str, Any]) -> PodSecurity:
    return PodSecurity.of(namespace["metadata"].get("labels") or {})
