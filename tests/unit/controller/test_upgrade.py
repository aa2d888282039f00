"""An upgrade restarts nothing; what it makes anew runs with what the revision has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omni_operator.children import names
from omni_operator.children.revision import copy_of
from omni_operator.controller.state.objects import Omni
from tests.unit.controller.harness import Harness
from tests.unit.make import OWNER


@pytest.fixture
async def harness() -> Harness:
    """A pipeline that is Ready, of an operator that did not know the image check."""
    harness = Harness()
    await harness.bring_up()
    record = names.base(OWNER, harness.revision)
    known = harness.store.children["ConfigMap"].get(OWNER.namespace, record)
    assert known is not None
    old: dict[str, Any] = {**known.body, "data": {**known.body["data"]}}
    del old["data"][names.IMAGE_CHECK_FILE]
    meta = {**old["metadata"], "uid": known.uid, "creationTimestamp": known.created}
    meta["annotations"] = {**meta["annotations"], names.RENDERED_BY: "0.0.9"}
    meta["resourceVersion"] = str(next(harness.versions))
    harness.store.children["ConfigMap"].upsert({**old, "metadata": meta})
    return harness


def _omni(harness: Harness) -> Omni:
    return next(iter(harness.store.omnis.values()))


async def test_nothing_is_written(harness: Harness) -> None:
    for _ in range(3):
        assert await harness.reconcile() == []
    assert harness.events == []


async def test_a_deployment_that_is_made_anew_finds_its_files(harness: Harness) -> None:
    harness.lose("Deployment", harness.server)
    assert ("make", f"Deployment {harness.server}") in await harness.reconcile()
    made = harness.store.children["Deployment"].get(OWNER.namespace, harness.server)
    assert made is not None
    (server,) = made.body["spec"]["template"]["spec"]["containers"]
    assert names.IMAGE_CHECK_FILE not in " ".join(server["command"])
    assert names.LAUNCHER_FILE in " ".join(server["command"])


async def test_a_record_that_somebody_deletes_comes_back_as_it_was() -> None:
    """Made anew from a plan of now it would have another name, and the pipeline would restart."""
    harness = Harness()
    await harness.bring_up()
    before, record = harness.revision, names.base(OWNER, harness.revision)
    known = harness.store.children["ConfigMap"].get(OWNER.namespace, record)
    assert known is not None
    harness.node("a", gpus=9)  # a plan of now would be another one
    harness.lose("ConfigMap", record)
    assert await harness.reconcile() == [("make", f"ConfigMap {record}")]
    assert await harness.reconcile() == []
    assert harness.revision == before
    restored = harness.store.children["ConfigMap"].get(OWNER.namespace, record)
    assert restored is not None
    assert restored.body["data"] == known.body["data"]


async def test_a_record_that_is_lost_after_an_upgrade_restarts_nothing(harness: Harness) -> None:
    """It comes back with the version that rendered the workloads, so they are left to it."""
    server = harness.store.children["Deployment"].get(OWNER.namespace, harness.server)
    assert server is not None
    stored = next(iter(harness.reconciler.snapshots.take(_omni(harness), now=harness.now).revisions.values()))
    meta = {**server.body["metadata"], "uid": server.uid, "creationTimestamp": server.created}
    meta["annotations"] = {**meta["annotations"], names.RECORD: copy_of(stored.revision)}
    meta["resourceVersion"] = str(next(harness.versions))
    body = {**server.body, "spec": {**server.body["spec"], "progressDeadlineSeconds": 7, "minReadySeconds": 7}}
    (rendered,) = body["spec"]["template"]["spec"]["containers"]
    older = {**rendered, "args": [*rendered.get("args", []), "--of-the-older-operator"]}
    body["spec"] = {**body["spec"], "template": {**body["spec"]["template"], "spec": {"containers": [older]}}}
    harness.store.children["Deployment"].upsert({**body, "metadata": meta})
    assert await harness.reconcile() == [], "the older rendering is left as it is"
    record = names.base(OWNER, harness.revision)
    harness.lose("ConfigMap", record)
    assert await harness.reconcile() == [("make", f"ConfigMap {record}")]
    assert await harness.reconcile() == []
    restored = harness.store.children["ConfigMap"].get(OWNER.namespace, record)
    assert restored is not None
    assert restored.annotations[names.RENDERED_BY] == "0.0.9"
    assert names.IMAGE_CHECK_FILE in restored.body["data"], "it costs nothing where nothing asks for it"


async def test_a_record_that_is_lost_while_suspended_comes_back() -> None:
    """Without replicas there are no Deployments that could keep a copy; the Service does."""
    harness = Harness()
    await harness.bring_up()
    before, record = harness.revision, names.base(OWNER, harness.revision)
    harness.edit(suspend=True)
    harness.end_pods()
    await harness.settle()
    harness.node("a", gpus=9)  # a plan of now would be another one
    harness.lose("ConfigMap", record)
    assert await harness.reconcile() == [("make", f"ConfigMap {record}")]
    assert harness.revision == before


async def test_fields_of_a_newer_operator_freeze_nothing() -> None:
    """After a downgrade the record and the spec have fields that this operator does not know.

    It goes on with the others.
    """
    harness = Harness()
    await harness.bring_up()
    before, record = harness.revision, names.base(OWNER, harness.revision)
    known = harness.store.children["ConfigMap"].get(OWNER.namespace, record)
    assert known is not None
    spec = json.loads(known.body["data"][names.SPEC_FILE])
    data = {**known.body["data"], names.SPEC_FILE: json.dumps({**spec, "ofTomorrow": {"deep": 1}})}
    meta = {**known.body["metadata"], "uid": known.uid, "creationTimestamp": known.created}
    meta["annotations"] = {**meta["annotations"], names.SPEC_DIGEST: "2-of-a-newer-operator"}
    meta["resourceVersion"] = str(next(harness.versions))
    harness.store.children["ConfigMap"].upsert({**known.body, "data": data, "metadata": meta})
    harness.edit(ofTomorrow={"deep": 1})
    await harness.settle()
    assert harness.revision == before
    assert harness.condition("Ready")["status"] == "True"
    assert "ofTomorrow" in harness.condition("Accepted")["message"]
    harness.edit(suspend=True)
    assert await harness.reconcile() != [], "it still takes edits"
