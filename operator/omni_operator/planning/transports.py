"""The transport of every edge.

It is the cheapest usable one (planning/cost.py); every better one has a coded reason against it.
Where workers move payloads (0.18 on), a stage that receives and sends has one connector for both,
that of its first input (engine/stage_init_utils.py get_stage_connector_spec), so the edges that
meet in such a stage are decided together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from omni_operator.api.spec import Backend, Protocol
from omni_operator.connectors.base import SIZES
from omni_operator.connectors.registry import connector
from omni_operator.connectors.transport import TRANSPORTS, Reach, Rejection, Transport
from omni_operator.engine.pipeline import Edge
from omni_operator.engine.release import PayloadKind, PayloadSender
from omni_operator.planning.context import TransportContext
from omni_operator.planning.cost import Load, best
from omni_operator.planning.model import EdgePlan, TransportRejection
from omni_operator.planning.rejection import BY_SERVER, reject
from omni_operator.topology.quantity import about


@dataclass(frozen=True, slots=True)
class NoTransport:
    """No transport is usable on an edge."""

    edge: str
    rejected: tuple[TransportRejection, ...]


@dataclass(frozen=True, slots=True)
class GroupAssignment:
    """Edges that use one transport together, by their indices, with what passes over each."""

    edges: tuple[int, ...]
    transport: Transport
    loads: tuple[Load, ...]


@dataclass(slots=True)
class Chooser:
    """Chooses transports in one context; cached, since many layouts have the same edges."""

    context: TransportContext
    _groups: list[tuple[int, ...]] = field(init=False)
    _payloads: list[tuple[int, bool]] = field(init=False)
    _usable: dict[tuple[int, Reach], frozenset[Transport]] = field(init=False, default_factory=dict)
    _known: dict[tuple[tuple[int, ...], tuple[Reach, ...]], GroupAssignment | None] = field(
        init=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._groups = edge_groups(self.context)
        edges = self.context.pipeline.edges
        self._payloads = [(self.context.payload(edge), self.context.stated_payload(edge) is not None) for edge in edges]

    def pick(self, reaches: Sequence[Reach]) -> list[GroupAssignment] | None:
        """The transport of every edge group with a connector; None when an edge has none."""
        out = []
        for group in self._groups:
            key = group, tuple(reaches[i] for i in group)
            if key not in self._known:
                loads = self._loads(group, reaches)
                found = best(self._able(group, reaches), loads)
                self._known[key] = GroupAssignment(group, found, tuple(loads)) if found else None
            assignment = self._known[key]
            if assignment is None:
                return None
            out.append(assignment)
        return out

    def explain(self, reaches: Sequence[Reach]) -> tuple[EdgePlan, ...] | NoTransport:
        """The same decision with every better choice that was rejected, and why."""
        context, plans = self.context, []
        for index, edge in enumerate(context.pipeline.edges):
            group = next((c for c in self._groups if index in c), None)
            if group is None:
                plans.append(_edge_plan(context, edge, reaches[index], None))
                continue
            able, loads = self._able(group, reaches), self._loads(group, reaches)
            transport = best(able, loads)
            better = [t for t in TRANSPORTS if t not in able and best([*able, t], loads) == t]
            rejected = _rejections(context, {i: reaches[i] for i in group}, index=index, better=better)
            if transport is None:
                return NoTransport(edge=" -> ".join(context.names(edge)), rejected=rejected)
            others = (best(able, [replace(load, payload=size) for load in loads]) for size in SIZES)
            by_size = self._payloads_of(group) if any(other != transport for other in others) else ""
            plans.append(_edge_plan(context, edge, reaches[index], transport, rejected, by_size=by_size))
        return tuple(plans)

    def _loads(self, group: Sequence[int], reaches: Sequence[Reach]) -> list[Load]:
        return [Load(reaches[i], *self._payloads[i]) for i in group]

    def _able(self, group: Sequence[int], reaches: Sequence[Reach]) -> list[Transport]:
        """The transports that all edges of a group can use."""
        usable = [self._usable_on(i, reaches[i]) for i in group]
        return [transport for transport in TRANSPORTS if all(transport in each for each in usable)]

    def _usable_on(self, index: int, reach: Reach) -> frozenset[Transport]:
        key = index, reach
        if key not in self._usable:
            edge = self.context.pipeline.edges[index]
            self._usable[key] = frozenset(t for t in TRANSPORTS if reject(self.context, edge, reach, t) is None)
        return self._usable[key]

    def _payloads_of(self, group: Sequence[int]) -> str:
        """The payload sizes that decide, for people.

        Such as 32Mi, or 32Mi on thinker -> talker and 1Mi on talker -> code2wav.
        """
        edges = self.context.pipeline.edges
        sizes = {i: about(self._payloads[i][0]) for i in group}
        if len(group) == 1:
            return sizes[group[0]]
        return " and ".join(f"{size} on {' -> '.join(self.context.names(edges[i]))}" for i, size in sizes.items())


def edge_groups(context: TransportContext) -> list[tuple[int, ...]]:
    """Edges that must use one connector together, by their indices.

    Edges that use no connector are left out, unless the user requests one for them.
    """
    edges = context.pipeline.edges
    found: list[tuple[int, ...]] = []
    for index, edge in enumerate(edges):
        by_server = context.payload_kind(edge) is PayloadKind.PROMPT
        if by_server and context.override(edge) is None:
            continue
        joined = [
            group
            for group in found
            if not by_server
            and context.release.payload_sender is PayloadSender.WORKERS
            and any(edges[i].consumer == edge.producer or edges[i].producer == edge.consumer for i in group)
        ]
        found = [group for group in found if group not in joined]
        found.append((*(i for group in joined for i in group), index))
    return found


def _rejections(
    context: TransportContext, group: Mapping[int, Reach], *, index: int, better: Sequence[Transport]
) -> tuple[TransportRejection, ...]:
    """The rejections on an edge of a group, for every transport better than the chosen one."""
    edges, out = context.pipeline.edges, []
    edge = edges[index]
    for transport in better:
        against = {i: reject(context, edges[i], reach, transport) for i, reach in group.items()}
        mine = against[index]
        if mine is None:
            other, fact = next((edges[i], found[1]) for i, found in against.items() if found is not None)
            both = " -> ".join(context.names(other))
            stage = context.pipeline.stage(edge.consumer if other.producer == edge.consumer else edge.producer).name
            mine = (
                Rejection.ONE_CONNECTOR_PER_STAGE,
                f"stage {stage} has one connector for all its edges, and {both} cannot use this one: {fact}",
            )
        out.append(TransportRejection(choice=str(transport), code=mine[0], fact=mine[1]))
    return tuple(out)


def _edge_plan(
    context: TransportContext,
    edge: Edge,
    reach: Reach,
    transport: Transport | None,
    rejected: tuple[TransportRejection, ...] = (),
    *,
    by_size: str = "",
) -> EdgePlan:
    """The plan of an edge; without a transport the server hands the result on itself."""
    producer, consumer = context.names(edge)
    kind = transport.connector if transport else None
    payload = context.payload(edge) if transport else 0
    reason = _why(context, edge, reach, transport) if transport else BY_SERVER
    if by_size:
        reason += f"; chosen for payloads of about {by_size} (transport.edges[].payload)"
    return EdgePlan(
        producer=edge.producer,
        consumer=edge.consumer,
        from_stage=producer,
        to_stage=consumer,
        reach=reach,
        payload_kind=context.payload_kind(edge),
        connector=kind,
        connector_class=context.release.connectors[kind].class_name if kind else "none",
        protocol=transport.protocol if transport else Protocol.TCP,
        payload_bytes=payload,
        max_payload_bytes=context.bound(edge) if transport else edge.max_payload_bytes,
        reason=reason,
        rejected=rejected,
    )


def _why(context: TransportContext, edge: Edge, reach: Reach, transport: Transport) -> str:
    moves = "the server moves payloads on Ray; " if context.backend is Backend.RAY else ""
    asked = " (as transport.edges asks)" if context.override(edge) is not None else ""
    if transport.protocol is Protocol.SHM:
        if reach is Reach.SAME_POD:
            return f"{moves}both ends are one pod{asked}"
        return f"{moves}it shares a node, and one folder of its /dev/shm, with the workers{asked}"
    if transport.protocol is Protocol.RDMA:
        return f"{moves}every node that may host an end offers {context.rdma}, which both ends request{asked}"
    if reach is Reach.SAME_POD:
        return f"{moves}TCP works inside a pod as between any two{asked}"
    return f"{moves}TCP works between any two pods{asked}"


def mixed_store_protocols(transports: Sequence[Transport]) -> bool:
    """Whether edges of one store would differ in protocol (kvcache-ai/Mooncake#553)."""
    return len({t.protocol for t in transports if connector(t.connector).needs_store}) > 1
