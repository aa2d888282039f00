"""A transport for every edge of a layout, and what that costs.

Most layouts have the same edges inside pods, so results are cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from omni_operator.api.spec import Protocol
from omni_operator.connectors.transport import Reach
from omni_operator.planning.capacity import RdmaRequest
from omni_operator.planning.context import TransportContext
from omni_operator.planning.cost import cost
from omni_operator.planning.layout import Layout
from omni_operator.planning.transports import Chooser, mixed_store_protocols


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportAssignment:
    """A transport for every edge.

    Attributes:
        context: The facts by which the transports were chosen.
        cost: What the payloads cost on them.
        bytes_between_pods: Bytes that pass from pod to pod.
        ends: Stages at an end of an edge that RDMA carries.
        mixed: Whether they cannot share a store.
    """

    context: TransportContext
    cost: int
    bytes_between_pods: int
    ends: frozenset[int]
    mixed: bool

    def rdma_request(self, layout: Layout) -> RdmaRequest | None:
        """The pods that request an RDMA device.

        With Ray every pod does, since any stage may be in it; else the ends of RDMA edges.
        """
        if self.context.rdma is None or not self.ends:
            return None
        pods = [s.name for s in layout.shapes if layout.by_ray or not self.ends.isdisjoint(s.stages)]
        return RdmaRequest(resource=self.context.rdma, pods=frozenset(pods))


def assign(chooser: Chooser, reaches: Sequence[Reach]) -> TransportAssignment | None:
    """The assignment in one context; None when an edge cannot have any transport."""
    picked = chooser.pick(reaches)
    if picked is None:
        return None
    edges = chooser.context.pipeline.edges
    by_rdma = [
        edges[i] for assignment in picked if assignment.transport.protocol is Protocol.RDMA for i in assignment.edges
    ]
    return TransportAssignment(
        context=chooser.context,
        cost=sum(cost(assignment.transport, assignment.loads).weight for assignment in picked),
        bytes_between_pods=sum(
            load.payload for assignment in picked for load in assignment.loads if load.reach is not Reach.SAME_POD
        ),
        ends=frozenset(stage for edge in by_rdma for stage in (edge.producer, edge.consumer)),
        mixed=mixed_store_protocols([assignment.transport for assignment in picked]),
    )


def reaches(layout: Layout, context: TransportContext) -> list[Reach]:
    """How far apart the ends of every edge are."""
    return [layout.reach(edge.producer, edge.consumer) for edge in context.pipeline.edges]


@dataclass(slots=True)
class AssignmentCache:
    """The assignments of layouts.

    Layouts of one backend and strategy with the same edges inside pods share theirs.
    """

    contexts: Sequence[TransportContext]
    _choosers: list[Chooser] = field(init=False)
    _inside: dict[tuple[int, ...], int] = field(init=False, default_factory=dict)
    _known: dict[tuple[object, ...], tuple[TransportAssignment | None, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._choosers = [Chooser(context) for context in self.contexts]

    def of(self, layout: Layout) -> tuple[TransportAssignment | None, ...]:
        """One per context."""
        inside = 0
        for shape in layout.shapes:
            if shape.stages not in self._inside:
                self._inside[shape.stages] = self._edges_inside(shape.stages)
            inside |= self._inside[shape.stages]
        key = (layout.backend, layout.strategy, inside)
        if key not in self._known:
            far = reaches(layout, self.contexts[0])
            self._known[key] = tuple(assign(chooser, far) for chooser in self._choosers)
        return self._known[key]

    def _edges_inside(self, stages: tuple[int, ...]) -> int:
        """A bit for every edge with both ends among some stages."""
        edges = enumerate(self.contexts[0].pipeline.edges)
        return sum(1 << index for index, edge in edges if edge.producer in stages and edge.consumer in stages)
