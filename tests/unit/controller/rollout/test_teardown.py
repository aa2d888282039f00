"""What is removed goes in order, and nothing that is lost holds up what is well."""

from __future__ import annotations

import pytest

from omni_operator.children import names
from omni_operator.children.names import FINALIZER, Component
from tests.unit import make
from tests.unit.controller.harness import Harness
from tests.unit.make import OWNER

LOST = "which is not Ready (if it does not come back, delete the Node)"


@pytest.mark.parametrize(
    ("node", "seconds", "goes"), [("True", 0, False), ("True", 179, False), ("True", 181, True), ("Unknown", 0, True)]
)
async def test_a_server_that_cannot_end_holds_no_accelerators_of_other_nodes(
    node: str, seconds: float, *, goes: bool
) -> None:
    """Its node is lost, or its grace period has been over for a minute."""
    harness = Harness()
    await harness.bring_up()
    harness.edit(suspend=True)
    assert ("delete", f"Deployment {harness.server}") in await harness.reconcile()
    harness.ending(Component.SERVING, grace=120, node="b")
    harness.node("b", ready=node)
    harness.later(seconds)
    assert (await harness.reconcile() == [("delete", f"RayCluster {harness.cluster}")]) is goes
    if not goes:
        assert harness.requeue_after == pytest.approx(181 - seconds), "time alone may change it"


async def test_a_deletion_waits_for_a_lost_node_but_frees_the_others_and_says_so() -> None:
    harness = Harness()
    harness.node("a", gpus=4)
    await harness.bring_up(workers=1)
    assert harness.finalizers, "its server shares memory with its worker"
    harness.delete_omni()
    await harness.reconcile()
    server = harness.ending(Component.SERVING, grace=60)
    harness.node("a", ready="Unknown", gpus=4)
    assert await harness.reconcile() == [("delete", f"RayCluster {harness.cluster}")]
    harness.later(61)
    harness.end_pods(server)
    await harness.reconcile()
    assert f"it waits for pod {server} on node a, {LOST}" in harness.condition("Progressing")["message"]
    assert harness.finalizers
    harness.end_pods()
    await harness.reconcile()
    assert f"it waits for shared memory on node a, {LOST}" in harness.condition("Progressing")["message"]
    assert harness.finalizers
    harness.store.nodes.remove("", "a")
    await harness.reconcile()
    await harness.reconcile()
    assert not harness.finalizers


@pytest.mark.parametrize("ready", ["True", "Unknown"])
async def test_a_new_revision_waits_for_what_can_end_and_not_for_a_lost_node(ready: str) -> None:
    harness = Harness()
    await harness.bring_up()
    old = harness.revision
    harness.edit(model={"name": make.TWO_STAGES})
    await harness.reconcile()
    new = harness.revision
    server = harness.ending(Component.SERVING, grace=60, node="b", revision=old)
    harness.node("b", ready=ready)
    harness.end_pods(server)
    made = [call for _ in range(2) for call in await harness.reconcile()]
    assert (("make", f"RayCluster {names.base(OWNER, new)}-0") in made) is (ready != "True")
    assert ("delete", f"ConfigMap {names.base(OWNER, old)}") not in made, "it tells what is left"
    assert harness.condition("Progressing")["reason"] == "Draining"
    assert f"pod {server} on node b" in harness.condition("Progressing")["message"]
    harness.end_pods()
    assert ("delete", f"ConfigMap {names.base(OWNER, old)}") in [
        call for _ in range(2) for call in await harness.reconcile()
    ]


def _without_owner(harness: Harness, kind: str, name: str, *, copy: str = "") -> None:
    """What `kubectl delete --cascade=orphan` leaves, or a copy that somebody made of a child."""
    child = harness.store.children[kind].get(OWNER.namespace, name)
    assert child is not None
    meta = {**child.body["metadata"], "name": copy or name, "uid": f"{name}-{copy}"}
    meta["resourceVersion"] = str(next(harness.versions))
    meta.pop("ownerReferences")
    harness.store.children[kind].upsert({**child.body, "metadata": meta})


@pytest.mark.parametrize("kind", ["ConfigMap", "RayCluster", "Deployment", "Service", "PodDisruptionBudget"])
async def test_a_copy_of_a_child_does_not_let_a_deletion_go_unswept(kind: str) -> None:
    harness = Harness()
    harness.node("a", gpus=4)
    await harness.bring_up(workers=1)
    name = next(name for found, name in harness.store.children_of(harness.key) if found == kind)
    _without_owner(harness, kind, name, copy="my-copy")
    harness.delete_omni()
    await harness.reconcile()
    assert harness.finalizers
    assert ("delete", f"Deployment {harness.server}") in harness.calls


@pytest.mark.parametrize("kind", ["RayCluster", "Deployment"])
async def test_who_keeps_the_children_keeps_them_running(kind: str) -> None:
    """Also when only one watch has told so far that they lost their owner."""
    harness = Harness()
    harness.node("a", gpus=4)
    await harness.bring_up(workers=1)
    _without_owner(harness, kind, harness.cluster if kind == "RayCluster" else harness.server)
    harness.delete_omni()
    assert await harness.reconcile() == []
    assert not harness.finalizers


async def test_a_store_without_an_owner_is_a_child_that_is_kept() -> None:
    harness = Harness()
    await harness.bring_up()
    harness.finalizers = [FINALIZER]
    _without_owner(harness, "Deployment", names.store(OWNER, harness.revision))
    harness.delete_omni()
    assert await harness.reconcile() == []
    assert not harness.finalizers
