"""Another version of the operator takes over what an earlier one has stored: nothing restarts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.namespace_under_test import SHM, TCP, NamespaceUnderTest, Object

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


def _running(space: NamespaceUnderTest) -> dict[tuple[str, str], Any]:
    """Pods by their uid, and the specs of what makes them by their generation."""
    found: dict[tuple[str, str], Any] = {
        ("Pod", p["metadata"]["name"]): p["metadata"]["uid"] for p in space.list("Pod")
    }
    for key, child in space.children().items():
        if key[0] in WORKLOADS:
            found[key] = (child["metadata"]["uid"], child["metadata"].get("generation"))
    return found
