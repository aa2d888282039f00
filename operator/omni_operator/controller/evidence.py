"""What the engine itself says of its edges: pure reading of metrics and logs. `controller/witness.py` fetches them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client.parser import text_string_to_metric_families

from omni_operator.api.spec import Protocol
from omni_operator.engine.records import release_of
from omni_operator.planning.model import EdgePlan, Plan

Edge = tuple[int, int]

# 0.22 on counts payloads by from_stage and to_stage (vllm_omni/metrics, run with 0.30).
_COUNTER = re.compile(r"vllm_omni:transfer_\w+_count")
# What Mooncake logs when it cannot use the RDMA that it was asked for; it then uses TCP, and still says rdma (the first with 0.3.13.post1:
# run; the second is a string of its library).
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

    def saw(self, edge: EdgePlan) -> bool:
        """Whether a payload was seen on an edge."""
        return (edge.producer, edge.consumer) in self.moved


NOTHING_SEEN = Evidence()


class EdgeState(StrEnum):
    """What is known of one edge."""

    VERIFIED = "Verified"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeVerdict:
    """The judgement on one edge, and why."""

    edge: EdgePlan
    state: EdgeState
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


def judge(plan: Plan, evidence: Evidence) -> tuple[EdgeVerdict, ...]:
    """The judgement on every edge of a plan, in its order."""
    counts = release_of(plan.line).metrics
    judged = [(edge, *_judge(edge, evidence, counts=counts)) for edge in plan.edges]
    return tuple(EdgeVerdict(edge=edge, state=state, why=why) for edge, state, why in judged)


def _judge(edge: EdgePlan, evidence: Evidence, *, counts: bool) -> tuple[EdgeState, str]:
    if edge.protocol is Protocol.RDMA and evidence.fallbacks:
        first = evidence.fallbacks[0]
        return EdgeState.DEGRADED, f"RDMA was planned, but pod {first.pod} uses TCP: {first.line}"
    if edge.connector is None:
        return EdgeState.UNKNOWN, "the server hands results on itself; no connector carries them"
    if not counts:
        return EdgeState.UNKNOWN, "this release does not count payloads by edge"
    if not evidence.saw(edge):
        return EdgeState.UNKNOWN, evidence.silent or "no request has used it yet"
    if edge.protocol is Protocol.RDMA and evidence.unread:
        return (
            EdgeState.UNKNOWN,
            f"only its log says whether RDMA is used, and that of pod {evidence.unread[0]} could not be read",
        )
    return EdgeState.VERIFIED, f"the engine counted payloads over {edge.connector_class}"


def told(verdicts: Sequence[EdgeVerdict]) -> str:
    """Edges in words, with the reason of the first."""
    edges = ", ".join(f"{each.edge.from_stage} -> {each.edge.to_stage}" for each in verdicts)
    return f"{edges}: {verdicts[0].why}"
