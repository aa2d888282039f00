"""Ports that connectors bind, by the release's own formula, and bases that keep them apart.

Each pod has an address of its own, so only what runs in one pod must differ. A base depends on the
edge and on nothing else: not on replicas, not on the order of stages, so scaling moves no port.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from omni_operator.api.ports import FIRST_CONNECTOR, HIGHEST
from omni_operator.connectors.registry import connector
from omni_operator.engine.release import PayloadKind, PortFormula, Release
from omni_operator.planning.demand import StageDemand
from omni_operator.planning.model import EdgePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PortUse:
    """One port that a stage's worker binds."""

    edge: tuple[int, int]
    purpose: str
    replica: int
    rank: int
    port: int


def listens(edge: EdgePlan) -> bool:
    """Whether the producer of an edge binds a port."""
    return edge.connector is not None and connector(edge.connector).listens


def base_ports(edges: Sequence[EdgePlan], *, release: Release) -> dict[tuple[int, int], int]:
    """The base port of every edge whose connector listens.

    Where the formula applies, edges of different producers may share a base, since the producer's
    id is a term; of one producer they may not. Where it does not, the port is bound as it is
    written, so every edge has its own.
    """
    out: dict[tuple[int, int], int] = {}
    for edge in edges:
        if not listens(edge):
            continue
        before = sum(1 for other in out if other[0] == edge.producer)
        if _by_formula(edge.payload_kind, release.ports):
            # Beside the ranks of every purpose of the earlier edge of the same producer (and below
            # the next replica's block).
            out[edge.producer, edge.consumer] = FIRST_CONNECTOR + before * 512
        else:
            out[edge.producer, edge.consumer] = FIRST_CONNECTOR + 16 * edge.producer + before
    return out


def _by_formula(payload_kind: PayloadKind, formula: PortFormula | None) -> bool:
    return formula is not None and (formula.payloads or payload_kind is PayloadKind.KV_CACHE)


def ports_of(edge: EdgePlan, *, formula: PortFormula | None, replicas: int, ranks: int) -> Iterator[PortUse]:
    """The ports that the producer of an edge binds.

    A payload is sent by rank 0 alone, a KV cache by every rank.
    """
    if not listens(edge):
        return
    purpose = "kv_transfer" if edge.payload_kind is PayloadKind.KV_CACHE else "request_forwarding"
    for replica in range(replicas):
        for rank in range(ranks if edge.payload_kind is PayloadKind.KV_CACHE else 1):
            port = edge.port
            if formula is not None and _by_formula(edge.payload_kind, formula):
                port += formula.purposes[purpose] + edge.producer
                port += replica * formula.replica_stride + rank * formula.rank_stride
            yield PortUse(edge=(edge.producer, edge.consumer), purpose=purpose, replica=replica, rank=rank, port=port)


def most_copies(payload_kind: PayloadKind, *, formula: PortFormula | None, stage: StageDemand) -> int:
    """Copies of a producer whose ports stay in range and do not overlap in a shared pod.

    1 where nothing keeps the ports of copies apart.
    """
    if formula is None or not formula.replica_stride or not _by_formula(payload_kind, formula):
        return 1
    ranks = stage.per_replica if payload_kind is PayloadKind.KV_CACHE else 1
    highest = FIRST_CONNECTOR + max(formula.purposes.values()) + (ranks - 1) * formula.rank_stride + stage.id
    if highest - FIRST_CONNECTOR >= formula.replica_stride:
        return 1
    return 1 + (HIGHEST - highest) // formula.replica_stride
