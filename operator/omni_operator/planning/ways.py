"""How the edges of a layout can be carried, and what that costs. Many layouts differ only in what no edge sees, so few are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from omni_operator.api.spec import Protocol
from omni_operator.planning.cost import cost
from omni_operator.planning.edges import Chooser, mixed_store_protocols
from omni_operator.planning.ground import Ground
from omni_operator.planning.layout import Layout
from omni_operator.planning.model import Reach
from omni_operator.planning.terrain import Using


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A transport for every edge.

    Attributes:
        ground: What they stand on.
        cost: What the payloads cost on them.
        apart: Bytes between pods.
        ends: Stages at an end of an edge that RDMA carries.
        mixed: Whether they cannot share a store.
    """

    ground: Ground
    cost: int
    apart: int
    ends: frozenset[int]
    mixed: bool

    def using(self, layout: Layout) -> Using | None:
        """Who requests an RDMA device: with Ray every pod, since any stage may be anywhere; else the ends of such edges."""
        if self.ground.rdma is None or not self.ends:
            return None
        pods = [s.name for s in layout.shapes if layout.by_ray or not self.ends.isdisjoint(s.stages)]
        return Using(resource=self.ground.rdma, pods=frozenset(pods))


def way(chooser: Chooser, reaches: Sequence[Reach]) -> Way | None:
    """The way on one ground; None when an edge cannot have any transport."""
    picked = chooser.pick(reaches)
    if picked is None:
        return None
    edges = chooser.ground.pipeline.edges
    by_rdma = [edges[i] for carried in picked if carried.transport.protocol is Protocol.RDMA for i in carried.edges]
    return Way(
        ground=chooser.ground,
        cost=sum(cost(carried.transport, carried.loads).weight for carried in picked),
        apart=sum(load.payload for carried in picked for load in carried.loads if load.reach is not Reach.SAME_POD),
        ends=frozenset(stage for edge in by_rdma for stage in (edge.producer, edge.consumer)),
        mixed=mixed_store_protocols([carried.transport for carried in picked]),
    )


def reaches(layout: Layout, ground: Ground) -> list[Reach]:
    """How far apart the ends of every edge are."""
    return [layout.reach(edge.producer, edge.consumer) for edge in ground.pipeline.edges]


@dataclass(slots=True)
class Ways:
    """The ways of layouts. Those that agree on who places stages, and on which edges are inside a pod, have the same."""

    grounds: Sequence[Ground]
    _choosers: list[Chooser] = field(init=False)
    _inside: dict[tuple[int, ...], int] = field(init=False, default_factory=dict)
    _known: dict[tuple[object, ...], tuple[Way | None, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._choosers = [Chooser(ground) for ground in self.grounds]

    def of(self, layout: Layout) -> tuple[Way | None, ...]:
        """One per ground."""
        inside = 0
        for shape in layout.shapes:
            if shape.stages not in self._inside:
                self._inside[shape.stages] = self._edges_inside(shape.stages)
            inside |= self._inside[shape.stages]
        key = (layout.backend, layout.strategy, inside)
        if key not in self._known:
            far = reaches(layout, self.grounds[0])
            self._known[key] = tuple(way(chooser, far) for chooser in self._choosers)
        return self._known[key]

    def _edges_inside(self, stages: tuple[int, ...]) -> int:
        """A bit for every edge with both ends among some stages."""
        edges = enumerate(self.grounds[0].pipeline.edges)
        return sum(1 << index for index, edge in edges if edge.producer in stages and edge.consumer in stages)
