"""Deletion removes everything: objects, finalizers and shared memory on nodes."""

from __future__ import annotations

import pytest

from e2e.control_plane import ControlPlane
from omni_operator.children.names import Component
from tests.api.namespace_under_test import COMPONENT, SHM, NamespaceUnderTest
from tests.api.watching import Watch

FINALIZER = "omni.vllm.ai/node-memory"


def everything(control_plane: ControlPlane, namespace: str) -> set[str]:
    """All objects of all kinds in a namespace, whatever labels they have."""
    found: set[str] = set()
    groups = [
        "/api/v1",
        *(f"/apis/{g['preferredVersion']['groupVersion']}" for g in control_plane.get("/apis")["groups"]),
    ]
    for prefix in groups:
        for resource in control_plane.get(prefix)["resources"]:
            plural = resource["name"]
            if not resource["namespaced"] or "list" not in resource["verbs"] or plural in {"events", "leases"}:
                continue
            for item in control_plane.get(f"{prefix}/namespaces/{namespace}/{plural}").get("items", ()):
                found.add(f"{prefix}/{plural}/{item['metadata']['name']}")
    return found


def _gone(space: NamespaceUnderTest, name: str = "demo") -> bool:
    return space.control_plane.call("GET", space.path(name))[0] == 404


def test_deletion_leaves_nothing(space: NamespaceUnderTest) -> None:
    space.wait("the namespace's own objects", lambda: len(everything(space.control_plane, space.namespace)) == 2)
    before = everything(space.control_plane, space.namespace)
    space.create(placement={"strategy": "Spread"})
    assert "finalizers" not in space.ready()["metadata"]
    assert len(everything(space.control_plane, space.namespace)) > len(before) + 15
    space.delete()
    space.wait("OmniDeployment gone", lambda: _gone(space))
    space.wait("everything gone", lambda: everything(space.control_plane, space.namespace) == before)


def test_shared_memory_is_removed_before_the_finalizer(space: NamespaceUnderTest) -> None:
    space.create(**SHM)
    omni = space.ready()
    assert omni["metadata"]["finalizers"] == [FINALIZER]
    assert omni["status"]["transport"] == "shm"
    node = space.list("Pod", f"{COMPONENT}=serving")[0]["spec"]["nodeName"]
    uid = omni["metadata"]["uid"].split("-")[0]
    folder = f"{uid}-{omni['status']['revision']}-0"
    assert omni["status"]["nodeMemory"] == [{"node": node, "revision": folder}]
    before = [pod for pod in space.list("Pod") if pod["metadata"]["labels"][COMPONENT] in {"serving", "worker"}]
    with Watch(space.control_plane, f"/api/v1/namespaces/{space.namespace}/pods") as seen:
        space.delete()
        space.wait("OmniDeployment gone", lambda: _gone(space))
        space.wait("nothing left", lambda: not space.children(pods=True))
    alive = {pod["metadata"]["name"] for pod in before}
    cleaned: dict[str, str] = {}
    for event in seen.events:
        pod = event["object"]
        name = pod["metadata"]["name"]
        if event["type"] == "DELETED":
            alive.discard(name)
        elif pod["metadata"]["labels"][COMPONENT] == Component.CLEANUP and event["type"] == "ADDED":
            cleaned[pod["spec"]["nodeName"]] = pod["spec"]["containers"][0]["command"][-1]
            assert not alive, f"cleaned while {alive} may still use the folder"
    assert set(cleaned) == {node}
    assert cleaned[node] == folder


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_deletion_while_starting(space: NamespaceUnderTest, policy: str) -> None:
    space.create(**SHM)
    space.wait("a placed pod", lambda: any(pod["spec"].get("nodeName") for pod in space.list("Pod")))
    space.control_plane.ok("DELETE", space.path("demo"), {"propagationPolicy": policy})
    space.wait("OmniDeployment gone", lambda: _gone(space))
    space.wait("nothing left", lambda: not space.children(pods=True))


@pytest.mark.parametrize("policy", ["Foreground", "Orphan"])
def test_other_ways_of_deletion_also_end(space: NamespaceUnderTest, policy: str) -> None:
    space.create(**SHM)
    space.ready()
    space.control_plane.ok("DELETE", space.path("demo"), {"propagationPolicy": policy})
    space.wait("OmniDeployment gone", lambda: _gone(space))
    space.wait("nothing left", lambda: policy == "Orphan" or not space.children(pods=True))


def test_a_namespace_with_shared_memory_can_be_deleted(space: NamespaceUnderTest) -> None:
    space.create(**SHM)
    space.ready()
    space.control_plane.ok("DELETE", f"/api/v1/namespaces/{space.namespace}")
    space.wait(
        "namespace gone", lambda: space.control_plane.call("GET", f"/api/v1/namespaces/{space.namespace}")[0] == 404
    )


def test_a_node_that_went_away_holds_nothing_up(space: NamespaceUnderTest) -> None:
    pool = space.nodes(1, nvidia_com__gpu=3)
    space.create(placement={"strategy": "OneNode", "nodeSelector": pool})
    space.ready()
    space.control_plane.ok("DELETE", f"/api/v1/nodes/{space.made_nodes[0]}")
    for pod in space.list("Pod"):  # as the controller manager does, after a minute
        space.control_plane.ok("DELETE", space.child_path("Pod", pod["metadata"]["name"]), {"gracePeriodSeconds": 0})
    space.delete()
    space.wait("OmniDeployment gone", lambda: _gone(space))


def test_an_edit_removes_the_memory_of_the_old_revision_only(space: NamespaceUnderTest) -> None:
    space.create(**SHM)
    old = space.ready()["status"]["revision"]
    space.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    new = space.ready()["status"]["revision"]
    assert new != old
    memory = space.wait("one folder", lambda: len(m := space.get()["status"]["nodeMemory"]) == 1 and m)
    assert new in memory[0]["revision"]
    space.wait("no cleanup pod", lambda: not space.list("Pod", f"{COMPONENT}={Component.CLEANUP}"))
    space.edit(placement={"strategy": "Spread"})
    space.ready()
    space.wait("no folder", lambda: not space.get()["status"]["nodeMemory"])
    space.wait("no finalizer", lambda: "finalizers" not in space.get()["metadata"])


def test_a_finalizer_that_somebody_else_owns_too_holds_nothing(space: NamespaceUnderTest) -> None:
    """An object that was restored with its finalizers; an apply alone would leave them."""
    space.create(**SHM)
    space.ready()
    for finalizers in (None, [FINALIZER]):
        patch = {"metadata": {"finalizers": finalizers}}
        path = f"{space.path('demo')}?fieldManager=gitops"
        space.control_plane.ok("PATCH", path, patch, content="application/merge-patch+json")
    space.operator.settle(calm=1)
    space.delete()
    space.wait("gone", lambda: not space.control_plane.get(space.path())["items"], seconds=60)
