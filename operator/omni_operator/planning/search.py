"""Finds the best layout: every layout with every transport assignment, best first, until one fits.

Better is, in this order: it fits what is available now, it keeps async_chunk on, its payloads cost
less, it has fewer pods, less passes between them (stages with one connector for all their edges pay
its cost inside a pod as well). What only fits empty nodes is second best and waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from omni_operator.connectors.transport import Rejection
from omni_operator.planning.assignment import AssignmentCache, TransportAssignment, assign, reaches
from omni_operator.planning.capacity import Capacity, NodeCapacity, RdmaRequest
from omni_operator.planning.context import TransportContext
from omni_operator.planning.layout import Layout
from omni_operator.planning.model import EdgePlan
from omni_operator.planning.transports import Chooser, NoTransport
from omni_operator.topology.inventory import rdma_resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """What was found; `rdma_request` names the pods that request an RDMA device."""

    layout: Layout
    context: TransportContext
    edges: tuple[EdgePlan, ...]
    rdma_request: RdmaRequest | None
    fits_now: bool


@dataclass(frozen=True, slots=True)
class NoLayout:
    """No node, or no set of nodes, could hold any layout even if it were empty."""


@dataclass(frozen=True, slots=True)
class MixedStore:
    """All that fits would use one store with two protocols."""


def search(
    layouts: Callable[[Capacity], Sequence[Layout]],
    *,
    context: TransportContext,
    node_capacity: NodeCapacity,
    streaming: Sequence[bool],
) -> Best | NoLayout | NoTransport | MixedStore:
    """The best layout.

    Args:
        layouts: Gives the layouts that may fit the nodes, the better of equals first.
        context: The facts that transports are chosen by; its `rdma` and `async_chunk` are set here.
        node_capacity: The nodes.
        streaming: Values of `async_chunk` to try, the better first.
    """
    contexts = [
        replace(context, async_chunk=async_chunk, rdma=resource)
        for async_chunk in streaming
        for resource in (*_resources(context, node_capacity), None)
    ]
    assignments = AssignmentCache(contexts)

    def fits(layout: Layout, capacity: Capacity, rdma_request: RdmaRequest | None = None) -> bool:
        return not context.pods_ours or node_capacity.fits(layout, capacity, rdma_request)

    mixed = False
    for capacity in Capacity.AVAILABLE, Capacity.ALLOCATABLE:
        for layout, found in _ranked(layouts(capacity), assignments):
            if (not found.mixed or not mixed) and fits(layout, capacity, found.rdma_request(layout)):
                if not found.mixed:
                    return _explained(
                        layout, found, node_capacity=node_capacity, fits_now=capacity is Capacity.AVAILABLE
                    )
                mixed = True
    if mixed:
        return MixedStore()
    # The last of the layouts that no transport could serve: the one that asks least of the nodes.
    for layout in reversed(layouts(Capacity.ALLOCATABLE)):
        stuck = [each for each, found in zip(contexts, assignments.of(layout), strict=True) if found is None]
        if stuck and fits(layout, Capacity.ALLOCATABLE):
            return _dead_end(layout, stuck[-1], node_capacity=node_capacity)
    return NoLayout()


def _ranked(layouts: Sequence[Layout], assignments: AssignmentCache) -> Iterator[tuple[Layout, TransportAssignment]]:
    """Layouts with their transport assignments, best first."""
    ranked: dict[tuple[bool, int, int, int], list[tuple[Layout, TransportAssignment]]] = {}
    for layout in layouts:
        pods = layout.pods
        for found in assignments.of(layout):
            # Without an end it is the same as the assignment without the resource.
            if found is not None and (found.ends or found.context.rdma is None):
                rank = (
                    found.context.async_chunk != assignments.contexts[0].async_chunk,
                    found.cost,
                    pods,
                    found.bytes_between_pods,
                )
                ranked.setdefault(rank, []).append((layout, found))
    for rank in sorted(ranked):
        yield from ranked[rank]


def _resources(context: TransportContext, node_capacity: NodeCapacity) -> tuple[str, ...]:
    """RDMA resources to try."""
    return (context.policy.rdma_resource,) if context.policy.rdma_resource else node_capacity.rdma


def _explained(layout: Layout, found: TransportAssignment, *, node_capacity: NodeCapacity, fits_now: bool) -> Best:
    edges = Chooser(_for_words(layout, found.context, node_capacity=node_capacity)).explain(
        reaches(layout, found.context)
    )
    assert not isinstance(edges, NoTransport)
    return Best(
        layout=layout, context=found.context, edges=edges, rdma_request=found.rdma_request(layout), fits_now=fits_now
    )


def _dead_end(layout: Layout, context: TransportContext, *, node_capacity: NodeCapacity) -> NoTransport | NoLayout:
    found = Chooser(_for_words(layout, context, node_capacity=node_capacity)).explain(reaches(layout, context))
    return found if isinstance(found, NoTransport) else NoLayout()


def _for_words(layout: Layout, context: TransportContext, *, node_capacity: NodeCapacity) -> TransportContext:
    """A context with the same decisions and the reason why there is no RDMA.

    The reason is the first of the facts that would have to change.
    """
    if context.rdma is not None:
        return context
    names = _resources(context, node_capacity)
    for name in names:
        with_it = replace(context, rdma=name)
        found = assign(Chooser(with_it), reaches(layout, with_it))
        rdma_request = found.rdma_request(layout) if found else None
        every = RdmaRequest(resource=name, pods=frozenset(shape.name for shape in layout.shapes))
        if not node_capacity.fits(layout, Capacity.ALLOCATABLE, rdma_request or every):
            continue
        if found is None or rdma_request is None:
            return with_it  # it is not the nodes: something else forbids it
        if found.mixed:
            fact = "another edge uses the same store with tcp, as transport.edges asks, and one store has one protocol"
            return replace(context, rdma_missing=(Rejection.FORBIDDEN_BY_USER, fact))
        fact = f"the nodes that offer {name} have too little free now"
        return replace(context, rdma_missing=(Rejection.NO_RDMA_ON_NODE, fact))
    asked = context.policy.rdma_resource
    lacking = [n.name for n in node_capacity.nodes if not (n.allocatable.get(asked, 0) if asked else rdma_resources(n))]
    what = asked or "rdma/*"
    if lacking:
        fact = f"no {what} on {some(lacking)}, and the other nodes alone cannot hold the pods"
    else:
        each = "each of " if len(names) > 1 else ""  # fabrics are not mixed
        fact = f"the nodes offer too few of {each}{', '.join(names) or what} for one per worker pod and serving pod"
    return replace(context, rdma_missing=(Rejection.NO_RDMA_ON_NODE, fact))


def some(names: Sequence[str], limit: int = 4) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
