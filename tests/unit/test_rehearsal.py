"""A revision that the API server would refuse never takes the place of one that runs."""

from __future__ import annotations

import pytest

from omni_operator.kube.client import ApiError
from tests.unit.looks import World
from tests.unit.make import OWNER

MISSING = ApiError(403, "Forbidden", 'pods "x" is forbidden: no PriorityClass with name gold was found')
QUOTA = ApiError(403, "Forbidden", "exceeded quota: gpus, requested: 3, used: 3, limited: 3")
EDIT = {"placement": {"priorityClassName": "gold"}}


@pytest.fixture
async def running() -> World:
    world = World()
    await world.bring_up()
    return world


async def test_what_runs_stays_when_its_successor_would_be_refused(running: World) -> None:
    before = running.revision
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": MISSING}
    assert await running.look() == [], "nothing is made and nothing deleted"
    assert running.revision == before
    condition = running.condition("Accepted")
    assert (condition["status"], condition["reason"]) == ("False", "ChildRefused")
    assert "no PriorityClass with name gold" in condition["message"]
    assert "kept" in running.condition("Planned")["message"]
    assert running.condition("Ready")["status"] == "True", "it serves as before"
    assert running.again == 60, "a PriorityClass is not watched"
    running.refuse_dry = {}
    running.reconciler._rehearsal.clock = lambda: float("inf")
    await running.look()
    assert running.revision != before
    assert running.condition("Accepted")["status"] == "True"


async def test_every_child_and_every_pod_is_asked_for_once(running: World) -> None:
    running.edit(**EDIT)
    await running.look()
    kinds = [where.partition(" ")[0] for where in running.rehearsed]
    assert {"ConfigMap", "Deployment", "RayCluster", "Pod", "NetworkPolicy"} <= set(kinds)
    assert kinds.count("Pod") == 4, "head, worker, server, store"
    running.rehearsed.clear()
    await running.look()
    assert running.rehearsed == []


@pytest.mark.parametrize(
    "answer", [QUOTA, ApiError(409, "AlreadyExists", "it is there"), ApiError(404, "NotFound", "no kind")]
)
async def test_what_is_no_refusal_of_the_spec_holds_nothing(running: World, answer: ApiError) -> None:
    before = running.revision
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": answer, "RayCluster": answer}
    await running.look()
    assert running.revision != before
    assert running.condition("Accepted")["status"] == "True"


async def test_a_first_revision_is_not_rehearsed() -> None:
    """It takes nobody's place, and what is refused then is said of the child itself."""
    world = World()
    world.refuse_dry = {"Pod": MISSING}
    await world.bring_up()
    assert world.rehearsed == []


async def test_an_api_server_that_cannot_say_holds_the_edit_and_not_the_look(running: World) -> None:
    """What runs is still repaired and judged while a webhook is down."""
    before = running.revision
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": ApiError(500, "InternalError", "failed calling webhook")}
    running.lose("NetworkPolicy", f"{OWNER.name}-{before}")
    assert await running.look() == [("make", f"NetworkPolicy {OWNER.name}-{before}")]
    assert running.revision == before
    assert "could not say" in running.condition("Accepted")["message"]


async def test_a_refusal_is_asked_again_after_its_pause_and_not_before(running: World) -> None:
    clock = [0.0]
    running.reconciler._rehearsal.clock = lambda: clock[0]
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": MISSING}
    await running.look()
    asked = len(running.rehearsed)
    await running.look()
    assert len(running.rehearsed) == asked
    clock[0] += 60
    await running.look()
    assert len(running.rehearsed) == 2 * asked
