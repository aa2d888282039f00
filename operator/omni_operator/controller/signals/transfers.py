"""Asks engines what their edges carried.

Counters of the servers, and the logs of pods that should use RDMA.

Only of revisions that are up, rarely, and bounded: a page of metrics and the beginning of a log,
which is where a connector says what it found. What was seen is kept while the pods are the same. It
runs in the background: no reconcile waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from omni_operator.api.spec import Protocol
from omni_operator.children.names import COMPONENT, SERVER_CONTAINER, WORKER_CONTAINER, Component
from omni_operator.connectors.registry import rdma_fallbacks
from omni_operator.controller.signals import http
from omni_operator.controller.signals.reading import counted_edges, rdma_fallback
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.signals import NOT_OBSERVED, EdgeKey, Fallback, TransferObservation
from omni_operator.controller.state.snapshot import StoredRevision
from omni_operator.engine.releases import release_of
from omni_operator.kube.client import ApiError, Kube

# seconds while an edge has not been seen; a request that passed is reported soon after
PAUSE = 15.0
_TRY_AGAIN = 60.0  # after one that could not be asked
_REST = 300.0  # once all have been
_LOG_SECONDS = 5.0
_PATIENCE = aiohttp.ClientTimeout(total=4)
_METRICS_BYTES = 4 << 20
_LOG_BYTES = 1 << 20

Pods = frozenset[tuple[str, str]]  # name of a pod and when it started


@dataclass(slots=True)
class _Monitor:
    """What was seen of a revision while its pods are these, and the task that goes on asking.

    Attributes:
        counted: Edges by the server that counted them.
        read: Pods whose log was read after they were ready, with the line that admits TCP, if there
            is one.
    """

    pods: Pods
    heads: Pods = frozenset()
    task: asyncio.Task[None] | None = None
    found: TransferObservation = NOT_OBSERVED
    counted: dict[str, frozenset[EdgeKey]] = field(default_factory=dict)
    read: dict[str, Fallback | None] = field(default_factory=dict)


@dataclass(slots=True)
class TransferMonitor:
    """The only one who asks engines about transfers. What it cannot learn never fails a reconcile.

    Attributes:
        wake: Called with the key of an OmniDeployment of whose edges something new is known.
    """

    kube: Kube
    wake: Callable[[str], None]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _monitors: dict[str, _Monitor] = field(default_factory=dict)

    def observation(self, uid: str) -> TransferObservation:
        """What has been seen of an OmniDeployment's active revision."""
        found = self._monitors.get(uid)
        return found.found if found is not None else NOT_OBSERVED

    def refresh(self, uid: str, *, key: str, active: StoredRevision, pods: list[Pod], replicas: int) -> None:
        """Asks while every replica has a ready server; `pods` are the live pods of the revision."""
        plan, release = active.revision.plan, release_of(active.revision.plan.series)
        rdma = any(edge.protocol is Protocol.RDMA for edge in plan.edges)
        if release.transfer_counter is None and not rdma:
            self.forget(uid)
            return
        ends = [p for p in pods if p.labels.get(COMPONENT) in {Component.SERVING, Component.WORKER} and not p.deleting]
        heads = [p for p in ends if p.labels.get(COMPONENT) == Component.SERVING and p.ready]
        named = frozenset((p.name, p.started) for p in ends)
        monitor = self._monitors.get(uid)
        if monitor is None or monitor.pods != named:
            self.forget(uid)
            monitor = self._monitors[uid] = _Monitor(named)
        now = frozenset((p.name, p.address) for p in heads) if len(heads) >= replicas else frozenset()
        if monitor.heads == now and (monitor.task is None) == (not now):
            return
        if monitor.task is not None:
            monitor.task.cancel()
            monitor.task = None
        monitor.heads = now
        if now:  # a server that becomes ready is an event
            work = self._watch(key, monitor, active, ends=ends, heads=heads)
            monitor.task = asyncio.create_task(work, name=f"transfers of {key}")

    def forget(self, uid: str) -> None:
        """Drops what is known of an OmniDeployment that is gone."""
        found = self._monitors.pop(uid, None)
        if found is not None and found.task is not None:
            found.task.cancel()

    async def close(self) -> None:
        """Ends all requests."""
        tasks = [each.task for each in self._monitors.values() if each.task is not None]
        for uid in list(self._monitors):
            self.forget(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(
        self, key: str, monitor: _Monitor, active: StoredRevision, *, ends: list[Pod], heads: list[Pod]
    ) -> None:
        while True:
            found = await self._observation(monitor, active, ends=ends, heads=heads)
            if found != monitor.found:
                monitor.found = found
                self.wake(key)
            await self.sleep(_rest(active, found))

    async def _observation(
        self, monitor: _Monitor, active: StoredRevision, *, ends: list[Pod], heads: list[Pod]
    ) -> TransferObservation:
        plan = active.revision.plan
        counts = release_of(plan.series).transfer_counter is not None
        rdma = any(edge.protocol is Protocol.RDMA for edge in plan.edges)
        unreadable = await self._read_logs(ends, active, monitor) if rdma else ()
        error = await self._count(heads, active, monitor) if counts else ""
        counted = [monitor.counted.get(server.name, frozenset[EdgeKey]()) for server in heads]
        return TransferObservation(
            counted=frozenset.intersection(*counted),
            fallbacks=tuple(fell for _, fell in sorted(monitor.read.items()) if fell is not None),
            counters_error=error,
            unreadable_logs=unreadable,
        )

    async def _count(self, heads: list[Pod], active: StoredRevision, monitor: _Monitor) -> str:
        """Adds what servers counted; returns why one could not be asked."""
        port, counter = active.revision.spec.serving.port, release_of(active.revision.plan.series).transfer_counter
        assert counter is not None
        try:
            async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
                pages = await asyncio.gather(*(_page(session, pod.address, port) for pod in heads))
            for pod, page in zip(heads, pages, strict=True):
                found = await asyncio.to_thread(counted_edges, page, counter)
                monitor.counted[pod.name] = monitor.counted.get(pod.name, frozenset()) | found
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as exc:
            return f"the engine's counters (/metrics) could not be read: {type(exc).__name__}"
        return ""

    async def _read_logs(self, ends: list[Pod], active: StoredRevision, monitor: _Monitor) -> tuple[str, ...]:
        """Reads every log that was not read since its pod was ready.

        Returns the pods whose log cannot be read.
        """
        fresh = [pod for pod in ends if pod.name not in monitor.read]
        unreadable = await asyncio.gather(*(self._read(pod, active, monitor) for pod in fresh))
        return tuple(sorted(name for name in unreadable if name))

    async def _read(self, pod: Pod, active: StoredRevision, monitor: _Monitor) -> str:
        container = SERVER_CONTAINER if pod.labels.get(COMPONENT) == Component.SERVING else WORKER_CONTAINER
        try:
            async with asyncio.timeout(_LOG_SECONDS):
                log = await self.kube.log(pod.namespace, pod.name, container=container, limit_bytes=_LOG_BYTES)
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError):
            return pod.name
        plan = active.revision.plan
        patterns = rdma_fallbacks((edge.connector for edge in plan.edges), release=release_of(plan.series))
        monitor.read[pod.name] = rdma_fallback(pod.name, log, patterns)
        return ""


def _rest(active: StoredRevision, found: TransferObservation) -> float:
    """Seconds until the engines are asked again."""
    if found.counters_error or found.unreadable_logs:
        return _TRY_AGAIN
    counts = release_of(active.revision.plan.series).transfer_counter is not None
    edges = active.revision.plan.edges
    waits = counts and any(edge.connector is not None and not found.has_counted(edge) for edge in edges)
    return PAUSE if waits else _REST


async def _page(session: aiohttp.ClientSession, address: str, port: int) -> str:
    async with session.get(http.url(address, port, "/metrics"), allow_redirects=False) as answer:
        answer.raise_for_status()
        return await http.text(answer, limit=_METRICS_BYTES)
