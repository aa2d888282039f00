"""Makes the cluster say what a decision says, and status say what the cluster does.

Level-triggered: a look needs no memory of earlier ones, may end anywhere (a crash) and be taken up by any other process; a
second look that finds nothing to do writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from omni_operator import __version__
from omni_operator.api.conditions import ConditionType, Reason, Truth
from omni_operator.children import names
from omni_operator.children.describe import summary
from omni_operator.children.names import COMPONENT, REPLICA, REVISION, Component, node_folder
from omni_operator.children.render import children as render
from omni_operator.controller.act import Act
from omni_operator.controller.cache import Cache
from omni_operator.controller.child_writer import ChildWriter
from omni_operator.controller.decide import Decision, decide, keep_for
from omni_operator.controller.events import Story, from_conditions
from omni_operator.controller.node_memory import NodeMemory
from omni_operator.controller.objects import Pod
from omni_operator.controller.observe import observe
from omni_operator.controller.observed import Known, Observed, Outcome, Verdict
from omni_operator.controller.omni_writer import OmniWriter
from omni_operator.controller.rehearsal import PAUSE as REHEARSAL_PAUSE
from omni_operator.controller.rehearsal import Rehearsal
from omni_operator.controller.removal import Removal, revisions
from omni_operator.controller.restarts import Restarts
from omni_operator.controller.settings import Settings
from omni_operator.controller.status import make_status
from omni_operator.controller.warmups import WarmUps
from omni_operator.controller.witness import Witness
from omni_operator.kube.client import ApiError, Kube

_log = logging.getLogger(__name__)
_TOLD_AT_ONCE = frozenset({ConditionType.ACCEPTED, ConditionType.PLANNED, ConditionType.READY})
_NAMESPACE_PAUSE = 1.0  # its watch is about to bring it
_FOREIGN_PAUSE = 10.0  # foreign objects are not watched; their going is found by looking


@dataclass(slots=True)
class Reconciler:
    """Looks at OmniDeployments."""

    kube: Kube
    cache: Cache
    settings: Settings
    instance: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _omni: OmniWriter = field(init=False)
    _children: ChildWriter = field(init=False)
    _memory: NodeMemory = field(init=False)
    _removal: Removal = field(init=False)
    _rehearsal: Rehearsal = field(init=False)
    _restarts: Restarts = field(default_factory=Restarts)
    _witness: Witness = field(init=False)
    _warm_ups: WarmUps = field(init=False)
    _written: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Makes the writers."""
        self._omni = OmniWriter(kube=self.kube, cache=self.cache, instance=self.instance, now=self.now)
        self._children = ChildWriter(kube=self.kube, cache=self.cache, omni=self._omni)
        self._memory = NodeMemory(kube=self.kube, now=self.now)
        self._rehearsal = Rehearsal(kube=self.kube)
        self._witness = Witness(kube=self.kube)
        self._warm_ups = WarmUps(wake=self.cache.look)
        self._removal = Removal(omni=self._omni, children=self._children, memory=self._memory, now=self.now)

    async def close(self) -> None:
        """Ends what runs beside looks."""
        await self._warm_ups.close()

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
            self._rehearsal.forget(key)
            self._witness.forget(key)
            self._warm_ups.forget(key)
            self._restarts.forget(key)
            return None
        observed = observe(self.cache, omni)
        if omni.deleting:
            return await self._removal.delete(observed)
        if observed.unreadable:
            _log.error("%s: left as it is: revision(s) %s were written by another version", key, observed.unreadable)
            text = (
                f"revision {', '.join(observed.unreadable)} was written by an operator whose record this one ({__version__}) does "
                "not understand, so all is left as it is; run the newer operator again, or delete and create the OmniDeployment"
            )
            await self._omni.amend(
                omni, Verdict(ConditionType.PROGRESSING, Truth.FALSE, Reason.REVISION_UNREADABLE, text)
            )
            return None
        pod_security = self.cache.pod_security(omni.namespace)
        if pod_security is None:
            return _NAMESPACE_PAUSE
        decision = decide(observed, inventory=lambda: self.cache.inventory(without=key), pod_security=pod_security)
        act = Act()
        decision = await self._rehearsed(observed, decision, act)
        outcome = await self._make_real(observed, decision, act)
        outcome = await self._heard(observed, decision, outcome, act)
        again = await self._report(observed, outcome, act)
        if act.refused:
            raise ApiError(422, "ChildRefused", "; ".join(act.refused))
        if act.foreign:
            act.look_again(_FOREIGN_PAUSE)
        if again is not None:
            act.look_again(again)
        return act.again

    async def _heard(self, observed: Observed, decision: Decision, outcome: Outcome, act: Act) -> Outcome:
        """The outcome with what the engine itself says."""
        active = outcome.active
        if active is None or not outcome.replicas:
            return outcome
        wanted = (decision.spec or active.revision.spec).serving.warm_up
        answers, until = self._warm_ups.ask(observed, active, wanted)
        outcome = replace(outcome, answers=answers)
        pause = None
        if not outcome.retiring:
            evidence, pause = await self._witness.ask(observed, active, outcome.replicas)
            outcome = replace(outcome, evidence=evidence)
        for seconds in (pause, until):
            if seconds is not None:
                act.look_again(seconds)
        return outcome

    async def _rehearsed(self, observed: Observed, decision: Decision, act: Act) -> Decision:
        """The decision, unless a new revision would take the place of one that runs and could not be made."""
        wanted = decision.wanted
        if wanted is None or wanted.revision.name in observed.known or not observed.known:
            return decision
        refusals = await self._rehearsal.refusals(observed, wanted.revision.name, _intents(observed, decision, wanted))
        if not refusals:
            return decision
        act.look_again(REHEARSAL_PAUSE)
        return keep_for(observed, decision, refusals)

    async def _make_real(self, observed: Observed, decision: Decision, act: Act) -> Outcome:
        wanted, replicas = decision.wanted, decision.replicas
        keep = wanted.revision.name if wanted else ""
        retiring = await self._removal.retire(observed, {r for r in revisions(observed) if r != keep}, act)
        desired: set[str] = set()
        if wanted is not None:
            shared = wanted.revision.plan.node_shared_memory
            if shared:
                desired = {node_folder(observed.owner, keep, replica) for replica in range(replicas)}
            free = await self._memory.clear_the_way(observed, desired)
            guarded = not desired or observed.has_finalizer or await self._omni.finalizer(observed, present=True)
            if (not act.in_the_way or keep in observed.known) and free and guarded:
                await self._apply_children(observed, decision, wanted, act)
        folders = await self._memory.sweep(observed, desired, act)
        if wanted is not None and not desired and not folders and not retiring and observed.has_finalizer:
            await self._omni.finalizer(observed, present=False)
        return Outcome(
            accepted=decision.accepted,
            planned=decision.planned,
            active=wanted,
            replicas=replicas,
            retiring=tuple(sorted(retiring)),
            folders=folders,
            # Children are applied at one time; in the order of answers the message would differ from look to look.
            foreign=tuple(sorted(act.foreign)),
            refused=tuple(sorted(act.refused)),
            blockers=tuple(act.blockers),
            held_back=act.held_back,
            lately=act.lately,
        )

    async def _apply_children(self, observed: Observed, decision: Decision, wanted: Known, act: Act) -> None:
        intents = _intents(observed, decision, wanted)
        config, *rest = intents
        # The record of the plan exists before anything that was made from it.
        ensure = partial(self._children.ensure, observed, act=act, rendered_by=wanted.rendered_by)
        await ensure(config)
        if act.foreign or act.refused:
            return
        stale = await self._end_stale_servers(observed, wanted, decision.replicas, act)
        others = [i for i in rest if not _is_server(i)]
        there = await asyncio.gather(*(ensure(intent) for intent in others))
        alone = {_replica(i) for i, ok in zip(others, there, strict=True) if i["kind"] == "RayCluster" and not ok}
        # Younger than what they join, and not without it: a server that joined nothing would be ended by the next look.
        servers = [i for i in rest if _is_server(i) and _replica(i) not in stale | alone]
        await asyncio.gather(*(ensure(intent) for intent in servers))
        names_wanted = {(intent["kind"], intent["metadata"]["name"]) for intent in intents}
        extra = [
            child
            for child in observed.children.values()
            if child.labels.get(REVISION) == wanted.revision.name
            and child.owner_uid == observed.owner.uid
            and (child.kind, child.name) not in names_wanted
        ]
        await self._removal.end(observed, extra, act)

    async def _end_stale_servers(self, observed: Observed, wanted: Known, replicas: int, act: Act) -> set[str]:
        """Ends servers that joined what is no more; returns the replicas whose server must not be made now.

        A new head does not know an old raylet, and a stage actor whose pod restarted stays dead, while /health says 200 (0.16, run).
        """
        revision, ended = wanted.revision, set[str]()
        for number in map(str, range(replicas)):
            past = (observed.omni.key, revision.name, number)
            act.lately = act.lately or self._restarts.told(past)
            if left := self._restarts.wait(past):
                ended.add(number)
                act.look_again(left)
                act.held_back = act.held_back or self._restarts.why(past)
        for replica in range(replicas if wanted.ray_pods else 0):
            name = names.serving(observed.owner, revision.name, replica)
            server = observed.children.get(("Deployment", name))
            if server is None or server.owner_uid != observed.owner.uid:
                continue
            cluster = names.ray_cluster(observed.owner, revision.name, replica)
            joined = observed.children.get(("RayCluster", cluster))
            if joined is None or joined.created > server.created:
                ended.add(str(replica))
                if not server.deleting and await self._children.delete(observed, server, act):
                    what = "is gone" if joined is None else "is a new one"
                    text = f"Deployment {name}: ended, since RayCluster {cluster} {what}; it is made again to join it"
                    act.stories.append(Story(False, "Repaired", text))
        for pod, why in observed.bereft_servers(wanted):
            if pod.replica not in ended and await self._end_bereft(observed, wanted, pod, why, act):
                ended.add(pod.replica)
        return ended

    async def _end_bereft(self, observed: Observed, wanted: Known, server: Pod, why: str, act: Act) -> bool:
        """Ends a server at once, since it cannot answer; True when the next must not be made yet, because it happened before."""
        past = (observed.omni.key, wanted.revision.name, server.replica)
        if self._restarts.was_ended(past, server.name):
            return False  # the watch has not brought that it is ending
        name = names.serving(observed.owner, wanted.revision.name, int(server.replica))
        lasted = (self.now() - datetime.fromisoformat(server.ready_since)).total_seconds()
        again = self._restarts.again(past, lasted=lasted)
        if again and (deployment := observed.children.get(("Deployment", name))) is not None:
            await self._children.delete(observed, deployment, act)
        else:
            await self._children.end_pod(server)
        pause = self._restarts.note(past, server.name, why, lasted=lasted)
        act.stories.append(Story(True, "ServerRestarted", f"pod {server.name}: ended, since {why}"))
        if again:
            act.held_back = self._restarts.why(past)
            act.look_again(pause)
        return again

    async def _report(self, observed: Observed, outcome: Outcome, act: Act) -> float | None:
        status, again = make_status(observed, outcome, now=self.now())
        before = observed.omni.status
        for story in act.stories:
            await self._omni.tell(observed.omni, story)
        if status != before:
            key, moment = observed.omni.key, time.monotonic()
            pause = self.settings.status_pause_seconds - (moment - self._written.get(key, -1e9))
            if pause > 0 and not _matters(before, status):
                return min(pause, again or pause)
            if not await self._omni.status(observed.omni, status):
                return None
            self._written[key] = moment
        revision = outcome.active.revision if outcome.active else None
        text = f"revision {revision.name}: {summary(revision.plan)}" if revision else None
        for story in from_conditions(before, status, summary=text):
            await self._omni.tell(observed.omni, story)
        return again


def _intents(observed: Observed, decision: Decision, wanted: Known) -> list[dict[str, Any]]:
    service = (decision.spec or wanted.revision.spec).serving.service
    return render(observed.owner, wanted.revision, replicas=decision.replicas, service=service)


def _is_server(intent: dict[str, Any]) -> bool:
    return bool(intent["metadata"]["labels"].get(COMPONENT) == Component.SERVING)


def _replica(intent: dict[str, Any]) -> str:
    return str(intent["metadata"]["labels"].get(REPLICA, ""))


def _matters(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a change of status should be told at once; steps on the way can wait a moment for each other."""

    def gist(status: dict[str, Any]) -> Any:
        conditions = status.get("conditions") or ()
        truths = {c["type"]: (c["status"], c["observedGeneration"]) for c in conditions if c["type"] in _TOLD_AT_ONCE}
        return truths, status.get("revision"), status.get("nodeMemory"), status.get("observedGeneration")

    return bool(gist(before) != gist(after))
