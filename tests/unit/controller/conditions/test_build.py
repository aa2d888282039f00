"""Status through the life of a pipeline: what is said when, and that nothing is said twice."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.status import OmniDeploymentStatus
from omni_operator.children.names import Component
from tests.unit import make
from tests.unit.controller.fake_cluster import FakeCluster
from tests.unit.launcher.contract import reported
from tests.unit.make import ONE_NODE, RDMA_NODES, inventory, node


def cluster_of(nodes: Any = make.TWO_NODES, **parts: Any) -> FakeCluster:
    return FakeCluster(spec=make.raw_spec(**parts), nodes=nodes)


def test_the_way_up() -> None:
    cluster = cluster_of()
    cluster.reconcile()
    assert cluster.says("Ready") == ("False", "RayStarting")
    assert cluster.says("Progressing") == ("True", "NewRevision")
    assert cluster.says("TransportAsPlanned") == ("Unknown", "NotObservedYet")
    cluster.bring_up_ray(ready=1)
    cluster.reconcile()
    assert cluster.says("RayClusterReady") == ("False", "RayStarting")
    assert "1 of 3 workers ready" in cluster.condition("RayClusterReady")["message"]
    cluster.pods = []
    cluster.bring_up_ray()
    cluster.serve(available=0)
    cluster.reconcile()
    assert cluster.says("RayClusterReady") == ("True", "RayReady")
    assert cluster.says("Ready") == ("False", "ServerStarting")
    cluster.serve()
    cluster.reconcile()
    assert cluster.says("Ready") == ("True", "Serving")
    assert cluster.says("Progressing") == ("False", "Complete")
    assert cluster.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    assert cluster.status["replicasSummary"] == "1/1"
    assert cluster.status["endpoint"] == "http://omni.shop.svc:8091"


@pytest.mark.parametrize(
    "cluster",
    [
        cluster_of(),
        cluster_of(inventory()),
        cluster_of(engine={"version": "9.9.9"}),
        cluster_of(ONE_NODE, replicas=0),
        cluster_of(RDMA_NODES),
    ],
)
def test_an_unchanged_cluster_gives_an_unchanged_status(cluster: FakeCluster) -> None:
    for _ in range(2):  # also when pods are there
        cluster.reconcile()
        once = copy.deepcopy(cluster.status)
        cluster.later(30)
        assert cluster.reconcile() == []
        assert cluster.status == once
        if "revision" in cluster.status and cluster.decide().replicas:
            cluster.bring_up_ray()


def test_every_status_has_all_conditions_in_order_and_obeys_the_schema() -> None:
    cluster = cluster_of()
    cluster.bring_up()
    assert [c["type"] for c in cluster.status["conditions"]] == [kind.value for kind in ConditionType]
    assert {c["reason"] for c in cluster.status["conditions"]} <= {reason.value for reason in Reason}
    assert {c["observedGeneration"] for c in cluster.status["conditions"]} == {cluster.generation}
    OmniDeploymentStatus.model_validate(cluster.status)


def test_a_transition_time_is_that_of_the_last_change() -> None:
    cluster = cluster_of()
    cluster.reconcile()
    begun = cluster.condition("Ready")["lastTransitionTime"]
    cluster.later(60)
    cluster.bring_up_ray()
    cluster.serve(available=0, termination_message=reported("RayUnreachable"))
    cluster.reconcile()
    assert cluster.condition("Ready")["lastTransitionTime"] == begun  # another reason, still False
    cluster.serve()
    cluster.reconcile()
    assert cluster.condition("Ready")["lastTransitionTime"] == cluster.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert cluster.condition("Accepted")["lastTransitionTime"] == begun


def test_an_edit_that_is_not_taken_up_shows_at_a_glance() -> None:
    cluster = cluster_of()
    cluster.bring_up()
    before = cluster.revision
    for edit, kind, reason in (
        ({"transport": {"rdma": "Require"}}, "Planned", "PolicyCannotBeMet"),
        ({"transport": {}, "stages": [{"name": "vocoder"}]}, "Accepted", "InvalidSpec"),
    ):
        cluster.edit(**edit)
        cluster.reconcile()
        assert cluster.revision == before
        assert cluster.says(kind) == ("False", reason)
        assert cluster.says("Ready") == ("True", "ServingEarlierSpec")
        assert f"is not taken up ({kind}: {reason})" in cluster.condition("Ready")["message"]
        assert f"revision {before} stays" in cluster.condition("Progressing")["message"]
    cluster.edit(stages=[])
    cluster.reconcile()
    assert cluster.says("Ready") == ("True", "Serving")


def test_a_server_that_was_up_and_does_not_answer_is_not_one_that_starts() -> None:
    cluster = cluster_of()
    cluster.bring_up()
    cluster.serve(available=0, unresponsive=True)
    cluster.reconcile()
    assert cluster.says("ServingReady") == ("False", "ServerNotAnswering")
    assert "-serve-0 did and does not now" in cluster.condition("ServingReady")["message"]
    assert cluster.says("Ready") == ("False", "NotServing")


@pytest.mark.parametrize(("nodes", "reason"), [(make.TWO_NODES, "PlacementAsPlanned"), (RDMA_NODES, "RdmaNotVerified")])
def test_what_no_pod_has_used_is_not_as_planned(nodes: Any, reason: str) -> None:
    cluster = cluster_of(nodes)
    cluster.reconcile()
    cluster.bring_up_ray()
    cluster.serve(available=0, waiting_reason="container server: ErrImagePull")
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == ("Unknown", "NotObservedYet")
    cluster.serve()
    cluster.reconcile()
    settled = cluster.says("TransportAsPlanned")
    assert settled[1] == reason
    cluster.serve(available=0, unresponsive=True)
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == settled, "a server that is away for a moment is still where it was"
    cluster.serve(available=0)
    cluster.reconcile()
    assert cluster.says("TransportAsPlanned") == ("Unknown", "NotObservedYet"), "one that starts anew has used nothing"


def test_stages_that_cannot_start_in_their_image_say_so_for_ray() -> None:
    cluster = cluster_of(engine={"version": "0.30.0", "backend": "Headless"})
    cluster.reconcile()
    for waiting in ("", "container ray-worker: CrashLoopBackOff"):
        cluster.pods = []
        cluster.pod(
            Component.WORKER, ready=False, termination_message=reported("EngineReleaseMismatch"), waiting_reason=waiting
        )
        cluster.reconcile()
        assert cluster.says("RayClusterReady") == ("False", "EngineImageMismatch")
        message = cluster.condition("RayClusterReady")["message"]
        assert message.startswith("the engine image has vllm-omni 0.28.0, but ")


def test_suspended_and_back() -> None:
    cluster = cluster_of()
    cluster.bring_up()
    before = cluster.revision
    cluster.edit(suspend=True)
    cluster.tear_down()
    cluster.reconcile()
    assert cluster.says("Ready") == ("False", "Suspended")
    assert cluster.says("Progressing") == ("False", "Complete")
    assert cluster.status["replicasSummary"] == "0/0"
    assert cluster.status["plan"]["pipeline"] == "qwen2_5_omni"
    cluster.later(86400)
    cluster.edit(suspend=False)
    cluster.reconcile()
    assert cluster.revision == before
    # a day of rest is no missed deadline
    assert cluster.says("Progressing") == ("True", "NewRevision")
    assert cluster.requeue_after == pytest.approx(1801)


def test_the_deadline() -> None:
    cluster = cluster_of(rollout={"progressDeadlineSeconds": 100})
    cluster.reconcile()
    assert cluster.requeue_after == 101
    cluster.later(99)
    cluster.reconcile()
    assert cluster.says("Progressing") == ("True", "NewRevision")
    assert cluster.requeue_after == 2
    cluster.later(2)
    cluster.reconcile()
    assert cluster.says("Progressing") == ("False", "DeadlineExceeded")
    assert "rollout.progressDeadlineSeconds" in cluster.condition("Progressing")["message"]
    assert cluster.requeue_after is None
    cluster.later(1000)
    assert cluster.reconcile() == []
    assert cluster.says("Progressing") == ("False", "DeadlineExceeded")  # it stays so
    cluster.bring_up()
    assert cluster.says("Progressing") == ("False", "Complete")


def test_the_deadline_begins_when_it_stops_being_ready() -> None:
    cluster = cluster_of(rollout={"progressDeadlineSeconds": 100})
    cluster.bring_up()
    cluster.later(1000)
    cluster.serve(available=0)
    cluster.reconcile()
    assert cluster.says("Progressing") == ("True", "NewRevision")
    cluster.later(101)
    cluster.reconcile()
    assert cluster.says("Progressing") == ("False", "DeadlineExceeded")


def test_the_deadline_begins_anew_with_another_revision_and_after_a_rest() -> None:
    cluster = cluster_of(rollout={"progressDeadlineSeconds": 100})
    cluster.reconcile()
    cluster.later(200)
    cluster.reconcile()
    assert cluster.says("Progressing") == ("False", "DeadlineExceeded")
    cluster.edit(suspend=True)
    cluster.reconcile()
    cluster.later(200)
    cluster.edit(suspend=False)
    cluster.reconcile()
    assert cluster.says("Progressing") == ("True", "NewRevision")
    cluster.later(200)
    cluster.edit(model={"name": make.TWO_STAGES})
    cluster.reconcile()
    assert cluster.says("Progressing") == ("True", "NewRevision")


@pytest.mark.parametrize(
    ("parts", "nodes", "reason"),
    [({"engine": {"version": "9.9.9"}}, ONE_NODE, "UnsupportedRelease"), ({}, inventory(), "NoLayout")],
)
def test_without_a_revision_ready_says_why(parts: dict[str, Any], nodes: Any, reason: str) -> None:
    cluster = cluster_of(nodes, **parts)
    cluster.reconcile()
    assert cluster.says("Ready") == ("False", reason)
    assert cluster.says("Progressing") == ("False", reason)
    assert cluster.says("RayClusterReady") == ("Unknown", "NotApplicable")
    assert "revision" not in cluster.status


def test_a_broken_edit_stays_ready_and_says_so() -> None:
    cluster = cluster_of()
    cluster.bring_up()
    cluster.edit(engine={"version": "9.9.9"})
    cluster.reconcile()
    assert cluster.says("Accepted") == ("False", "UnsupportedRelease")
    assert cluster.says("Ready") == ("True", "ServingEarlierSpec")
    assert cluster.status["observedGeneration"] == 2


@pytest.mark.parametrize(
    ("found", "status", "reason", "words"),
    [
        (
            {"not_owned": ("Service omni",)},
            "False",
            "ForeignObject",
            "Service omni: exists and belongs to somebody else",
        ),
        ({"refused": ("Deployment x: quota",)}, "False", "ChildRefused", "Deployment x: quota"),
        ({"actions": {"draining": ("0ld",)}}, "True", "Draining", "revision 0ld is being removed"),
    ],
)
def test_what_blocks_a_revision(found: dict[str, Any], status: str, reason: str, words: str) -> None:
    cluster = cluster_of()
    cluster.reconcile(**found)
    assert cluster.says("Progressing") == (status, reason)
    assert words in cluster.condition("Progressing")["message"]


def test_some_replicas_serve() -> None:
    cluster = cluster_of(inventory(node("a", 6)), replicas=2)
    cluster.bring_up(2, workers=1)
    cluster.serve(1, available=0)
    cluster.reconcile()
    assert cluster.says("Ready") == ("False", "Degraded")
    assert cluster.status["readyReplicas"] == 1
    assert cluster.status["replicasSummary"] == "1/2"


def test_replicas_are_those_that_exist() -> None:
    """An autoscaler takes them for the current number; the wanted one it knows from the spec."""
    cluster = cluster_of(inventory(node("a", 9)), replicas=2)
    cluster.reconcile()
    assert cluster.status["replicas"] == 0
    cluster.bring_up(2, workers=1)
    assert cluster.status["replicas"] == 2
    cluster.edit(replicas=3)
    cluster.reconcile()
    assert (cluster.status["replicas"], cluster.status["replicasSummary"]) == (2, "2/3")
    cluster.edit(replicas=1)
    cluster.reconcile()
    assert (cluster.status["replicas"], cluster.status["replicasSummary"]) == (2, "1/1")
    cluster.tear_down()
    cluster.reconcile()
    assert (cluster.status["replicas"], cluster.status["replicasSummary"]) == (0, "0/1")


def test_the_plan_and_where_its_pods_are() -> None:
    cluster = cluster_of()
    cluster.bring_up()
    cluster.pod(Component.WORKER, 7, node="gone", phase="Failed", ready=False)
    cluster.reconcile()
    pods = {pod["name"]: pod for pod in cluster.status["plan"]["pods"]}
    assert pods["stages"] == {
        "name": "stages", "role": "workers", "count": 3, "accelerators": 1, "nodes": ["a"],
        "stages": ["thinker", "talker", "code2wav"],
    }  # fmt: skip
    assert pods["store"]["nodes"] == ["a"]
    (first, _) = cluster.status["plan"]["edges"]
    assert (first["from"], first["to"], first["protocol"]) == ("thinker", "talker", "tcp")
    assert "NoSharedMemory" in {rejected["code"] for rejected in first["rejected"]}


def test_more_nodes_than_status_may_name() -> None:
    cluster = cluster_of(inventory(*(node(f"n{number}", 1) for number in range(96))), replicas=32)
    cluster.reconcile()
    for number in range(96):
        cluster.pod(Component.WORKER, number, node=f"n{number:02}")
    cluster.reconcile()
    assert len(next(p for p in cluster.status["plan"]["pods"] if p["name"] == "stages")["nodes"]) == 64


def test_nodes_with_shared_memory_are_recorded() -> None:
    cluster = cluster_of(ONE_NODE)
    cluster.bring_up(workers=1)
    folder = f"7d1e9a04-{cluster.revision}-0"
    assert cluster.status["nodeMemory"] == [{"node": "a", "revision": folder}]
    cluster.tear_down()
    cluster.reconcile()
    assert cluster.status["nodeMemory"] == [
        {"node": "a", "revision": folder}
    ]  # from status, when no pod tells any more


def test_time_zones_do_not_matter() -> None:
    cluster = FakeCluster(now=datetime(2026, 1, 1, tzinfo=UTC).astimezone())
    cluster.reconcile()
    assert cluster.condition("Ready")["lastTransitionTime"] == "2026-01-01T00:00:00Z"
