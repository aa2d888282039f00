"""One reconcile: Snapshot -> decide -> plan_actions -> Executor -> build_status.

Level-triggered: it needs no memory of earlier ones, may end anywhere (a crash) and be taken up by
any other process; a second one that finds nothing to do writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.describe import summary
from omni_operator.controller.apply.children import ChildWriter
from omni_operator.controller.apply.executor import Executor
from omni_operator.controller.apply.omnideployment import OmniWriter
from omni_operator.controller.apply.pauses import StatusPauses
from omni_operator.controller.conditions.build import StatusUpdate, build_status
from omni_operator.controller.conditions.events import condition_events
from omni_operator.controller.conditions.plan_status import PlanStatuses
from omni_operator.controller.rollout.actions import Results
from omni_operator.controller.rollout.decide import Decision, decide
from omni_operator.controller.rollout.plan import plan_actions
from omni_operator.controller.rollout.rendering import Renderer
from omni_operator.controller.signals.collector import Collector
from omni_operator.controller.state.objects import Omni
from omni_operator.controller.state.plans import PlanCache
from omni_operator.controller.state.snapshot import Snapshot
from omni_operator.controller.state.snapshots import Snapshots
from omni_operator.controller.state.store import Store
from omni_operator.kube.client import ApiError, Kube
from omni_operator.planning.model import PlanError, Planned
from omni_operator.topology.inventory import Inventory

_log = logging.getLogger(__name__)
NOT_OWNED_SECONDS = 10.0  # objects of others are not watched; their going is found by asking
DEADLINE = 60.0  # seconds; a worker must not be held by one OmniDeployment for longer


@dataclass(slots=True)
class Reconciler:
    """Reconciles OmniDeployments.

    Attributes:
        kube: The API server.
        store: The caches.
        instance: Name of this process, for events.
        status_pause_seconds: Seconds that a step of status which is no news waits for others.
        now: The time.
    """

    kube: Kube
    store: Store
    instance: str
    status_pause_seconds: float = 10.0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    collector: Collector = field(init=False)
    snapshots: Snapshots = field(init=False)
    _omni: OmniWriter = field(init=False)
    _executor: Executor = field(init=False)
    _renderer: Renderer = field(default_factory=Renderer)
    _plans: PlanCache = field(default_factory=PlanCache)
    _plan_statuses: PlanStatuses = field(default_factory=PlanStatuses)
    _uids: dict[str, str] = field(default_factory=dict)
    _pauses: StatusPauses = field(init=False)

    def __post_init__(self) -> None:
        """Makes the parts."""
        self.collector = Collector(kube=self.kube, wake=self.store.enqueue, now=self.now)
        self.snapshots = Snapshots(store=self.store, signals=self.collector.signals)
        self._pauses = StatusPauses(self.status_pause_seconds)
        self._omni = OmniWriter(kube=self.kube, store=self.store, instance=self.instance, now=self.now)
        children = ChildWriter(kube=self.kube, store=self.store)
        self._executor = Executor(kube=self.kube, store=self.store, omni=self._omni, children=children)

    async def close(self) -> None:
        """Ends what runs in the background."""
        await self.collector.close()

    async def reconcile(self, key: str) -> float | None:
        """One pass over one OmniDeployment.

        Returns:
            Seconds after which time alone may change something, or None.

        Raises:
            ApiError: The API server refused something, or did not answer; it must be retried. What
                was done is in status by then.
            TimeoutError: All of it took longer than the deadline.
        """
        omni = self._known(key)
        if omni is None:
            return None
        async with asyncio.timeout(DEADLINE):
            snapshot = self.snapshots.take(omni, now=self.now())
            decision = self._decide(snapshot)
            actions = plan_actions(snapshot, decision, self._renderer)
            results = await self._executor.execute(snapshot, actions)
            update = build_status(snapshot, decision, actions, results, self._plan_statuses)
            self.collector.record(omni.uid, results.restarts)
            self.collector.refresh(snapshot, decision, actions)
            rest = None if results.gone else await self._report(snapshot, decision, results, update)
        _raise_if_to_be_retried(results)
        others = NOT_OWNED_SECONDS if results.not_owned or actions.not_owned else None
        waits = (actions.requeue_after, update.requeue_after, rest, others)
        return min((seconds for seconds in waits if seconds is not None), default=None)

    def _known(self, key: str) -> Omni | None:
        """The OmniDeployment.

        Memories of one that is gone, or that had this name before, are dropped by its uid.
        """
        omni = self.store.omnis.get(key)
        before = self._uids.get(key)
        if before is not None and (omni is None or omni.uid != before):
            for part in (
                self.collector,
                self.snapshots,
                self._renderer,
                self._plans,
                self._plan_statuses,
                self._pauses,
            ):
                part.forget(before)
            del self._uids[key]
        if omni is not None:
            self._uids[key] = omni.uid
        return omni

    def _decide(self, snapshot: Snapshot) -> Decision:
        key, uid, security = snapshot.omni.key, snapshot.omni.uid, snapshot.pod_security

        def inventory() -> Inventory:
            return self.store.inventory(without=key)

        def make_plan(spec: OmniDeploymentSpec) -> Planned | PlanError:
            assert security is not None
            return self._plans.plan(uid, spec, inventory=inventory(), pod_security=security)

        return decide(snapshot, make_plan=make_plan, inventory=inventory)

    async def _report(
        self, snapshot: Snapshot, decision: Decision, results: Results, update: StatusUpdate
    ) -> float | None:
        """Writes status and events where something is new.

        Returns the seconds after which a mere step is worth a write.
        """
        omni, status, before = snapshot.omni, update.status, snapshot.omni.status
        for event in results.events:
            await self._omni.emit(omni, event)
        left = self._pauses.left(omni.uid, before, status)
        if status == before or left > 0:
            return left or None
        if not await self._omni.status(omni, status):
            return None
        active = decision.target
        text = f"revision {active.name}: {summary(active.revision.plan)}" if active else None
        for event in condition_events(before, status, summary=text):
            await self._omni.emit(omni, event)
        return None


def _raise_if_to_be_retried(results: Results) -> None:
    if results.failed:
        pause = max(failure.retry_after for failure in results.failed)
        raise ApiError(503, "ActionFailed", "; ".join(each.what for each in results.failed), retry_after=pause)
    if results.refused:
        raise ApiError(422, "ChildRefused", "; ".join(results.refused))
