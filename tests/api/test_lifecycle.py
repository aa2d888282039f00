"""From creation over edits to scaling, with the operator running and KWOK in the place of kubelets."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.operator_process import WRITES
from tests.api.world import TCP, World

# Finalizer, six statuses at most, an Event per step of the story: more would be chatter.
_BESIDES_CHILDREN = 8


def test_until_ready_every_request_is_needed_and_then_there_is_silence(world: World) -> None:
    world.operator.settle()
    before = world.operator.requests()
    world.create(**TCP)
    omni = world.ready()
    world.operator.settle()
    made = world.operator.requests() - before
    assert not [key for key in made if key[0] in {"GET", "LIST"}], made
    children = world.children()
    spent = sum(count for (verb, _), count in made.items() if verb in WRITES)
    assert len(children) == 9
    assert spent <= len(children) + _BESIDES_CHILDREN, made
    assert omni["status"]["transport"] == "MooncakeStore/tcp"
    assert omni["status"]["replicasSummary"] == "1/1"

    quiet = world.operator.writes()
    versions = world.versions()
    time.sleep(5)
    assert world.operator.writes() == quiet
    assert world.versions() == versions


def test_events_tell_the_story_once(world: World) -> None:
    world.create(**TCP)
    world.ready()
    world.operator.settle(calm=1)
    told = [(event["type"], event["reason"]) for event in world.events()]
    assert told[0] == ("Normal", "Planned")
    assert sorted(told[1:]) == [("Normal", "RayClusterReady"), ("Normal", "Ready")]
    assert "MooncakeStore/tcp" in world.events()[0]["note"]


def test_a_bad_edit_touches_nothing_and_says_so(world: World) -> None:
    world.create(**TCP)
    before = world.ready()
    world.operator.settle()
    versions = world.versions()
    world.edit(model={"pipeline": "no_such_pipeline"})
    refused = world.until("Accepted", status="False", reason="UnknownPipeline")
    assert "no_such_pipeline" in refused["message"]
    assert "docs/reference/pipelines.md" in refused["message"]
    world.operator.settle()
    assert world.versions() == versions
    now = world.get()
    assert now["status"]["revision"] == before["status"]["revision"]
    assert world.condition("Ready")["status"] == "True"
    assert [e["type"] for e in world.events() if e["reason"] == "UnknownPipeline"] == ["Warning"]

    world.edit(model={"pipeline": None})
    world.until("Accepted", status="True")
    world.operator.settle()
    assert world.versions() == versions


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"placement": {"priorityClassName": "no-such-class"}}, "no PriorityClass with name no-such-class was found"),
        ({"placement": {"affinity": {"nodeAffinty": {}}}}, "nodeAffinty"),
    ],
)
def test_an_edit_that_only_the_api_server_refuses_touches_nothing(
    world: World, edit: dict[str, Any], words: str
) -> None:
    """Its children and their pods are tried before the running revision makes room for them."""
    world.create(**TCP)
    before = world.ready()
    world.operator.settle()
    versions = world.versions()
    world.edit(**edit)
    refused = world.until("Accepted", status="False")
    assert words in refused["message"]
    world.operator.settle()
    assert world.versions() == versions
    assert world.get()["status"]["revision"] == before["status"]["revision"]
    assert world.condition("Ready")["status"] == "True"


def test_a_good_edit_brings_a_new_revision_and_moves_the_service(world: World) -> None:
    world.create(**TCP)
    old = world.ready()["status"]["revision"]
    world.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    new = world.ready()["status"]["revision"]
    assert new != old
    world.wait("old revision gone", lambda: not [k for k, c in world.children().items() if _revision(c) == old])
    service = world.child("Service", "demo")
    assert service is not None
    assert service["spec"]["selector"]["omni.vllm.ai/revision"] == new
    for kind, name in world.children():
        assert name == "demo" or new in name, (kind, name)
    server = world.child("Deployment", f"demo-{new}-0-serve")
    assert server is not None
    assert "--max-model-len=4096" in server["spec"]["template"]["spec"]["containers"][0]["command"]
    reasons = [event["reason"] for event in world.events()]
    assert reasons.count("Planned") == 2, reasons
    assert reasons.count("Retiring") == 1, reasons


def test_the_service_follows_without_a_new_revision(world: World) -> None:
    world.create(
        **TCP, serving={"service": {"type": "NodePort", "annotations": {"lb/internal": "true", "lb/name": "a"}}}
    )
    revision = world.ready()["status"]["revision"]
    world.operator.settle(calm=0.5)
    versions = world.versions()
    world.edit(serving={"service": {"type": "ClusterIP", "annotations": {"lb/internal": None, "lb/name": "b"}}})

    def follows() -> bool:
        service = world.child("Service", "demo")
        assert service is not None
        notes = {key: value for key, value in service["metadata"]["annotations"].items() if key.startswith("lb/")}
        return service["spec"]["type"] == "ClusterIP" and notes == {"lb/name": "b"}

    world.wait("the Service", follows)
    assert world.ready()["status"]["revision"] == revision
    changed = {key for key, version in world.versions().items() if versions[key] != version}
    assert changed == {("Service", "demo")}


def test_two_quick_edits_end_at_the_second(world: World) -> None:
    world.create(**TCP)
    world.edit(engine={"extraArgs": ["--max-model-len=1024"]})
    world.edit(engine={"extraArgs": ["--max-model-len=2048"]})
    revision = world.ready()["status"]["revision"]
    world.wait("one revision", lambda: {_revision(c) for c in world.children().values()} == {revision, None})
    server = world.child("Deployment", f"demo-{revision}-0-serve")
    assert server is not None
    assert "--max-model-len=2048" in server["spec"]["template"]["spec"]["containers"][0]["command"]


def test_hold_keeps_the_running_revision_until_it_is_lifted(world: World) -> None:
    world.create(**TCP, rollout={"strategy": "Hold"})
    old = world.ready()["status"]["revision"]
    world.operator.settle()
    versions = world.versions()
    world.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    held = world.until("Planned", status="False", reason="Held")
    assert old in held["message"]
    assert "set Recreate" in held["message"]
    world.operator.settle()
    assert world.versions() == versions
    assert world.condition("Ready")["status"] == "True"
    world.edit(rollout={"strategy": "Recreate"})
    world.until("Planned", status="True")
    assert world.ready()["status"]["revision"] != old


def test_suspend_frees_everything_and_resume_brings_the_same_revision_back(world: World) -> None:
    world.create(**TCP)
    before = world.ready()
    names = set(world.children())
    world.edit(suspend=True)
    world.until("Ready", status="False", reason="Suspended")
    world.wait("no pods", lambda: not world.list("Pod"))
    revision = before["status"]["revision"]
    kept = {("ConfigMap", f"demo-{revision}"), ("Service", "demo")}
    world.wait("only the record and the Service", lambda: set(world.children()) == kept)  # policies go after the pods
    world.wait("no replica in status", lambda: world.get()["status"]["replicas"] == 0)
    world.edit(suspend=False)
    after = world.ready()
    assert after["status"]["revision"] == revision
    assert set(world.children()) == names
    assert [e["reason"] for e in world.events()].count("Planned") == 1


def test_replicas_are_whole_pipelines(world: World) -> None:
    world.create(**TCP, replicas=2)
    omni = world.ready()
    assert omni["status"]["replicasSummary"] == "2/2"
    revision = omni["status"]["revision"]
    clusters = {name for kind, name in world.children() if kind == "RayCluster"}
    assert clusters == {f"demo-{revision}-0", f"demo-{revision}-1"}
    kept = world.child("RayCluster", f"demo-{revision}-0")
    assert kept is not None

    scale = world.plane.get(f"{world.path('demo')}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
    world.plane.ok("PUT", f"{world.path('demo')}/scale", {**scale, "spec": {"replicas": 1}})
    world.wait(
        "one RayCluster", lambda: [c["metadata"]["name"] for c in world.list("RayCluster")] == [f"demo-{revision}-0"]
    )
    world.until("Ready", status="True")
    assert world.get()["status"]["revision"] == revision
    again = world.child("RayCluster", f"demo-{revision}-0")
    assert again is not None
    assert again["metadata"]["uid"] == kept["metadata"]["uid"]
    assert again["metadata"]["generation"] == kept["metadata"]["generation"]
    budget = world.child("PodDisruptionBudget", f"demo-{revision}")
    assert budget is not None
    assert budget["spec"]["minAvailable"] == 0


def test_two_pipelines_beside_each_other(world: World) -> None:
    world.create("one", **TCP)
    world.create("two", **TCP)
    world.ready("one")
    world.ready("two")
    world.operator.settle()
    versions = world.versions("two")
    world.delete("one")
    world.wait("one is gone", lambda: not world.children("one", pods=True))
    world.operator.settle()
    assert world.versions("two") == versions
    assert world.condition("Ready", "two")["status"] == "True"


def _revision(child: dict[str, dict[str, dict[str, str]]]) -> str | None:
    return child["metadata"]["labels"].get("omni.vllm.ai/revision")
