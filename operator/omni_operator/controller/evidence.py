"""What the engine itself says of its edges: pure reading of metrics and logs. `controller/witness.py` fetches them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from omni_operator.api.spec import Protocol
from omni_operator.planning.model import EdgePlan

Edge = tuple[int, int]

# 0.22 on counts payloads by from_stage and to_stage (vllm_omni/metrics, run with 0.30).
_COUNTER = re.compile(r"vllm_omni:transfer_\w+_count")
# What Mooncake logs when it cannot use the RDMA that it was asked for; it then uses TCP, and still says rdma (0.3.11, 0.3.13: run).
_FALLBACK = re.compile(r"no rdma devices found|no available rnic", re.IGNORECASE)
_LONGEST_LINE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """A pod whose log says that RDMA is not used, with the line."""

    pod: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What has been seen of the active revision.

    Attributes:
        moved: Edges over which every server has counted a payload.
        fallbacks: Pods that fell back to TCP.
        silent: Why the engine's counters could not be read; empty when they were.
        unread: Pods of RDMA edges whose log could not be read; without it no such edge is verified.
    """

    moved: frozenset[Edge] = frozenset()
    fallbacks: tuple[Fallback, ...] = ()
    silent: str = ""
    unread: tuple[str, ...] = ()


NOTHING_SEEN = Evidence()


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeVerdict:
    """What is known of one edge: Verified, Degraded or Unknown, and why."""

    state: str
    why: str


def moved(metrics: str) -> frozenset[Edge]:
    """Edges that a server's metrics count a payload for.

    Raises:
        ValueError: The text is no Prometheus exposition.
    """
    found = set()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            ends = sample.labels.get("from_stage", ""), sample.labels.get("to_stage", "")
            if sample.value > 0 and _COUNTER.fullmatch(sample.name) and all(end.isdecimal() for end in ends):
                found.add((int(ends[0]), int(ends[1])))
    return frozenset(found)


def fallback(pod: str, log: str) -> Fallback | None:
    """The line of a pod's log that says RDMA is not used, if there is one."""
    found = next((line for line in log.splitlines() if _FALLBACK.search(line)), None)
    return None if found is None else Fallback(pod=pod, line=found.strip()[:_LONGEST_LINE])


def verdict(edge: EdgePlan, evidence: Evidence, *, counts: bool) -> EdgeVerdict:
    """The judgement on one edge of the plan; `counts` says whether the release counts payloads."""
    if edge.protocol is Protocol.RDMA and evidence.fallbacks:
        first = evidence.fallbacks[0]
        return EdgeVerdict(state="Degraded", why=f"RDMA was planned, but pod {first.pod} uses TCP: {first.line}")
    if edge.connector is None:
        return EdgeVerdict(state="Unknown", why="the server hands results on itself; no connector carries them")
    if not counts:
        return EdgeVerdict(state="Unknown", why="this release does not count payloads by edge")
    if edge.protocol is Protocol.RDMA and evidence.unread:
        return EdgeVerdict(
            state="Unknown",
            why=f"the log of pod {evidence.unread[0]} could not be read, and only it says whether RDMA is used",
        )
    if (edge.producer, edge.consumer) in evidence.moved:
        return EdgeVerdict(state="Verified", why=f"the engine counted payloads over {edge.connector_class}")
    return EdgeVerdict(state="Unknown", why=evidence.silent or "no request has used it yet")


def named(edges: Iterable[EdgePlan]) -> str:
    """Edges in words."""
    return ", ".join(f"{edge.from_stage} -> {edge.to_stage}" for edge in edges)


def unseen(edges: Sequence[EdgePlan], evidence: Evidence) -> list[EdgePlan]:
    """Edges with a connector that no payload has been seen on."""
    return [e for e in edges if e.connector is not None and (e.producer, e.consumer) not in evidence.moved]
