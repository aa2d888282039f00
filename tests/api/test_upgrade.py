"""Another version of the operator takes over what an earlier one has stored: nothing restarts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.namespace_under_test import SHM, TCP, NamespaceUnderTest, Object
from tests.api.stored_objects import STORED, load, put_back

ANNOTATIONS = "/metadata/annotations/omni.vllm.ai~1"
WORKLOADS = ("RayCluster", "Deployment")


@pytest.mark.parametrize("layout", [TCP, SHM], ids=["Spread", "OneNode"])
@pytest.mark.parametrize("parts", [("rendered-by",), ("rendered-by", "spec-digest")], ids=["version", "digest"])
def test_no_pod_restarts(space: NamespaceUnderTest, layout: Object, parts: tuple[str, ...]) -> None:
    """Who rendered the children, and how a digest is made, are matters of the operator alone."""
    space.create(**layout)
    revision = space.ready()["status"]["revision"]
    space.operator.settle(calm=1)
    before = _running(space)
    space.operator.kill()
    value = "0-of-another-version"
    operations: list[Object] = [{"op": "replace", "path": f"{ANNOTATIONS}{part}", "value": value} for part in parts]
    space.patch("ConfigMap", f"demo-{revision}", operations)
    space.operator.start()
    space.operator.settle(calm=1)
    assert _running(space) == before
    omni = space.ready()
    assert omni["status"]["revision"] == revision
    space.edit(suspend=True)  # and it is no stranger to it
    space.until("Ready", status="False", reason="Suspended")
    space.wait("no workloads", lambda: not [key for key in space.children() if key[0] in WORKLOADS])


@pytest.mark.parametrize("version", [path.stem for path in sorted(STORED.glob("*.yaml"))])
def test_what_an_earlier_release_has_stored_goes_on(space: NamespaceUnderTest, version: str) -> None:
    """Its records are read, its workloads are left as they are, and an edit is taken up."""
    recorded = load(version)
    space.operator.kill()
    for objects in recorded.values():
        put_back(space, objects, rendered_by=f"{version}-recorded")
    space.wait("all pods", lambda: len(space.list("Pod")) >= len(recorded) and not _unready(space))
    before = _running(space, *recorded)
    space.operator.start()
    for name, objects in recorded.items():
        omni = space.ready(name)
        assert omni["status"]["revision"] == objects[0]["status"]["revision"]
    space.operator.settle(calm=2)
    assert _running(space, *recorded) == before
    for name, objects in recorded.items():
        assert space.get(name)["status"]["revision"] == objects[0]["status"]["revision"]
    space.edit("one-node", suspend=True)
    space.until("Ready", name="one-node", status="False", reason="Suspended")


def test_a_record_that_is_deleted_while_no_operator_runs_comes_back(space: NamespaceUnderTest) -> None:
    """From the copy on its serving Deployment; a plan made anew could be another one."""
    space.create(**TCP)
    revision = space.ready()["status"]["revision"]
    space.operator.settle(calm=1)
    before = _running(space)
    space.operator.kill()
    space.drop("ConfigMap", f"demo-{revision}")
    space.operator.start()
    space.wait("the record", lambda: space.child("ConfigMap", f"demo-{revision}"))
    space.operator.settle(calm=1)
    assert _running(space) == before
    assert space.ready()["status"]["revision"] == revision


def _unready(space: NamespaceUnderTest) -> list[str]:
    ready = {"type": "Ready", "status": "True"}
    return [
        pod["metadata"]["name"]
        for pod in space.list("Pod")
        if not any(ready.items() <= c.items() for c in pod["status"].get("conditions", ()))
    ]


def _running(space: NamespaceUnderTest, *omnis: str) -> dict[tuple[str, str], Any]:
    """Pods by their uid, and the specs of what makes them by their generation."""
    found: dict[tuple[str, str], Any] = {
        ("Pod", p["metadata"]["name"]): p["metadata"]["uid"] for p in space.list("Pod")
    }
    children = [entry for name in omnis or ("demo",) for entry in space.children(name).items()]
    for key, child in children:
        if key[0] in WORKLOADS:
            found[key] = (child["metadata"]["uid"], child["metadata"].get("generation"))
    return found
