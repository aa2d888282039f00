"""Deletion leaves nothing: no object in the namespace, no finalizer that waits for ever, no memory that nobody sweeps."""

from __future__ import annotations

import pytest

from e2e.plane import Plane
from tests.api.watching import Watch
from tests.api.world import COMPONENT, SHM, World

FINALIZER = "omni.vllm.ai/node-memory"


def everything(plane: Plane, namespace: str) -> set[str]:
    """All objects of all kinds in a namespace, whatever labels they have."""
    found: set[str] = set()
    groups = ["/api/v1", *(f"/apis/{g['preferredVersion']['groupVersion']}" for g in plane.get("/apis")["groups"])]
    for prefix in groups:
        for resource in plane.get(prefix)["resources"]:
            plural = resource["name"]
            if not resource["namespaced"] or "list" not in resource["verbs"] or plural in {"events", "leases"}:
                continue
            for item in plane.get(f"{prefix}/namespaces/{namespace}/{plural}").get("items", ()):
                found.add(f"{prefix}/{plural}/{item['metadata']['name']}")
    return found


def _gone(world: World, name: str = "demo") -> bool:
    return world.plane.call("GET", world.path(name))[0] == 404


def test_deletion_leaves_nothing(world: World) -> None:
    world.wait("the namespace's own objects", lambda: len(everything(world.plane, world.namespace)) == 2)
    before = everything(world.plane, world.namespace)
    world.create(placement={"strategy": "Spread"})
    assert "finalizers" not in world.ready()["metadata"]
    assert len(everything(world.plane, world.namespace)) > len(before) + 15
    world.delete()
    world.wait("OmniDeployment gone", lambda: _gone(world))
    world.wait("everything gone", lambda: everything(world.plane, world.namespace) == before)


def test_shared_memory_is_swept_before_the_finalizer_goes(world: World) -> None:
    world.create(**SHM)
    omni = world.ready()
    assert omni["metadata"]["finalizers"] == [FINALIZER]
    assert omni["status"]["transport"] == "shm"
    node = world.list("Pod", f"{COMPONENT}=serving")[0]["spec"]["nodeName"]
    uid = omni["metadata"]["uid"].split("-")[0]
    folder = f"{uid}-{omni['status']['revision']}-0"
    assert omni["status"]["nodeMemory"] == [{"node": node, "revision": folder}]
    before = [pod for pod in world.list("Pod") if pod["metadata"]["labels"][COMPONENT] in {"serving", "worker"}]
    with Watch(world.plane, f"/api/v1/namespaces/{world.namespace}/pods") as seen:
        world.delete()
        world.wait("OmniDeployment gone", lambda: _gone(world))
        world.wait("nothing left", lambda: not world.children(pods=True))
    alive = {pod["metadata"]["name"] for pod in before}
    swept: dict[str, str] = {}
    for event in seen.events:
        pod = event["object"]
        name = pod["metadata"]["name"]
        if event["type"] == "DELETED":
            alive.discard(name)
        elif pod["metadata"]["labels"][COMPONENT] == "sweeper" and event["type"] == "ADDED":
            swept[pod["spec"]["nodeName"]] = pod["spec"]["containers"][0]["command"][-1]
            assert not alive, f"swept while {alive} may still use the folder"
    assert set(swept) == {node}
    assert swept[node] == folder


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_deletion_while_starting(world: World, policy: str) -> None:
    world.create(**SHM)
    world.wait("a placed pod", lambda: any(pod["spec"].get("nodeName") for pod in world.list("Pod")))
    world.plane.ok("DELETE", world.path("demo"), {"propagationPolicy": policy})
    world.wait("OmniDeployment gone", lambda: _gone(world))
    world.wait("nothing left", lambda: not world.children(pods=True))


@pytest.mark.parametrize("policy", ["Foreground", "Orphan"])
def test_other_ways_of_deletion_also_end(world: World, policy: str) -> None:
    world.create(**SHM)
    world.ready()
    world.plane.ok("DELETE", world.path("demo"), {"propagationPolicy": policy})
    world.wait("OmniDeployment gone", lambda: _gone(world))
    world.wait("nothing left", lambda: policy == "Orphan" or not world.children(pods=True))


def test_a_namespace_with_shared_memory_can_be_deleted(world: World) -> None:
    world.create(**SHM)
    world.ready()
    world.plane.ok("DELETE", f"/api/v1/namespaces/{world.namespace}")
    world.wait("namespace gone", lambda: world.plane.call("GET", f"/api/v1/namespaces/{world.namespace}")[0] == 404)


def test_a_node_that_went_away_holds_nothing_up(world: World) -> None:
    pool = world.nodes(1, nvidia_com__gpu=3)
    world.create(placement={"strategy": "OneNode", "nodeSelector": pool})
    world.ready()
    world.plane.ok("DELETE", f"/api/v1/nodes/{world.made_nodes[0]}")
    for pod in world.list("Pod"):  # as the controller manager does, after a minute
        world.plane.ok("DELETE", world.child_path("Pod", pod["metadata"]["name"]), {"gracePeriodSeconds": 0})
    world.delete()
    world.wait("OmniDeployment gone", lambda: _gone(world))


def test_an_edit_sweeps_the_old_revision_and_keeps_the_new(world: World) -> None:
    world.create(**SHM)
    old = world.ready()["status"]["revision"]
    world.edit(engine={"extraArgs": ["--max-model-len=4096"]})
    new = world.ready()["status"]["revision"]
    assert new != old
    memory = world.wait("one folder", lambda: len(m := world.get()["status"]["nodeMemory"]) == 1 and m)
    assert new in memory[0]["revision"]
    world.wait("no sweeper", lambda: not world.list("Pod", f"{COMPONENT}=sweeper"))
    world.edit(placement={"strategy": "Spread"})
    world.ready()
    world.wait("no folder", lambda: not world.get()["status"]["nodeMemory"])
    world.wait("no finalizer", lambda: "finalizers" not in world.get()["metadata"])
