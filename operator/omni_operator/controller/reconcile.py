"""Makes the cluster say what a decision says, and status say what the cluster does.

Level-triggered: a look needs no memory of earlier ones, may end anywhere (a crash) and be taken up by any other process; a
second look that finds nothing to do writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from omni_operator.api.base import API_VERSION, KIND, PLURAL
from omni_operator.api.spec import EngineSpec
from omni_operator.children import sweeper
from omni_operator.children.describe import summary
from omni_operator.children.names import COMPONENT, FINALIZER, NODE_SHM_PARENT, REVISION, Component, node_folder
from omni_operator.children.render import children as render
from omni_operator.controller import objects
from omni_operator.controller.cache import Cache
from omni_operator.controller.decide import Decision, decide
from omni_operator.controller.drift import first_difference
from omni_operator.controller.events import Story, event_object, from_conditions
from omni_operator.controller.objects import Child, Omni
from omni_operator.controller.observe import observe
from omni_operator.controller.observed import Known, Observed, Outcome
from omni_operator.controller.settings import Settings
from omni_operator.controller.status import make_status
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND, EVENT, POD, Resource

_log = logging.getLogger(__name__)
OMNI = Resource(KIND, API_VERSION, PLURAL)
# What holds accelerators goes first; policies and the revision's record go when its pods are gone.
_WORKLOADS = frozenset({"RayCluster", "Deployment", "Service", "PodDisruptionBudget"})
_UNREVISIONED_KINDS_OF_CHANGE = frozenset({"Service", "PodDisruptionBudget"})
# No object has this version now, so an apply with it makes what is missing and is a 409 for what exists (ADR 5).
_NEVER_A_VERSION = "1"
_FOREIGN_PAUSE = 10.0  # foreign objects are not watched; their going is found by looking
_ORPHAN = "orphan"  # the garbage collector's finalizer of `kubectl delete --cascade=orphan`


@dataclass(slots=True)
class _Act:
    """What one look did, as it does it."""

    foreign: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    remembered: bool = False
    namespace_ends: bool = False


@dataclass(slots=True)
class Reconciler:
    """Looks at OmniDeployments."""

    kube: Kube
    cache: Cache
    settings: Settings
    instance: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _written: dict[str, float] = field(default_factory=dict)

    async def look(self, key: str) -> float | None:
        """One look at one OmniDeployment.

        Returns:
            Seconds after which time alone may change something, or None.

        Raises:
            ApiError: The API server refused something that must be retried.
        """
        omni = self.cache.omnis.get(key)
        if omni is None:
            self._written.pop(key, None)
            return None
        observed = observe(self.cache, omni)
        if omni.deleting:
            return await self._delete(observed)
        decision = decide(
            observed,
            inventory=lambda: self.cache.inventory(without=key),
            pod_security=self.cache.pod_security(omni.namespace),
        )
        act = _Act()
        outcome = await self._make_real(observed, decision, act)
        again = await self._report(observed, outcome, act)
        if act.refused:
            raise ApiError(422, "ChildRefused", "; ".join(act.refused))
        if act.foreign:
            return min(again or _FOREIGN_PAUSE, _FOREIGN_PAUSE)
        return again

    async def _make_real(self, observed: Observed, decision: Decision, act: _Act) -> Outcome:
        wanted, replicas = decision.wanted, decision.replicas
        keep = wanted.revision.name if wanted else ""
        retiring = await self._retire(observed, {r for r in _revisions(observed) if r != keep}, act)
        desired: set[str] = set()
        if wanted is not None:
            shared = wanted.revision.plan.node_shared_memory
            if shared:
                desired = {node_folder(observed.owner, keep, replica) for replica in range(replicas)}
            if not retiring or keep in observed.known:
                if shared and replicas and not observed.has_finalizer:
                    await self._set_finalizer(observed, present=True)
                await self._apply_children(observed, decision, wanted, act)
        folders = await self._sweep(observed, desired, act)
        if wanted is not None and not desired and not folders and not retiring and observed.has_finalizer:
            await self._set_finalizer(observed, present=False)
        return Outcome(
            accepted=decision.accepted,
            planned=decision.planned,
            active=wanted,
            replicas=replicas,
            retiring=tuple(sorted(retiring)),
            folders=folders,
            foreign=tuple(act.foreign),
            refused=tuple(act.refused),
        )

    async def _apply_children(self, observed: Observed, decision: Decision, wanted: Known, act: _Act) -> None:
        service = (decision.spec or wanted.revision.spec).serving.service
        intents = render(observed.owner, wanted.revision, replicas=decision.replicas, service=service)
        config, *rest = intents
        await self._ensure(observed, config, act)  # the record of the plan exists before anything that was made from it
        if act.foreign or act.refused:
            return
        await asyncio.gather(*(self._ensure(observed, intent, act) for intent in rest))
        names_wanted = {(intent["kind"], intent["metadata"]["name"]) for intent in intents}
        for child in observed.children.values():
            mine = child.labels.get(REVISION) == wanted.revision.name and child.owner_uid == observed.owner.uid
            if mine and (child.kind, child.name) not in names_wanted and not child.deleting:
                await self._delete_child(observed, child, act)

    async def _ensure(self, observed: Observed, intent: dict[str, Any], act: _Act) -> None:
        """One child as intended; never touches what is not ours."""
        kind, name = intent["kind"], intent["metadata"]["name"]
        live = observed.children.get((kind, name))
        where = f"{kind} {name}"
        try:
            if live is None:
                await self._make(observed, intent, where, act)
                return
            if live.owner_uid != observed.owner.uid:
                act.foreign.append(where)
                return
            if live.deleting:
                return  # its going is an event that brings us back
            if kind == "ConfigMap":
                intent = {key: value for key, value in intent.items() if key not in {"data", "immutable"}}
            path = first_difference(live.body, intent)
            if path is not None:
                reason = "Updated" if kind in _UNREVISIONED_KINDS_OF_CHANGE else "Repaired"
                await self._apply(intent, force=True)
                act.stories.append(Story(False, reason, f"{where}: {path} was not as wanted and has been set again"))
        except ApiError as exc:
            act.refused.append(f"{where}: {exc.message or exc}")

    async def _make(self, observed: Observed, intent: dict[str, Any], where: str, act: _Act) -> None:
        """A child that the cache does not know: only if it does not exist, so that an object of somebody else's stays as it is."""
        resource = BY_KIND[intent["kind"]]
        was_ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in observed.omni.status.get("conditions") or ()
        )
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
                return
            if resource.kind != "ConfigMap":
                await self._apply(intent, force=True)
        if was_ready:
            act.stories.append(Story(False, "Repaired", f"{where} was gone and has been made again"))

    async def _apply(self, intent: dict[str, Any], *, force: bool) -> None:
        resource = BY_KIND[intent["kind"]]
        answer = await self.kube.apply(resource, intent, force=force)
        self.cache.children[resource.kind].learn(answer)

    async def _retire(self, observed: Observed, revisions: set[str], act: _Act) -> set[str]:
        """Removes revisions; returns those that are not gone yet."""
        left = set()
        for revision in sorted(revisions):
            mine = [
                c
                for c in observed.children.values()
                if c.labels.get(REVISION) == revision and c.owner_uid == observed.owner.uid
            ]
            workloads = [c for c in mine if c.kind in _WORKLOADS]
            for child in workloads:
                if not child.deleting:
                    await self._delete_child(observed, child, act)
            busy = workloads or any(p.revision == revision for p in observed.live_pods())
            prefix = node_folder(observed.owner, revision, 0).rsplit("-", 1)[0]
            if busy or any(
                folder.startswith(prefix) for _, folder in observed.folders() if not self._swept(observed, _, folder)
            ):
                left.add(revision)
                continue
            for child in mine:
                if not child.deleting:
                    await self._delete_child(observed, child, act)
        return left

    async def _delete_child(self, observed: Observed, child: Child, act: _Act) -> None:
        if not act.remembered:
            await self._remember_folders(observed)
            act.remembered = True
        resource = BY_KIND[child.kind]
        if not await self.kube.delete(resource, child.namespace, child.name, uid=child.uid):
            self.cache.children[child.kind].drop(child.namespace, child.name)

    @staticmethod
    def _swept(observed: Observed, node: str, folder: str) -> bool:
        name = sweeper.name_for(observed.owner, node=node, folder=folder)
        return any(p.name == name and p.phase == "Succeeded" for p in observed.pods)

    async def _sweep(self, observed: Observed, desired: Iterable[str], act: _Act) -> frozenset[tuple[str, str]]:
        """Sweeps folders that nobody wants or uses any more; returns those that must still be remembered."""
        wanted, left, needed = set(desired), set(), set()
        pods = {p.name: p for p in observed.pods if p.labels.get(COMPONENT) == Component.SWEEPER}
        for node, folder in sorted(observed.folders()):
            name = sweeper.name_for(observed.owner, node=node, folder=folder)
            pod = pods.get(name)
            if folder in wanted or observed.users_of(folder):
                left.add((node, folder))
            elif pod is None:
                left.add((node, folder))
                needed.add(name)
                await self._start_sweeper(observed, node=node, folder=folder, act=act)
            elif pod.phase == "Succeeded":
                needed.add(name) if observed.omni.deleting else None
            elif pod.phase == "Failed" and not pod.deleting:
                left.add((node, folder))
                await self.kube.delete(POD, pod.namespace, pod.name)
            else:
                left.add((node, folder))
                needed.add(name)
        for name, pod in pods.items():
            if name not in needed and pod.phase == "Succeeded" and not pod.deleting:
                await self.kube.delete(POD, pod.namespace, pod.name)
        return frozenset(left)

    async def _start_sweeper(self, observed: Observed, *, node: str, folder: str, act: _Act) -> None:
        revision = folder.split("-")[1]
        known = observed.known.get(revision)
        # Whoever deletes in the foreground (kubectl's --cascade) has the record of the revision deleted before the sweep.
        engine = known.revision.spec.engine if known else EngineSpec.model_validate(observed.omni.spec["engine"])
        pod = sweeper.build(observed.owner, engine, revision=revision, node=node, folder=folder)
        try:
            await self.kube.create(POD, pod)
        except ApiError as exc:
            if exc.namespace_ends:
                act.namespace_ends = True
            elif not exc.conflict:
                act.refused.append(f"sweeper for {folder} on {node}: {exc.message}")

    async def _delete(self, observed: Observed) -> float | None:
        """Ends everything, sweeps node memory, then lets the OmniDeployment go.

        Without node memory there is no finalizer, and the API server's own garbage collector does all of it.
        """
        if not observed.has_finalizer:
            return None
        if _ORPHAN in observed.omni.finalizers:  # the pods live on, and use their memory
            await self._set_finalizer(observed, present=False)
            return None
        act = _Act()
        retiring = await self._retire(observed, _revisions(observed), act)
        folders = await self._sweep(observed, (), act)
        if act.namespace_ends and not observed.live_pods():
            left = ", ".join(f"{node}:{NODE_SHM_PARENT}/{folder}" for node, folder in sorted(folders))
            _log.warning("%s: its namespace is being deleted, so no pod can remove shared memory: %s", observed.omni.key, left)
            folders, retiring = frozenset(), set()
        if not folders and not retiring:
            await self._set_finalizer(observed, present=False)
        if act.refused:
            raise ApiError(422, "ChildRefused", "; ".join(act.refused))
        return None

    async def _remember_folders(self, observed: Observed) -> None:
        """Records in status which nodes hold shared memory, before the pods that tell it go."""
        recorded = {(str(m["node"]), str(m["revision"])) for m in observed.omni.status.get("nodeMemory") or ()}
        if new := observed.folders() - recorded:
            entries = [{"node": node, "revision": folder} for node, folder in sorted(recorded | new)]
            await self._write_status(observed.omni, {**observed.omni.status, "nodeMemory": entries})

    async def _report(self, observed: Observed, outcome: Outcome, act: _Act) -> float | None:
        status, again = make_status(observed, outcome, now=self.now())
        before = observed.omni.status
        for story in act.stories:
            await self._tell(observed.omni, story)
        if status != before:
            key, moment = observed.omni.key, time.monotonic()
            pause = self.settings.status_pause_seconds - (moment - self._written.get(key, -1e9))
            if pause > 0 and not _matters(before, status):
                return min(pause, again or pause)
            if not await self._write_status(observed.omni, status):
                return None
            self._written[key] = moment
        text = summary(outcome.active.revision.plan) if outcome.active else None
        for story in from_conditions(before, status, summary=text):
            await self._tell(observed.omni, story)
        return again

    async def _write_status(self, omni: Omni, status: dict[str, Any]) -> bool:
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": omni.name, "namespace": omni.namespace, "uid": omni.uid},
            "status": status,
        }
        return await self._write_omni(omni, body, subresource="status")

    async def _set_finalizer(self, observed: Observed, *, present: bool) -> None:
        omni = observed.omni
        meta: dict[str, Any] = {"name": omni.name, "namespace": omni.namespace, "uid": omni.uid}
        if present:
            meta["finalizers"] = [FINALIZER]
        await self._write_omni(omni, {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta}, subresource=None)

    async def _write_omni(self, omni: Omni, body: dict[str, Any], *, subresource: str | None) -> bool:
        """Writes to the OmniDeployment that was looked at; False (and forgets it) when it is gone or another has its name."""
        try:
            answer = await self.kube.apply(OMNI, body, force=True, subresource=subresource)
        except ApiError as exc:
            if exc.not_found or exc.conflict:
                known = self.cache.omnis.get(omni.key)
                if known is not None and known.uid == omni.uid:
                    del self.cache.omnis[omni.key]
                return False
            raise
        self.cache.learn(objects.omni(answer))
        return True

    async def _tell(self, omni: Omni, story: Story) -> None:
        try:
            await self.kube.create(EVENT, event_object(omni, story, now=self.now(), instance=self.instance))
        except ApiError as exc:
            if not exc.conflict:
                _log.warning("event %s of %s was refused: %s", story.reason, omni.key, exc)


def _revisions(observed: Observed) -> set[str]:
    """All revisions of which anything exists."""
    found = set(observed.known)
    found |= {
        c.labels[REVISION]
        for c in observed.children.values()
        if REVISION in c.labels and c.owner_uid == observed.owner.uid
    }
    found |= {p.revision for p in observed.live_pods() if p.revision}
    return found


def _matters(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a change of status should be told at once; counts and node names can wait a moment for each other."""

    def gist(status: dict[str, Any]) -> Any:
        truths = {c["type"]: (c["status"], c["observedGeneration"]) for c in status.get("conditions") or ()}
        return truths, status.get("revision"), status.get("nodeMemory"), status.get("observedGeneration")

    return bool(gist(before) != gist(after))
