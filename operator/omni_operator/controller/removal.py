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
from omni_operator.controller.objects import Child, Pod
from omni_operator.controller.observed import Observed, Verdict
from omni_operator.controller.omni_writer import OmniWriter
from omni_operator.kube.client import ApiError

_log = logging.getLogger(__name__)
# What holds accelerators goes first; policies and the revision's record go when its pods are gone.
_WORKLOADS = frozenset({"RayCluster", "Deployment", "Service", "PodDisruptionBudget"})
_WITH_PODS = frozenset({"RayCluster", "Deployment"})
_ORPHAN = "orphan"  # the garbage collector's finalizer of `kubectl delete --cascade=orphan`
_OVERDUE = 60.0  # seconds after a pod's grace period; the kubelet has killed it by then, if there is one
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
        run). One that is stuck is not waited for: its Ray cluster holds accelerators on nodes that are well. Policies and the
        revision's record last, when no pod needs them.
        """
        revisions = {c.labels.get(REVISION) for c in children}
        pods = [p for p in observed.live_pods() if p.revision in revisions]
        servers = [p for p in pods if p.labels.get(COMPONENT) == Component.SERVING]
        serving = {p.replica for p in servers if not self._is_stuck(observed, p, act)}
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
                stuck = all(self._is_stuck(observed, p, act) for p in pods)
                out_of_reach = stuck and all(node in observed.lost_nodes for node, _ in dirty)
                if ending or not busy or not out_of_reach:
                    act.in_the_way.add(revision)
                act.blockers += [f"pod {p.name} on node {_named(observed, p.node)}" for p in pods[:4]]
                act.blockers += [f"shared memory on node {_named(observed, node)}" for node, _ in dirty[:4] if not pods]
        return left

    def _is_stuck(self, observed: Observed, pod: Pod, act: Act) -> bool:
        """Whether a pod's end will not be heard of soon: its node is lost, or its grace period is long over."""
        if not pod.deleting:
            return False
        left = _OVERDUE - (self.now() - datetime.fromisoformat(pod.gone_by)).total_seconds()
        if pod.node in observed.lost_nodes or left <= 0:
            return True
        act.look_again(left + 1)
        return False

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
        act.blockers += act.refused  # a sweeper that the namespace does not admit is all that a deletion may wait for
        again = await self._explain_deletion(observed, act) if folders or retiring else None
        if act.refused:
            raise ApiError(422, "ChildRefused", "; ".join(act.refused))
        return again

    async def _explain_deletion(self, observed: Observed, act: Act) -> float | None:
        """Says what a deletion waits for, once it takes longer than one that goes well."""
        since = datetime.fromisoformat(observed.omni.deleted_at)
        left = _PATIENCE - (self.now() - since).total_seconds()
        if left > 0:
            act.look_again(left + 1)
            return act.again
        waits = ", ".join(sorted(act.blockers)) or "its children"
        text = f"being deleted since {observed.omni.deleted_at}; it waits for {waits}"
        await self.omni.amend(observed.omni, Verdict(ConditionType.PROGRESSING, Truth.TRUE, Reason.DELETING, text))
        return act.again


def _named(observed: Observed, node: str) -> str:
    """A node in words, with what to do where waiting may not help."""
    if node in observed.lost_nodes:
        return f"{node}, which is not Ready (if it does not come back, delete the Node)"
    return node or "none"


def _orphaned(observed: Observed) -> bool:
    """Whether the user keeps the children (kubectl delete --cascade=orphan).

    The garbage collector's finalizer may come and go between two looks; what it leaves is children without an owner. Those
    that make pods tell it, by their own names: a copy that somebody made of a child has labels like ours and no owner either.
    """
    return _ORPHAN in observed.omni.finalizers or any(
        not child.owner_uid and child.name in _own_names(observed, child)
        for child in observed.children.values()
        if child.kind in _WITH_PODS
    )


def _own_names(observed: Observed, child: Child) -> set[str]:
    """Names that a child with these labels may have if we made it."""
    owner, revision, replica = observed.owner, child.labels.get(REVISION, ""), child.labels.get(REPLICA, "")
    if not replica.isdecimal():
        return {names.store(owner, revision)}
    return {names.ray_cluster(owner, revision, int(replica)), names.serving(owner, revision, int(replica))}


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
