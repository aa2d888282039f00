"""Asks the engine what its edges carried: counters of the servers, and the logs of pods that should use RDMA.

Only of revisions that are up, rarely, and bounded: a page of metrics and the beginning of a log, which is where a connector says
what it found. What was seen is kept while the pods are the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from omni_operator.api.spec import Protocol
from omni_operator.children.names import COMPONENT, SERVER_CONTAINER, WORKER_CONTAINER, Component
from omni_operator.controller import evidence, servers
from omni_operator.controller.evidence import NOTHING_SEEN, Evidence, Fallback
from omni_operator.controller.objects import Pod
from omni_operator.controller.observed import Known, Observed
from omni_operator.engine.records import release_of
from omni_operator.kube.client import ApiError, Kube
from omni_operator.planning.model import EdgePlan

PAUSE = 15.0  # seconds while an edge has not been seen; a request that passed is told soon after
_TRY_AGAIN = 60.0  # after one that could not be asked
_REST = 300.0  # once all have been
_LOG_SECONDS = 5.0
_PATIENCE = aiohttp.ClientTimeout(total=4)
_METRICS_BYTES = 4 << 20
_LOG_BYTES = 1 << 20


@dataclass(slots=True)
class _Seen:
    """What was seen of pods, which are `pods`, at a time.

    Attributes:
        moved: Edges by the server that counted them.
        read: Pods whose log was read after they were ready, with the line that admits TCP, if there is one.
    """

    pods: frozenset[tuple[str, str]]
    at: float = float("-inf")
    found: Evidence = NOTHING_SEEN
    moved: dict[str, frozenset[evidence.Edge]] = field(default_factory=dict)
    read: dict[str, Fallback | None] = field(default_factory=dict)


@dataclass(slots=True)
class Witness:
    """The only one who asks engines. What it cannot learn never fails a look."""

    kube: Kube
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        """Drops what is known of an OmniDeployment that is gone."""
        self._seen.pop(key, None)

    async def ask(self, observed: Observed, active: Known, replicas: int) -> tuple[Evidence, float | None]:
        """What has been seen, and the seconds after which to ask again; None when nothing can be seen now."""
        plan = active.revision.plan
        counts = release_of(plan.line).metrics
        rdma = any(edge.protocol is Protocol.RDMA for edge in plan.edges)
        mine = [p for p in observed.live_pods() if p.revision == active.revision.name and not p.deleting]
        ends = [p for p in mine if p.labels.get(COMPONENT) in {Component.SERVING, Component.WORKER}]
        if not (counts or rdma):
            return NOTHING_SEEN, None
        pods = frozenset((p.name, p.started) for p in ends)
        seen = self._seen.get(observed.omni.key)
        if seen is None or seen.pods != pods:
            seen = self._seen[observed.omni.key] = _Seen(pods)
        heads = [p for p in ends if p.labels.get(COMPONENT) == Component.SERVING and p.ready]
        if len(heads) < replicas:
            return seen.found, None  # a server that becomes ready is an event
        rest = self._rest(plan.edges, seen.found, counts=counts)
        if (left := seen.at + rest - self.clock()) > 0:
            return seen.found, left
        unread = await self._read_logs(ends, seen) if rdma else ()
        silent = await self._count(heads, active, seen) if counts else ""
        counted = [seen.moved.get(server.name, frozenset[evidence.Edge]()) for server in heads]
        seen.found = Evidence(
            moved=frozenset.intersection(*counted),
            fallbacks=tuple(fell for _, fell in sorted(seen.read.items()) if fell is not None),
            silent=silent,
            unread=unread,
        )
        seen.at = self.clock()
        return seen.found, self._rest(plan.edges, seen.found, counts=counts)

    @staticmethod
    def _rest(edges: Sequence[EdgePlan], found: Evidence, *, counts: bool) -> float:
        if found.silent or found.unread:
            return _TRY_AGAIN
        waits = counts and any(edge.connector is not None and not found.saw(edge) for edge in edges)
        return PAUSE if waits else _REST

    async def _count(self, heads: list[Pod], active: Known, seen: _Seen) -> str:
        """Adds what servers counted; returns why one could not be asked."""
        port = active.revision.spec.serving.port
        try:
            async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
                pages = await asyncio.gather(*(_page(session, pod.address, port) for pod in heads))
            for pod, page in zip(heads, pages, strict=True):
                seen.moved[pod.name] = seen.moved.get(pod.name, frozenset()) | await asyncio.to_thread(
                    evidence.moved, page
                )
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as exc:
            return f"the engine's counters (/metrics) could not be read: {type(exc).__name__}"
        return ""

    async def _read_logs(self, ends: list[Pod], seen: _Seen) -> tuple[str, ...]:
        """Reads every log that was not read since its pod was ready; returns the pods whose log cannot be read."""
        fresh = [pod for pod in ends if pod.name not in seen.read]
        unread = await asyncio.gather(*(self._read(pod, seen) for pod in fresh))
        return tuple(sorted(name for name in unread if name))

    async def _read(self, pod: Pod, seen: _Seen) -> str:
        container = SERVER_CONTAINER if pod.labels.get(COMPONENT) == Component.SERVING else WORKER_CONTAINER
        try:
            async with asyncio.timeout(_LOG_SECONDS):
                log = await self.kube.log(pod.namespace, pod.name, container=container, limit_bytes=_LOG_BYTES)
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError):
            return pod.name
        seen.read[pod.name] = evidence.fallback(pod.name, log)
        return ""


async def _page(session: aiohttp.ClientSession, address: str, port: int) -> str:
    async with session.get(servers.url(address, port, "/metrics"), allow_redirects=False) as answer:
        answer.raise_for_status()
        return await servers.text(answer, limit=_METRICS_BYTES)
