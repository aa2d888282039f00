"""Creation, edits, suspension and scaling, with the operator running and KWOK for kubelets."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.namespace_under_test import TCP, NamespaceUnderTest
from tests.api.operator_process import WRITES

# The finalizer, at most six statuses, and one Event for each of Planned and Ready.
_BESIDES_CHILDREN = 8


def test_until_ready_every_request_is_needed_and_then_there_is_silence(space: NamespaceUnderTest) -> None:
    space.operator.settle()
    before = space.operator.requests()
    space.create(**TCP)
    omni = space.ready()
    space.operator.settle()
    made = space.operator.requests() - before
    assert not [key for key in made if key[0] in {"GET", "LIST"}], made
    children = space.children()
    spent = sum(count for (verb, _), count in made.items() if verb in WRITES)
    assert len(children) == 9
    assert spent <= len(children) + _BESIDES_CHILDREN, made
    assert omni["status"]["transport"] == "MooncakeStore/tcp"
    assert omni["status"]["replicasSummary"] == "1/1"

    quiet = space.operator.writes()
    versions = space.versions()
    time.sleep(5)
    assert space.operator.writes() == quiet
    assert space.versions() == versions


def test_planned_and_ready_are_emitted_once(space: NamespaceUnderTest) -> None:
    space.create(**TCP)
    space.ready()
    space.operator.settle(calm=1)
    told = [(event["type"], event["reason"]) for event in space.events()]
    assert told[0] == ("Normal", "Planned")
    assert told[1:] == [("Normal", "Ready")]
    assert "MooncakeStore/tcp" in space.events()[0]["note"]


def test_a_bad_edit_touches_nothing_and_says_so(space: NamespaceUnderTest) -> None:
    space.create(**TCP)
    before = space.ready()
    space.operator.settle()
    versions = space.versions()
    space.edit(model={"pipeline": "no_such_pipeline"})
    refused = space.until("Accepted", status="False", reason="UnknownPipeline")
    assert "no_such_pipeline" in refused["message"]
    assert "docs/reference/pipelines.md" in refused["message"]
    space.operator.settle()
    assert space.versions() == versions
    now = space.get()
    assert now["status"]["revision"] == before["status"]["revision"]
    assert space.condition("Ready")["status"] == "True"
    assert [e["type"] for e in space.events() if e["reason"] == "UnknownPipeline"] == ["Warning"]

    space.edit(model={"pipeline": None})
    space.until("Accepted", status="True")
    space.operator.settle()
    assert space.versions() == versions


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"placement": {"priorityClassName": "no-such-class"}}, "no PriorityClass with name no-such-class was found"),
        ({"placement": {"affinity": {"nodeAffinty": {}}}}, "nodeAffinty"),
    ],
)
def test_an_edit_that_only_the_api_server_refuses_touches_nothing(
    space: NamespaceUnderTest, edit: dict[str, Any], words: str
) -> None:
    """Its children and their pods are tried before the running revision makes room for them."""
    space.create(**TCP)
    before = space.ready()
    space.operator.settle()
    versions = space.versions()
    space.edit(**edit)
    refused = space.until("Accepted", status="False")
    assert words in refused["message"]
    space.operator.settle()
    assert space.versions() == versions
    assert space.get()["status"]["revision"] == before["status"]["revision"]
    assert space.condition("Ready")["status"] == "True"


def test_a_good_edit_brings_a_new_revision_and_moves_the_service(space: NamespaceUnderTest) -> None:
    space.create(**TCP)
    old = space.ready()["status"]["revision"]
    space.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    new = space.ready()["status"]["revision"]
    assert new != old
    space.wait("old revision gone", lambda: not [k for k, c in space.children().items() if _revision(c) == old])
    service = space.child("Service", "demo")
    assert service is not None
    assert service["spec"]["selector"]["omni.vllm.ai/revision"] == new
    for kind, name in space.children():
        assert name == "demo" or new in name, (kind, name)
    server = space.child("Deployment", f"demo-{new}-0-serve")
    assert server is not None
    assert "--max-model-len=4096" in server["spec"]["template"]["spec"]["containers"][0]["command"]
    reasons = [event["reason"] for event in space.events()]
    assert reasons.count("Planned") == 2, reasons
    assert reasons.count("Draining") == 1, reasons


def test_the_service_follows_without_a_new_revision(space: NamespaceUnderTest) -> None:
    space.create(
        **TCP, serving={"service": {"type": "NodePort", "annotations": {"lb/internal": "true", "lb/name": "a"}}}
    )
    revision = space.ready()["status"]["revision"]
    space.operator.settle(calm=0.5)
    versions = space.versions()
    space.edit(serving={"service": {"type": "ClusterIP", "annotations": {"lb/internal": None, "lb/name": "b"}}})

    def follows() -> bool:
        service = space.child("Service", "demo")
        assert service is not None
        notes = {key: value for key, value in service["metadata"]["annotations"].items() if key.startswith("lb/")}
        return service["spec"]["type"] == "ClusterIP" and notes == {"lb/name": "b"}

    space.wait("the Service", follows)
    assert space.ready()["status"]["revision"] == revision
    changed = {key for key, version in space.versions().items() if versions[key] != version}
    assert changed == {("Service", "demo")}


def test_two_quick_edits_end_at_the_second(space: NamespaceUnderTest) -> None:
    space.create(**TCP)
    space.edit(engine={"extraArgs": ["--max-model-len=1024"]})
    space.edit(engine={"extraArgs": ["--max-model-len=2048"]})
    revision = space.ready()["status"]["revision"]
    space.wait("one revision", lambda: {_revision(c) for c in space.children().values()} == {revision, None})
    server = space.child("Deployment", f"demo-{revision}-0-serve")
    assert server is not None
    assert "--max-model-len=2048" in server["spec"]["template"]["spec"]["containers"][0]["command"]


def test_hold_keeps_the_running_revision_until_it_is_lifted(space: NamespaceUnderTest) -> None:
    space.create(**TCP, rollout={"strategy": "Hold"})
    old = space.ready()["status"]["revision"]
    space.operator.settle()
    versions = space.versions()
    space.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    held = space.until("Planned", status="False", reason="Held")
    assert old in held["message"]
    assert "set Recreate" in held["message"]
    space.operator.settle()
    assert space.versions() == versions
    assert space.condition("Ready")["status"] == "True"
    space.edit(rollout={"strategy": "Recreate"})
    space.until("Planned", status="True")
    assert space.ready()["status"]["revision"] != old


def test_suspend_frees_everything_and_resume_brings_the_same_revision_back(space: NamespaceUnderTest) -> None:
    space.create(**TCP)
    before = space.ready()
    names = set(space.children())
    space.edit(suspend=True)
    space.until("Ready", status="False", reason="Suspended")
    space.wait("no pods", lambda: not space.list("Pod"))
    revision = before["status"]["revision"]
    kept = {("ConfigMap", f"demo-{revision}"), ("Service", "demo")}
    space.wait("only the record and the Service", lambda: set(space.children()) == kept)  # policies go after the pods
    space.wait("no replica in status", lambda: space.get()["status"]["replicas"] == 0)
    space.edit(suspend=False)
    after = space.ready()
    assert after["status"]["revision"] == revision
    assert set(space.children()) == names
    assert [e["reason"] for e in space.events()].count("Planned") == 1


def test_replicas_are_whole_pipelines(space: NamespaceUnderTest) -> None:
    space.create(**TCP, replicas=2)
    omni = space.ready()
    assert omni["status"]["replicasSummary"] == "2/2"
    revision = omni["status"]["revision"]
    clusters = {name for kind, name in space.children() if kind == "RayCluster"}
    assert clusters == {f"demo-{revision}-0", f"demo-{revision}-1"}
    kept = space.child("RayCluster", f"demo-{revision}-0")
    assert kept is not None

    scale = space.control_plane.get(f"{space.path('demo')}/scale")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (2, 2)
    space.control_plane.ok("PUT", f"{space.path('demo')}/scale", {**scale, "spec": {"replicas": 1}})
    space.wait(
        "one RayCluster", lambda: [c["metadata"]["name"] for c in space.list("RayCluster")] == [f"demo-{revision}-0"]
    )
    space.until("Ready", status="True")
    assert space.get()["status"]["revision"] == revision
    again = space.child("RayCluster", f"demo-{revision}-0")
    assert again is not None
    assert again["metadata"]["uid"] == kept["metadata"]["uid"]
    assert again["metadata"]["generation"] == kept["metadata"]["generation"]
    budget = space.child("PodDisruptionBudget", f"demo-{revision}")
    assert budget is not None
    assert budget["spec"]["minAvailable"] == 0


def test_two_pipelines_beside_each_other(space: NamespaceUnderTest) -> None:
    space.create("one", **TCP)
    space.create("two", **TCP)
    space.ready("one")
    space.ready("two")
    space.operator.settle()
    versions = space.versions("two")
    space.delete("one")
    space.wait("one is gone", lambda: not space.children("one", pods=True))
    space.operator.settle()
    assert space.versions("two") == versions
    assert space.condition("Ready", "two")["status"] == "True"


def _revision(child: dict[str, dict[str, dict[str, str]]]) -> str | None:
    return child["metadata"]["labels"].get("omni.vllm.ai/revision")
