"""Removes revisions and OmniDeployments in an order that is quick and safe, and leaves nothing in any node's memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from omni_operator.api.conditions import ConditionType, Reason, Truth
from omni_operator.children import names
from omni_operator.children.names import COMPONENT, NODE_SHM_PARENT, REPLICA, REVISION, Component
from omni_operator.controller.act import Act
from omni_operator.controller.child_writer import ChildWriter
from omni_operator.controller.node_memory import NodeMemory, swept
from omni_operator.controller.objects import Child
from omni_operator.controller.observed import Observed, Verdict
from omni_operator.controller.omni_writer import OmniWriter
from omni_operator.kube.client import ApiError

_log = logging.getLogger(__name__)
# What holds accelerators goes first; policies and the revision's record go when its pods are gone.
_WORKLOADS = frozenset({"RayCluster", "Deployment", "Service", "PodDisruptionBudget"})
_ORPHAN = "orphan"  # the garbage collector's finalizer of `kubectl delete --cascade=orphan`
_PATIENCE = 60.0  # seconds; a deletion that goes well is over by then and needs no words


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """Ends what is no longer wanted."""

    omni: OmniWriter
    children: ChildWriter
    memory: NodeMemory
    now: Callable[[], datetime]

    async def end(self, observed: Observed, children: list[Child], act: Act) -> bool:
        """Ends children in an order that is quick and safe; True when nothing of them is left.

        Servers first: one whose Ray cluster goes at the same time takes over a minute to end, otherwise eight seconds (0.16,
        run). Policies and the revision's record last, when no pod needs them.
        """
        revisions = {c.labels.get(REVISION) for c in children}
        pods = [p for p in observed.live_pods() if p.revision in revisions]
        serving = {p.replica for p in pods if p.labels.get(COMPONENT) == Component.SERVING}
        workloads = [c for c in children if c.kind in _WORKLOADS]
        for child in workloads:
            waits = child.kind == "RayCluster" and child.labels.get(REPLICA) in serving
            if not child.deleting and not waits:
                await self.children.delete(observed, child, act)
        if workloads or pods:
            return False
        rest = [c for c in children if c.kind not in _WORKLOADS and not c.deleting]
        for child in rest:
            await self.children.delete(observed, child, act)
        return not rest

    async def retire(self, observed: Observed, revisions: set[str], act: Act) -> set[str]:
        """Removes revisions; returns those that are not gone yet."""
        left = set()
        for revision in sorted(revisions):
            mine = [
                c
                for c in observed.children.values()
                if c.labels.get(REVISION) == revision and c.owner_uid == observed.owner.uid
            ]
            pods = [p for p in observed.live_pods() if p.revision == revision]
            dirty = [
                (node, folder)
                for node, folder in observed.folders()
                if names.folder_revision(observed.owner, folder) == revision
                and not swept(observed, node=node, folder=folder)
            ]
            busy = bool(pods or dirty)
            # Its record is what tells us of its folders, so it is the last to go.
            ending = [c for c in mine if c.kind in _WORKLOADS] if busy else mine
            if not await self.end(observed, ending, act) or busy:
                left.add(revision)
                act.blockers += [f"pod {p.name} on node {p.node or 'none'}" for p in pods[:4]]
                act.blockers += [f"shared memory on node {node}" for node, _ in dirty[:4] if not pods]
        return left

    async def delete(self, observed: Observed) -> float | None:
        """Ends everything, sweeps node memory, then lets the OmniDeployment go.

        Without node memory there is no finalizer, and the API server's own garbage collector does all of it.
        """
        if not observed.has_finalizer:
            return None
        if _orphaned(observed):  # the pods live on, and use their memory
            await self.omni.finalizer(observed, present=False)
            return None
        act = Act()
        retiring = await self.retire(observed, revisions(observed), act)
        folders = await self.memory.sweep(observed, (), act)
        if act.namespace_ends and not observed.live_pods():
            left = ", ".join(f"{node}:{NODE_SHM_PARENT}/{folder}" for node, folder in sorted(folders))
            _log.warning(
                "%s: its namespace is being deleted, so no pod can remove shared memory: %s", observed.omni.key, left
            )
            folders, retiring = frozenset(), set()
        if not folders and not retiring:
            await self.omni.finalizer(observed, present=False)
        if act.refused:
            raise ApiError(422, "ChildRefused", "; ".join(act.refused))
        return await self._explain_deletion(observed, act) if folders or retiring else None

    async def _explain_deletion(self, observed: Observed, act: Act) -> float | None:
        """Says what a deletion waits for, once it takes longer than one that goes well."""
        since = datetime.fromisoformat(observed.omni.deleted_at)
        left = _PATIENCE - (self.now() - since).total_seconds()
        if left > 0:
            return left + 1
        waits = ", ".join(sorted(act.blockers)) or "its children"
        text = f"being deleted since {observed.omni.deleted_at}; it waits for {waits}"
        await self.omni.amend(observed.omni, Verdict(ConditionType.PROGRESSING, Truth.TRUE, Reason.DELETING, text))
        return act.again


def _orphaned(observed: Observed) -> bool:
    """Whether the user keeps the children (kubectl delete --cascade=orphan).

    The garbage collector's finalizer may come and go between two looks; what it leaves is children without an owner.
    """
    return _ORPHAN in observed.omni.finalizers or any(not child.owner_uid for child in observed.children.values())


def revisions(observed: Observed) -> set[str]:
    """All revisions of which anything exists."""
    found = set(observed.known)
    found |= {
        c.labels[REVISION]
        for c in observed.children.values()
        if REVISION in c.labels and c.owner_uid == observed.owner.uid
    }
    found |= {p.revision for p in observed.live_pods() if p.revision}
    return found
