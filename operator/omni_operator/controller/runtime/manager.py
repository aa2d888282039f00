"""The running parts: reflectors, the queue, its workers, and the resync. Knows nothing of kopf."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import socket
import time
from typing import Any

from omni_operator.api.base import GROUP, PLURAL
from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.children.names import MANAGER
from omni_operator.controller.apply.omnideployment import OMNI
from omni_operator.controller.reconcile import DEADLINE, Reconciler
from omni_operator.controller.runtime.health import HealthServer
from omni_operator.controller.runtime.metrics import Metrics
from omni_operator.controller.runtime.settings import Settings
from omni_operator.controller.state import decode
from omni_operator.controller.state.objects import Omni
from omni_operator.controller.state.store import Store
from omni_operator.engine.pipeline import catalog
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.credentials import Credentials
from omni_operator.kube.queue import KeyedQueue, Priority

_log = logging.getLogger(__name__)
_CRD = f"CustomResourceDefinition {PLURAL}.{GROUP}"
_CRD_PAUSE, _CRD_WORDS_SECONDS = 1.0, 10.0
_CAPACITY_PAUSE = 1.0  # seconds; many pods end together, and one reconcile after them is enough
_CAPACITY_TURN = 0.05  # seconds between two pipelines that wait
_COALESCE = 0.05  # seconds


class Manager:
    """One process of the operator."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self.settings = settings
        self.kube = Kube(credentials=credentials, manager=MANAGER)
        self.queue = KeyedQueue()
        self.store = Store(kube=self.kube, enqueue=self._enqueue, capacity_changed=self._capacity_changed)
        self.metrics = Metrics()
        self.reconciler = Reconciler(
            kube=self.kube,
            store=self.store,
            instance=socket.gethostname(),
            status_pause_seconds=settings.status_pause_seconds,
        )
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._capacity_timer: asyncio.TimerHandle | None = None
        self._synced = False
        self._waits_for = _CRD
        self._health = HealthServer(
            port=settings.http_port, metrics=self.metrics, dead=self._dead, waits_for=self.waits_for
        )

    async def start(self) -> None:
        """Starts everything, once there are OmniDeployments.

        Workers begin when the caches are complete.
        """
        await self.kube.__aenter__()
        self.metrics.count_requests_of(self.kube)
        await self._health.start()
        await self._wait_for_crd()
        self._waits_for = "the caches"
        # a tenth of a second of parsing, which the first reconcile would pay
        await asyncio.to_thread(catalog)
        for reflector in self.store.reflectors():
            self._spawn(f"reflector of {reflector.resource.plural}", reflector.run())
        self._spawn("workers", self._work_when_synced())
        self._spawn("resync", self._resync())

    async def stop(self) -> None:
        """Ends everything; what a worker had begun is taken up by the next process."""
        self.queue.close()
        if self._capacity_timer is not None:
            self._capacity_timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.reconciler.close()
        await self._health.stop()
        await self.kube.__aexit__()

    def waits_for(self) -> str:
        """What keeps the operator from being ready; empty when nothing does."""
        if self._waits_for and (unsynced := self.store.unsynced()) and self._tasks:
            return f"{self._waits_for}: {unsynced}"
        return self._waits_for

    def on_event(self, kind: str | None, raw: dict[str, Any]) -> None:
        """An event of an OmniDeployment.

        Kind is ADDED, MODIFIED, DELETED, or None for what a first list found.
        """
        seen = decode.omni(raw)
        known = self.store.omnis.get(seen.key)
        if kind == "DELETED":
            self.store.end(seen.key, seen.uid)
            # what is kept in memory of it is dropped by the next reconcile of its key
            self.queue.add(seen.key)
        elif self.store.upsert(seen):
            # Our own status writes come back as events; only a change of what is read is a reason
            # to reconcile.
            if known is None or (known.uid, known.generation, known.deleting) != (
                seen.uid,
                seen.generation,
                seen.deleting,
            ):
                self.queue.add(seen.key, priority=Priority.RESYNC if kind is None else Priority.EDIT)
            elif known.status != seen.status or known.finalizers != seen.finalizers:
                self.queue.add(seen.key)

    def _enqueue(self, key: str) -> None:
        """Events come in bursts: a reconcile a moment later sees all of them."""
        self.queue.add_after(key, _COALESCE)

    def _capacity_changed(self) -> None:
        """Reconciles those that a change of capacity can help, a moment after it.

        A deletion is one of them: it may wait for a node to be ready again, or to be gone.
        """
        if self._synced and self._capacity_timer is None:
            self._capacity_timer = asyncio.get_running_loop().call_later(_CAPACITY_PAUSE, self._wake_waiting)

    def _wake_waiting(self) -> None:
        """They take turns, since on a busy cluster capacity changes every second."""
        self._capacity_timer = None
        waiting = [omni.key for omni in self.store.omnis.values() if _waits_for_nodes(omni)]
        for turn, key in enumerate(waiting):
            self.queue.add_after(key, turn * _CAPACITY_TURN)

    async def _wait_for_crd(self) -> None:
        """Until the API server serves OmniDeployments.

        Kopf asks for them once, and never watches a CRD that comes later.
        """
        reported_at = -math.inf
        while why := await self._lacks_crd():
            if (now := asyncio.get_running_loop().time()) - reported_at >= _CRD_WORDS_SECONDS:
                _log.warning("waiting for %s: %s", _CRD, why)
                reported_at = now
            await asyncio.sleep(_CRD_PAUSE)

    async def _lacks_crd(self) -> str:
        """What is missing and what to do about it; nothing when all is there."""
        try:
            await self.kube.list_page(OMNI, query={"limit": "1"})
            return "" if await self.kube.discovers(OMNI) else "the API server is about to serve it"
        except ApiError as exc:
            if exc.not_found:
                return (
                    "the API server does not know it; install the CRD of this release (the Helm chart "
                    "has it, or `kubectl apply -f crds/`)"
                )
            if exc.status == 403:
                return f"{exc.message}; apply the ClusterRole and its binding of this release"
            return str(exc)
        except Exception as exc:
            return f"the API server does not answer: {str(exc) or type(exc).__name__}"

    def _spawn(self, name: str, work: Any) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    def _dead(self) -> list[str]:
        return [name for name, task in self._tasks.items() if task.done()]

    async def _work_when_synced(self) -> None:
        await self.store.synced()
        self._synced, self._waits_for = True, ""
        _log.info("caches are complete: %d nodes, %d pods", len(self.store.nodes), len(self.store.pods))
        await asyncio.gather(*(self._work() for _ in range(self.settings.workers)))

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            self.metrics.depth.set(len(self.queue))
            begun = time.perf_counter()
            try:
                requeue_after = await self.reconciler.reconcile(key)
                self.queue.forget(key)
                if requeue_after is not None:
                    self.queue.add_after(key, requeue_after)
            except ApiError as exc:
                self.metrics.errors.inc()
                pause = self.queue.retry(key, at_least=exc.retry_after)
                _log.warning("%s: %s; again in %.1f s", key, exc, pause)
            except TimeoutError:
                self.metrics.errors.inc()
                _log.warning("%s: not done within %.0f s; again in %.1f s", key, DEADLINE, self.queue.retry(key))
            except Exception:
                self.metrics.errors.inc()
                _log.exception("%s: a reconcile failed; again in %.1f s", key, self.queue.retry(key))
            finally:
                self.metrics.reconciles.observe(time.perf_counter() - begun)
                self.queue.done(key)

    async def _resync(self) -> None:
        """Now and then reconciles everything, also what a broken watch of kopf's has missed."""
        while True:
            await asyncio.sleep(self.settings.resync_seconds * (0.8 + 0.4 * random.random()))  # noqa: S311
            try:
                await self._relist()
            except Exception as exc:
                _log.warning("resync: the list of OmniDeployments failed: %s", exc)
            for key in list(self.store.omnis):
                self.queue.add(key, priority=Priority.RESYNC)

    async def _relist(self) -> None:
        before = dict(self.store.omnis)
        page = json.loads(await self.kube.list_page(OMNI, query={}))
        for raw in page["items"]:
            self.on_event(None, raw)
        living = {o["metadata"]["uid"] for o in page["items"]}
        for key, omni in before.items():
            if omni.uid not in living:
                self.store.remove(key, omni.uid)
                self.queue.add(key)


def _waits_for_nodes(omni: Omni) -> bool:
    """Whether capacity or a node's state can change what a reconcile does or says.

    Not while a plan that fits starts: its own pods come and go with every change of capacity.
    """
    conditions = {c["type"]: c for c in omni.status.get("conditions") or ()}
    planned, progressing = conditions.get(ConditionType.PLANNED), conditions.get(ConditionType.PROGRESSING)
    if omni.deleting or (planned is not None and planned["reason"] != Reason.PLAN_FITS):
        return True
    # shared memory on a node that is not Ready
    return progressing is not None and progressing["reason"] == Reason.DRAINING
