"""The transport of every edge: the cheapest usable one (planning/cost.py), and a coded reason for every better one that is not.

Where workers move payloads (0.18 on), a stage that receives and sends has one connector for both, that of its first input
(engine/stage_init_utils.py get_stage_connector_spec), so the edges that meet in such a stage are decided together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from omni_operator.api.spec import Backend, Connector, Protocol
from omni_operator.engine.connector import TRANSPORTS, Rejection, Transport
from omni_operator.engine.pipeline import Edge
from omni_operator.engine.release import EdgeUse, Mover
from omni_operator.planning.cost import SIZES, Load, best
from omni_operator.planning.ground import Ground
from omni_operator.planning.model import EdgePlan, Reach, Rejected
from omni_operator.planning.rejects import BY_SERVER, reject
from omni_operator.topology.quantity import about


@dataclass(frozen=True, slots=True)
class NoTransport:
    """No transport is usable on an edge."""

    edge: str
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """Edges that use one transport together, by their indices, with what passes over each."""

    edges: tuple[int, ...]
    transport: Transport
    loads: tuple[Load, ...]


@dataclass(slots=True)
class Chooser:
    """Chooses transports on one ground; remembers, since many layouts ask the same."""

    ground: Ground
    _chains: list[tuple[int, ...]] = field(init=False)
    _payloads: list[tuple[int, bool]] = field(init=False)
    _usable: dict[tuple[int, Reach], frozenset[Transport]] = field(init=False, default_factory=dict)
    _known: dict[tuple[tuple[int, ...], tuple[Reach, ...]], Carried | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._chains = chains(self.ground)
        edges = self.ground.pipeline.edges
        self._payloads = [(self.ground.payload(edge), self.ground.told(edge) is not None) for edge in edges]

    def pick(self, reaches: Sequence[Reach]) -> list[Carried] | None:
        """How all edges that use a connector are carried; None when an edge cannot have any."""
        out = []
        for chain in self._chains:
            key = chain, tuple(reaches[i] for i in chain)
            if key not in self._known:
                loads = self._loads(chain, reaches)
                found = best(self._able(chain, reaches), loads)
                self._known[key] = Carried(chain, found, tuple(loads)) if found else None
            carried = self._known[key]
            if carried is None:
                return None
            out.append(carried)
        return out

    def explain(self, reaches: Sequence[Reach]) -> tuple[EdgePlan, ...] | NoTransport:
        """The same decision with every better choice that was rejected, and why."""
        ground, plans = self.ground, []
        for index, edge in enumerate(ground.pipeline.edges):
            chain = next((c for c in self._chains if index in c), None)
            if chain is None:
                plans.append(_edge_plan(ground, edge, reaches[index], None))
                continue
            able, loads = self._able(chain, reaches), self._loads(chain, reaches)
            transport = best(able, loads)
            better = [t for t in TRANSPORTS if t not in able and best([*able, t], loads) == t]
            rejected = _rejections(ground, {i: reaches[i] for i in chain}, index=index, better=better)
            if transport is None:
                return NoTransport(edge=" -> ".join(ground.names(edge)), rejected=rejected)
            others = (best(able, [replace(load, payload=size) for load in loads]) for size in SIZES)
            by_size = self._payloads_of(chain) if any(other != transport for other in others) else ""
            plans.append(_edge_plan(ground, edge, reaches[index], transport, rejected, by_size=by_size))
        return tuple(plans)

    def _loads(self, chain: Sequence[int], reaches: Sequence[Reach]) -> list[Load]:
        return [Load(reaches[i], *self._payloads[i]) for i in chain]

    def _able(self, chain: Sequence[int], reaches: Sequence[Reach]) -> list[Transport]:
        """The transports that all edges of a chain can use."""
        usable = [self._usable_on(i, reaches[i]) for i in chain]
        return [transport for transport in TRANSPORTS if all(transport in each for each in usable)]

    def _usable_on(self, index: int, reach: Reach) -> frozenset[Transport]:
        key = index, reach
        if key not in self._usable:
            edge = self.ground.pipeline.edges[index]
            self._usable[key] = frozenset(t for t in TRANSPORTS if reject(self.ground, edge, reach, t) is None)
        return self._usable[key]

    def _payloads_of(self, chain: Sequence[int]) -> str:
        """What decides by its size, for people: such as 32Mi, or 32Mi on thinker -> talker and 1Mi on talker -> code2wav."""
        edges = self.ground.pipeline.edges
        sizes = {i: about(self._payloads[i][0]) for i in chain}
        if len(chain) == 1:
            return sizes[chain[0]]
        return " and ".join(f"{size} on {' -> '.join(self.ground.names(edges[i]))}" for i, size in sizes.items())


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
    by_size: str = "",
) -> EdgePlan:
    """The plan of an edge; without a transport the server hands the result on itself."""
    producer, consumer = ground.names(edge)
    connector = transport.connector if transport else None
    payload = ground.payload(edge) if transport else 0
    reason = _why(ground, edge, reach, transport) if transport else BY_SERVER
    if by_size:
        reason += f"; chosen for payloads of about {by_size} (transport.edges[].payload)"
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
        max_payload_bytes=ground.bound(edge) if transport else edge.max_payload_bytes,
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
