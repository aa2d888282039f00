"""Asks the engine what its edges carried: counters of the servers, and the logs of pods that should use RDMA.

Only of revisions that are up, rarely, and bounded: a page of metrics and the beginning of a log, which is where a connector says
what it found. What was seen is kept while the pods are the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from omni_operator.api.spec import Protocol
from omni_operator.children.names import COMPONENT, Component
from omni_operator.controller import evidence
from omni_operator.controller.evidence import NOTHING_SEEN, Evidence, Fallback
from omni_operator.controller.objects import Pod
from omni_operator.controller.observed import Known, Observed
from omni_operator.engine.records import release_of
from omni_operator.kube.client import ApiError, Kube

PAUSE = 15.0  # seconds while an edge has not been seen; a request that passed is told soon after
_REST = 300.0  # once all have been
_PATIENCE = aiohttp.ClientTimeout(total=4)
_METRICS_BYTES = 4 << 20
_LOG_BYTES = 1 << 20


@dataclass(slots=True)
class _Seen:
    """What was seen of pods, which are `pods`, at a time."""

    pods: frozenset[tuple[str, str]]
    at: float = float("-inf")
    found: Evidence = field(default_factory=Evidence)
    read: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Witness:
    """The only one who asks engines."""

    kube: Kube
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        """Drops what is known of an OmniDeployment that is gone."""
        self._seen.pop(key, None)

    async def ask(self, observed: Observed, active: Known) -> tuple[Evidence, float | None]:
        """What has been seen, and the seconds after which to ask again; None when nothing will ever be seen."""
        plan = active.revision.plan
        counts = release_of(plan.line).metrics
        rdma = any(edge.protocol is Protocol.RDMA for edge in plan.edges)
        mine = [p for p in observed.live_pods() if p.revision == active.revision.name and not p.deleting]
        servers = [p for p in mine if p.labels.get(COMPONENT) == Component.SERVING and p.ready]
        if not servers or not (counts or rdma):
            return NOTHING_SEEN, None
        ends = [p for p in mine if p.labels.get(COMPONENT) in {Component.SERVING, Component.WORKER}]
        pods = frozenset((p.name, p.started) for p in ends)
        seen = self._seen.get(observed.omni.key)
        if seen is None or seen.pods != pods:
            seen = self._seen[observed.omni.key] = _Seen(pods)
        rest = PAUSE if counts and evidence.unseen(plan.edges, seen.found) else _REST
        if (left := seen.at + rest - self.clock()) > 0:
            return seen.found, left
        fallbacks = await self._fallbacks(ends, seen) if rdma else seen.found.fallbacks
        moved, silent = await self._moved(servers, active) if counts else (frozenset[evidence.Edge](), "")
        seen.found = Evidence(moved=seen.found.moved | moved, fallbacks=fallbacks, silent=silent)
        seen.at = self.clock()
        return seen.found, PAUSE if counts and evidence.unseen(plan.edges, seen.found) else _REST

    async def _moved(self, servers: list[Pod], active: Known) -> tuple[frozenset[evidence.Edge], str]:
        port = active.revision.spec.serving.port
        try:
            async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
                pages = await asyncio.gather(
                    *(_page(session, f"http://{pod.address}:{port}/metrics") for pod in servers)
                )
            found = [evidence.moved(page) for page in pages]
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            return frozenset(), f"the engine's counters (/metrics) could not be read: {type(exc).__name__}"
        return frozenset.intersection(*found), ""

    async def _fallbacks(self, ends: list[Pod], seen: _Seen) -> tuple[Fallback, ...]:
        """Every pod's log is read once; one that cannot be read yet is tried again."""
        fresh = [pod for pod in ends if pod.name not in seen.read]
        found = list(seen.found.fallbacks)
        for pod in fresh:
            try:
                log = await self.kube.log(pod.namespace, pod.name, limit_bytes=_LOG_BYTES)
            except ApiError:
                continue
            seen.read.add(pod.name)
            if (fell := evidence.fallback(pod.name, log)) is not None:
                found.append(fell)
        return tuple(sorted(found, key=lambda each: each.pod))


async def _page(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as answer:
        answer.raise_for_status()
        text = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            text += chunk
            if len(text) > _METRICS_BYTES:
                msg = f"more than {_METRICS_BYTES} bytes"
                raise ValueError(msg)
        return text.decode(errors="replace")
