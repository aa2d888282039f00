"""What one reconcile writes, in its order, for a situation."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.children.names import FINALIZER, Component
from omni_operator.controller.rollout.actions import ActionPlan
from omni_operator.controller.rollout.plan import plan_actions
from omni_operator.controller.rollout.rendering import Renderer
from tests.unit import make
from tests.unit.controller.harness import Harness
from tests.unit.make import OWNER

ONE_NODE: dict[str, Any] = {"placement": {"strategy": "OneNode"}}


def plan(harness: Harness) -> ActionPlan:
    """The plan of the next reconcile, which writes nothing here."""
    (omni,) = harness.store.omnis.values()
    snapshot = harness.reconciler.snapshots.take(omni, now=harness.now)
    return plan_actions(snapshot, harness.reconciler._decide(snapshot), Renderer())


def steps(harness: Harness, **revisions: str) -> list[list[str]]:
    """Its steps in words, with names for the hashes of revisions."""
    found = []
    for step in plan(harness).steps:
        lines = [str(action).replace(OWNER.name, "omni") for action in step]
        for word, revision in revisions.items():
            lines = [line.replace(revision, word) for line in lines]
        found.append(sorted(lines))
    return found


def planned_revision(harness: Harness) -> str:
    (omni,) = harness.store.omnis.values()
    target = harness.reconciler._decide(harness.reconciler.snapshots.take(omni, now=harness.now)).target
    assert target is not None
    return target.name


def test_the_first_reconcile_makes_the_record_then_what_joins_nothing_then_the_servers() -> None:
    harness = Harness()
    assert steps(harness, NEW=planned_revision(harness)) == [
        ["create ConfigMap omni-NEW"],
        [
            "create Deployment omni-NEW-store",
            "create NetworkPolicy omni-NEW",
            "create NetworkPolicy omni-NEW-clients",
            "create PodDisruptionBudget omni-NEW",
            "create RayCluster omni-NEW-0",
            "create Service omni",
            "create Service omni-NEW-store",
        ],
        ["create Deployment omni-NEW-0-serve"],
    ]


def test_a_finalizer_is_there_before_the_first_pod_that_shares_a_node_s_memory() -> None:
    harness = Harness()
    harness.node("a", gpus=4)
    harness.edit(**ONE_NODE)
    first = steps(harness, NEW=planned_revision(harness))
    assert first[:2] == [["create ConfigMap omni-NEW"], ["set the finalizer"]]
    assert "create RayCluster omni-NEW-0" in first[2]


async def test_what_runs_and_is_as_intended_needs_nothing() -> None:
    harness = Harness()
    await harness.bring_up()
    assert steps(harness) == []


@pytest.fixture
async def edited() -> tuple[Harness, str]:
    """A pipeline whose edit the API server would take, and its revision before."""
    harness = Harness()
    await harness.bring_up()
    old = harness.revision
    harness.edit(model={"name": make.TWO_STAGES})
    (omni,) = harness.store.omnis.values()
    snapshot = harness.reconciler.snapshots.take(omni, now=harness.now)
    decision = harness.reconciler._decide(snapshot)
    assert decision.dry_run is not None
    harness.reconciler.collector.refresh(snapshot, decision, plan(harness))
    for _, task in list(harness.reconciler.collector.dry_runs._tasks.values()):
        await task
    return harness, old


async def test_a_record_exists_before_what_is_in_its_way_ends(edited: tuple[Harness, str]) -> None:
    """A plan is made once and kept; the server goes before the Ray cluster that it joined."""
    harness, old = edited
    harness.pod(Component.SERVING, revision=old)
    new = planned_revision(harness)
    assert new != old
    assert steps(harness, OLD=old, NEW=new) == [
        ["create ConfigMap omni-NEW"],
        [
            "delete Deployment omni-OLD-0-serve",
            "delete Deployment omni-OLD-store",
            "delete PodDisruptionBudget omni-OLD",
            "delete Service omni-OLD-store",
        ],
        ["set the finalizer"],
    ]
    assert plan(harness).draining == (old,)
    assert "pod serving-0 on node a" in plan(harness).waits


async def test_a_suspended_pipeline_keeps_its_plan_and_its_service() -> None:
    harness = Harness()
    await harness.bring_up()
    harness.edit(suspend=True)
    name = harness.revision
    ends = [line for step in steps(harness, REV=name) for line in step if line.startswith("delete")]
    assert "delete Deployment omni-REV-0-serve" in ends
    harness.end_pods()
    ends += [line for step in steps(harness, REV=name) for line in step if line.startswith("delete")]
    assert "delete RayCluster omni-REV-0" in ends, "after the server that joined it"
    assert not [line for line in ends if "ConfigMap" in line or line == "delete Service omni"]


async def test_a_deletion_without_node_memory_is_the_garbage_collector_s() -> None:
    harness = Harness()
    await harness.bring_up()
    harness.delete_omni()
    assert plan(harness) == ActionPlan()


async def test_a_deletion_with_node_memory_ends_the_workloads_first() -> None:
    harness = Harness()
    harness.node("a", gpus=4)
    harness.edit(**ONE_NODE)
    await harness.settle()
    harness.finalizers = [FINALIZER]
    harness.pod(Component.WORKER)
    harness.delete_omni()
    lines = steps(harness, REV=harness.revision)
    assert lines[0][0].startswith("record 1 shared-memory folder(s)"), "before the pods that show it go"
    assert "delete RayCluster omni-REV-0" in lines[1]
    assert not [line for step in lines for line in step if "finalizer" in line]
