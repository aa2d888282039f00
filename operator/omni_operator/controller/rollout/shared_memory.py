"""Removes what revisions left in the memory of nodes, by a pod per folder (ADR 4). Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from omni_operator.api.spec import EngineSpec
from omni_operator.children import cleanup_pod
from omni_operator.children.names import folder_revision
from omni_operator.controller.rollout.actions import (
    Action,
    Builder,
    CreateCleanupPod,
    DeleteChild,
    DeletePod,
    RecordFolders,
)
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.snapshot import NodeFolder, Snapshot

# a kubelet that refuses a pod does so at once; do not make the next one at API speed
_FAILED_SECONDS = 30.0


def is_clean(snapshot: Snapshot, *, node: str, folder: str) -> bool:
    """Whether a folder is known to be gone from a node."""
    pod = snapshot.cleanup_pods().get(cleanup_pod.name_for(snapshot.owner, node=node, folder=folder))
    return pod is not None and pod.phase == "Succeeded"


def cancel_cleanups(builder: Builder, snapshot: Snapshot, wanted: Collection[str]) -> bool:
    """Ends cleanup pods of folders that are wanted again.

    True when none is left that could empty a folder in use.
    """
    if not wanted:
        return True
    folders = [(node, folder) for node, folder in snapshot.folders() if folder in wanted]
    names = {cleanup_pod.name_for(snapshot.owner, node=node, folder=folder) for node, folder in folders}
    found = [pod for name, pod in sorted(snapshot.cleanup_pods().items()) if name in names]
    builder.step(_delete(pod) for pod in found if not pod.deleting)
    return not found


def clean(builder: Builder, snapshot: Snapshot, *, keep: Collection[str]) -> frozenset[NodeFolder]:
    """Removes folders that nobody wants or uses any more; returns those that must stay recorded."""
    left, done = set(), set()
    pods = snapshot.cleanup_pods()
    actions: list[Action] = []
    for node, folder in sorted(snapshot.folders()):
        name = cleanup_pod.name_for(snapshot.owner, node=node, folder=folder)
        pod = pods.get(name)
        if folder not in keep and not snapshot.users_of(folder):
            if pod is not None and pod.phase == "Succeeded":
                done.add(name)
                continue
            actions += _work(builder, snapshot, pod, node=node, folder=folder)
        left.add((node, folder))
    for name, pod in sorted(pods.items()):
        # While the object is being deleted, success is what lets it go; otherwise status forgets
        # the folder.
        kept = snapshot.omni.deleting and name in done
        if pod.phase == "Succeeded" and not pod.deleting and not kept:
            actions.append(_delete(pod))
    builder.step(actions)
    return frozenset(left)


def with_record(builder: Builder, snapshot: Snapshot) -> tuple[tuple[Action, ...], ...]:
    """The steps, after one that records folders if a deletion would make them unknown."""
    deletes = any(isinstance(action, DeleteChild) for step in builder.steps for action in step)
    recorded, found = snapshot.recorded_folders(), snapshot.folders()
    steps = tuple(map(tuple, builder.steps))
    if deletes and found - recorded:
        return ((RecordFolders(folders=recorded | found),), *steps)
    return steps


def _work(builder: Builder, snapshot: Snapshot, pod: Pod | None, *, node: str, folder: str) -> list[Action]:
    if pod is None:
        if snapshot.namespace_terminating:
            return []
        revision = folder_revision(snapshot.owner, folder)
        assert revision is not None
        stored = snapshot.revisions.get(revision)
        # Whoever deletes in the foreground (kubectl's --cascade) has the record of the revision
        # deleted before the cleanup.
        engine = (
            stored.revision.spec.engine
            if stored
            else EngineSpec.model_validate(snapshot.omni.spec["engine"], extra="ignore")
        )
        made = cleanup_pod.build(snapshot.owner, engine, revision=revision, node=node, folder=folder)
        return [CreateCleanupPod(pod=made, node=node, folder=folder)]
    what = f"pod {pod.name}, which removes shared memory from node {node}"
    if pod.waiting_reason:
        builder.waits.add(f"{what}: {pod.waiting_reason}")
    if pod.phase == "Failed" and not pod.deleting:
        builder.waits.add(f"{what}, failed: {pod.termination_message}")
        age = (snapshot.now - datetime.fromisoformat(pod.created)).total_seconds()
        if age >= _FAILED_SECONDS:
            return [_delete(pod)]
        builder.requeue(_FAILED_SECONDS - age + 1)
    return []


def _delete(pod: Pod) -> DeletePod:
    return DeletePod(namespace=pod.namespace, name=pod.name, uid=pod.uid)
