"""What all conditions are judged on.

The snapshot, what was decided and done, and the state of the active revision's parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omni_operator.children import names
from omni_operator.children.names import COMPONENT, Component
from omni_operator.controller.conditions.edges import EdgeObservation, observe_edges
from omni_operator.controller.rollout.actions import NOTHING_DONE, ActionPlan, Results
from omni_operator.controller.rollout.decide import Decision
from omni_operator.controller.rollout.lost_peers import servers_with_lost_peers
from omni_operator.controller.state.objects import Child, Pod
from omni_operator.controller.state.signals import NOT_OBSERVED, PENDING, WarmUpResult
from omni_operator.controller.state.snapshot import Snapshot, StoredRevision
from omni_operator.engine.warm_up import SkippedWarmUp


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """Whether a RayCluster is up, whether KubeRay failed to make its pods, and both in words."""

    up: bool
    failed: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The state of things.

    Attributes:
        snapshot: What is known.
        decision: What should run.
        actions: What is being done for that.
        results: What came of it.
        active: The revision whose children exist or are being made; None when there is none.
        replicas: Replicas of it that should run (0 when suspended).
        pods: Its live pods. An evicted pod stays as Failed with its old node; it is no end of any
            edge.
        clusters: State of each replica's own RayCluster; empty when the replicas have none.
        available: Replicas with a server that can answer.
        serving: Replicas that serve: the server has answered a request, its Ray cluster and the
            store are up.
        edges: What is known of every edge.
    """

    snapshot: Snapshot
    decision: Decision
    actions: ActionPlan
    results: Results = NOTHING_DONE
    active: StoredRevision | None = field(init=False)
    replicas: int = field(init=False)
    pods: tuple[Pod, ...] = field(init=False, default=())
    clusters: tuple[ClusterState, ...] = field(init=False, default=())
    available: tuple[int, ...] = field(init=False, default=())
    serving: tuple[int, ...] = field(init=False, default=())
    edges: tuple[EdgeObservation, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Derives the rest."""
        active, replicas = self.decision.target, self.decision.replicas
        self._set(active=active, replicas=replicas)
        if active is None:
            return
        # While another revision drains, what was counted is that one's.
        seen = self.snapshot.signals.transfers if replicas and not self.actions.draining else NOT_OBSERVED
        self._set(edges=observe_edges(active.revision.plan, seen))
        if not replicas:
            return
        self._set(pods=self.snapshot.pods_of(active.name))
        self._set(available=_available(self), clusters=_clusters(self))
        self._set(serving=_serving(self))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def current(self) -> StoredRevision:
        """The active revision, for conditions that are judged only when there is one."""
        assert self.active is not None
        return self.active

    def of(self, *components: Component) -> list[Pod]:
        """The revision's pods of some components."""
        return [p for p in self.pods if p.labels.get(COMPONENT) in components]

    @property
    def store_is_up(self) -> bool:
        """Whether the store has a ready pod, or none is planned."""
        planned = self.current.revision.plan.store is not None
        return not planned or any(p.ready and not p.deleting for p in self.of(Component.STORE))

    @property
    def skipped_warm_up(self) -> str:
        """Why servers are not asked a first request; empty when they are."""
        request = self.actions.signals
        if request is None:
            return "nothing has been asked"
        return request.warm_up.reason if isinstance(request.warm_up, SkippedWarmUp) else ""

    def warm_up(self, pod: Pod) -> WarmUpResult:
        """What is known of a server's first request.

        One that is not asked passes by its /health.
        """
        if self.skipped_warm_up:
            return WarmUpResult(passed=True)
        return self.snapshot.signals.warm_up.get((pod.name, pod.ready_since), PENDING)

    @property
    def not_owned(self) -> tuple[str, ...]:
        """Objects in the way that belong to somebody else."""
        return tuple(sorted({*self.actions.not_owned, *self.results.not_owned}))


def _available(facts: Facts) -> tuple[int, ...]:
    """Replicas with a server that can answer.

    Pods are asked: right after one was ended its Deployment still counts it.
    """
    snapshot, active = facts.snapshot, facts.current
    lost = {pod.name for pod, _ in servers_with_lost_peers(snapshot, active)}
    ready = {p.replica for p in facts.of(Component.SERVING) if p.ready and not p.deleting and p.name not in lost}
    out = []
    for replica in range(facts.replicas):
        deployment = snapshot.children.get(("Deployment", names.serving(snapshot.owner, active.name, replica)))
        if deployment is not None and not deployment.deleting and str(replica) in ready:
            out.append(replica)
    return tuple(out)


def _clusters(facts: Facts) -> tuple[ClusterState, ...]:
    snapshot, active, states = facts.snapshot, facts.current, []
    for replica in range(facts.replicas if active.ray_pods else 0):
        name = names.ray_cluster(snapshot.owner, active.name, replica)
        cluster = snapshot.children.get(("RayCluster", name))
        if cluster is None or snapshot.kuberay_missing:
            states.append(ClusterState(up=False, failed=False, text=f"RayCluster {name} is being made"))
        else:
            states.append(cluster_state(cluster, least=active.ray_pods - 1))
    return tuple(states)


def cluster_state(cluster: Child, *, least: int) -> ClusterState:
    """What KubeRay says of a RayCluster that should have at least so many workers.

    status.state is not asked: it stays "ready" when pods fail later (KubeRay 1.6.2).
    """
    status: dict[str, Any] = cluster.status
    if not status:
        text = (
            f"KubeRay has not reconciled RayCluster {cluster.name} yet; if this stays, read its log and "
            "`kubectl describe raycluster`"
        )
        return ClusterState(up=False, failed=False, text=text)
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    head = conditions.get("HeadPodReady", {}).get("status") == "True"
    wanted, ready = int(status.get("desiredWorkerReplicas", 0)), int(status.get("readyWorkerReplicas", 0))
    failure = conditions.get("ReplicaFailure") or conditions.get("RayClusterReplicaFailure") or {}
    if failure.get("status") == "True":
        text = f"RayCluster {cluster.name}: {failure.get('reason')}: {failure.get('message')}"
        return ClusterState(up=False, failed=True, text=text)
    up = "ready" if head else "not ready"
    text = f"RayCluster {cluster.name}: head {up}, {ready} of {max(wanted, least)} workers ready"
    return ClusterState(up=head and ready >= wanted >= least, failed=False, text=text)


def _serving(facts: Facts) -> tuple[int, ...]:
    answered = {p.replica for p in facts.of(Component.SERVING) if p.ready and facts.warm_up(p).passed}
    return tuple(
        replica
        for replica in facts.available
        if facts.store_is_up and str(replica) in answered and (not facts.clusters or facts.clusters[replica].up)
    )
