"""The transport of every edge: the cheapest usable one (planning/cost.py), and a coded reason for every better one that is not.

Where workers move payloads (0.18 on), a stage that receives and sends has one connector for both, that of its first input
(engine/stage_init_utils.py get_stage_connector_spec), so the edges that meet in such a stage are decided together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omni_operator.api.spec import Backend, Connector, Protocol
from omni_operator.engine.connector import TRANSPORTS, Rejection, Transport
from omni_operator.engine.pipeline import Edge
from omni_operator.engine.release import EdgeUse, Mover
from omni_operator.planning.cost import cost, hardly_more
from omni_operator.planning.ground import Ground
from omni_operator.planning.model import EdgePlan, Reach, Rejected
from omni_operator.planning.rejects import BY_SERVER, reject
from omni_operator.topology.quantity import binary


@dataclass(frozen=True, slots=True)
class NoTransport:
    """No transport is usable on an edge."""

    edge: str
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """Edges that use one transport together, by their indices, and what that costs (planning/cost.py)."""

    edges: tuple[int, ...]
    transport: Transport
    cost: int


@dataclass(slots=True)
class Chooser:
    """Chooses transports on one ground; remembers, since many layouts ask the same."""

    ground: Ground
    _chains: list[tuple[int, ...]] = field(init=False)
    _payloads: list[int] = field(init=False)
    _usable: dict[tuple[int, Reach], int] = field(init=False, default_factory=dict)
    _known: dict[tuple[tuple[int, ...], tuple[Reach, ...]], Carried | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._chains = chains(self.ground)
        self._payloads = [self.ground.payload(edge) for edge in self.ground.pipeline.edges]

    def pick(self, reaches: Sequence[Reach]) -> list[Carried] | None:
        """How all edges that use a connector are carried; None when an edge cannot have any."""
        out = []
        for chain in self._chains:
            found = self._carried(chain, reaches)
            if found is None:
                return None
            out.append(found)
        return out

    def explain(self, reaches: Sequence[Reach]) -> tuple[EdgePlan, ...] | NoTransport:
        """The same decision with every better choice that was rejected, and why."""
        ground, plans = self.ground, []
        for index, edge in enumerate(ground.pipeline.edges):
            chain = next((c for c in self._chains if index in c), None)
            if chain is None:
                plans.append(_edge_plan(ground, edge, reaches[index], None))
                continue
            near = {i: reaches[i] for i in chain}
            found = self._carried(chain, reaches)
            rejected = _rejections(ground, near, index=index, better=self._better(near, found))
            if found is None:
                return NoTransport(edge=" -> ".join(ground.names(edge)), rejected=rejected)
            plans.append(
                _edge_plan(ground, edge, reaches[index], found.transport, rejected, by_size=self._by_size(near, found))
            )
        return tuple(plans)

    def _carried(self, chain: tuple[int, ...], reaches: Sequence[Reach]) -> Carried | None:
        near = {i: reaches[i] for i in chain}
        key = chain, tuple(near.values())
        if key not in self._known:
            best = self._best(near, self._payloads)
            self._known[key] = Carried(chain, best, _cost(best, near, self._payloads)) if best else None
        return self._known[key]

    def _best(self, near: Mapping[int, Reach], payloads: Sequence[int]) -> Transport | None:
        """The transport of a chain, of those that all its edges can use."""
        able = -1
        for index, reach in near.items():
            able &= self._usable_on(index, reach)
        usable = [transport for place, transport in enumerate(TRANSPORTS) if able >> place & 1]
        return _first_of_cheapest({transport: _cost(transport, near, payloads) for transport in usable})

    def _better(self, near: Mapping[int, Reach], found: Carried | None) -> list[Transport]:
        """The transports that would have been chosen before the one that was; all when none was."""
        if found is None:
            return list(TRANSPORTS)
        costs = {transport: _cost(transport, near, self._payloads) for transport in TRANSPORTS}
        pairs = {t: {k: v for k, v in costs.items() if k in {t, found.transport}} for t in TRANSPORTS}
        return [t for t, both in pairs.items() if t != found.transport and _first_of_cheapest(both) == t]

    def _by_size(self, near: Mapping[int, Reach], found: Carried) -> bool:
        """Whether payloads of another size would be carried by another transport: the least that there are, or those of the bound."""
        edges = self.ground.pipeline.edges
        least, most = [0] * len(edges), [edge.max_payload_bytes for edge in edges]
        return any(self._best(near, payloads) != found.transport for payloads in (least, most))

    def _usable_on(self, index: int, reach: Reach) -> int:
        """A bit for every one of TRANSPORTS that is usable on one edge."""
        key = index, reach
        if key not in self._usable:
            edge = self.ground.pipeline.edges[index]
            against = [reject(self.ground, edge, reach, transport) for transport in TRANSPORTS]
            self._usable[key] = sum(1 << place for place, found in enumerate(against) if found is None)
        return self._usable[key]


def _first_of_cheapest(costs: Mapping[Transport, int]) -> Transport | None:
    """The first of those that cost hardly more than the cheapest."""
    least = min(costs.values(), default=0)
    return next((transport for transport, each in costs.items() if hardly_more(each, least)), None)


def _cost(transport: Transport, near: Mapping[int, Reach], payloads: Sequence[int]) -> int:
    return sum(cost(transport, reach, payloads[index]) for index, reach in near.items())


def chains(ground: Ground) -> list[tuple[int, ...]]:
    """Edges that must use one connector together, by their indices; those that no connector carries are left out, unless the user asks for one."""
    edges = ground.pipeline.edges
    found: list[tuple[int, ...]] = []
    for index, edge in enumerate(edges):
        by_server = ground.use(edge) is EdgeUse.PROMPT
        if by_server and ground.override(edge) is None:
            continue
        joined = [
            chain
            for chain in found
            if not by_server
            and ground.release.mover is Mover.WORKERS
            and any(edges[i].consumer == edge.producer or edges[i].producer == edge.consumer for i in chain)
        ]
        found = [chain for chain in found if chain not in joined]
        found.append((*(i for chain in joined for i in chain), index))
    return found


def _rejections(
    ground: Ground, chain: Mapping[int, Reach], *, index: int, better: Sequence[Transport]
) -> tuple[Rejected, ...]:
    """What is said on an edge of a chain against every transport that is better than the chosen one."""
    edges, out = ground.pipeline.edges, []
    edge = edges[index]
    for transport in better:
        against = {i: reject(ground, edges[i], reach, transport) for i, reach in chain.items()}
        mine = against[index]
        if mine is None:
            other, fact = next((edges[i], found[1]) for i, found in against.items() if found is not None)
            both = " -> ".join(ground.names(other))
            stage = ground.pipeline.stage(edge.consumer if other.producer == edge.consumer else edge.producer).name
            mine = (
                Rejection.ONE_CONNECTOR_PER_STAGE,
                f"stage {stage} has one connector for all its edges, and {both} cannot use this one: {fact}",
            )
        out.append(Rejected(choice=str(transport), code=mine[0], fact=mine[1]))
    return tuple(out)


def _edge_plan(
    ground: Ground,
    edge: Edge,
    reach: Reach,
    transport: Transport | None,
    rejected: tuple[Rejected, ...] = (),
    *,
    by_size: bool = False,
) -> EdgePlan:
    """The plan of an edge; without a transport the server hands the result on itself."""
    producer, consumer = ground.names(edge)
    connector, payload = transport.connector if transport else None, ground.payload(edge)
    reason = _why(ground, edge, reach, transport) if transport else BY_SERVER
    if by_size:
        reason += f"; chosen for payloads of about {binary(payload)} (transport.edges[].payload)"
    return EdgePlan(
        producer=edge.producer,
        consumer=edge.consumer,
        from_stage=producer,
        to_stage=consumer,
        reach=reach,
        use=ground.use(edge),
        connector=connector,
        connector_class=ground.release.connectors[connector].class_name if connector else "none",
        protocol=transport.protocol if transport else Protocol.TCP,
        payload_bytes=payload,
        max_payload_bytes=max(edge.max_payload_bytes, payload),
        reason=reason,
        rejected=rejected,
    )


def _why(ground: Ground, edge: Edge, reach: Reach, transport: Transport) -> str:
    moves = "the server moves payloads on Ray; " if ground.backend is Backend.RAY else ""
    asked = " (as transport.edges asks)" if ground.override(edge) is not None else ""
    if transport.protocol is Protocol.SHM:
        if reach is Reach.SAME_POD:
            return f"{moves}both ends are one pod{asked}"
        return f"{moves}it shares a node, and one folder of its /dev/shm, with the workers{asked}"
    if transport.protocol is Protocol.RDMA:
        return f"{moves}every node that may host an end offers {ground.rdma}, which both ends request{asked}"
    if reach is Reach.SAME_POD:
        return f"{moves}TCP works inside a pod as between any two{asked}"
    return f"{moves}TCP works between any two pods{asked}"


def mixed_store_protocols(transports: Sequence[Transport]) -> bool:
    """Whether edges of one store would differ in protocol, which Mooncake refuses (kvcache-ai/Mooncake#553)."""
    return len({t.protocol for t in transports if t.connector is Connector.MOONCAKE_STORE}) > 1
