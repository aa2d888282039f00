"""All reflectors, and the indexes from what they hold to the OmniDeployments that it concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from omni_operator.children.names import MANAGED_BY, MANAGER, NAME
from omni_operator.controller.state import decode
from omni_operator.controller.state.available import AvailableCapacity
from omni_operator.controller.state.objects import Child, NamespaceObject, NodeObject, Omni, Pod, ResourceHolder
from omni_operator.kube.client import Kube
from omni_operator.kube.kinds import CHILD_KINDS, NAMESPACE, NODE, POD, RAY_CLUSTER
from omni_operator.kube.reflector import JsonDecoder, NarrowDecoder, Reflector
from omni_operator.topology.inventory import Inventory

Index = dict[str, dict[tuple[str, str], Any]]
# Bound and not ended: only these hold resources of a node.
_HOLDERS = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"

_ENDED_KEPT = 4096


@dataclass(slots=True)
class Store:
    """What the controller knows of the cluster.

    Attributes:
        kube: The API server.
        enqueue: Called with the key of an OmniDeployment that should be reconciled.
        capacity_changed: Called when nodes or what pods hold changed.
        omnis: OmniDeployments by key, fed by kopf's watch.
        pods: Pods of OmniDeployments.
        holders: What pods of all others hold of the nodes.
    """

    kube: Kube
    enqueue: Callable[[str], None]
    capacity_changed: Callable[[], None]
    omnis: dict[str, Omni] = field(default_factory=dict)
    children: dict[str, Reflector[Child]] = field(default_factory=dict)
    pods: Reflector[Pod] = field(init=False)
    holders: Reflector[ResourceHolder] = field(init=False)
    nodes: Reflector[NodeObject] = field(init=False)
    namespaces: Reflector[NamespaceObject] = field(init=False)
    capacity: AvailableCapacity = field(default_factory=AvailableCapacity)
    _inventories: dict[str, Inventory] = field(default_factory=dict)  # of this version
    _inventories_version: int = -1
    _ended: dict[str, None] = field(default_factory=dict)  # uids, the oldest first
    _children_of: Index = field(default_factory=dict)
    _pods_of: Index = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Makes the reflectors."""
        for resource in CHILD_KINDS:
            # RayClusters of others are watched too: ray.clusterRef may name one. There are few, and
            # they are small.
            selector = "" if resource is RAY_CLUSTER else f"{MANAGED_BY}={MANAGER}"
            self.children[resource.kind] = Reflector(
                kube=self.kube,
                resource=resource,
                decoder=JsonDecoder(partial(decode.child, resource.kind)),
                changed=self._child_changed,
                label_selector=selector,
            )

        self.pods = Reflector(
            kube=self.kube,
            resource=POD,
            decoder=JsonDecoder(decode.pod),
            changed=self._pod_changed,
            label_selector=NAME,
        )
        self.holders = Reflector(
            kube=self.kube,
            resource=POD,
            decoder=NarrowDecoder(decode.NarrowPod, decode.resource_holder, keep=lambda found: found.occupies_node),
            changed=self._holder_changed,
            label_selector=f"!{NAME}",
            field_selector=_HOLDERS,
        )
        self.nodes = Reflector(
            kube=self.kube, resource=NODE, decoder=JsonDecoder(decode.node), changed=self._node_changed
        )
        self.namespaces = Reflector(
            kube=self.kube,
            resource=NAMESPACE,
            decoder=JsonDecoder(decode.namespace),
            changed=self._namespace_changed,
            optional=True,  # a condition says that they cannot be read
        )

    def reflectors(self) -> list[Reflector[Any]]:
        """All reflectors."""
        return [*self.children.values(), self.pods, self.holders, self.nodes, self.namespaces]

    async def synced(self) -> None:
        """Until every reflector has seen its whole collection once."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self.reflectors()))

    def unsynced(self) -> str:
        """Collections that have not been listed yet, with what the API server said to it."""
        waiting = [r for r in self.reflectors() if not r.synced.is_set()]
        return ", ".join(f"{r.resource.plural} ({r.error})" if r.error else r.resource.plural for r in waiting)

    def upsert(self, omni: Omni) -> bool:
        """Takes a newer state of an OmniDeployment; False when it is not newer.

        A list, or the answer to an own write, may arrive after the object's end, or after another
        of its name was created.
        """
        known = self.omnis.get(omni.key)
        if known is not None and int(omni.resource_version) <= int(known.resource_version):
            return False
        if omni.uid in self._ended:
            return False
        self.omnis[omni.key] = omni
        return True

    def end(self, key: str, uid: str) -> None:
        """The watch has said that an OmniDeployment is gone: its uid never comes back."""
        self._ended[uid] = None
        while len(self._ended) > _ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        self.remove(key, uid)

    def remove(self, key: str, uid: str) -> None:
        """Forgets an OmniDeployment, unless another of its name is there.

        Not for good: a 404 may be a proxy's.
        """
        known = self.omnis.get(key)
        if known is not None and known.uid == uid:
            del self.omnis[key]

    def children_of(self, key: str) -> dict[tuple[str, str], Child]:
        """Children by kind and name."""
        return dict(self._children_of.get(key, {}))

    def pods_of(self, key: str) -> tuple[Pod, ...]:
        """Pods, by name."""
        return tuple(sorted(self._pods_of.get(key, {}).values(), key=lambda p: p.name))

    def inventory(self, *, without: str) -> Inventory:
        """Nodes, with what the pods of all others hold taken off.

        Of equal state the same object, so callers may compare. What its own pods hold is part of
        that state.
        """
        if self._inventories_version != self.capacity.version:
            self._inventories.clear()
            self._inventories_version = self.capacity.version
        if without not in self._inventories:
            self._inventories[without] = self.capacity.inventory(self._pods_of.get(without, {}).values())
        return self._inventories[without]

    def _child_changed(self, old: Child | None, new: Child | None) -> None:
        it = new or old
        assert it is not None
        entry = (it.kind, it.name)
        for key in {k for k in (_omni_of(old), _omni_of(new)) if k}:  # somebody may change its labels
            self._index(self._children_of, key, entry, new if _omni_of(new) == key else None)
            if old is None or new is None or new.differs_from(old):
                self.enqueue(key)
        if it.kind == RAY_CLUSTER.kind and not _omni_of(it):
            for omni in self.omnis.values():
                reference = (omni.spec.get("ray") or {}).get("clusterRef") or {}
                if omni.namespace == it.namespace and reference.get("name") == it.name:
                    self.enqueue(omni.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        it = new or old
        assert it is not None
        # labels of a pod may change
        for owner in {p.omni for p in (old, new) if p is not None and p.omni}:
            key = f"{it.namespace}/{owner}"
            self._index(self._pods_of, key, ("Pod", it.name), new if new is not None and new.omni == owner else None)
            if new is None or new.differs_from(old):
                self.enqueue(key)
        if self.capacity.replace(old, new):
            self.capacity_changed()

    def _holder_changed(self, old: ResourceHolder | None, new: ResourceHolder | None) -> None:
        if self.capacity.replace(old, new):
            self.capacity_changed()

    def _node_changed(self, old: NodeObject | None, new: NodeObject | None) -> None:
        if old is None or new is None or old.node != new.node:
            self.capacity.set_node(old.node if old else None, new.node if new else None)
            self.capacity_changed()
        if old is not None and (new is None or old.node.ready != new.node.ready):
            # What its pods report is read differently then.
            for key in {f"{p.namespace}/{p.omni}" for p in self.pods if p.node == old.name and p.omni}:
                self.enqueue(key)

    def _namespace_changed(self, old: NamespaceObject | None, new: NamespaceObject | None) -> None:
        it = new or old
        assert it is not None
        if old is None or new is None or (old.pod_security, old.terminating) != (new.pod_security, new.terminating):
            for omni in self.omnis.values():
                if omni.namespace == it.name:
                    self.enqueue(omni.key)

    @staticmethod
    def _index(index: Index, key: str, entry: tuple[str, str], new: object | None) -> None:
        if new is not None:
            index.setdefault(key, {})[entry] = new
        elif key in index:
            index[key].pop(entry, None)
            if not index[key]:
                del index[key]


def _omni_of(child: Child | None) -> str | None:
    """The key of the OmniDeployment whose child it is by its labels."""
    if child is None or child.labels.get(MANAGED_BY) != MANAGER or not child.labels.get(NAME):
        return None
    return f"{child.namespace}/{child.labels[NAME]}"
