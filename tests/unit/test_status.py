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
from tests.unit.make import ONE_NODE, RDMA_NODES, inventory, node
from tests.unit.scene import Scene


def scene_of(nodes: Any = make.TWO_NODES, **parts: Any) -> Scene:
    return Scene(spec=make.raw_spec(**parts), nodes=nodes)


def test_the_way_up() -> None:
    scene = scene_of()
    scene.look()
    assert scene.says("Ready") == ("False", "RayStarting")
    assert scene.says("Progressing") == ("True", "NewRevision")
    assert scene.says("TransportAsPlanned") == ("Unknown", "NotObservedYet")
    scene.bring_up_ray(ready=1)
    scene.look()
    assert scene.says("RayClusterReady") == ("False", "RayStarting")
    assert "1 of 3 workers ready" in scene.condition("RayClusterReady")["message"]
    scene.pods = []
    scene.bring_up_ray()
    scene.serve(available=0)
    scene.look()
    assert scene.says("RayClusterReady") == ("True", "RayReady")
    assert scene.says("Ready") == ("False", "ServerStarting")
    scene.serve()
    scene.look()
    assert scene.says("Ready") == ("True", "Serving")
    assert scene.says("Progressing") == ("False", "Complete")
    assert scene.says("TransportAsPlanned") == ("True", "PlacementAsPlanned")
    assert scene.status["replicasSummary"] == "1/1"
    assert scene.status["endpoint"] == "http://omni.shop.svc:8091"


@pytest.mark.parametrize(
    "scene",
    [
        scene_of(),
        scene_of(inventory()),
        scene_of(engine={"version": "9.9.9"}),
        scene_of(ONE_NODE, replicas=0),
        scene_of(RDMA_NODES),
    ],
)
def test_an_unchanged_cluster_gives_an_unchanged_status(scene: Scene) -> None:
    for _ in range(2):  # also when pods are there
        scene.look()
        once = copy.deepcopy(scene.status)
        scene.later(30)
        assert scene.look() == []
        assert scene.status == once
        if "revision" in scene.status and scene.decide().replicas:
            scene.bring_up_ray()


def test_every_status_has_all_conditions_in_order_and_obeys_the_schema() -> None:
    scene = scene_of()
    scene.bring_up()
    assert [c["type"] for c in scene.status["conditions"]] == [kind.value for kind in ConditionType]
    assert {c["reason"] for c in scene.status["conditions"]} <= {reason.value for reason in Reason}
    assert {c["observedGeneration"] for c in scene.status["conditions"]} == {scene.generation}
    OmniDeploymentStatus.model_validate(scene.status)


def test_a_transition_time_is_that_of_the_last_change() -> None:
    scene = scene_of()
    scene.look()
    begun = scene.condition("Ready")["lastTransitionTime"]
    scene.later(60)
    scene.bring_up_ray()
    scene.serve(available=0, last_words="RayUnreachable: no")
    scene.look()
    assert scene.condition("Ready")["lastTransitionTime"] == begun  # another reason, still False
    scene.serve()
    scene.look()
    assert scene.condition("Ready")["lastTransitionTime"] == scene.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert scene.condition("Accepted")["lastTransitionTime"] == begun


def test_an_edit_that_is_not_taken_up_shows_at_a_glance() -> None:
    scene = scene_of()
    scene.bring_up()
    before = scene.revision
    for edit, kind, reason in (
        ({"transport": {"rdma": "Require"}}, "Planned", "PolicyCannotBeMet"),
        ({"transport": {}, "stages": [{"name": "vocoder"}]}, "Accepted", "InvalidSpec"),
    ):
        scene.edit(**edit)
        scene.look()
        assert scene.revision == before
        assert scene.says(kind) == ("False", reason)
        assert scene.says("Ready") == ("True", "ServingEarlierSpec")
        assert f"is not taken up ({kind}: {reason})" in scene.condition("Ready")["message"]
        assert f"revision {before} stays" in scene.condition("Progressing")["message"]
    scene.edit(stages=[])
    scene.look()
    assert scene.says("Ready") == ("True", "Serving")


def test_a_server_that_was_up_and_does_not_answer_is_not_one_that_starts() -> None:
    scene = scene_of()
    scene.bring_up()
    scene.serve(available=0, silent=True)
    scene.look()
    assert scene.says("ServingReady") == ("False", "ServerNotAnswering")
    assert "-serve-0 did and does not now" in scene.condition("ServingReady")["message"]
    assert scene.says("Ready") == ("False", "NotServing")


@pytest.mark.parametrize(("nodes", "reason"), [(make.TWO_NODES, "PlacementAsPlanned"), (RDMA_NODES, "RdmaNotVerified")])
def test_what_no_pod_has_used_is_not_as_planned(nodes: Any, reason: str) -> None:
    scene = scene_of(nodes)
    scene.look()
    scene.bring_up_ray()
    scene.serve(available=0, trouble="container server: ErrImagePull")
    scene.look()
    assert scene.says("TransportAsPlanned") == ("Unknown", "NotObservedYet")
    scene.serve()
    scene.look()
    settled = scene.says("TransportAsPlanned")
    assert settled[1] == reason
    scene.serve(available=0, silent=True)
    scene.look()
    assert scene.says("TransportAsPlanned") == settled, "a server that is away for a moment is still where it was"
    scene.serve(available=0)
    scene.look()
    assert scene.says("TransportAsPlanned") == ("Unknown", "NotObservedYet"), "one that starts anew has used nothing"


def test_stages_that_cannot_start_in_their_image_say_so_for_ray() -> None:
    scene = scene_of(engine={"version": "0.30.0", "backend": "Headless"})
    words = "the engine image has vllm-omni 0.28.0"
    scene.look()
    for trouble in ("", "container ray-worker: CrashLoopBackOff"):
        scene.pods = []
        scene.pod(Component.WORKER, ready=False, last_words=f"EngineImageMismatch: {words}", trouble=trouble)
        scene.look()
        assert scene.says("RayClusterReady") == ("False", "EngineImageMismatch")
        assert scene.condition("RayClusterReady")["message"] == words


def test_suspended_and_back() -> None:
    scene = scene_of()
    scene.bring_up()
    before = scene.revision
    scene.edit(suspend=True)
    scene.tear_down()
    scene.look()
    assert scene.says("Ready") == ("False", "Suspended")
    assert scene.says("Progressing") == ("False", "Complete")
    assert scene.status["replicasSummary"] == "0/0"
    assert scene.status["plan"]["pipeline"] == "qwen2_5_omni"
    scene.later(86400)
    scene.edit(suspend=False)
    scene.look()
    assert scene.revision == before
    assert scene.says("Progressing") == ("True", "NewRevision")  # a day of rest is no missed deadline
    assert scene.again == pytest.approx(1801)


def test_the_deadline() -> None:
    scene = scene_of(rollout={"progressDeadlineSeconds": 100})
    scene.look()
    assert scene.again == 101
    scene.later(99)
    scene.look()
    assert scene.says("Progressing") == ("True", "NewRevision")
    assert scene.again == 2
    scene.later(2)
    scene.look()
    assert scene.says("Progressing") == ("False", "DeadlineExceeded")
    assert "rollout.progressDeadlineSeconds" in scene.condition("Progressing")["message"]
    assert scene.again is None
    scene.later(1000)
    assert scene.look() == []
    assert scene.says("Progressing") == ("False", "DeadlineExceeded")  # it stays so
    scene.bring_up()
    assert scene.says("Progressing") == ("False", "Complete")


def test_the_deadline_begins_when_it_stops_being_ready() -> None:
    scene = scene_of(rollout={"progressDeadlineSeconds": 100})
    scene.bring_up()
    scene.later(1000)
    scene.serve(available=0)
    scene.look()
    assert scene.says("Progressing") == ("True", "NewRevision")
    scene.later(101)
    scene.look()
    assert scene.says("Progressing") == ("False", "DeadlineExceeded")


def test_the_deadline_begins_anew_with_another_revision_and_after_a_rest() -> None:
    scene = scene_of(rollout={"progressDeadlineSeconds": 100})
    scene.look()
    scene.later(200)
    scene.look()
    assert scene.says("Progressing") == ("False", "DeadlineExceeded")
    scene.edit(suspend=True)
    scene.look()
    scene.later(200)
    scene.edit(suspend=False)
    scene.look()
    assert scene.says("Progressing") == ("True", "NewRevision")
    scene.later(200)
    scene.edit(model={"name": make.TWO_STAGES})
    scene.look()
    assert scene.says("Progressing") == ("True", "NewRevision")


@pytest.mark.parametrize(
    ("parts", "nodes", "reason"),
    [({"engine": {"version": "9.9.9"}}, ONE_NODE, "UnsupportedRelease"), ({}, inventory(), "NoLayout")],
)
def test_without_a_revision_ready_says_why(parts: dict[str, Any], nodes: Any, reason: str) -> None:
    scene = scene_of(nodes, **parts)
    scene.look()
    assert scene.says("Ready") == ("False", reason)
    assert scene.says("Progressing") == ("False", reason)
    assert scene.says("RayClusterReady") == ("Unknown", "NotApplicable")
    assert "revision" not in scene.status


def test_a_broken_edit_stays_ready_and_says_so() -> None:
    scene = scene_of()
    scene.bring_up()
    scene.edit(engine={"version": "9.9.9"})
    scene.look()
    assert scene.says("Accepted") == ("False", "UnsupportedRelease")
    assert scene.says("Ready") == ("True", "ServingEarlierSpec")
    assert scene.status["observedGeneration"] == 2


@pytest.mark.parametrize(
    ("outcome", "truth", "reason", "words"),
    [
        ({"foreign": ("Service omni",)}, "False", "ForeignObject", "Service omni: exists and belongs to somebody else"),
        ({"refused": ("Deployment x: quota",)}, "False", "ChildRefused", "Deployment x: quota"),
        ({"retiring": ("0ld",)}, "True", "Retiring", "revision 0ld is being removed"),
    ],
)
def test_what_stands_in_the_way(outcome: dict[str, Any], truth: str, reason: str, words: str) -> None:
    scene = scene_of()
    scene.look(**outcome)
    assert scene.says("Progressing") == (truth, reason)
    assert words in scene.condition("Progressing")["message"]


def test_some_replicas_serve() -> None:
    scene = scene_of(inventory(node("a", 6)), replicas=2)
    scene.bring_up(2, workers=1)
    scene.serve(1, available=0)
    scene.look()
    assert scene.says("Ready") == ("False", "Degraded")
    assert scene.status["readyReplicas"] == 1
    assert scene.status["replicasSummary"] == "1/2"


def test_replicas_are_those_that_exist() -> None:
    """An autoscaler takes them for the current number; the wanted one it knows from the spec."""
    scene = scene_of(inventory(node("a", 9)), replicas=2)
    scene.look()
    assert scene.status["replicas"] == 0
    scene.bring_up(2, workers=1)
    assert scene.status["replicas"] == 2
    scene.edit(replicas=3)
    scene.look()
    assert (scene.status["replicas"], scene.status["replicasSummary"]) == (2, "2/3")
    scene.edit(replicas=1)
    scene.look()
    assert (scene.status["replicas"], scene.status["replicasSummary"]) == (2, "1/1")
    scene.tear_down()
    scene.look()
    assert (scene.status["replicas"], scene.status["replicasSummary"]) == (0, "0/1")


def test_the_plan_and_where_its_pods_are() -> None:
    scene = scene_of()
    scene.bring_up()
    scene.pod(Component.WORKER, 7, node="gone", phase="Failed", ready=False)
    scene.look()
    pods = {pod["name"]: pod for pod in scene.status["plan"]["pods"]}
    assert pods["stages"] == {
        "name": "stages", "role": "workers", "count": 3, "accelerators": 1, "nodes": ["a"],
        "stages": ["thinker", "talker", "code2wav"],
    }  # fmt: skip
    assert pods["store"]["nodes"] == ["a"]
    (first, _) = scene.status["plan"]["edges"]
    assert (first["from"], first["to"], first["protocol"]) == ("thinker", "talker", "tcp")
    assert "NoSharedMemory" in {rejected["code"] for rejected in first["rejected"]}


def test_more_nodes_than_status_may_name() -> None:
    scene = scene_of(inventory(*(node(f"n{number}", 1) for number in range(96))), replicas=32)
    scene.look()
    for number in range(96):
        scene.pod(Component.WORKER, number, node=f"n{number:02}")
    scene.look()
    assert len(next(p for p in scene.status["plan"]["pods"] if p["name"] == "stages")["nodes"]) == 64


def test_nodes_with_shared_memory_are_remembered() -> None:
    scene = scene_of(ONE_NODE)
    scene.bring_up(workers=1)
    folder = f"7d1e9a04-{scene.revision}-0"
    assert scene.status["nodeMemory"] == [{"node": "a", "revision": folder}]
    scene.tear_down()
    scene.look()
    assert scene.status["nodeMemory"] == [{"node": "a", "revision": folder}]  # from status, when no pod tells any more


def test_time_zones_do_not_matter() -> None:
    scene = Scene(now=datetime(2026, 1, 1, tzinfo=UTC).astimezone())
    scene.look()
    assert scene.condition("Ready")["lastTransitionTime"] == "2026-01-01T00:00:00Z"
