"""All background work of the controller in one place.

Started after a reconcile, read by the next one, keyed by uid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from omni_operator.children.names import COMPONENT, Component
from omni_operator.controller.apply.dry_run import DryRuns
from omni_operator.controller.rollout.actions import ActionPlan, Restart
from omni_operator.controller.rollout.decide import Decision
from omni_operator.controller.signals.transfers import TransferMonitor
from omni_operator.controller.signals.warm_up import WarmUps
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.signals import PENDING, ReplicaKey, RestartRecord, Signals
from omni_operator.controller.state.snapshot import Snapshot
from omni_operator.engine.warm_up import FirstRequest
from omni_operator.kube.client import Kube


@dataclass(slots=True)
class Collector:
    """Starts background work and hands out its results.

    Attributes:
        kube: The API server.
        wake: Called with the key of an OmniDeployment of which something new is known.
        now: The time of results.
    """

    kube: Kube
    wake: Callable[[str], None]
    now: Callable[[], datetime]
    warm_ups: WarmUps = field(init=False)
    transfers: TransferMonitor = field(init=False)
    dry_runs: DryRuns = field(init=False)
    _restarts: dict[str, dict[ReplicaKey, RestartRecord]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Makes the parts."""
        self.warm_ups = WarmUps(wake=self.wake)
        self.transfers = TransferMonitor(kube=self.kube, wake=self.wake)
        self.dry_runs = DryRuns(kube=self.kube, wake=self.wake, now=self.now)

    def signals(self, uid: str) -> Signals:
        """All results of one OmniDeployment."""
        return Signals(
            warm_up=self.warm_ups.results(uid),
            transfers=self.transfers.observation(uid),
            dry_run=self.dry_runs.result(uid),
            restarts=dict(self._restarts.get(uid, {})),
        )

    def record(self, uid: str, restarts: Iterable[Restart]) -> None:
        """Keeps which servers were ended."""
        for key, record in restarts:
            self._restarts.setdefault(uid, {})[key] = record

    def refresh(self, snapshot: Snapshot, decision: Decision, actions: ActionPlan) -> None:
        """Starts what the plan asks for, and ends what is not asked any more."""
        uid, key, active = snapshot.omni.uid, snapshot.omni.key, decision.target
        if actions.dry_run is not None:
            self.dry_runs.start(snapshot, *actions.dry_run)
        if active is None or actions.signals is None:
            self.warm_ups.forget(uid)
            self.transfers.forget(uid)
            return
        pods = list(snapshot.pods_of(active.name))
        request = actions.signals.warm_up if isinstance(actions.signals.warm_up, FirstRequest) else None
        asked = {(p.name, p.ready_since): p.address for p in pods if _is_ready_server(p)}
        known = self.warm_ups.results(uid)
        waiting = {s: a for s, a in asked.items() if s in known or not snapshot.signals.warm_up.get(s, PENDING).passed}
        port = active.revision.spec.serving.port
        self.warm_ups.refresh(uid, key=key, request=request, servers=waiting, port=port)
        if actions.draining:
            self.transfers.forget(uid)  # what it counted was another revision's
        else:
            self.transfers.refresh(uid, key=key, active=active, pods=pods, replicas=decision.replicas)

    def forget(self, uid: str) -> None:
        """Ends everything of an OmniDeployment that is gone."""
        self.warm_ups.forget(uid)
        self.transfers.forget(uid)
        self.dry_runs.forget(uid)
        self._restarts.pop(uid, None)

    async def close(self) -> None:
        """Ends everything."""
        await self.warm_ups.close()
        await self.transfers.close()
        await self.dry_runs.close()


def _is_ready_server(pod: Pod) -> bool:
    serving = pod.labels.get(COMPONENT) == Component.SERVING
    return bool(serving and pod.ready_since and pod.address and not pod.deleting)
