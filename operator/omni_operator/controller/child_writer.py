"""Writes children: as intended, only when they differ, and never what is not ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omni_operator import __version__
from omni_operator.children.names import RENDERED_BY, REPLICA, REVISION
from omni_operator.controller import objects
from omni_operator.controller.act import Act
from omni_operator.controller.cache import Cache
from omni_operator.controller.drift import first_difference
from omni_operator.controller.events import Story
from omni_operator.controller.objects import Child, Omni, Pod
from omni_operator.controller.observed import Observed
from omni_operator.controller.omni_writer import OmniWriter
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND, POD

_UNREVISIONED_KINDS_OF_CHANGE = frozenset({"Service", "PodDisruptionBudget"})
# No object has this version now, so an apply with it makes what is missing and is a 409 for what exists (ADR 5).
_NEVER_A_VERSION = "1"
_LAST_SECONDS = 10  # what it still answers is lost with the stage it waits for
_LEFT_TO_THEIR_VERSION = frozenset({"RayCluster", "Deployment"})


@dataclass(slots=True)
class ChildWriter:
    """The only writer of children."""

    kube: Kube
    cache: Cache
    omni: OmniWriter

    async def ensure(self, observed: Observed, intent: dict[str, Any], act: Act, *, rendered_by: str) -> bool:
        """One child as intended; never touches what is not ours.

        Workloads that another version of the operator rendered are left as they are while they exist: an upgrade of the
        operator must not restart servers, and KubeRay would not roll the pods of a RayCluster anyway.

        Returns:
            Whether the child exists now, is ours and is not about to go.
        """
        kind, name = intent["kind"], intent["metadata"]["name"]
        live = observed.children.get((kind, name))
        where = f"{kind} {name}"
        if live is not None and live.owner_uid != observed.owner.uid:
            act.foreign.append(where)
            return False
        if live is not None and live.deleting:
            return False  # its going is an event that brings us back
        try:
            if live is None:
                return await self._make(observed, intent, where, act)
            if kind == "ConfigMap":
                intent = _of_a_record(intent)
            if kind in _LEFT_TO_THEIR_VERSION and rendered_by != __version__:
                return True
            path = first_difference(live.body, intent)
            if path is not None:
                reason = "Updated" if kind in _UNREVISIONED_KINDS_OF_CHANGE else "Repaired"
                await self._apply(intent, force=True)
                act.stories.append(Story(False, reason, f"{where}: {path} was not as wanted and has been set again"))
        except ApiError as exc:
            act.refused.append(f"{where}: {steady(exc.message or str(exc))}")
        return live is not None

    async def delete(self, observed: Observed, child: Child, act: Act) -> bool:
        """Deletes a child, after status has what its going would make us forget; False when it had gone."""
        if not act.remembered:
            await self.omni.remember_folders(observed)
            act.remembered = True
        resource = BY_KIND[child.kind]
        gone = not await self.kube.delete(resource, child.namespace, child.name, uid=child.uid)
        if gone:
            self.cache.children[child.kind].drop(child.namespace, child.name)
        return not gone

    async def end_pod(self, pod: Pod) -> None:
        """Deletes a pod that cannot do its work any more; its Deployment makes another, which may need the accelerators of this one."""
        await self.kube.delete(POD, pod.namespace, pod.name, grace_seconds=_LAST_SECONDS)

    async def _make(self, observed: Observed, intent: dict[str, Any], where: str, act: Act) -> bool:
        """A child that the cache does not know: only if it does not exist, so that an object of somebody else's stays as it is."""
        resource = BY_KIND[intent["kind"]]
        try:
            if resource.kind == "ConfigMap":  # later applies have no data, and would remove what an earlier one owns
                self.cache.children["ConfigMap"].learn(await self.kube.create(resource, intent))
            else:
                new = {**intent, "metadata": {**intent["metadata"], "resourceVersion": _NEVER_A_VERSION}}
                await self._apply(new, force=False)
        except ApiError as exc:
            if not exc.conflict:
                raise
            meta = intent["metadata"]
            found = await self.kube.get(resource, meta["namespace"], meta["name"])
            if found is None:
                raise
            theirs = objects.child(resource.kind, found)
            if theirs.owner_uid != observed.owner.uid:
                act.foreign.append(where)
                return False
            if resource.kind != "ConfigMap":
                await self._apply(intent, force=True)
            if theirs.deleting:
                return False
        if _was_there(observed.omni, intent):
            act.stories.append(Story(False, "Repaired", f"{where} was gone and has been made again"))
        return True

    async def _apply(self, intent: dict[str, Any], *, force: bool) -> None:
        resource = BY_KIND[intent["kind"]]
        answer = await self.kube.apply(resource, intent, force=force)
        self.cache.children[resource.kind].learn(answer)


def _of_a_record(intent: dict[str, Any]) -> dict[str, Any]:
    """What may be repaired of a revision's ConfigMap: not its data, and not who rendered the revision's workloads, by which they are left alone."""
    meta = intent["metadata"]
    told = {key: value for key, value in meta.get("annotations", {}).items() if key != RENDERED_BY}
    kept = {key: value for key, value in intent.items() if key not in {"data", "immutable"}}
    return {**kept, "metadata": {**meta, "annotations": told}}


def _was_there(omni: Omni, intent: dict[str, Any]) -> bool:
    """Whether a child existed when status was written: Ready means that every replica of then had all of its children."""
    labels = intent["metadata"].get("labels") or {}
    if labels.get(REVISION, omni.status.get("revision")) != omni.status.get("revision"):
        return False
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in omni.status.get("conditions") or ())
    return ready and int(labels.get(REPLICA, 0)) < omni.status.get("readyReplicas", 0)


def steady(message: str) -> str:
    """The lines of one refusal in one order: the API server's own changes from answer to answer, and status with it."""
    first, *rest = message.split("\n")
    return "\n".join([first, *sorted(rest)])
