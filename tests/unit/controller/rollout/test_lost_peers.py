"""Servers come and go with what they join: Ray cluster and store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omni_operator.children.names import COMPONENT, NAME, REPLICA, REVISION, Component
from omni_operator.children.revision import Revision
from omni_operator.controller.rollout import backoff
from omni_operator.controller.rollout.lost_peers import servers_with_lost_peers
from omni_operator.controller.state import decode
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.signals import RestartRecord
from omni_operator.controller.state.snapshot import ParsedSpec, Snapshot, StoredRevision
from tests.unit import make
from tests.unit.controller.harness import KEY, MISSING, Harness
from tests.unit.make import OWNER

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
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
        "owner_uid": "a controller",
    }
    return Pod(namespace=OWNER.namespace, name=name, labels=labels, **{**base, **changes})


def with_lost_peers(revision: Revision, *pods: Pod | None) -> list[tuple[str, str]]:
    subject = decode.omni({"metadata": {"namespace": "n", "name": "n", "uid": "u", "resourceVersion": "1"}})
    found = Snapshot(
        omni=subject, owner=OWNER, parsed=ParsedSpec(spec=None), now=NOW, revisions={}, children={},
        pods=tuple(p for p in pods if p),
    )  # fmt: skip
    stored = StoredRevision(revision=revision, created="")
    return [(pod.name, why) for pod, why in servers_with_lost_peers(found, stored)]


SERVER = pod_of("server", Component.SERVING, ready_since=READY_AT)
HEAD, STORE = pod_of("head", Component.HEAD), pod_of("store", Component.STORE)
WORKERS = tuple(pod_of(f"worker-{number}", Component.WORKER) for number in range(3))
LEFT = "3 of the 4 pods of its Ray cluster are left"


def test_a_copy_of_a_pod_ends_no_server() -> None:
    """`kubectl debug --copy-to --keep-labels` makes one without a controller."""
    copy = pod_of("copy", Component.WORKER, started=AFTER, owner_uid="")
    assert with_lost_peers(REVISION_OF_THREE, SERVER, HEAD, STORE, *WORKERS, copy) == []


@pytest.mark.parametrize(
    ("head", "worker", "store", "why"),
    [
        (HEAD, WORKERS[0], STORE, None),
        (HEAD, WORKERS[0], None, None),  # its going is not its clients' end yet
        (HEAD, WORKERS[0], replace(STORE, started=AFTER), "pod store (re)started after it had joined"),
        (HEAD, replace(WORKERS[0], started=AFTER), STORE, "pod worker-0 (re)started after it had joined"),
        # its container is about to be started again
        (HEAD, replace(WORKERS[0], ready=False, started=""), STORE, None),
        (HEAD, None, STORE, LEFT),
        (HEAD, replace(WORKERS[0], deleting=True, deletion_requested_at=AFTER), STORE, LEFT),
        (HEAD, replace(WORKERS[0], deleting=True, deletion_requested_at=READY_AT), STORE, LEFT),
        # until it is gone
        (HEAD, replace(WORKERS[0], deleting=True, deletion_requested_at=BEFORE), STORE, None),
        (HEAD, replace(WORKERS[0], phase="Failed"), STORE, LEFT),
        # the successor of a lost one
        (HEAD, replace(WORKERS[0], phase="Pending", started=""), STORE, LEFT),
        (None, WORKERS[0], STORE, LEFT),
        (replace(HEAD, deleting=True, deletion_requested_at=AFTER), WORKERS[0], STORE, LEFT),
    ],
)
def test_what_ends_a_server(head: Pod | None, worker: Pod | None, store: Pod | None, why: str | None) -> None:
    others = (head, worker, *WORKERS[1:], store)
    assert with_lost_peers(REVISION_OF_THREE, SERVER, *others) == ([("server", why)] if why else [])
    for kept in (replace(SERVER, ready=False, ready_since=""), replace(SERVER, deleting=True)):
        assert with_lost_peers(REVISION_OF_THREE, kept, *others) == [], "one that starts or ends"


def test_a_server_is_ended_by_losses_of_its_own_replica_only() -> None:
    lost = pod_of("other", Component.WORKER, replica="1", deleting=True, deletion_requested_at=AFTER, started=AFTER)
    assert with_lost_peers(REVISION_OF_THREE, SERVER, HEAD, *WORKERS, STORE, lost) == []


def test_of_a_ray_cluster_that_is_not_ours_no_pod_is_missed() -> None:
    guest = make.revision(make.spec(ray={"clusterRef": {"name": "theirs"}}))
    mine = {**SERVER.labels, REVISION: guest.name}
    server, store = replace(SERVER, labels=mine), replace(STORE, labels={**STORE.labels, REVISION: guest.name})
    assert with_lost_peers(guest, server, store) == []
    assert with_lost_peers(guest, server, replace(store, started=AFTER))


async def test_a_lost_worker_ends_its_server_once_and_the_next_waits() -> None:
    """So that it leaves the Service at once: the worker's successor may be Pending for hours."""
    harness = Harness()
    await harness.bring_up()
    harness.pod(Component.WORKER, 1, metadata={"deletionTimestamp": harness.stamp})
    harness.ray(workers=2)
    assert await harness.reconcile() == [("delete", "Pod serving-0")]
    note = "pod serving-0: ended, since 3 of the 4 pods of its Ray cluster are left"
    assert harness.events == [("ServerRestarted", note)]
    assert harness.condition("Ready")["status"] == "False"
    assert harness.status["replicasSummary"] == "0/1"
    await harness.reconcile()
    message = harness.condition("ServingReady")["message"]
    assert message.endswith("pod serving-0 was ended, since 3 of the 4 pods of its Ray cluster are left")
    harness.store.pods.remove(OWNER.namespace, "worker-1")
    harness.pod(Component.WORKER, 3, phase="Pending", containerStatuses=[], conditions=[])
    harness.pod(Component.SERVING, 1, conditions=[])
    for _ in range(3):
        assert await harness.reconcile() == []
    harness.later()
    harness.pod(Component.WORKER, 3)
    harness.ray()
    harness.later()
    harness.pod(Component.SERVING, 1)
    assert await harness.reconcile() == []
    assert harness.condition("Ready")["status"] == "True"
    assert [reason for reason, _ in harness.events].count("ServerRestarted") == 1


async def test_no_server_is_made_for_a_ray_cluster_that_is_refused() -> None:
    harness = Harness(refuse={"RayCluster": MISSING})
    for _ in range(3):
        done = await harness.reconcile(fails=True)
        assert ("make", f"RayCluster {harness.cluster}") in done
        assert not [what for _, what in done if what == f"Deployment {harness.server}"]
    assert harness.condition("Progressing")["reason"] == "ChildRefused"
    assert [reason for reason, _ in harness.events].count("ChildRefused") == 1
    harness.refuse.clear()
    assert ("make", f"Deployment {harness.server}") in await harness.reconcile()
    await harness.settle()


async def test_a_server_that_lost_its_ray_cluster_is_ended_when_there_is_another() -> None:
    """Not before: that it is not seen may be a matter of its labels, which the attempt to make it
    finds out; if its pods are gone too, that ends the server."""
    harness = Harness()
    await harness.bring_up()
    harness.later()
    harness.lose("RayCluster", harness.cluster)
    harness.refuse["RayCluster"] = MISSING
    for _ in range(3):
        assert await harness.reconcile(fails=True) == [("make", f"RayCluster {harness.cluster}")]
    assert "Repaired" not in {reason for reason, _ in harness.events}
    harness.refuse.clear()
    assert await harness.reconcile() == [("make", f"RayCluster {harness.cluster}")]
    harness.events.clear()
    assert await harness.reconcile() == [("delete", f"Deployment {harness.server}")]
    (note,) = [note for reason, note in harness.events if reason == "Repaired"]
    assert note.startswith(f"Deployment {harness.server}: ended, since RayCluster {harness.cluster} is a new one;")
    assert ("make", f"Deployment {harness.server}") in await harness.reconcile()


async def test_a_store_that_restarted_ends_the_server_once_so_that_all_connect_anew() -> None:
    harness = Harness()
    await harness.bring_up()
    harness.later()
    harness.pod(Component.STORE)  # its container, or another pod in its place
    assert await harness.reconcile() == [("delete", f"Pod {Component.SERVING}-0")]
    assert harness.events == [
        ("ServerRestarted", "pod serving-0: ended, since pod store-0 (re)started after it had joined")
    ]
    assert await harness.reconcile() == []
    harness.later()
    harness.pod(Component.SERVING, 1)
    assert await harness.reconcile() == []


async def test_a_worker_that_fails_again_and_again_lets_its_server_be_made_later_each_time() -> None:
    harness = Harness()
    await harness.bring_up()
    numbers = iter(range(1, 99))

    async def serves() -> None:
        harness.later()
        harness.pod(Component.SERVING, next(numbers))
        await harness.settle()
        assert harness.condition("Ready")["status"] == "True"

    def worker_fails(*, after: float = 59) -> None:
        harness.later(after)
        states = [{"name": "main", "restartCount": 4, "state": {"running": {"startedAt": harness.stamp}}}]
        harness.pod(Component.WORKER, 1, containerStatuses=states)

    worker_fails()
    assert await harness.reconcile() == [("delete", "Pod serving-0")]
    await serves()
    for count, pause in ((2, 20), (3, 40)):
        worker_fails()
        assert await harness.reconcile() == [("delete", f"Deployment {harness.server}")]
        harness.end_pods(*(p.name for p in harness.store.pods_of(KEY) if not p.name.startswith("serving")))
        for _ in range(3):
            assert await harness.reconcile() == []  # the server must not be made yet
        held = harness.condition("ServingReady")
        assert (held["status"], held["reason"]) == ("False", "RestartBackOff")
        assert "pod worker-1 (ended 4 times) (re)started" in held["message"]
        assert f"{count} in a row, so the next is made {pause} s after it" in held["message"]
        assert harness.requeue_after == pause
        harness.later(pause)
        assert await harness.reconcile() == [("make", f"Deployment {harness.server}")]
        await serves()
    worker_fails(after=60)
    assert [what for what, _ in await harness.reconcile()] == ["delete"]
    assert harness.condition("ServingReady")["reason"] != "RestartBackOff"


def restarts(*lasted: float, every: float = 1.0) -> list[RestartRecord]:
    """Records of servers that were ended in a row, each after so many seconds of readiness."""
    records: list[RestartRecord] = []
    for number, seconds in enumerate(lasted):
        now = NOW + timedelta(seconds=number * every)
        before = records[-1] if records else None
        records.append(backoff.next_record(before, pod=f"serving-{number}", why="why", lasted=seconds, now=now))
    return records


def test_pauses_end_somewhere_and_a_stable_server_resets_them() -> None:
    records = restarts(*[59] * 2000, 60, 0)
    assert [backoff.pause_of(records[n]) for n in (0, 1, 2, 1999, 2000, 2001)] == [0, 20, 40, 600, 0, 20]
    assert backoff.wait_left(None, now=NOW) == 0


def test_an_end_of_an_hour_ago_is_not_the_cause_of_the_next() -> None:
    assert [backoff.pause_of(record) for record in restarts(1, 1, 1)] == [0, 20, 40]
    assert backoff.pause_of(restarts(1, 1, every=3599)[-1]) == 20
    assert backoff.pause_of(restarts(1, 1, every=3600)[-1]) == 0


async def test_a_server_whose_end_is_not_seen_yet_is_ended_once() -> None:
    harness = Harness()
    await harness.bring_up()
    harness.later()
    harness.pod(Component.WORKER, 1)
    server = next(p for p in harness.store.pods_of(KEY) if p.name == "serving-0")
    assert await harness.reconcile() == [("delete", "Pod serving-0")]
    harness.store.pods._put(server)  # the watch is late
    assert await harness.reconcile() == []
    assert [reason for reason, _ in harness.events].count("ServerRestarted") == 1


async def test_a_lost_node_is_told_before_its_pods_are_given_up() -> None:
    harness = Harness()
    await harness.bring_up()
    harness.node("b", ready="Unknown")
    harness.pod(Component.WORKER, 1, node="b", conditions=[{"type": "Ready", "status": "False"}])
    harness.ray(workers=2)
    assert await harness.reconcile() == []
    ray = harness.condition("RayClusterReady")
    assert ray["reason"] == "NodeLost"
    assert "pod worker-1 is on node b, which is not Ready" in ray["message"]
    assert harness.condition("Ready")["status"] == "False"
    assert ("NodeLost", ray["message"]) in harness.events


async def test_a_server_that_serves_elsewhere_makes_up_for_one_on_a_lost_node() -> None:
    harness = Harness()
    await harness.bring_up()
    harness.node("b", ready="Unknown")
    meta = {"deletionTimestamp": harness.stamp, "deletionGracePeriodSeconds": 0}
    harness.pod(Component.SERVING, 1, node="b", conditions=[{"type": "Ready", "status": "False"}], metadata=meta)
    await harness.settle()
    assert harness.condition("Ready")["status"] == "True"
