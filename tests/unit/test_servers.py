"""Servers come and go with what they join: Ray cluster and store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omni_operator.children.names import COMPONENT, NAME, REPLICA, REVISION, Component
from omni_operator.children.revision import Revision
from omni_operator.controller import objects
from omni_operator.controller.objects import Pod
from omni_operator.controller.observed import Known, Observed
from omni_operator.controller.restarts import Restarts
from tests.unit import make
from tests.unit.looks import KEY, MISSING, World
from tests.unit.make import OWNER

READY_AT, BEFORE, AFTER = "2026-01-01T11:10:00Z", "2026-01-01T11:00:00Z", "2026-01-01T11:30:00Z"
REVISION_OF_THREE = make.revision()  # three workers with an accelerator each, and a store


def pod_of(name: str, component: Component, **changes: Any) -> Pod:
    labels = {NAME: OWNER.name, REVISION: REVISION_OF_THREE.name, COMPONENT: component.value}
    if component is not Component.STORE:
        labels[REPLICA] = changes.pop("replica", "0")
    base = {
        "phase": "Running",
        "ready": True,
        "deleting": False,
        "started": BEFORE,
        "node": "a",
        "resource_version": "1",
    }
    return Pod(namespace=OWNER.namespace, name=name, labels=labels, **{**base, **changes})


def bereft(revision: Revision, *pods: Pod | None) -> list[tuple[str, str]]:
    subject = objects.omni({"metadata": {"namespace": "n", "name": "n", "uid": "u", "resourceVersion": "1"}})
    found = Observed(
        omni=subject, owner=OWNER, known={}, children={}, pods=tuple(p for p in pods if p), referenced=None,
        kuberay_missing=False, missing_nodes=frozenset(),
    )  # fmt: skip
    return [(pod.name, why) for pod, why in found.bereft_servers(Known(revision=revision, created=""))]


SERVER = pod_of("server", Component.SERVING, ready_since=READY_AT)
HEAD, STORE = pod_of("head", Component.HEAD), pod_of("store", Component.STORE)
WORKERS = tuple(pod_of(f"worker-{number}", Component.WORKER) for number in range(3))
LEFT = "3 of the 4 pods of its Ray cluster are left"


@pytest.mark.parametrize(
    ("head", "worker", "store", "why"),
    [
        (HEAD, WORKERS[0], STORE, None),
        (HEAD, WORKERS[0], None, None),  # its going is not its clients' end yet
        (HEAD, WORKERS[0], replace(STORE, started=AFTER), "pod store (re)started after it had joined"),
        (HEAD, replace(WORKERS[0], started=AFTER), STORE, "pod worker-0 (re)started after it had joined"),
        (HEAD, replace(WORKERS[0], ready=False, started=""), STORE, None),  # its container is about to be started again
        (HEAD, None, STORE, LEFT),
        (HEAD, replace(WORKERS[0], deleting=True, ending_since=AFTER), STORE, LEFT),
        (HEAD, replace(WORKERS[0], deleting=True, ending_since=READY_AT), STORE, LEFT),
        (HEAD, replace(WORKERS[0], deleting=True, ending_since=BEFORE), STORE, None),  # until it is gone
        (HEAD, replace(WORKERS[0], phase="Failed"), STORE, LEFT),
        (HEAD, replace(WORKERS[0], phase="Pending", started=""), STORE, LEFT),  # the successor of a lost one
        (None, WORKERS[0], STORE, LEFT),
        (replace(HEAD, deleting=True, ending_since=AFTER), WORKERS[0], STORE, LEFT),
    ],
)
def test_what_ends_a_server(head: Pod | None, worker: Pod | None, store: Pod | None, why: str | None) -> None:
    others = (head, worker, *WORKERS[1:], store)
    assert bereft(REVISION_OF_THREE, SERVER, *others) == ([("server", why)] if why else [])
    for kept in (replace(SERVER, ready=False, ready_since=""), replace(SERVER, deleting=True)):
        assert bereft(REVISION_OF_THREE, kept, *others) == [], "one that starts or ends"


def test_a_server_is_ended_by_losses_of_its_own_replica_only() -> None:
    lost = pod_of("other", Component.WORKER, replica="1", deleting=True, ending_since=AFTER, started=AFTER)
    assert bereft(REVISION_OF_THREE, SERVER, HEAD, *WORKERS, STORE, lost) == []


def test_of_a_ray_cluster_that_is_not_ours_no_pod_is_missed() -> None:
    guest = make.revision(make.spec(ray={"clusterRef": {"name": "theirs"}}))
    mine = {**SERVER.labels, REVISION: guest.name}
    server, store = replace(SERVER, labels=mine), replace(STORE, labels={**STORE.labels, REVISION: guest.name})
    assert bereft(guest, server, store) == []
    assert bereft(guest, server, replace(store, started=AFTER))


async def test_a_lost_worker_ends_its_server_once_and_the_next_waits() -> None:
    """So that it leaves the Service at once, though the worker's successor may be Pending for hours."""
    world = World()
    await world.bring_up()
    world.pod(Component.WORKER, 1, metadata={"deletionTimestamp": world.stamp})
    world.ray(workers=2)
    assert await world.look() == [("delete", "Pod serving-0")]
    note = "pod serving-0: ended, since 3 of the 4 pods of its Ray cluster are left"
    assert world.stories == [("ServerRestarted", note)]
    assert world.condition("Ready")["status"] == "False"
    assert world.status["replicasSummary"] == "0/1"
    await world.look()
    told = world.condition("ServingReady")["message"]
    assert told.endswith("pod serving-0 was ended, since 3 of the 4 pods of its Ray cluster are left")
    world.cache.pods.drop(OWNER.namespace, "worker-1")
    world.pod(Component.WORKER, 3, phase="Pending", containerStatuses=[], conditions=[])
    world.pod(Component.SERVING, 1, conditions=[])
    for _ in range(3):
        assert await world.look() == []
    world.later()
    world.pod(Component.WORKER, 3)
    world.ray()
    world.later()
    world.pod(Component.SERVING, 1)
    assert await world.look() == []
    assert world.condition("Ready")["status"] == "True"
    assert [reason for reason, _ in world.stories].count("ServerRestarted") == 1


async def test_no_server_is_made_for_a_ray_cluster_that_is_refused() -> None:
    world = World(refuse={"RayCluster": MISSING})
    for _ in range(3):
        done = await world.look(fails=True)
        assert ("make", f"RayCluster {world.cluster}") in done
        assert not [what for _, what in done if what == f"Deployment {world.server}"]
    assert world.condition("Progressing")["reason"] == "ChildRefused"
    assert [reason for reason, _ in world.stories].count("ChildRefused") == 1
    world.refuse.clear()
    assert ("make", f"Deployment {world.server}") in await world.look()
    await world.settle()


async def test_a_server_that_lost_its_ray_cluster_for_good_is_ended_once() -> None:
    """And made again when the API server takes a RayCluster again (KubeRay was uninstalled, a quota, a webhook)."""
    world = World()
    await world.bring_up()
    world.lose("RayCluster", world.cluster)
    world.refuse["RayCluster"] = MISSING
    assert ("delete", f"Deployment {world.server}") in await world.look(fails=True)
    for _ in range(3):
        assert await world.look(fails=True) == [("make", f"RayCluster {world.cluster}")]
    ended = [note for reason, note in world.stories if reason == "Repaired"]
    assert ended == [
        f"Deployment {world.server}: ended, since RayCluster {world.cluster} is gone; it is made again to join it"
    ]
    world.refuse.clear()
    assert ("make", f"Deployment {world.server}") in await world.look()


async def test_a_store_that_restarted_ends_the_server_once_so_that_all_connect_anew() -> None:
    world = World()
    await world.bring_up()
    world.later()
    world.pod(Component.STORE)  # its container, or another pod in its place
    assert await world.look() == [("delete", f"Pod {Component.SERVING}-0")]
    assert world.stories == [
        ("ServerRestarted", "pod serving-0: ended, since pod store-0 (re)started after it had joined")
    ]
    assert await world.look() == []
    world.later()
    world.pod(Component.SERVING, 1)
    assert await world.look() == []


async def test_a_worker_that_fails_again_and_again_lets_its_server_be_made_later_each_time() -> None:
    world = World()
    await world.bring_up()
    now = [1000.0]
    world.reconciler._restarts.clock = lambda: now[0]
    numbers = iter(range(1, 99))

    async def serves() -> None:
        world.later()
        world.pod(Component.SERVING, next(numbers))
        await world.settle()
        assert world.condition("Ready")["status"] == "True"

    def worker_fails(*, after: float = 59) -> None:
        world.later(after)
        states = [{"name": "main", "restartCount": 4, "state": {"running": {"startedAt": world.stamp}}}]
        world.pod(Component.WORKER, 1, containerStatuses=states)

    worker_fails()
    assert await world.look() == [("delete", "Pod serving-0")]
    await serves()
    for count, pause in ((2, 20), (3, 40)):
        worker_fails()
        assert await world.look() == [("delete", f"Deployment {world.server}")]
        world.end_pods(*(p.name for p in world.cache.pods_of(KEY) if not p.name.startswith("serving")))
        for _ in range(3):
            assert await world.look() == []  # the server must not be made yet
        held = world.condition("ServingReady")
        assert (held["status"], held["reason"]) == ("False", "RestartBackOff")
        assert "pod worker-1 (ended 4 times) (re)started" in held["message"]
        assert f"{count} in a row, so the next is made {pause} s after it" in held["message"]
        assert world.again == pause
        now[0] += pause
        assert await world.look() == [("make", f"Deployment {world.server}")]
        await serves()
    worker_fails(after=60)
    assert [what for what, _ in await world.look()] == ["delete"]
    assert world.condition("ServingReady")["reason"] != "RestartBackOff"


def test_pauses_end_somewhere_and_go_with_their_revision() -> None:
    restarts, past = Restarts(clock=lambda: 0.0), ("shop/omni", "aaaa", "0")
    pauses = [restarts.note(past, f"serving-{number}", "why", lasted=59) for number in range(2000)]
    assert (pauses[0], pauses[-1]) == (0, 600)
    assert restarts.wait(("shop/omni", "bbbb", "0")) == 0
    assert restarts.note(past, "serving", "why", lasted=60) == 0
    restarts.note(past, "serving", "why", lasted=0)
    restarts.forget("shop/omni")
    assert restarts.wait(past) == 0


def test_a_revision_that_comes_back_later_begins_anew() -> None:
    now = [0.0]
    restarts, past = Restarts(clock=lambda: now[0]), ("shop/omni", "aaaa", "0")
    assert [restarts.note(past, "serving", "why", lasted=1) for _ in range(3)] == [0, 20, 40]
    now[0] += 3599
    assert restarts.note(past, "serving", "why", lasted=1) == 80
    now[0] += 3600
    assert restarts.note(past, "serving", "why", lasted=1) == 0


async def test_a_server_whose_end_is_not_seen_yet_is_ended_once() -> None:
    world = World()
    await world.bring_up()
    world.later()
    world.pod(Component.WORKER, 1)
    server = next(p for p in world.cache.pods_of(KEY) if p.name == "serving-0")
    assert await world.look() == [("delete", "Pod serving-0")]
    world.cache.pods._put(server)  # the watch is late
    assert await world.look() == []
    assert [reason for reason, _ in world.stories].count("ServerRestarted") == 1


async def test_a_lost_node_is_told_before_its_pods_are_given_up() -> None:
    world = World()
    await world.bring_up()
    world.node("b", ready="Unknown")
    world.pod(Component.WORKER, 1, node="b", conditions=[{"type": "Ready", "status": "False"}])
    world.ray(workers=2)
    assert await world.look() == []
    ray = world.condition("RayClusterReady")
    assert ray["reason"] == "NodeLost"
    assert "pod worker-1 is on node b, which is not Ready" in ray["message"]
    assert world.condition("Ready")["status"] == "False"
    assert ("NodeLost", ray["message"]) in world.stories


async def test_a_server_that_serves_elsewhere_makes_up_for_one_on_a_lost_node() -> None:
    world = World()
    await world.bring_up()
    world.node("b", ready="Unknown")
    meta = {"deletionTimestamp": world.stamp, "deletionGracePeriodSeconds": 0}
    world.pod(Component.SERVING, 1, node="b", conditions=[{"type": "Ready", "status": "False"}], metadata=meta)
    await world.settle()
    assert world.condition("Ready")["status"] == "True"
