"""The story that `kubectl describe` tells: each thing once, troubles as warnings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omni_operator.children.names import Component
from omni_operator.controller import objects
from omni_operator.controller.events import Story, event_object
from tests.unit import make
from tests.unit.make import ONE_NODE, inventory, node
from tests.unit.scene import Scene


def told(stories: list[Story]) -> list[tuple[bool, str]]:
    return [(story.warning, story.reason) for story in stories]


def test_the_way_up_is_told_once() -> None:
    scene = Scene()
    assert scene.look() == [Story(False, "Planned", "the plan")]
    scene.bring_up_ray(ready=1)
    assert scene.look() == []
    scene.pods = []
    scene.bring_up_ray()
    scene.serve(available=0)
    assert told(scene.look()) == [(False, "RayClusterReady")]
    scene.serve()
    assert told(scene.look()) == [(False, "Ready")]
    assert scene.look() == []


def test_suspending_is_no_warning() -> None:
    scene = Scene()
    scene.bring_up()
    scene.edit(suspend=True)
    scene.tear_down()
    assert told(scene.look()) == [(False, "Suspended")]
    assert scene.look() == []


def test_a_new_revision_is_told_with_its_plan() -> None:
    scene = Scene()
    scene.bring_up()
    scene.edit(model={"name": make.TWO_STAGES})
    assert (False, "Planned") in told(scene.look(retiring=(scene.revision,)))
    assert told(scene.look(retiring=(scene.revision,))) == []


@pytest.mark.parametrize(
    ("parts", "nodes", "reason"),
    [
        ({"engine": {"version": "9.9.9"}}, ONE_NODE, "UnsupportedRelease"),
        ({}, inventory(), "NoLayout"),
        ({"transport": {"rdma": "Require"}}, inventory(node("a", 2), node("b", 2)), "PolicyCannotBeMet"),
    ],
)
def test_refusals_are_warnings(parts: dict[str, Any], nodes: Any, reason: str) -> None:
    scene = Scene(spec=make.raw_spec(**parts), nodes=nodes)
    stories = scene.look()
    assert (True, reason) in told(stories)
    assert all(story.warning for story in stories)
    assert scene.look() == []


def test_held_and_let_go() -> None:
    scene = Scene()
    scene.bring_up()
    scene.edit(model={"name": make.TWO_STAGES}, rollout={"strategy": "Hold"})
    assert told(scene.look()) == [(True, "Held")]
    scene.edit(model={"name": make.MODEL}, rollout={"strategy": "Hold"})
    assert told(scene.look()) == [(False, "Planned")]


@pytest.mark.parametrize("code", ["RayVersionMismatch", "RayUnreachable", "RayResourcesMissing"])
def test_a_server_that_gives_up_is_a_warning_with_its_words(code: str) -> None:
    scene = Scene()
    scene.look()
    scene.bring_up_ray()
    scene.serve(available=0)
    scene.look()
    scene.serve(available=0, last_words=f"{code}: the words")
    assert scene.look() == [Story(True, code, "the words")]


def test_a_pod_that_cannot_be_placed_is_a_warning_and_its_end_is_told() -> None:
    scene = Scene(nodes=ONE_NODE)
    scene.look()
    scene.pod(Component.WORKER, node="", ready=False, unschedulable="Insufficient nvidia.com/gpu")
    assert (True, "Unschedulable") in told(scene.look())
    scene.pods = []
    scene.bring_up_ray(workers=1)
    scene.serve()
    assert {reason for warning, reason in told(scene.look()) if not warning} == {"RayClusterReady", "Ready"}


def test_wrong_placement_and_missed_deadlines_are_warnings() -> None:
    scene = Scene(nodes=ONE_NODE)
    scene.bring_up(workers=1)
    scene.serve(node="b")
    assert (True, "PlacementDiffers") in told(scene.look())
    scene.later(10_000)
    assert told(scene.look()) == [(True, "DeadlineExceeded")]


def test_an_event_object() -> None:
    raw = {"namespace": "shop", "name": "omni", "uid": "u", "resourceVersion": "1"}
    omni = objects.omni({"metadata": raw})
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def made(story: Story, when: datetime = now) -> dict[str, Any]:
        return event_object(omni, story, now=when, instance="pod-1")

    one = made(Story(True, "NoLayout", "x" * 5000))
    assert one["type"] == "Warning"
    assert len(one["note"]) == 1024  # the API server refuses more
    assert one["regarding"] == {
        "apiVersion": "omni.vllm.ai/v1alpha1", "kind": "OmniDeployment", "name": "omni", "namespace": "shop", "uid": "u",
    }  # fmt: skip
    assert one["eventTime"] == "2026-01-01T12:00:00.000000Z"
    again = made(Story(True, "NoLayout", "x" * 5000), now + timedelta(milliseconds=300))
    assert (
        again["metadata"]["name"] == one["metadata"]["name"]
    )  # so the same second's repetition is refused, not doubled
    others = (made(Story(True, "NoLayout", "y")), made(Story(True, "NoLayout", "x" * 5000), now + timedelta(seconds=1)))
    assert len({event["metadata"]["name"] for event in (one, *others)}) == 3
    assert len(one["metadata"]["name"]) <= 63
