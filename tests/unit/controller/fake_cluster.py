"""One OmniDeployment through time.

A test changes its cluster, looks, and reads decision, status and events.

What a reconcile writes is what the reconciler writes (the revision's record and the status), read
back as the store reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from omni_operator.children import config_map, names
from omni_operator.children.names import COMPONENT, NAME, REPLICA, REVISION, Component
from omni_operator.children.revision import Revision, from_config_map
from omni_operator.controller.conditions.build import build_status
from omni_operator.controller.conditions.events import condition_events
from omni_operator.controller.rollout.actions import ActionPlan, Results
from omni_operator.controller.rollout.decide import Decision, decide
from omni_operator.controller.rollout.plan import plan_actions
from omni_operator.controller.rollout.rendering import Renderer
from omni_operator.controller.state import decode
from omni_operator.controller.state.build import parse
from omni_operator.controller.state.event import EventRecord
from omni_operator.controller.state.objects import Child, Pod
from omni_operator.controller.state.signals import (
    NOT_OBSERVED,
    DryRunResult,
    ReplicaKey,
    RestartRecord,
    Server,
    Signals,
    TransferObservation,
    WarmUpResult,
)
from omni_operator.controller.state.snapshot import Snapshot, StoredRevision
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make
from tests.unit.make import OWNER


def reread(made: Revision) -> Revision:
    """A revision as it comes back from its ConfigMap.

    Without what may change without a revision.
    """
    record = config_map.build(OWNER, made)
    meta = record["metadata"]
    name = meta["labels"][names.REVISION]
    return from_config_map(name=name, annotations=meta["annotations"], body=record)


def child(kind: str, name: str, **status: Any) -> Child:
    meta = {"namespace": OWNER.namespace, "name": name, "uid": "c", "resourceVersion": "1"}
    return decode.child(kind, {"metadata": meta, "status": status})


@dataclass
class FakeCluster:
    """The cluster as one reconcile sees it.

    Attributes:
        warm_up: Results of first requests by server.
        asked: Whether servers are asked at all; otherwise all of them pass by their /health.
        errors: What the API server would refuse of a new revision.
    """

    spec: dict[str, Any] = field(default_factory=make.raw_spec)
    nodes: Inventory = make.TWO_NODES
    security: PodSecurity = PodSecurity.PRIVILEGED
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    generation: int = 1
    status: dict[str, Any] = field(default_factory=dict)
    revisions: dict[str, StoredRevision] = field(default_factory=dict)
    children: dict[tuple[str, str], Child] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    referenced: Child | None = None
    kuberay_missing: bool = False
    lost_nodes: frozenset[str] = frozenset()
    warm_up: dict[Server, WarmUpResult] = field(default_factory=dict)
    asked: bool = False
    transfers: TransferObservation = NOT_OBSERVED
    restarts: dict[ReplicaKey, RestartRecord] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    planned: int = 0
    requeue_after: float | None = None
    actions: ActionPlan = field(default_factory=ActionPlan)

    def edit(self, **parts: Any) -> None:
        """A user's edit: keywords replace parts of the spec."""
        self.spec = {**self.spec, **parts}
        self.generation += 1

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def snapshot(self, *, dry_run: str = "") -> Snapshot:
        raw = {"namespace": OWNER.namespace, "name": OWNER.name, "uid": OWNER.uid, "resourceVersion": "1"}
        spec = self.spec
        if not self.asked and isinstance(spec.get("serving", {}), dict):
            spec = {**spec, "serving": {"warmUp": {"mode": "Never"}, **spec.get("serving", {})}}
        omni = decode.omni({"metadata": {**raw, "generation": self.generation}, "spec": spec, "status": self.status})
        tried = DryRunResult(revision=dry_run, errors=self.errors, at=self.now) if dry_run else None
        return Snapshot(
            omni=omni,
            owner=OWNER,
            parsed=parse(omni.spec),
            now=self.now,
            revisions=self.revisions,
            children=self.children,
            pods=tuple(sorted(self.pods, key=lambda p: p.name)),
            referenced=self.referenced,
            kuberay_missing=self.kuberay_missing,
            lost_nodes=self.lost_nodes,
            pod_security=self.security,
            signals=Signals(warm_up=self.warm_up, transfers=self.transfers, dry_run=tried, restarts=self.restarts),
        )

    def _decide(self, snapshot: Snapshot) -> Decision:
        def inventory() -> Inventory:
            self.planned += 1
            return self.nodes

        return decide(
            snapshot,
            make_plan=lambda spec: make_plan(spec=spec, inventory=inventory(), pod_security=self.security),
            inventory=inventory,
        )

    def decide(self) -> Decision:
        """The decision, after a dry run of a revision that is to take over."""
        decision = self._decide(self.snapshot())
        if decision.dry_run is None:
            return decision
        return self._decide(self.snapshot(dry_run=decision.dry_run.name))

    def reconcile(self, *, actions: dict[str, Any] | None = None, **results: Any) -> list[EventRecord]:
        """One reconcile; what it decides becomes real.

        `actions` replaces fields of the ActionPlan, the rest are of Results.
        """
        decision, snapshot = self.decide(), self.snapshot()
        made = plan_actions(snapshot, decision, Renderer())
        folders = {"folders": snapshot.folders()}
        self.actions = replace(made, **{"draining": (), "waits": (), "not_owned": (), **folders, **(actions or {})})
        before = self.status
        update = build_status(snapshot, decision, self.actions, Results(**results))
        self.status, self.requeue_after = update.status, update.requeue_after
        if decision.target and decision.target.name not in self.revisions:
            created = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            record = StoredRevision(revision=reread(decision.target.revision), created=created)
            self.revisions = {**self.revisions, decision.target.name: record}
        return list(condition_events(before, self.status, summary="the plan"))

    def condition(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = next(c for c in self.status["conditions"] if c["type"] == kind)
        return found

    def says(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = self.condition(kind)
        return found["status"], found["reason"]

    @property
    def revision(self) -> str:
        return str(self.status["revision"])

    def pod(self, component: Component, number: int = 0, *, replica: int = 0, node: str = "a", **parts: Any) -> Pod:
        """Adds a pod of the active revision."""
        labels = {NAME: OWNER.name, COMPONENT: component.value, REVISION: self.revision}
        if component is not Component.STORE:  # all replicas have one
            labels[REPLICA] = str(replica)
        middle = {Component.WORKER: "stages-worker", Component.SERVING: "serve"}.get(component, component.value)
        made = Pod(
            namespace=OWNER.namespace,
            name=f"{OWNER.name}-{self.revision}-{replica}-{middle}-{number}",
            resource_version="1",
            owner_uid="a controller",
            node=node,
            labels=labels,
            **{"phase": "Running", "ready": True, "deleting": False, **parts},
        )
        self.pods.append(made)
        return made

    def bring_up_ray(self, replica: int = 0, *, workers: int = 3, ready: int | None = None, node: str = "a") -> None:
        """What KubeRay does; `node` is where all pods go."""
        name = names.ray_cluster(OWNER, self.revision, replica)
        head = {"type": "HeadPodReady", "status": "True"}
        self.children["RayCluster", name] = child(
            "RayCluster",
            name,
            conditions=[head],
            desiredWorkerReplicas=workers,
            readyWorkerReplicas=workers if ready is None else ready,
        )
        self.pod(Component.HEAD, replica=replica, node=node)
        for number in range(workers):
            self.pod(Component.WORKER, number, replica=replica, node=node)

    def serve(self, replica: int = 0, *, available: int = 1, node: str = "a", **pod: Any) -> None:
        """What the Deployment controller does."""
        name = names.serving(OWNER, self.revision, replica)
        made = child("Deployment", name, availableReplicas=available)
        labels = names.labels(OWNER, Component.SERVING, revision=self.revision, replica=replica)
        self.children["Deployment", name] = replace(made, labels=labels, owner_uid=OWNER.uid)
        self.pods = [p for p in self.pods if not (p.replica == str(replica) and "-serve-" in p.name)]
        self.pod(Component.SERVING, replica=replica, node=node, **{"ready": available > 0, **pod})
        planned = self.revisions[self.revision].revision.plan.store
        if planned and not [p for p in self.pods if p.labels[COMPONENT] == Component.STORE]:
            self.pod(Component.STORE, node=node)

    def bring_up(self, replicas: int = 1, *, workers: int = 3) -> None:
        """Everything, until it is Ready."""
        self.reconcile()
        for replica in range(replicas):
            self.bring_up_ray(replica, workers=workers)
            self.serve(replica)
        self.reconcile()
        assert self.says("Ready") == ("True", "Serving"), self.status["conditions"]

    def tear_down(self) -> None:
        """All pods and their controllers end."""
        self.pods, self.children = [], {}
