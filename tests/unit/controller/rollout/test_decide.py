"""Which revision runs after an edit, a refusal, a restart or a change of nodes."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.conditions import Reason
from omni_operator.children.names import Component
from omni_operator.controller.state.snapshot import StoredRevision
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make
from tests.unit.controller.fake_cluster import FakeCluster
from tests.unit.make import ONE_NODE, TWO_NODES, inventory, node


@pytest.fixture
def running() -> FakeCluster:
    """A pipeline that serves, on two nodes."""
    cluster = FakeCluster()
    cluster.bring_up()
    return cluster


def test_a_new_spec_gets_a_plan() -> None:
    decision = FakeCluster().decide()
    assert (decision.rejected, decision.unplanned, decision.waits_for) == (None, None, "")
    assert decision.target is not None
    assert decision.replicas == 1


def test_a_plan_that_does_not_fit_now_is_made_and_waits() -> None:
    decision = FakeCluster(nodes=inventory(node("a", 4, available=0))).decide()
    assert decision.unplanned is None
    assert "pods stay Pending" in decision.waits_for
    assert decision.target is not None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (make.raw_spec(engine={"version": "9.9.9"}), Reason.UNSUPPORTED_RELEASE),
        (make.raw_spec(model={"name": "acme/unknown"}), Reason.UNKNOWN_PIPELINE),
        (make.raw_spec(replicas="many"), Reason.INVALID_SPEC),
        ({}, Reason.INVALID_SPEC),
    ],
)
def test_nothing_is_made_for_a_spec_that_is_not_accepted(spec: dict[str, Any], reason: Reason) -> None:
    decision = FakeCluster(spec=spec).decide()
    assert decision.rejected is not None
    assert decision.rejected.reason is reason
    assert decision.target is None
    assert decision.replicas == 0


def test_an_invalid_field_is_named_with_its_value() -> None:
    rejected = FakeCluster(spec=make.raw_spec(serving={"port": 80})).decide().rejected
    assert rejected is not None
    message = rejected.message
    assert message.startswith("spec.serving.port: ")
    assert "80" in message


def test_a_refused_plan_leaves_the_spec_accepted() -> None:
    decision = FakeCluster(nodes=inventory()).decide()
    assert decision.rejected is None
    assert decision.unplanned is not None
    assert decision.unplanned.reason is Reason.NO_LAYOUT
    assert decision.target is None


BROKEN_EDITS = {
    "unreadable": {"surprise": 1},
    "unknown release": {"engine": {"version": "9.9.9"}},
    "unknown stage": {"stages": [{"name": "nope"}]},
    "no layout": {"placement": {"nodeSelector": {"no": "such"}}},
    "policy": {"transport": {"rdma": "Require", "sharedMemory": "PodOnly"}},
}


@pytest.mark.parametrize("edit", BROKEN_EDITS.values(), ids=BROKEN_EDITS)
def test_a_broken_edit_keeps_the_running_revision_and_its_replicas(edit: dict[str, Any]) -> None:
    cluster = FakeCluster(
        spec=make.raw_spec(replicas=3, serving={"service": {"type": "LoadBalancer"}}), nodes=inventory(node("a", 9))
    )
    cluster.bring_up(3, workers=1)
    cluster.edit(**edit)
    decision = cluster.decide()
    assert decision.target is not None
    assert decision.target.revision.name == cluster.revision
    assert decision.replicas == 3
    assert decision.spec is not None
    assert decision.spec.serving.service.type == "LoadBalancer"


@pytest.mark.parametrize("edit", BROKEN_EDITS.values(), ids=BROKEN_EDITS)
def test_a_broken_edit_of_a_suspended_pipeline_takes_no_accelerators(
    edit: dict[str, Any], running: FakeCluster
) -> None:
    running.edit(suspend=True)
    running.reconcile()
    running.edit(**edit)
    assert running.decide().replicas == 0


@pytest.mark.parametrize("edit", BROKEN_EDITS.values(), ids=BROKEN_EDITS)
def test_a_broken_spec_can_still_be_suspended_and_scaled(edit: dict[str, Any], running: FakeCluster) -> None:
    running.edit(**edit)
    running.edit(replicas=2)
    assert running.decide().replicas == 2
    running.edit(suspend=True)
    assert running.decide().replicas == 0


def test_replicas_that_cannot_be_read_stay_as_they_are() -> None:
    cluster = FakeCluster(spec=make.raw_spec(replicas=3), nodes=inventory(node("a", 9)))
    cluster.bring_up(3, workers=1)
    cluster.edit(replicas="many")
    assert cluster.decide().replicas == 3


def test_replicas_that_cannot_be_read_are_those_that_were_wanted_and_not_those_that_exist() -> None:
    cluster = FakeCluster(spec=make.raw_spec(replicas=3), nodes=inventory(node("a", 9)))
    cluster.reconcile()
    cluster.reconcile()
    assert cluster.status["replicas"] == 0
    cluster.edit(replicas="many")
    assert cluster.decide().replicas == 3


def test_correcting_a_broken_edit_brings_nothing_new(running: FakeCluster) -> None:
    before, spec = running.revision, running.spec
    running.edit(surprise=1)
    running.reconcile()
    running.spec = spec
    running.reconcile()
    assert running.revision == before
    assert len(running.revisions) == 1


def test_a_second_reconcile_makes_no_second_plan(running: FakeCluster) -> None:
    planned = running.planned
    running.nodes = inventory()  # and nodes that come and go are no reason for one
    running.reconcile()
    assert running.planned == planned


@pytest.mark.parametrize("live", [{"replicas": 2}, {"suspend": True}, {"rollout": {"strategy": "Hold"}}])
def test_what_may_change_keeps_the_revision(running: FakeCluster, live: dict[str, Any]) -> None:
    before, planned = running.revision, running.planned
    running.edit(**live)
    running.reconcile()
    assert running.revision == before
    assert running.planned == planned
    assert running.decide().replicas == (0 if "suspend" in live else live.get("replicas", 1))


def test_a_change_makes_a_new_revision(running: FakeCluster) -> None:
    before = running.revision
    running.edit(model={"name": make.TWO_STAGES})
    running.reconcile()
    assert running.revision != before


def test_hold_keeps_what_runs_and_says_what_waits(running: FakeCluster) -> None:
    before = running.revision
    running.edit(model={"name": make.TWO_STAGES}, rollout={"strategy": "Hold"}, replicas=2)
    decision = running.decide()
    assert decision.target is not None
    assert decision.target.revision.name == before
    assert decision.unplanned is not None
    assert decision.unplanned.reason is Reason.HELD
    assert "mimo_audio" in decision.unplanned.message
    assert decision.replicas == 2  # what may change, changes
    running.edit(rollout={"strategy": "Recreate"})
    running.reconcile()
    assert running.revision != before


def test_hold_of_a_first_revision_starts_it() -> None:
    assert FakeCluster(spec=make.raw_spec(rollout={"strategy": "Hold"})).decide().target is not None


def test_going_back_takes_the_revision_that_still_exists(running: FakeCluster) -> None:
    before, spec = running.revision, running.spec
    running.edit(model={"name": make.TWO_STAGES})
    running.reconcile()
    running.spec = spec
    decision = running.decide()
    assert decision.target is not None
    assert decision.target.revision.name == before


def test_of_two_plans_for_one_spec_the_active_one_stays(running: FakeCluster) -> None:
    """The newer one may be what an operator began before it ended.

    Going to it would restart what serves.
    """
    running.later(60)
    newer = StoredRevision(revision=make.revision(nodes=ONE_NODE), created="2026-01-01T00:01:00Z")
    assert newer.revision.spec_digest == running.revisions[running.revision].revision.spec_digest
    running.revisions = {**running.revisions, newer.revision.name: newer}
    assert running.decide().target == running.revisions[running.revision]
    running.status = {}
    assert running.decide().target == newer


def test_a_stricter_namespace_stops_only_what_does_not_run_yet() -> None:
    cluster = FakeCluster(nodes=ONE_NODE)
    cluster.bring_up(workers=1)
    before = cluster.revision
    cluster.security = PodSecurity.RESTRICTED
    # pods that run are not touched by the namespace either
    assert cluster.decide().target == cluster.revisions[before]
    cluster.tear_down()
    decision = cluster.decide()
    assert decision.target is not None
    assert decision.target.revision.plan.pod_security is PodSecurity.RESTRICTED
    assert not decision.target.revision.plan.node_shared_memory
    cluster.reconcile()
    # what is allowed now is no reason to change a plan that can run
    cluster.security = PodSecurity.PRIVILEGED
    assert cluster.decide().target == cluster.revisions[cluster.revision]


def test_a_restart_without_status_finds_the_newest_revision(running: FakeCluster) -> None:
    running.later(60)
    running.edit(model={"name": make.TWO_STAGES})
    running.reconcile()
    newest = running.revision
    running.status = {}
    running.edit(surprise=1)
    decision = running.decide()
    assert decision.target is not None
    assert decision.target.revision.name == newest


def test_a_plan_is_made_anew_when_it_cannot_be_scheduled() -> None:
    """A pod cannot be scheduled, and even empty nodes could not hold the plan."""
    cluster = FakeCluster(nodes=make.RDMA_NODES)
    cluster.bring_up()
    before = cluster.revision
    cluster.nodes = TWO_NODES  # as many accelerators, but no RDMA devices any more
    assert cluster.decide().target == cluster.revisions[before]
    cluster.pod(Component.WORKER, 9, node="", unschedulable="Insufficient rdma/hca")
    decision = cluster.decide()
    assert decision.target is not None
    assert decision.target.revision.name != before
    assert decision.target.revision.plan.transport == "MooncakeStore/tcp"


def test_lost_nodes_alone_move_nothing(running: FakeCluster) -> None:
    before = running.revision
    running.nodes = inventory()
    assert running.decide().target == running.revisions[before]


def test_waiting_names_the_pod_that_is_the_cause() -> None:
    cluster = FakeCluster(nodes=ONE_NODE)
    cluster.reconcile()
    cluster.pod(Component.SERVING, node="", unschedulable="didn't match pod affinity rules")
    cluster.pod(Component.WORKER, node="", unschedulable="Insufficient nvidia.com/gpu")
    assert "Insufficient nvidia.com/gpu" in cluster.decide().waits_for


def test_waiting_names_what_is_short_also_when_others_took_it_after_the_plan_was_made() -> None:
    cluster = FakeCluster(nodes=inventory(node("a", 4)))
    cluster.reconcile()
    cluster.pod(Component.WORKER, node="", unschedulable="Insufficient nvidia.com/gpu")
    assert cluster.decide().waits_for.startswith("pods wait for free capacity; ")  # planning finds nothing short
    cluster.nodes = inventory(node("a", 4, available=1))
    waits_for = cluster.decide().waits_for
    assert "x nvidia.com/gpu, free now: a: 1;" in waits_for
    assert "Insufficient nvidia.com/gpu" in waits_for


def test_a_server_that_follows_its_worker_is_no_cause_while_nothing_is_short() -> None:
    """At every start on one node the server is there first, and the scheduler tries it again only
    a moment after its worker has a node; Planned must not change for that."""
    cluster = FakeCluster(nodes=ONE_NODE)
    cluster.reconcile()
    server = cluster.pod(Component.SERVING, node="", unschedulable="didn't match pod affinity rules")
    assert cluster.decide().waits_for == ""
    cluster.pod(Component.WORKER, node="a")
    assert cluster.decide().waits_for == ""
    cluster.nodes = inventory(node("a", 4, available=0))
    assert server.name in cluster.decide().waits_for


def test_true_is_another_revision_than_one(running: FakeCluster) -> None:
    """In Python they are equal; in the engine's configuration they are not."""
    stages = [{"name": "thinker", "engineArgs": {"enforce_eager": 1}}]
    running.edit(stages=stages)
    running.reconcile()
    one = running.revision
    running.edit(stages=[{"name": "thinker", "engineArgs": {"enforce_eager": True}}])
    running.reconcile()
    assert running.revision != one
