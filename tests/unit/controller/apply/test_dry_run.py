"""A revision that the API server would refuse never takes the place of one that runs."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.children.names import Component
from omni_operator.controller.reconcile import Reconciler
from omni_operator.kube.client import ApiError
from tests.unit.controller.harness import Harness
from tests.unit.make import OWNER

MISSING = ApiError(403, "Forbidden", 'pods "x" is forbidden: no PriorityClass with name gold was found')
QUOTA = ApiError(403, "Forbidden", "exceeded quota: gpus, requested: 3, used: 3, limited: 3")
EDIT = {"placement": {"priorityClassName": "gold"}}


@pytest.fixture
async def running() -> Harness:
    harness = Harness()
    await harness.bring_up()
    return harness


async def test_what_runs_stays_when_its_successor_would_be_refused(running: Harness) -> None:
    before = running.revision
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": MISSING}
    assert await running.reconcile() == [], "nothing is made and nothing deleted"
    assert running.revision == before
    condition = running.condition("Accepted")
    assert (condition["status"], condition["reason"]) == ("False", "ChildRefused")
    assert "no PriorityClass with name gold" in condition["message"]
    assert "kept" in running.condition("Planned")["message"]
    assert running.condition("Ready")["status"] == "True", "it serves as before"
    assert running.requeue_after == 60, "a PriorityClass is not watched"
    running.refuse_dry = {}
    running.later(60)
    await running.reconcile()
    assert running.revision != before
    assert running.condition("Accepted")["status"] == "True"


async def test_every_child_and_every_pod_is_asked_for_once(running: Harness) -> None:
    running.edit(**EDIT)
    await running.reconcile()
    kinds = [where.partition(" ")[0] for where in running.dry_runs]
    assert {"ConfigMap", "Deployment", "RayCluster", "Pod", "NetworkPolicy"} <= set(kinds)
    assert kinds.count("Pod") == 4, "head, worker, server, store"
    running.dry_runs.clear()
    await running.reconcile()
    assert running.dry_runs == []


@pytest.mark.parametrize(
    "answer", [QUOTA, ApiError(409, "AlreadyExists", "it is there"), ApiError(404, "NotFound", "no kind")]
)
async def test_what_is_no_refusal_of_the_spec_holds_nothing(running: Harness, answer: ApiError) -> None:
    before = running.revision
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": answer, "RayCluster": answer}
    await running.reconcile()
    assert running.revision != before
    assert running.condition("Accepted")["status"] == "True"


async def test_a_first_revision_has_no_dry_run() -> None:
    """It takes nobody's place, and what is refused then is said of the child itself."""
    harness = Harness()
    harness.refuse_dry = {"Pod": MISSING}
    await harness.bring_up()
    assert harness.dry_runs == []


async def test_an_api_server_that_cannot_say_holds_the_edit_and_not_the_reconcile(running: Harness) -> None:
    """What runs is still repaired and judged while a webhook is down."""
    before = running.revision
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": ApiError(500, "InternalError", "failed calling webhook")}
    running.lose("NetworkPolicy", f"{OWNER.name}-{before}")
    assert await running.reconcile() == [("make", f"NetworkPolicy {OWNER.name}-{before}")]
    assert running.revision == before
    assert "could not say" in running.condition("Accepted")["message"]


async def test_a_refusal_is_asked_again_after_its_pause_and_not_before(running: Harness) -> None:
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": MISSING}
    await running.reconcile()
    asked = len(running.dry_runs)
    await running.reconcile()
    assert len(running.dry_runs) == asked
    running.later(60)
    await running.reconcile()
    assert len(running.dry_runs) == 2 * asked


async def test_a_refusal_holds_while_it_is_asked_again(running: Harness) -> None:
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": MISSING}
    await running.reconcile()
    before = running.status
    assert running.condition("Ready")["reason"] == "ServingEarlierSpec"
    running.later(60)
    await running.reconciler.reconcile(running.key)  # it is on its way
    assert running.status == before
    await running.reconcile()
    assert running.status == before


async def test_what_drains_for_its_successor_does_not_come_back(running: Harness) -> None:
    """A restarted operator has no answer of a dry run, and asks none for a way that has begun."""
    old = running.revision
    running.edit(**EDIT)
    await running.reconcile()
    new = running.revision
    assert new != old
    running.ending(Component.WORKER, grace=60, revision=old)
    client: Any = running
    running.reconciler = Reconciler(
        kube=client, store=running.store, instance="test", status_pause_seconds=0, now=lambda: running.now
    )
    for _ in range(2):
        assert [what for how, what in await running.reconcile() if how == "make"] == []
    running.node("a", gpus=9)  # a plan of now would be another one
    running.node("b", gpus=9)
    assert [what for how, what in await running.reconcile() if how == "make"] == []
    assert running.revision == new, "a plan is made once and kept"
    running.end_pods()
    made = [what for _ in range(3) for how, what in await running.reconcile() if how == "make"]
    assert made
    assert all(new in what or what == f"Service {OWNER.name}" for what in made)


async def test_a_refusal_of_an_edit_that_was_taken_back_asks_for_nothing(running: Harness) -> None:
    """Nor does one that is being asked: its answer brings the next reconcile."""
    before = running.spec
    running.edit(**EDIT)
    running.refuse_dry = {"Pod": MISSING}
    await running.reconcile()
    assert running.requeue_after == 60
    running.later(60)
    assert await running.reconciler.reconcile(running.key) is None
    running.spec = before
    running.edit()
    await running.reconcile()
    running.later(600)
    await running.reconcile()
    assert running.requeue_after is None
