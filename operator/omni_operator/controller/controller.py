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
from omni_operator.api.conditions import ConditionType, Truth
from omni_operator.children.names import MANAGER
from omni_operator.controller import objects
from omni_operator.controller.cache import Cache
from omni_operator.controller.metrics import Metrics
from omni_operator.controller.objects import Omni
from omni_operator.controller.omni_writer import OMNI
from omni_operator.controller.probes import Probes
from omni_operator.controller.reconcile import Reconciler
from omni_operator.controller.settings import Settings
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.credentials import Credentials
from omni_operator.kube.queue import KeyedQueue, Priority

_log = logging.getLogger(__name__)
_CRD = f"CustomResourceDefinition {PLURAL}.{GROUP}"
_CRD_PAUSE, _CRD_WORDS_SECONDS = 1.0, 10.0
_CAPACITY_PAUSE = 1.0  # many pods end together; one look after them is enough
_ALL_IS_WELL = (ConditionType.ACCEPTED, ConditionType.PLANNED, ConditionType.READY)


class Controller:
    """One process of the operator."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self.settings = settings
        self.kube = Kube(credentials=credentials, manager=MANAGER)
        self.queue = KeyedQueue()
        self.cache = Cache(kube=self.kube, look=self._look, capacity_changed=self._capacity_changed)
        self.metrics = Metrics()
        self.reconciler = Reconciler(kube=self.kube, cache=self.cache, settings=settings, instance=socket.gethostname())
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._synced = False
        self._waits_for = _CRD
        self._probes = Probes(
            port=settings.http_port, metrics=self.metrics, dead=self._dead, waits_for=lambda: self._waits_for
        )

    async def start(self) -> None:
        """Starts everything, once there are OmniDeployments; workers begin when the caches are complete."""
        await self.kube.__aenter__()
        self.metrics.count_requests_of(self.kube)
        await self._probes.start()
        await self._wait_for_crd()
        self._waits_for = "the caches"
        for reflector in self.cache.reflectors():
            self._spawn(f"reflector of {reflector.resource.plural}", reflector.run())
        self._spawn("workers", self._work_when_synced())
        self._spawn("resync", self._resync())

    async def stop(self) -> None:
        """Ends everything; what a worker had begun is taken up by the next process."""
        self.queue.close()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.reconciler.close()
        await self._probes.stop()
        await self.kube.__aexit__()

    def saw(self, kind: str | None, raw: dict[str, Any]) -> None:
        """An event of an OmniDeployment: kind is ADDED, MODIFIED, DELETED, or None for what a first list found."""
        seen = objects.omni(raw)
        known = self.cache.omnis.get(seen.key)
        if kind == "DELETED":
            if known is not None and known.uid == seen.uid:
                del self.cache.omnis[seen.key]
        elif self.cache.learn(seen):
            # Our own status writes come back as events; only a change of what we read is a reason to look.
            if known is None or (known.uid, known.generation, known.deleting) != (
                seen.uid,
                seen.generation,
                seen.deleting,
            ):
                self.queue.add(seen.key, priority=Priority.RESYNC if kind is None else Priority.EDIT)
            elif known.status != seen.status or known.finalizers != seen.finalizers:
                self.queue.add(seen.key)

    def _look(self, key: str) -> None:
        self.queue.add(key)

    def _capacity_changed(self) -> None:
        """Looks again at those that a change of capacity can help: all but the ones that have what they want.

        A deletion is one of them: it may wait for a node to be ready again, or to be gone.
        """
        for omni in self.cache.omnis.values():
            if self._synced and (omni.deleting or not _has_what_it_wants(omni)):
                self.queue.add_after(omni.key, _CAPACITY_PAUSE)

    async def _wait_for_crd(self) -> None:
        """Until the API server serves OmniDeployments: kopf looks for them once, and never watches a CRD that comes later."""
        told = -math.inf
        while why := await self._lacks_crd():
            if (now := asyncio.get_running_loop().time()) - told >= _CRD_WORDS_SECONDS:
                _log.warning("waiting for %s: %s", _CRD, why)
                told = now
            await asyncio.sleep(_CRD_PAUSE)

    async def _lacks_crd(self) -> str:
        """What is missing and what to do about it; nothing when all is there."""
        try:
            await self.kube.list_page(OMNI, query={"limit": "1"})
            return "" if await self.kube.discovers(OMNI) else "the API server is about to serve it"
        except ApiError as exc:
            if exc.not_found:
                return "the API server does not know it; install the CRD of this release (the Helm chart has it, or `kubectl apply -f crds/`)"
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
        await self.cache.synced()
        self._synced, self._waits_for = True, ""
        _log.info("caches are complete: %d nodes, %d pods", len(self.cache.nodes), len(self.cache.pods))
        await asyncio.gather(*(self._work() for _ in range(self.settings.workers)))

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            self.metrics.depth.set(len(self.queue))
            begun = time.perf_counter()
            try:
                again = await self.reconciler.look(key)
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            except ApiError as exc:
                self.metrics.errors.inc()
                _log.warning("%s: %s; again in %.1f s", key, exc, self.queue.retry(key))
            except Exception:
                self.metrics.errors.inc()
                _log.exception("%s: a look failed; again in %.1f s", key, self.queue.retry(key))
            finally:
                self.metrics.looks.observe(time.perf_counter() - begun)
                self.queue.done(key)

    async def _resync(self) -> None:
        """Now and then looks at everything, also at what came or vanished while kopf's watch was broken."""
        while True:
            await asyncio.sleep(self.settings.resync_seconds * (0.8 + 0.4 * random.random()))  # noqa: S311
            try:
                await self._relist()
            except Exception as exc:
                _log.warning("resync: the list of OmniDeployments failed: %s", exc)
            for key in list(self.cache.omnis):
                self.queue.add(key, priority=Priority.RESYNC)

    async def _relist(self) -> None:
        before = set(self.cache.omnis)
        page = json.loads(await self.kube.list_page(OMNI, query={}))
        for raw in page["items"]:
            self.saw(None, raw)
        living = {f"{o['metadata']['namespace']}/{o['metadata']['name']}" for o in page["items"]}
        for key in before - living:
            self.cache.omnis.pop(key, None)


def _has_what_it_wants(omni: Omni) -> bool:
    """Whether the spec as it is now runs: after an edit that no node can hold, the old revision goes on and is Ready."""
    conditions = {c["type"]: c["status"] for c in omni.status.get("conditions") or ()}
    return all(conditions.get(kind) == Truth.TRUE for kind in _ALL_IS_WELL)
