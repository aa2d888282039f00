"""Ends what is no longer wanted, in an order that is quick, safe and leaves nothing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from omni_operator.children import names
from omni_operator.children.names import COMPONENT, REPLICA, REVISION, Component
from omni_operator.controller.rollout import shared_memory
from omni_operator.controller.rollout.actions import ActionPlan, Builder, DeleteChild, SetFinalizer
from omni_operator.controller.state.objects import Child, Pod
from omni_operator.controller.state.snapshot import ChildKey, Snapshot

# What holds accelerators goes first; policies and the revision's record go when its pods are gone.
_WORKLOADS = frozenset({"RayCluster", "Deployment", "Service", "PodDisruptionBudget"})
WITH_PODS = frozenset({"RayCluster", "Deployment"})
_ORPHAN = "orphan"  # the garbage collector's finalizer of `kubectl delete --cascade=orphan`
# seconds after a pod's grace period; the kubelet has killed it by then, if there is one
_OVERDUE = 60.0


def revisions_that_exist(snapshot: Snapshot) -> set[str]:
    """All revisions of which anything exists."""
    found = set(snapshot.revisions)
    found |= {c.labels[REVISION] for c in snapshot.children.values() if REVISION in c.labels and snapshot.is_owned(c)}
    return found | {p.revision for p in snapshot.live_pods if p.revision}


def end(builder: Builder, snapshot: Snapshot, children: Collection[Child]) -> bool:
    """Ends children; True when nothing of them is left.

    Servers first: one whose Ray cluster goes at the same time takes over a minute to end, otherwise
    eight seconds (verified with 0.16). One that is stuck is not waited for: its Ray cluster holds
    accelerators on nodes that are well. Policies and the revision's record last, when no pod needs
    them.
    """
    revisions = {c.labels.get(REVISION) for c in children}
    pods = [p for p in snapshot.live_pods if p.revision in revisions]
    servers = [p for p in pods if p.labels.get(COMPONENT) == Component.SERVING]
    serving = {p.replica for p in servers if not _is_stuck(builder, snapshot, p)}
    workloads = [c for c in children if c.kind in _WORKLOADS]
    builder.step(
        delete(child)
        for child in workloads
        if not child.deleting and not (child.kind == "RayCluster" and child.labels.get(REPLICA) in serving)
    )
    if workloads or pods:
        return False
    rest = [c for c in children if c.kind not in _WORKLOADS and not c.deleting]
    builder.step(map(delete, rest))
    return not rest


def delete(child: Child) -> DeleteChild:
    """The deletion of a child."""
    return DeleteChild(kind=child.kind, namespace=child.namespace, name=child.name, uid=child.uid)


def drain(
    builder: Builder, snapshot: Snapshot, revisions: Collection[str], *, keep: Collection[ChildKey] = ()
) -> set[str]:
    """Removes revisions, but no child of `keep`; returns those that are not gone yet."""
    left = set()
    owned = {key: c for key, c in snapshot.children.items() if key not in keep and snapshot.is_owned(c)}
    for revision in sorted(revisions):
        mine = [c for c in owned.values() if c.labels.get(REVISION) == revision]
        pods = snapshot.pods_of(revision)
        folders = [
            (node, folder)
            for node, folder in sorted(snapshot.folders())
            if names.folder_revision(snapshot.owner, folder) == revision
            and not shared_memory.is_clean(snapshot, node=node, folder=folder)
        ]
        busy = bool(pods or folders)
        # Its record is what names its folders, so it is the last to go.
        ending = [c for c in mine if c.kind in _WORKLOADS] if busy else mine
        if not end(builder, snapshot, ending) or busy:
            left.add(revision)
            stuck = all(_is_stuck(builder, snapshot, p) for p in pods)
            out_of_reach = stuck and all(node in snapshot.lost_nodes for node, _ in folders)
            if ending or not busy or not out_of_reach:
                builder.blocking_revisions.add(revision)
            builder.waits |= {f"pod {p.name} on node {_named(snapshot, p.node)}" for p in pods[:4]}
            if not pods:
                builder.waits |= {f"shared memory on node {_named(snapshot, node)}" for node, _ in folders[:4]}
    return left


def plan_deletion(snapshot: Snapshot) -> ActionPlan:
    """Ends everything, removes node memory, then lets the OmniDeployment go.

    Without node memory there is no finalizer, and the API server's own garbage collector does all
    of it.
    """
    if not snapshot.has_finalizer:
        return ActionPlan()
    if _is_orphaned(snapshot):  # the pods live on, and use their memory
        return ActionPlan(steps=((SetFinalizer(present=False),),))
    builder = Builder()
    draining = drain(builder, snapshot, revisions_that_exist(snapshot))
    folders = shared_memory.clean(builder, snapshot, keep=())
    if snapshot.namespace_terminating and not snapshot.live_pods:
        # Nothing can be made in it any more, so no pod can remove what is left.
        folders, draining = frozenset(), set()
    if not folders and not draining:
        builder.step([SetFinalizer(present=False)])
    return ActionPlan(
        steps=shared_memory.with_record(builder, snapshot),
        draining=tuple(sorted(draining)),
        waits=tuple(sorted(builder.waits)),
        folders=folders,
        requeue_after=builder.requeue_after,
    )


def _is_stuck(builder: Builder, snapshot: Snapshot, pod: Pod) -> bool:
    """Whether the end of a pod will not be reported soon.

    Its node is lost, or its grace period is long over.
    """
    if not pod.deleting:
        return False
    left = _OVERDUE - (snapshot.now - datetime.fromisoformat(pod.grace_deadline)).total_seconds()
    if pod.node in snapshot.lost_nodes or left <= 0:
        return True
    builder.requeue(left + 1)
    return False


def _named(snapshot: Snapshot, node: str) -> str:
    """A node in words, with what to do where waiting may not help."""
    if node in snapshot.lost_nodes:
        return f"{node}, which is not Ready (if it does not come back, delete the Node)"
    return node or "none"


def _is_orphaned(snapshot: Snapshot) -> bool:
    """Whether the user keeps the children (kubectl delete --cascade=orphan).

    The garbage collector's finalizer may come and go between two reconciles; what it leaves is
    children without an owner. Those that make pods show it, by their own names: a copy that
    somebody made of a child has labels like ours and no owner.
    """
    return _ORPHAN in snapshot.omni.finalizers or any(
        not child.owner_uid and child.name in set(_own_names(snapshot, child))
        for child in snapshot.children.values()
        if child.kind in WITH_PODS
    )


def _own_names(snapshot: Snapshot, child: Child) -> Iterator[str]:
    """Names that a child with these labels may have if we made it."""
    owner, revision, replica = snapshot.owner, child.labels.get(REVISION, ""), child.labels.get(REPLICA, "")
    if not replica.isdecimal():
        yield names.store(owner, revision)
        return
    yield names.ray_cluster(owner, revision, int(replica))
    yield names.serving(owner, revision, int(replica))
