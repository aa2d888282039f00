"""Ports that connectors bind, by the release's own formula, and bases that keep them apart.

Each pod has an address of its own, so only what runs in one pod must differ. A base depends on the edge and on nothing else:
not on replicas, not on the order of stages, so scaling moves no port.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from omni_operator.api.spec import Connector
from omni_operator.engine.release import EdgeUse, PortFormula, Release
from omni_operator.planning.model import EdgePlan

LISTENERS = frozenset({Connector.MOONCAKE_TRANSFER_ENGINE, Connector.NIXL})
FIRST_PORT = 50051  # upstream's default; below it lie the server's, Ray's and the head's ports
EPOCH_PORT = 25999  # where the head's supervisor tells stages which start of the head it is
MASTER_PORT = 26000  # of the head that headless stages register with (-omp); the rest it takes are ephemeral
_HIGHEST = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class PortUse:
    """One port that a stage's worker binds."""

    edge: tuple[int, int]
    purpose: str
    replica: int
    rank: int
    port: int


def base_ports(edges: Sequence[EdgePlan], *, release: Release) -> dict[tuple[int, int], int]:
    """The base port of every edge whose connector listens.

    Where the formula applies, edges of different producers may share a base, since the producer's id is a term; of one producer
    they may not. Where it does not, the port is bound as it is written, so every edge has its own.
    """
    out: dict[tuple[int, int], int] = {}
    for edge in edges:
        if edge.connector not in LISTENERS:
            continue
        before = sum(1 for other in out if other[0] == edge.producer)
        if _by_formula(edge, release.ports):
            # Beside the ranks of every purpose of the earlier edge of the same producer (and below the next replica's block).
            out[edge.producer, edge.consumer] = FIRST_PORT + before * 512
        else:
            out[edge.producer, edge.consumer] = FIRST_PORT + 16 * edge.producer + before
    return out


def _by_formula(edge: EdgePlan, formula: PortFormula | None) -> bool:
    return formula is not None and (formula.payloads or edge.use is EdgeUse.KV_CACHE)


def ports_of(edge: EdgePlan, *, formula: PortFormula | None, replicas: int, ranks: int) -> Iterator[PortUse]:
    """The ports that the producer of an edge binds; a payload goes by rank 0 alone, a KV cache by every rank."""
    ends = (edge.producer, edge.consumer)
    if edge.connector not in LISTENERS:
        return
    if formula is None or not _by_formula(edge, formula):
        for replica in range(replicas):
            yield PortUse(edge=ends, purpose="request_forwarding", replica=replica, rank=0, port=edge.port)
        return
    purpose = "kv_transfer" if edge.use is EdgeUse.KV_CACHE else "request_forwarding"
    for replica in range(replicas):
        for rank in range(ranks if purpose == "kv_transfer" else 1):
            port = (
                edge.port
                + formula.purposes[purpose]
                + replica * formula.replica_stride
                + rank * formula.rank_stride
                + edge.producer
            )
            yield PortUse(edge=ends, purpose=purpose, replica=replica, rank=rank, port=port)


def most_replicas(edge: EdgePlan, *, formula: PortFormula | None, ranks: int) -> int:
    """Copies of the producer in one pod whose ports stay in range and apart; 1 where nothing keeps copies apart."""
    if edge.connector not in LISTENERS:
        return _HIGHEST
    if formula is None or not formula.replica_stride or not _by_formula(edge, formula):
        return 1
    highest = max(use.port for use in ports_of(edge, formula=formula, replicas=1, ranks=ranks))
    return 1 + (_HIGHEST - highest) // formula.replica_stride
