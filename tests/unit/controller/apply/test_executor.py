"""What comes of a plan when the API server refuses, hangs or fails in the middle of it."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.children.names import Component
from omni_operator.kube.client import ApiError
from tests.unit.controller.harness import Harness
from tests.unit.make import OWNER


@pytest.fixture
async def running() -> Harness:
    harness = Harness()
    await harness.bring_up()
    return harness


async def test_a_webhook_that_hangs_is_said_in_status_and_hides_nothing() -> None:
    harness = Harness()
    harness.refuse["RayCluster"] = TimeoutError()
    made = await harness.reconcile(fails=True)
    assert ("make", f"ConfigMap {OWNER.name}-{harness.revision}") in made, "what does not hang is made"
    progressing = harness.condition("Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "ChildRefused")
    assert "did not answer in time" in progressing["message"]
    assert "webhook" in progressing["message"]
    del harness.refuse["RayCluster"]
    assert ("make", f"RayCluster {harness.cluster}") in await harness.reconcile()


async def test_what_was_done_beside_a_failure_is_known(running: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that failed ends its server.

    Its record must be kept although a deletion beside it failed.
    """
    delete: Any = running.delete

    async def flaky(resource: Any, namespace: str, name: str, **options: Any) -> bool:
        if resource.kind == "Service":
            raise ApiError(500, "InternalError", "etcd has no leader", retry_after=7)
        return bool(await delete(resource, namespace, name, **options))

    extra = f"{OWNER.name}-{running.revision}-extra"
    known = running.store.children["Service"].get(OWNER.namespace, f"{OWNER.name}-{running.revision}-store")
    assert known is not None
    meta = {**known.body["metadata"], "name": extra, "uid": extra, "resourceVersion": str(next(running.versions))}
    running.store.children["Service"].upsert({**known.body, "metadata": meta})
    running.pod(Component.SERVING)
    running.later(30)
    running.pod(Component.WORKER)  # it started after the server was ready
    monkeypatch.setattr(running, "delete", flaky)
    with pytest.raises(ApiError, match="etcd has no leader") as raised:
        await running.reconciler.reconcile(running.key)
    assert raised.value.retry_after == 7
    restarts = running.reconciler.collector.signals(next(iter(running.store.omnis.values())).uid).restarts
    assert [record.pod for record in restarts.values()] == ["serving-0"]
    assert ("ServerRestarted", running.events[-1][1]) in running.events
