"""What is removed goes in order, and nothing that is lost holds up what is well."""

from __future__ import annotations

import pytest

from omni_operator.children import names
from omni_operator.children.names import FINALIZER, Component
from tests.unit import make
from tests.unit.looks import World
from tests.unit.make import OWNER

LOST = "which is not Ready (if it does not come back, delete the Node)"


@pytest.mark.parametrize(
    ("node", "seconds", "goes"), [("True", 0, False), ("True", 179, False), ("True", 181, True), ("Unknown", 0, True)]
)
async def test_a_server_that_cannot_end_holds_no_accelerators_of_other_nodes(
    node: str, seconds: float, *, goes: bool
) -> None:
    """Its node is lost, or its grace period has been over for a minute."""
    world = World()
    await world.bring_up()
    world.edit(suspend=True)
    assert ("delete", f"Deployment {world.server}") in await world.look()
    world.ending(Component.SERVING, grace=120, node="b")
    world.node("b", ready=node)
    world.later(seconds)
    assert (await world.look() == [("delete", f"RayCluster {world.cluster}")]) is goes
    if not goes:
        assert world.again == pytest.approx(181 - seconds), "time alone may change it"


async def test_a_deletion_waits_for_a_lost_node_but_frees_the_others_and_says_so() -> None:
    world = World()
    world.node("a", gpus=4)
    await world.bring_up(workers=1)
    assert world.finalizers, "its server shares memory with its worker"
    world.delete_omni()
    await world.look()
    server = world.ending(Component.SERVING, grace=60)
    world.node("a", ready="Unknown", gpus=4)
    assert await world.look() == [("delete", f"RayCluster {world.cluster}")]
    world.later(61)
    world.end_pods(server)
    await world.look()
    assert f"it waits for pod {server} on node a, {LOST}" in world.condition("Progressing")["message"]
    assert world.finalizers
    world.end_pods()
    await world.look()
    assert f"it waits for shared memory on node a, {LOST}" in world.condition("Progressing")["message"]
    assert world.finalizers
    world.cache.nodes.drop("", "a")
    await world.look()
    await world.look()
    assert not world.finalizers


@pytest.mark.parametrize("ready", ["True", "Unknown"])
async def test_a_new_revision_waits_for_what_can_end_and_not_for_a_lost_node(ready: str) -> None:
    world = World()
    await world.bring_up()
    old = world.revision
    world.edit(model={"name": make.TWO_STAGES})
    await world.look()
    new = world.revision
    server = world.ending(Component.SERVING, grace=60, node="b", revision=old)
    world.node("b", ready=ready)
    world.end_pods(server)
    made = [call for _ in range(2) for call in await world.look()]
    assert (("make", f"ConfigMap {names.base(OWNER, new)}") in made) is (ready != "True")
    assert ("delete", f"ConfigMap {names.base(OWNER, old)}") not in made, "it tells what is left"
    assert world.condition("Progressing")["reason"] == "Retiring"
    assert f"pod {server} on node b" in world.condition("Progressing")["message"]
    world.end_pods()
    assert ("delete", f"ConfigMap {names.base(OWNER, old)}") in [call for _ in range(2) for call in await world.look()]


def _without_owner(world: World, kind: str, name: str, *, copy: str = "") -> None:
    """What `kubectl delete --cascade=orphan` leaves, or a copy that somebody made of a child."""
    child = world.cache.children[kind].get(OWNER.namespace, name)
    assert child is not None
    meta = {**child.body["metadata"], "name": copy or name, "uid": f"{name}-{copy}"}
    meta["resourceVersion"] = str(next(world.versions))
    meta.pop("ownerReferences")
    world.cache.children[kind].learn({**child.body, "metadata": meta})


@pytest.mark.parametrize("kind", ["ConfigMap", "RayCluster", "Deployment", "Service", "PodDisruptionBudget"])
async def test_a_copy_of_a_child_does_not_let_a_deletion_go_unswept(kind: str) -> None:
    world = World()
    world.node("a", gpus=4)
    await world.bring_up(workers=1)
    name = next(name for found, name in world.cache.children_of(world.key) if found == kind)
    _without_owner(world, kind, name, copy="my-copy")
    world.delete_omni()
    await world.look()
    assert world.finalizers
    assert ("delete", f"Deployment {world.server}") in world.calls


@pytest.mark.parametrize("kind", ["RayCluster", "Deployment"])
async def test_who_keeps_the_children_keeps_them_running(kind: str) -> None:
    """Also when only one watch has told so far that they lost their owner."""
    world = World()
    world.node("a", gpus=4)
    await world.bring_up(workers=1)
    _without_owner(world, kind, world.cluster if kind == "RayCluster" else world.server)
    world.delete_omni()
    assert await world.look() == []
    assert not world.finalizers


async def test_a_store_without_an_owner_is_a_child_that_is_kept() -> None:
    world = World()
    await world.bring_up()
    world.finalizers = [FINALIZER]
    _without_owner(world, "Deployment", names.store(OWNER, world.revision))
    world.delete_omni()
    assert await world.look() == []
    assert not world.finalizers
