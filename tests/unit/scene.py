"""One OmniDeployment through time: a test changes its cluster, looks, and reads decision, status and events.

What a look writes is what the reconciler writes (the revision's record and the status), read back as the cache reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from omni_operator.children import config_map, names
from omni_operator.children import revision as revisions
from omni_operator.children.names import COMPONENT, NAME, REPLICA, REVISION, Component
from omni_operator.children.revision import Revision
from omni_operator.controller import objects
from omni_operator.controller.decide import Decision, decide
from omni_operator.controller.events import Story, from_conditions
from omni_operator.controller.objects import Child, Pod
from omni_operator.controller.observed import Known, Observed, Outcome
from omni_operator.controller.status import make_status
from omni_operator.planning.model import PodSecurity
from omni_operator.topology.inventory import Inventory
from tests.unit import make
from tests.unit.make import OWNER


def reread(made: Revision) -> Revision:
    """A revision as it comes back from its ConfigMap: without what may change without a revision."""
    record = config_map.build(OWNER, made)
    return revisions.load(
        name=record["metadata"]["labels"][names.REVISION],
        digest=record["metadata"]["annotations"][names.SPEC_DIGEST],
        spec_text=record["data"][names.SPEC_FILE],
        plan_text=record["data"][names.PLAN_FILE],
    )


def child(kind: str, name: str, **status: Any) -> Child:
    meta = {"namespace": OWNER.namespace, "name": name, "uid": "c", "resourceVersion": "1"}
    return objects.child(kind, {"metadata": meta, "status": status})


@dataclass
class Scene:
    """The cluster as one look sees it."""

    spec: dict[str, Any] = field(default_factory=make.raw_spec)
    nodes: Inventory = make.TWO_NODES
    security: PodSecurity = PodSecurity.PRIVILEGED
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    generation: int = 1
    status: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    children: dict[tuple[str, str], Child] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    referenced: Child | None = None
    kuberay_missing: bool = False
    planned: int = 0
    again: float | None = None

    def edit(self, **parts: Any) -> None:
        """A user's edit: keywords replace parts of the spec."""
        self.spec = {**self.spec, **parts}
        self.generation += 1

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def observed(self) -> Observed:
        raw = {"namespace": OWNER.namespace, "name": OWNER.name, "uid": OWNER.uid, "resourceVersion": "1"}
        omni = objects.omni(
            {"metadata": {**raw, "generation": self.generation}, "spec": self.spec, "status": self.status}
        )
        return Observed(
            omni=omni,
            owner=OWNER,
            known=self.known,
            children=self.children,
            pods=tuple(sorted(self.pods, key=lambda p: p.name)),
            referenced=self.referenced,
            kuberay_missing=self.kuberay_missing,
            missing_nodes=frozenset(),
        )

    def decide(self) -> Decision:
        def inventory() -> Inventory:
            self.planned += 1
            return self.nodes

        return decide(self.observed(), inventory=inventory, pod_security=self.security)

    def look(self, **outcome: Any) -> list[Story]:
        """One look; what it decides becomes real."""
        decision, observed = self.decide(), self.observed()
        made = Outcome(
            accepted=decision.accepted,
            planned=decision.planned,
            active=decision.wanted,
            replicas=decision.replicas,
            folders=observed.folders(),
        )
        before = self.status
        self.status, self.again = make_status(observed, replace(made, **outcome), now=self.now)
        if decision.wanted and decision.wanted.revision.name not in self.known:
            created = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
            record = Known(revision=reread(decision.wanted.revision), created=created)
            self.known = {**self.known, decision.wanted.revision.name: record}
        return list(from_conditions(before, self.status, summary="the plan"))

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
        planned = self.known[self.revision].revision.plan.store
        if planned and not [p for p in self.pods if p.labels[COMPONENT] == Component.STORE]:
            self.pod(Component.STORE, node=node)

    def bring_up(self, replicas: int = 1, *, workers: int = 3) -> None:
        """Everything, until it is Ready."""
        self.look()
        for replica in range(replicas):
            self.bring_up_ray(replica, workers=workers)
            self.serve(replica)
        self.look()
        assert self.says("Ready") == ("True", "Serving"), self.status["conditions"]

    def tear_down(self) -> None:
        """All pods and their controllers end."""
        self.pods, self.children = [], {}
