"""Which revision runs after an edit, a refusal, a restart or a change of nodes."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.conditions import Reason, Truth
from omni_operator.children.names import Component
from omni_operator.controller.observed import Known
from omni_operator.planning.model import PodSecurity
from tests.unit import make
from tests.unit.make import ONE_NODE, TWO_NODES, inventory, node
from tests.unit.scene import Scene


@pytest.fixture
def running() -> Scene:
    """A pipeline that serves, on two nodes."""
    scene = Scene()
    scene.bring_up()
    return scene


def test_a_new_spec_gets_a_plan() -> None:
    decision = Scene().decide()
    assert (decision.accepted.truth, decision.accepted.reason) == (Truth.TRUE, Reason.VALID)
    assert (decision.planned.truth, decision.planned.reason) == (Truth.TRUE, Reason.PLAN_FITS)
    assert decision.wanted is not None
    assert decision.replicas == 1


def test_a_plan_that_does_not_fit_now_is_made_and_waits() -> None:
    decision = Scene(nodes=inventory(node("a", 4, free=0))).decide()
    assert (decision.planned.truth, decision.planned.reason) == (Truth.TRUE, Reason.WAITING_FOR_CAPACITY)
    assert decision.wanted is not None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (make.raw_spec(engine={"version": "9.9.9"}), Reason.UNSUPPORTED_RELEASE),
        (make.raw_spec(model={"name": "acme/unknown"}), Reason.UNKNOWN_PIPELINE),
        (make.raw_spec(replicas="many"), Reason.INVALID_SPEC),
        (make.raw_spec(surprise=1), Reason.INVALID_SPEC),
        ({}, Reason.INVALID_SPEC),
    ],
)
def test_nothing_is_made_for_a_spec_that_is_not_accepted(spec: dict[str, Any], reason: Reason) -> None:
    decision = Scene(spec=spec).decide()
    assert (decision.accepted.truth, decision.accepted.reason) == (Truth.FALSE, reason)
    assert decision.planned.truth is Truth.FALSE
    assert decision.wanted is None
    assert decision.replicas == 0


def test_an_invalid_field_is_named_with_its_value() -> None:
    message = Scene(spec=make.raw_spec(serving={"port": 80})).decide().accepted.message
    assert message.startswith("spec.serving.port: ")
    assert "80" in message


def test_a_refused_plan_leaves_the_spec_accepted() -> None:
    decision = Scene(nodes=inventory()).decide()
    assert decision.accepted.truth is Truth.TRUE
    assert (decision.planned.truth, decision.planned.reason) == (Truth.FALSE, Reason.NO_LAYOUT)
    assert decision.wanted is None


BROKEN_EDITS = {
    "unreadable": {"surprise": 1},
    "unknown release": {"engine": {"version": "9.9.9"}},
    "unknown stage": {"stages": [{"name": "nope"}]},
    "no layout": {"placement": {"nodeSelector": {"no": "such"}}},
    "policy": {"transport": {"rdma": "Require", "sharedMemory": "PodOnly"}},
}


@pytest.mark.parametrize("edit", BROKEN_EDITS.values(), ids=BROKEN_EDITS)
def test_a_broken_edit_keeps_the_running_revision_and_its_replicas(edit: dict[str, Any]) -> None:
    scene = Scene(
        spec=make.raw_spec(replicas=3, serving={"service": {"type": "LoadBalancer"}}), nodes=inventory(node("a", 9))
    )
    scene.bring_up(3, workers=1)
    scene.edit(**edit)
    decision = scene.decide()
    assert decision.wanted is not None
    assert decision.wanted.revision.name == scene.revision
    assert decision.replicas == 3
    assert decision.spec is not None
    assert decision.spec.serving.service.type == "LoadBalancer"


@pytest.mark.parametrize("edit", BROKEN_EDITS.values(), ids=BROKEN_EDITS)
def test_a_broken_edit_of_a_suspended_pipeline_takes_no_accelerators(edit: dict[str, Any], running: Scene) -> None:
    running.edit(suspend=True)
    running.look()
    running.edit(**edit)
    assert running.decide().replicas == 0


@pytest.mark.parametrize("edit", BROKEN_EDITS.values(), ids=BROKEN_EDITS)
def test_a_broken_spec_can_still_be_suspended_and_scaled(edit: dict[str, Any], running: Scene) -> None:
    running.edit(**edit)
    running.edit(replicas=2)
    assert running.decide().replicas == 2
    running.edit(suspend=True)
    assert running.decide().replicas == 0


def test_replicas_that_cannot_be_read_stay_as_they_are() -> None:
    scene = Scene(spec=make.raw_spec(replicas=3), nodes=inventory(node("a", 9)))
    scene.bring_up(3, workers=1)
    scene.edit(replicas="many")
    assert scene.decide().replicas == 3


def test_replicas_that_cannot_be_read_are_those_that_were_wanted_and_not_those_that_exist() -> None:
    scene = Scene(spec=make.raw_spec(replicas=3), nodes=inventory(node("a", 9)))
    scene.look()
    scene.look()
    assert scene.status["replicas"] == 0
    scene.edit(replicas="many")
    assert scene.decide().replicas == 3


def test_correcting_a_broken_edit_brings_nothing_new(running: Scene) -> None:
    before, spec = running.revision, running.spec
    running.edit(surprise=1)
    running.look()
    running.spec = spec
    running.look()
    assert running.revision == before
    assert len(running.known) == 1


def test_a_second_look_makes_no_second_plan(running: Scene) -> None:
    looked = running.planned
    running.nodes = inventory()  # and nodes that come and go are no reason for one
    running.look()
    assert running.planned == looked


@pytest.mark.parametrize("live", [{"replicas": 2}, {"suspend": True}, {"rollout": {"strategy": "Hold"}}])
def test_what_may_change_keeps_the_revision(running: Scene, live: dict[str, Any]) -> None:
    before, looked = running.revision, running.planned
    running.edit(**live)
    running.look()
    assert running.revision == before
    assert running.planned == looked
    assert running.decide().replicas == (0 if "suspend" in live else live.get("replicas", 1))


def test_a_change_makes_a_new_revision(running: Scene) -> None:
    before = running.revision
    running.edit(model={"name": make.TWO_STAGES})
    running.look()
    assert running.revision != before


def test_hold_keeps_what_runs_and_says_what_waits(running: Scene) -> None:
    before = running.revision
    running.edit(model={"name": make.TWO_STAGES}, rollout={"strategy": "Hold"}, replicas=2)
    decision = running.decide()
    assert decision.wanted is not None
    assert decision.wanted.revision.name == before
    assert decision.planned.reason is Reason.HELD
    assert "mimo_audio" in decision.planned.message
    assert decision.replicas == 2  # what may change, changes
    running.edit(rollout={"strategy": "Recreate"})
    running.look()
    assert running.revision != before


def test_hold_of_a_first_revision_starts_it() -> None:
    assert Scene(spec=make.raw_spec(rollout={"strategy": "Hold"})).decide().wanted is not None


def test_going_back_takes_the_revision_that_still_exists(running: Scene) -> None:
    before, spec = running.revision, running.spec
    running.edit(model={"name": make.TWO_STAGES})
    running.look()
    running.spec = spec
    decision = running.decide()
    assert decision.wanted is not None
    assert decision.wanted.revision.name == before


def test_of_two_plans_for_one_spec_the_active_one_stays(running: Scene) -> None:
    """The newer one may be what an operator began before it ended; going to it would restart what serves."""
    running.later(60)
    newer = Known(revision=make.revision(nodes=ONE_NODE), created="2026-01-01T00:01:00Z")
    assert newer.revision.spec_digest == running.known[running.revision].revision.spec_digest
    running.known = {**running.known, newer.revision.name: newer}
    assert running.decide().wanted == running.known[running.revision]
    running.status = {}
    assert running.decide().wanted == newer


def test_a_stricter_namespace_stops_only_what_does_not_run_yet() -> None:
    scene = Scene(nodes=ONE_NODE)
    scene.bring_up(workers=1)
    before = scene.revision
    scene.security = PodSecurity.RESTRICTED
    assert scene.decide().wanted == scene.known[before]  # pods that run are not touched by the namespace either
    scene.tear_down()
    decision = scene.decide()
    assert decision.wanted is not None
    assert decision.wanted.revision.plan.pod_security is PodSecurity.RESTRICTED
    assert not decision.wanted.revision.plan.node_shared_memory
    scene.look()
    scene.security = PodSecurity.PRIVILEGED  # what is allowed now is no reason to change a plan that can run
    assert scene.decide().wanted == scene.known[scene.revision]


def test_a_restart_without_status_finds_the_newest_revision(running: Scene) -> None:
    running.later(60)
    running.edit(model={"name": make.TWO_STAGES})
    running.look()
    newest = running.revision
    running.status = {}
    running.edit(surprise=1)
    decision = running.decide()
    assert decision.wanted is not None
    assert decision.wanted.revision.name == newest


def test_a_plan_is_made_anew_when_its_ground_is_gone() -> None:
    """A pod cannot be scheduled, and even empty nodes could not hold the plan."""
    scene = Scene(nodes=make.RDMA_NODES)
    scene.bring_up()
    before = scene.revision
    scene.nodes = TWO_NODES  # as many accelerators, but no RDMA devices any more
    assert scene.decide().wanted == scene.known[before]
    scene.pod(Component.WORKER, 9, node="", unschedulable="Insufficient rdma/hca")
    decision = scene.decide()
    assert decision.wanted is not None
    assert decision.wanted.revision.name != before
    assert decision.wanted.revision.plan.transport == "MooncakeStore/tcp"


def test_lost_nodes_alone_move_nothing(running: Scene) -> None:
    before = running.revision
    running.nodes = inventory()
    assert running.decide().wanted == running.known[before]


def test_waiting_names_the_pod_that_is_the_cause() -> None:
    scene = Scene(nodes=ONE_NODE)
    scene.look()
    scene.pod(Component.SERVING, node="", unschedulable="didn't match pod affinity rules")
    scene.pod(Component.WORKER, node="", unschedulable="Insufficient nvidia.com/gpu")
    verdict = scene.decide().planned
    assert verdict.reason is Reason.WAITING_FOR_CAPACITY
    assert "Insufficient nvidia.com/gpu" in verdict.message
