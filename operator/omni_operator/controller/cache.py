"""All reflectors, and the indexes from what they see to the OmniDeployments that care."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from omni_operator.children.names import MANAGED_BY, MANAGER, NAME
from omni_operator.controller import objects
from omni_operator.controller.objects import Child, NamespaceObject, NodeObject, Omni, Pod
from omni_operator.kube.client import Kube
from omni_operator.kube.kinds import CHILD_KINDS, NAMESPACE, NODE, POD, RAY_CLUSTER
from omni_operator.kube.reflector import Reflector
from omni_operator.planning.model import PodSecurity
from omni_operator.topology.inventory import Inventory

Index = dict[str, dict[tuple[str, str], Any]]


@dataclass(slots=True)
class Cache:
    """What the controller knows of the cluster.

    Attributes:
        kube: The API server.
        look: Called with the key of an OmniDeployment that should be looked at again.
        capacity_changed: Called when nodes or what pods hold changed.
        omnis: OmniDeployments by key, fed by kopf's watch.
    """

    kube: Kube
    look: Callable[[str], None]
    capacity_changed: Callable[[], None]
    omnis: dict[str, Omni] = field(default_factory=dict)
    children: dict[str, Reflector[Child]] = field(default_factory=dict)
    pods: Reflector[Pod] = field(init=False)
    nodes: Reflector[NodeObject] = field(init=False)
    namespaces: Reflector[NamespaceObject] = field(init=False)
    _children_of: Index = field(default_factory=dict)
    _pods_of: Index = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Makes the reflectors."""
        for resource in CHILD_KINDS:
            # RayClusters of others are watched too: ray.clusterRef may name one. There are few, and they are small.
            selector = "" if resource is RAY_CLUSTER else f"{MANAGED_BY}={MANAGER}"
            self.children[resource.kind] = Reflector(
                kube=self.kube,
                resource=resource,
                decode=partial(objects.child, resource.kind),
                changed=self._child_changed,
                label_selector=selector,
            )
        self.pods = Reflector(kube=self.kube, resource=POD, decode=objects.pod, changed=self._pod_changed)
        self.nodes = Reflector(kube=self.kube, resource=NODE, decode=objects.node, changed=self._node_changed)
        self.namespaces = Reflector(
            kube=self.kube, resource=NAMESPACE, decode=objects.namespace, changed=self._namespace_changed
        )

    def reflectors(self) -> list[Reflector[Any]]:
        """All reflectors."""
        return [*self.children.values(), self.pods, self.nodes, self.namespaces]

    async def synced(self) -> None:
        """Until every reflector has seen its whole collection once."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self.reflectors()))

    def learn(self, omni: Omni) -> bool:
        """Takes a newer state of an OmniDeployment; False when it is not newer."""
        known = self.omnis.get(omni.key)
        if known is not None and known.uid == omni.uid and int(omni.resource_version) <= int(known.resource_version):
            return False
        self.omnis[omni.key] = omni
        return True

    def children_of(self, key: str) -> dict[tuple[str, str], Child]:
        """Children by kind and name."""
        return dict(self._children_of.get(key, {}))

    def pods_of(self, key: str) -> tuple[Pod, ...]:
        """Pods, by name."""
        return tuple(sorted(self._pods_of.get(key, {}).values(), key=lambda p: p.name))

    def pod_security(self, namespace: str) -> PodSecurity | None:
        """Level that a namespace enforces; None while its watch has not brought the namespace yet."""
        found = self.namespaces.get("", namespace)
        return found.pod_security if found else None

    def inventory(self, *, without: str) -> Inventory:
        """Nodes, with what the pods of all others hold taken off."""
        namespace, _, name = without.partition("/")
        held = [
            (p.node, p.requests)
            for p in self.pods
            if p.holds and p.requests and not (p.namespace == namespace and p.omni == name)
        ]
        return Inventory.of([n.node for n in self.nodes], held)

    def _child_changed(self, old: Child | None, new: Child | None) -> None:
        it = new or old
        assert it is not None
        name = it.labels.get(NAME)
        if name and it.labels.get(MANAGED_BY) == MANAGER:
            key = f"{it.namespace}/{name}"
            self._index(self._children_of, key, (it.kind, it.name), new)
            self.look(key)
        elif it.kind == RAY_CLUSTER.kind:
            for omni in self.omnis.values():
                reference = (omni.spec.get("ray") or {}).get("clusterRef") or {}
                if omni.namespace == it.namespace and reference.get("name") == it.name:
                    self.look(omni.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        it = new or old
        assert it is not None
        for owner in {p.omni for p in (old, new) if p is not None and p.omni}:  # labels of a pod may change
            key = f"{it.namespace}/{owner}"
            self._index(self._pods_of, key, ("Pod", it.name), new if new is not None and new.omni == owner else None)
            self.look(key)
        if it.requests and (old is None or new is None or old.holds != new.holds):
            self.capacity_changed()

    def _node_changed(self, old: NodeObject | None, new: NodeObject | None) -> None:
        if old is None or new is None or old.node != new.node:
            self.capacity_changed()

    def _namespace_changed(self, old: NamespaceObject | None, new: NamespaceObject | None) -> None:
        if old is not None and new is not None and old.pod_security is not new.pod_security:
            for omni in self.omnis.values():
                if omni.namespace == new.name:
                    self.look(omni.key)

    @staticmethod
    def _index(index: Index, key: str, entry: tuple[str, str], new: object | None) -> None:
        if new is not None:
            index.setdefault(key, {})[entry] = new
        elif key in index:
            index[key].pop(entry, None)
            if not index[key]:
                del index[key]
