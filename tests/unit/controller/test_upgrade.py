"""An upgrade restarts nothing; what it makes anew runs with what the revision has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omni_operator.children import names
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
