"""The event that `kubectl describe` tells: each thing once, troubles as warnings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omni_operator.children.names import Component
from omni_operator.controller.apply.omnideployment import event_object
from omni_operator.controller.conditions.events import condition_events
from omni_operator.controller.conditions.launcher_report import readable
from omni_operator.controller.state import decode
from omni_operator.controller.state.event import EventRecord
from tests.unit import make
from tests.unit.controller.fake_cluster import FakeCluster
from tests.unit.launcher.contract import reported
from tests.unit.make import ONE_NODE, inventory, node


def reasons_of(events: list[EventRecord]) -> list[tuple[bool, str]]:
    return [(event.warning, event.reason) for event in events]


def test_the_way_up_is_told_once() -> None:
    cluster = FakeCluster()
    assert cluster.reconcile() == [EventRecord(False, "Planned", "the plan")]
    cluster.bring_up_ray(ready=1)
    assert cluster.reconcile() == []
    cluster.pods = []
    cluster.bring_up_ray()
    cluster.serve(available=0)
    assert cluster.reconcile() == []
    cluster.serve()
    assert reasons_of(cluster.reconcile()) == [(False, "Ready")]
    assert cluster.reconcile() == []


def test_suspending_is_no_warning() -> None:
    cluster = FakeCluster()
    cluster.bring_up()
    cluster.edit(suspend=True)
    cluster.tear_down()
    assert reasons_of(cluster.reconcile()) == [(False, "Suspended")]
    assert cluster.reconcile() == []


def test_a_new_revision_is_told_with_its_plan() -> None:
    cluster = FakeCluster()
    cluster.bring_up()
    cluster.edit(model={"name": make.TWO_STAGES})
    assert (False, "Planned") in reasons_of(cluster.reconcile(actions={"draining": (cluster.revision,)}))
    assert reasons_of(cluster.reconcile(actions={"draining": (cluster.revision,)})) == []


@pytest.mark.parametrize(
    ("parts", "nodes", "reason"),
    [
        ({"engine": {"version": "9.9.9"}}, ONE_NODE, "UnsupportedRelease"),
        ({}, inventory(), "NoLayout"),
        ({"transport": {"rdma": "Require"}}, inventory(node("a", 2), node("b", 2)), "PolicyCannotBeMet"),
    ],
)
def test_refusals_are_warnings(parts: dict[str, Any], nodes: Any, reason: str) -> None:
    cluster = FakeCluster(spec=make.raw_spec(**parts), nodes=nodes)
    events = cluster.reconcile()
    assert (True, reason) in reasons_of(events)
    assert all(event.warning for event in events)
    assert cluster.reconcile() == []


def test_held_and_let_go() -> None:
    cluster = FakeCluster()
    cluster.bring_up()
    cluster.edit(model={"name": make.TWO_STAGES}, rollout={"strategy": "Hold"})
    assert reasons_of(cluster.reconcile()) == [(True, "Held")]
    cluster.edit(model={"name": make.MODEL}, rollout={"strategy": "Hold"})
    assert reasons_of(cluster.reconcile()) == [(False, "Planned")]


@pytest.mark.parametrize("code", ["RayVersionMismatch", "RayUnreachable", "RayResourcesMissing"])
def test_a_server_that_gives_up_is_a_warning_that_says_why(code: str) -> None:
    cluster = FakeCluster()
    cluster.reconcile()
    cluster.bring_up_ray()
    cluster.serve(available=0)
    cluster.reconcile()
    cluster.serve(available=0, termination_message=reported(code))
    assert cluster.reconcile() == [EventRecord(True, code, readable(reported(code)))]


def test_a_pod_that_cannot_be_placed_is_a_warning_and_its_end_is_told() -> None:
    cluster = FakeCluster(nodes=ONE_NODE)
    cluster.reconcile()
    cluster.pod(Component.WORKER, node="", ready=False, unschedulable="Insufficient nvidia.com/gpu")
    assert (True, "Unschedulable") in reasons_of(cluster.reconcile())
    cluster.pods = []
    cluster.bring_up_ray(workers=1)
    cluster.serve()
    assert {reason for warning, reason in reasons_of(cluster.reconcile()) if not warning} == {
        "RayClusterReady",
        "Ready",
    }


def test_wrong_placement_and_missed_deadlines_are_warnings() -> None:
    cluster = FakeCluster(nodes=ONE_NODE)
    cluster.bring_up(workers=1)
    cluster.serve(node="b")
    assert (True, "PlacementDiffers") in reasons_of(cluster.reconcile())
    cluster.later(10_000)
    assert reasons_of(cluster.reconcile()) == [(True, "DeadlineExceeded")]


def test_a_reason_of_a_newer_operator_that_stays_ends_nothing() -> None:
    """After a downgrade a condition that is left as it is may have a reason of later."""
    newer = {"type": "Accepted", "status": "True", "reason": "OfTomorrow", "message": "m", "lastTransitionTime": "t"}
    before = {"conditions": [newer]}
    unreadable = {"type": "Progressing", "status": "False", "reason": "RevisionUnreadable", "message": "m"}
    events = list(condition_events(before, {"conditions": [newer, unreadable]}, summary=None))
    assert [event.reason for event in events] == ["RevisionUnreadable"]


def test_an_event_object() -> None:
    raw = {"namespace": "shop", "name": "omni", "uid": "u", "resourceVersion": "1"}
    omni = decode.omni({"metadata": raw})
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def made(event: EventRecord, when: datetime = now) -> dict[str, Any]:
        return event_object(omni, event, now=when, instance="pod-1")

    one = made(EventRecord(True, "NoLayout", "x" * 5000))
    assert one["type"] == "Warning"
    assert len(one["note"]) == 1024  # the API server refuses more
    assert one["regarding"] == {
        "apiVersion": "omni.vllm.ai/v1alpha1", "kind": "OmniDeployment", "name": "omni",
        "namespace": "shop", "uid": "u",
    }  # fmt: skip
    assert one["eventTime"] == "2026-01-01T12:00:00.000000Z"
    repeated = made(EventRecord(True, "NoLayout", "x" * 5000), now + timedelta(milliseconds=300))
    assert (
        repeated["metadata"]["name"] == one["metadata"]["name"]
    )  # so the same second's repetition is refused, not doubled
    others = (
        made(EventRecord(True, "NoLayout", "y")),
        made(EventRecord(True, "NoLayout", "x" * 5000), now + timedelta(seconds=1)),
    )
    assert len({event["metadata"]["name"] for event in (one, *others)}) == 3
    assert len(one["metadata"]["name"]) <= 63
