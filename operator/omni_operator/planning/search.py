"""Finds the best layout: every layout with every way to carry its edges, best first, until one fits.

Better is, in this order: it fits what is free now, it keeps streamed edges streamed, its payloads cost less, it has fewer
pods, less passes between them (stages with one connector for all their edges pay its cost inside a pod as well). What only
fits empty nodes is second best and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from omni_operator.engine.connector import Rejection
from omni_operator.planning.edges import Chooser, NoTransport
from omni_operator.planning.ground import Ground
from omni_operator.planning.layout import Layout
from omni_operator.planning.model import EdgePlan
from omni_operator.planning.terrain import Measure, Terrain, Using
from omni_operator.planning.ways import Way, Ways, reaches, way
from omni_operator.topology.inventory import rdma_resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """What was found; `using` names the pods that request an RDMA device."""

    layout: Layout
    ground: Ground
    edges: tuple[EdgePlan, ...]
    using: Using | None
    fits_now: bool


@dataclass(frozen=True, slots=True)
class NoLayout:
    """No node, or no set of nodes, could hold any layout even if it were empty."""


@dataclass(frozen=True, slots=True)
class MixedStore:
    """All that fits would use one store with two protocols."""


def search(
    layouts: Callable[[Measure], Sequence[Layout]], *, ground: Ground, terrain: Terrain, streaming: Sequence[bool]
) -> Best | NoLayout | NoTransport | MixedStore:
    """The best layout.

    Args:
        layouts: Gives the layouts that nodes may have room for, the better of equals first.
        ground: What edges stand on; its `rdma` and `streams` are set here.
        terrain: The nodes.
        streaming: Values of `streams` to try, the better first.
    """
    grounds = [
        replace(ground, streams=streams, rdma=resource)
        for streams in streaming
        for resource in (*_resources(ground, terrain), None)
    ]
    ways = Ways(grounds)

    def fits(layout: Layout, measure: Measure, using: Using | None = None) -> bool:
        return not ground.pods_ours or terrain.fits(layout, measure, using)

    mixed = False
    for measure in Measure.FREE, Measure.OFFERS:
        for layout, found in _ranked(layouts(measure), ways):
            if (not found.mixed or not mixed) and fits(layout, measure, found.using(layout)):
                if not found.mixed:
                    return _explained(layout, found, terrain=terrain, fits_now=measure is Measure.FREE)
                mixed = True
    if mixed:
        return MixedStore()
    # The last of the layouts that no transport could serve: the one that asks least of the nodes.
    for layout in reversed(layouts(Measure.OFFERS)):
        stuck = [each for each, found in zip(grounds, ways.of(layout), strict=True) if found is None]
        if stuck and fits(layout, Measure.OFFERS):
            return _dead_end(layout, stuck[-1], terrain=terrain)
    return NoLayout()


def _ranked(layouts: Sequence[Layout], ways: Ways) -> Iterator[tuple[Layout, Way]]:
    """Layouts with the ways to carry their edges, best first."""
    ranked: dict[tuple[bool, int, int, int], list[tuple[Layout, Way]]] = {}
    for layout in layouts:
        pods = layout.pods
        for found in ways.of(layout):
            # Without an end it is the same as the way without the resource.
            if found is not None and (found.ends or found.ground.rdma is None):
                rank = (found.ground.streams != ways.grounds[0].streams, found.cost, pods, found.apart)
                ranked.setdefault(rank, []).append((layout, found))
    for rank in sorted(ranked):
        yield from ranked[rank]


def _resources(ground: Ground, terrain: Terrain) -> tuple[str, ...]:
    """RDMA resources to try."""
    return (ground.policy.rdma_resource,) if ground.policy.rdma_resource else terrain.rdma


def _explained(layout: Layout, found: Way, *, terrain: Terrain, fits_now: bool) -> Best:
    edges = Chooser(_for_words(layout, found.ground, terrain=terrain)).explain(reaches(layout, found.ground))
    assert not isinstance(edges, NoTransport)
    return Best(layout=layout, ground=found.ground, edges=edges, using=found.using(layout), fits_now=fits_now)


def _dead_end(layout: Layout, ground: Ground, *, terrain: Terrain) -> NoTransport | NoLayout:
    found = Chooser(_for_words(layout, ground, terrain=terrain)).explain(reaches(layout, ground))
    return found if isinstance(found, NoTransport) else NoLayout()


def _for_words(layout: Layout, ground: Ground, *, terrain: Terrain) -> Ground:
    """A ground that decides the same and knows why there is no RDMA: the first of the facts that would have to change."""
    if ground.rdma is not None:
        return ground
    names = _resources(ground, terrain)
    for name in names:
        with_it = replace(ground, rdma=name)
        found = way(Chooser(with_it), reaches(layout, with_it))
        using = found.using(layout) if found else None
        every = Using(resource=name, pods=frozenset(shape.name for shape in layout.shapes))
        if not terrain.fits(layout, Measure.OFFERS, using or every):
            continue
        if found is None or using is None:
            return with_it  # it is not the nodes: something else forbids it
        if found.mixed:
            fact = "another edge uses the same store with tcp, as transport.edges asks, and one store has one protocol"
            return replace(ground, rdma_missing=(Rejection.FORBIDDEN_BY_USER, fact))
        fact = f"the nodes that offer {name} have too little free now"
        return replace(ground, rdma_missing=(Rejection.NO_RDMA_ON_NODE, fact))
    asked = ground.policy.rdma_resource
    lacking = [n.name for n in terrain.nodes if not (n.offers.get(asked, 0) if asked else rdma_resources(n))]
    what = asked or "rdma/*"
    if lacking:
        fact = f"no {what} on {some(lacking)}, and the other nodes alone cannot hold the pods"
    else:
        each = "each of " if len(names) > 1 else ""  # fabrics are not mixed
        fact = f"the nodes offer too few of {each}{', '.join(names) or what} for one per worker pod and serving pod"
    return replace(ground, rdma_missing=(Rejection.NO_RDMA_ON_NODE, fact))


def some(names: Sequence[str], limit: int = 4) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
