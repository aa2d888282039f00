"""What is known of every edge of a plan, from what the engine itself said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.spec import Protocol
from omni_operator.controller.state.signals import TransferObservation
from omni_operator.engine.releases import release_of
from omni_operator.planning.model import EdgePlan, Plan


class EdgeState(StrEnum):
    """What is known of one edge."""

    VERIFIED = "Verified"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeObservation:
    """What is known of one edge, and why."""

    edge: EdgePlan
    state: EdgeState
    why: str


def observe_edges(plan: Plan, seen: TransferObservation) -> tuple[EdgeObservation, ...]:
    """What is known of every edge of a plan, in its order."""
    counts = release_of(plan.series).transfer_counter is not None
    judged = [(edge, *_judge(edge, seen, counts=counts)) for edge in plan.edges]
    return tuple(EdgeObservation(edge=edge, state=state, why=why) for edge, state, why in judged)


def _judge(edge: EdgePlan, seen: TransferObservation, *, counts: bool) -> tuple[EdgeState, str]:
    if edge.protocol is Protocol.RDMA and seen.fallbacks:
        first = seen.fallbacks[0]
        return EdgeState.DEGRADED, f"RDMA was planned, but pod {first.pod} uses TCP: {first.text}"
    if edge.connector is None:
        return EdgeState.UNKNOWN, "the server hands results on itself; no connector carries them"
    if not counts:
        return EdgeState.UNKNOWN, "this release does not count payloads by edge"
    if not seen.has_counted(edge):
        return EdgeState.UNKNOWN, seen.counters_error or "no request has used it yet"
    if edge.protocol is Protocol.RDMA and seen.unreadable_logs:
        pod = seen.unreadable_logs[0]
        return EdgeState.UNKNOWN, f"only its log says whether RDMA is used, and that of pod {pod} could not be read"
    return EdgeState.VERIFIED, f"the engine counted payloads over {edge.connector_class}"


def in_words(found: Sequence[EdgeObservation]) -> str:
    """Edges in words, with the reason of the first."""
    edges = ", ".join(f"{each.edge.from_stage} -> {each.edge.to_stage}" for each in found)
    return f"{edges}: {found[0].why}"
