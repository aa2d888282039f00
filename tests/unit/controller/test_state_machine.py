"""Any order of edits, failures and restarts over an in-memory API.

A plan that was executed leaves nothing to do.

Invariants after every step, once the operator has come to rest: the next ActionPlan is empty,
children are what is rendered, objects of others are untouched, status agrees with its schema and
with itself, and nothing oscillates.
"""

from __future__ import annotations

import asyncio
import copy
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from omni_operator import __version__
from omni_operator.api.conditions import ConditionType
from omni_operator.api.status import OmniDeploymentStatus
from omni_operator.children import names
from omni_operator.children.names import COMPONENT, REPLICA, REVISION, Component
from omni_operator.controller.reconcile import Reconciler
from omni_operator.controller.rollout.actions import ActionPlan
from omni_operator.controller.rollout.decide import Decision
from omni_operator.controller.rollout.plan import plan_actions
from omni_operator.controller.rollout.rendering import Renderer
from omni_operator.controller.state.objects import Child
from omni_operator.controller.state.snapshot import Snapshot
from omni_operator.kube.client import ApiError
from tests.unit import make
from tests.unit.controller.harness import KEY, NO_WARM_UP, Harness
from tests.unit.make import OWNER

NEVER: dict[str, Any] = {"serving": NO_WARM_UP}
EDITS: tuple[dict[str, Any], ...] = (
    make.raw_spec(**NEVER),
    make.raw_spec(**NEVER, replicas=2),
    make.raw_spec(**NEVER, replicas=0),
    make.raw_spec(**NEVER, suspend=True),
    make.raw_spec(**NEVER, model={"name": make.TWO_STAGES}),
    make.raw_spec(**NEVER, placement={"strategy": "OneNode"}),
    make.raw_spec(**NEVER, placement={"strategy": "Spread", "priorityClassName": "gold"}),
    make.raw_spec(**NEVER, engine={"version": "0.30.0"}),
    make.raw_spec(**NEVER, engine={"version": "9.9.9"}),
    make.raw_spec(**NEVER, rollout={"strategy": "Hold"}, model={"name": make.TWO_STAGES}),
    make.raw_spec(**NEVER, transport={"rdma": "Require"}),
    make.raw_spec(**NEVER, accelerator={"type": "cpu"}),
    make.raw_spec(serving={**NO_WARM_UP, "port": 80}),
)
KINDS = ("ConfigMap", "Service", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "RayCluster")
REFUSED = ApiError(403, "Forbidden", "exceeded quota")
MOST_RECONCILES = 20


class OneOmniDeployment(RuleBasedStateMachine):
    """A user, a cluster and an operator that may be restarted at any moment."""

    @initialize(spec=st.sampled_from(EDITS[:6]), gpus=st.sampled_from((1, 2, 4)))
    def begin(self, spec: dict[str, Any], gpus: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.harness = Harness(spec=copy.deepcopy(spec))
        self.not_owned: dict[tuple[str, str], Child] = {}
        self.number = 0
        for name in "ab":
            self.harness.node(name, gpus=gpus)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.harness.reconciler.close())
            self.loop.close()

    # What a user does.

    @rule(spec=st.sampled_from(EDITS))
    def edits(self, spec: dict[str, Any]) -> None:
        self.harness.edit(**{key: None for key in self.harness.spec if key not in spec}, **copy.deepcopy(spec))
        self.harness.spec = {key: value for key, value in self.harness.spec.items() if value is not None}

    @precondition(lambda self: self._children())
    @rule(data=st.data())
    def deletes_a_child(self, data: st.DataObject) -> None:
        kind, name = data.draw(st.sampled_from(sorted(self._children())))
        self.harness.lose(kind, name)

    @precondition(lambda self: self._children())
    @rule(data=st.data())
    def edits_a_child(self, data: st.DataObject) -> None:
        kind, name = data.draw(st.sampled_from(sorted(self._children())))
        known = self._children()[kind, name]
        body = copy.deepcopy(known.body)
        body["metadata"]["labels"] = {**body["metadata"]["labels"], COMPONENT: "edited"}
        if kind != "ConfigMap":  # which the API server keeps as it is
            body["metadata"]["labels"][COMPONENT] = known.labels[COMPONENT]
            body["spec"] = {**body["spec"], **dict.fromkeys(list(body["spec"])[:1], "edited")}
        meta = {**body["metadata"], "uid": known.uid, "creationTimestamp": known.created}
        meta["resourceVersion"] = str(next(self.harness.versions))
        self.harness.store.children[kind].upsert({**body, "metadata": meta, "status": known.status})

    @rule(name=st.sampled_from((OWNER.name, "omni-store")))
    def somebody_makes_a_service_of_that_name(self, name: str) -> None:
        if ("Service", name) in self.harness.store.children_of(KEY):
            return
        labels = names.labels(OWNER, Component.SERVICE)
        meta = {"namespace": OWNER.namespace, "name": name, "uid": f"theirs-{name}", "labels": labels}
        meta["resourceVersion"] = str(next(self.harness.versions))
        self.harness.store.children["Service"].upsert({"metadata": meta, "spec": {"theirs": True}})
        self.not_owned["Service", name] = self.harness.store.children_of(KEY)["Service", name]

    @precondition(lambda self: self.not_owned)
    @rule()
    def takes_them_away(self) -> None:
        for kind, name in self.not_owned:
            self.harness.lose(kind, name)
        self.not_owned.clear()

    # What the cluster does.

    @rule(ready=st.booleans())
    def controllers_make_pods(self, *, ready: bool) -> None:
        """KubeRay and the Deployment controller; pods of what is gone end."""
        self.harness.later()
        children = self._children()
        alive = {(c.labels.get(REVISION), c.labels.get(REPLICA)) for c in children.values()}
        for pod in self.harness.store.pods_of(KEY):
            if pod.labels.get(COMPONENT) == Component.CLEANUP:
                continue
            if (pod.revision, pod.labels.get(REPLICA)) not in alive or not self._maker(pod.name, children):
                self.harness.store.pods.remove(pod.namespace, pod.name)
        for (kind, name), child in children.items():
            if kind == "RayCluster":
                groups = child.body["spec"]["workerGroupSpecs"]
                count = sum(g["replicas"] * g.get("numOfHosts", 1) for g in groups if isinstance(g, dict))
                self._pods(child, Component.HEAD, 1, ready=ready)
                self._pods(child, Component.WORKER, count, ready=ready)
                head = [{"type": "HeadPodReady", "status": str(ready)}]
                workers = {"desiredWorkerReplicas": count, "readyWorkerReplicas": count * ready}
                self.harness.child_status(kind, name, conditions=head, **workers)
            elif kind == "Deployment":
                self._pods(child, Component(child.labels[COMPONENT]), 1, ready=ready)

    def _maker(self, pod: str, children: dict[tuple[str, str], Child]) -> bool:
        return any(pod.startswith(f"{name}-") for kind, name in children if kind in {"RayCluster", "Deployment"})

    def _pods(self, child: Child, component: Component, count: int, *, ready: bool) -> None:
        existing = {p.name for p in self.harness.store.pods_of(KEY)}
        for number in range(count):
            name = f"{child.name}-{component.value}-{number}"
            if name in existing and not ready:
                continue
            owner = {"uid": child.uid, "controller": True}
            labels = names.labels(OWNER, component, revision=child.labels[REVISION])
            if REPLICA in child.labels:
                labels[REPLICA] = child.labels[REPLICA]
            conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": self.harness.stamp}]
            states = [{"name": "main", "state": {"running": {"startedAt": self._started(name)}}}] if ready else []
            self.harness.pod(
                component,
                revision=child.labels[REVISION],
                metadata={"name": name, "labels": labels, "ownerReferences": [owner]},
                conditions=conditions,
                containerStatuses=states,
            )

    def _started(self, name: str) -> str:
        known = self.harness.store.pods.get(OWNER.namespace, name)
        return known.started if known is not None and known.started else self.harness.stamp

    @precondition(lambda self: self.harness.store.pods_of(KEY))
    @rule(data=st.data())
    def a_pod_is_killed(self, data: st.DataObject) -> None:
        pod = data.draw(st.sampled_from(self.harness.store.pods_of(KEY)))
        self.harness.store.pods.remove(pod.namespace, pod.name)

    @rule()
    def cleanup_pods_succeed(self) -> None:
        for pod in self.harness.store.pods_of(KEY):
            if pod.labels.get(COMPONENT) == Component.CLEANUP:
                self._cleanup_pod_is(pod.name, "Succeeded")

    def _cleanup_pod_is(self, name: str, phase: str) -> None:
        known = self.harness.store.pods.get(OWNER.namespace, name)
        assert known is not None
        meta = {"name": name, "labels": dict(known.labels)}
        meta |= {"ownerReferences": [OWNER.reference()], "creationTimestamp": self.harness.stamp}
        self.harness.pod(Component.CLEANUP, revision=known.revision, metadata=meta, phase=phase)

    @rule(name=st.sampled_from("ab"), ready=st.sampled_from(("True", "Unknown")), gpus=st.sampled_from((0, 1, 2, 4)))
    def a_node_changes(self, name: str, ready: str, gpus: int) -> None:
        self.harness.node(name, ready=ready, gpus=gpus)

    @rule(kind=st.sampled_from(("RayCluster", "Deployment", "NetworkPolicy")))
    def the_api_server_refuses(self, kind: str) -> None:
        self.harness.refuse[kind] = REFUSED

    @rule()
    def the_api_server_takes_all(self) -> None:
        self.harness.refuse.clear()

    @rule(seconds=st.sampled_from((1, 30, 700, 4000)))
    def time_passes(self, seconds: int) -> None:
        self.harness.later(seconds)

    # The operator.

    @rule()
    def the_operator_restarts(self) -> None:
        self.loop.run_until_complete(self.harness.reconciler.close())
        client: Any = self.harness
        self.harness.reconciler = Reconciler(
            kube=client,
            store=self.harness.store,
            status_pause_seconds=0,
            instance="test",
            now=lambda: self.harness.now,
        )

    @invariant()
    def it_comes_to_rest(self) -> None:
        """Executing a plan and reconciling again gives an empty one.

        And a status that stays as it is.
        """
        if not hasattr(self, "loop"):
            return
        self._settle()
        actions, status = self._plan(), copy.deepcopy(self.harness.status)
        if not self.harness.refuse:
            assert actions.steps == (), [str(action) for action in actions.actions]
        for _ in range(2):
            self._reconcile()
        changed = [(old, new) for old, new in _pairs(status, self.harness.status) if old != new]
        assert not changed, "nothing oscillates"
        self._agrees(status)
        self._children_are_as_rendered()
        for key, before in self.not_owned.items():
            assert self.harness.store.children_of(KEY)[key] == before, "an object of somebody else was touched"

    def _settle(self) -> None:
        for _ in range(MOST_RECONCILES):
            before = copy.deepcopy(self.harness.status)
            if not self._reconcile() and self.harness.status == before:
                return
        if self.harness.refuse:
            return
        pytest.fail(f"it does not come to rest: {self.harness.calls}")

    def _reconcile(self) -> list[tuple[str, str]]:
        async def once() -> list[tuple[str, str]]:
            try:
                return await self.harness.reconcile()
            except ApiError as exc:
                if not self.harness.refuse:
                    pytest.fail(str(exc))
                return self.harness.calls[:]

        done = self.loop.run_until_complete(once())
        for pod in self.harness.store.pods_of(KEY):  # the kubelet takes up what was made
            if pod.labels.get(COMPONENT) == Component.CLEANUP and not pod.phase:
                self._cleanup_pod_is(pod.name, "Running")
        return done

    def _snapshot(self) -> tuple[Snapshot, Decision]:
        reconciler = self.harness.reconciler
        snapshot = reconciler.snapshots.take(self.harness.store.omnis[KEY], now=self.harness.now)
        return snapshot, reconciler._decide(snapshot)

    def _plan(self) -> ActionPlan:
        return plan_actions(*self._snapshot(), Renderer())

    def _agrees(self, status: dict[str, Any]) -> None:
        model = OmniDeploymentStatus.model_validate(status)
        assert [c.type for c in model.conditions] == [kind.value for kind in ConditionType]
        conditions = {c.type: c for c in model.conditions}
        if conditions["Ready"].status == "True":
            assert model.ready_replicas
            assert (
                model.revision
                in self.harness.reconciler.snapshots.take(self.harness.store.omnis[KEY], now=self.harness.now).revisions
            )
        assert conditions["Ready"].message
        if model.revision is None:
            assert conditions["Ready"].status == "False"
            assert not [key for key, child in self._children().items() if key[0] in {"RayCluster", "Deployment"}]

    def _children_are_as_rendered(self) -> None:
        snapshot, decision = self._snapshot()
        if decision.target is None or self.harness.refuse or self._plan().draining:
            return
        service = (decision.spec or decision.target.revision.spec).serving.service
        revision, replicas = decision.target.revision, decision.replicas
        renderer = Renderer()
        rendering = renderer.render(OWNER, revision, replicas=replicas, service=service)
        for intent in rendering.others:
            live = snapshot.children.get((intent["kind"], intent["metadata"]["name"]))
            theirs = revision.rendered_by != __version__ and intent["kind"] in {"RayCluster", "Deployment"}
            if live is not None and snapshot.is_owned(live) and not theirs:
                assert renderer.difference(OWNER, live, intent) is None

    def _children(self) -> dict[tuple[str, str], Child]:
        found = self.harness.store.children_of(KEY)
        return {key: child for key, child in found.items() if child.owner_uid == OWNER.uid and key[0] in KINDS}


def _pairs(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Fields of two statuses side by side, the conditions one by one."""
    keys = sorted({*one, *other} - {"conditions"})
    conditions = zip(one["conditions"], other["conditions"], strict=True)
    return [*((one.get(key), other.get(key)) for key in keys), *conditions]


TestOneOmniDeployment = OneOmniDeployment.TestCase
TestOneOmniDeployment.settings = settings(
    max_examples=int(os.environ.get("OMNI_MACHINE_EXAMPLES", "25")),
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate) if "OMNI_MACHINE_EXAMPLES" in os.environ else tuple(Phase),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
