"""Layouts of a pipeline on the Ray backend and whether the nodes can hold them.

Ray places one actor per stage by PACK and takes no wish from us, so all workers must be equal in reach: either one pod holds
every accelerator of the pipeline (OneNode), or every stage has an equal pod of its own (Spread). Several small pods pinned to
one node are not a layout: they could end on a node that cannot hold them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from omni_operator.api.spec import Strategy
from omni_operator.topology.inventory import Node, rdma_resources


class Measure(StrEnum):
    """Which count of a node's resources to look at."""

    OFFERS = "offers"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayLayout:
    """Equal worker pods and one serving pod, times `replicas`."""

    strategy: Strategy
    pods: int
    accelerators_per_pod: int
    replicas: int


def layouts(*, stages: int, wanted: Strategy, replicas: int) -> tuple[RayLayout, ...]:
    """The layouts to try, better placement first."""
    one = RayLayout(strategy=Strategy.ONE_NODE, pods=1, accelerators_per_pod=stages, replicas=replicas)
    spread = RayLayout(strategy=Strategy.SPREAD, pods=stages, accelerators_per_pod=1, replicas=replicas)
    by_strategy = {Strategy.AUTO: (one, spread), Strategy.ONE_NODE: (one,), Strategy.SPREAD: (spread,)}
    return by_strategy[wanted]


def fits(
    layout: RayLayout,
    nodes: Sequence[Node],
    *,
    measure: Measure,
    accelerator: str | None,
    rdma: str | None = None,
    topology_key: str | None = None,
) -> bool:
    """Whether the nodes can hold all pods of a layout.

    Args:
        layout: The pods.
        nodes: Nodes that admit them.
        measure: Against what nodes offer in all, or what is free now.
        accelerator: Extended resource of the accelerators; None on CPU, where any node holds any number.
        rdma: RDMA resource that every worker and serving pod requests one of; None for none.
        topology_key: Node label that all pods of one replica must share.
    """
    if topology_key is None:
        return _replicas_that_fit(layout, nodes, measure=measure, accelerator=accelerator, rdma=rdma) >= max(
            1, layout.replicas
        )
    held = sum(
        _replicas_that_fit(layout, members, measure=measure, accelerator=accelerator, rdma=rdma)
        for members in _domains(nodes, topology_key).values()
    )
    return held >= max(1, layout.replicas)


def domains_that_hold(
    layout: RayLayout,
    nodes: Sequence[Node],
    *,
    measure: Measure,
    accelerator: str | None,
    rdma: str | None,
    topology_key: str,
) -> tuple[str, ...]:
    """Values of a node label whose nodes can hold one whole replica, sorted.

    The first worker chooses the domain for all that follow it, and the scheduler places it alone: it must not begin where the
    others cannot follow.
    """
    one = replace(layout, replicas=1)
    return tuple(
        value
        for value, members in sorted(_domains(nodes, topology_key).items())
        if _replicas_that_fit(one, members, measure=measure, accelerator=accelerator, rdma=rdma)
    )


def _domains(nodes: Sequence[Node], topology_key: str) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in nodes:
        if value := node.labels.get(topology_key):
            found.setdefault(value, []).append(node)
    return found


def _replicas_that_fit(
    layout: RayLayout, nodes: Sequence[Node], *, measure: Measure, accelerator: str | None, rdma: str | None
) -> int:
    """How many whole replicas fit, capped at what is asked.

    Exact for equal worker pods: a node holds min(accelerators, RDMA) of them, and serving pods use RDMA that is left over.
    """
    wanted = max(1, layout.replicas)
    together = layout.strategy is Strategy.ONE_NODE
    workers = devices = 0
    for node in nodes:
        counts = node.free if measure is Measure.FREE else node.offers
        device = counts.get(rdma, 0) if rdma else None
        per_worker = 2 if together else 1  # OneNode: the serving pod sits on the worker's node and takes one as well
        by_accelerator = (
            counts.get(accelerator, 0) // layout.accelerators_per_pod if accelerator else wanted * layout.pods
        )
        workers += by_accelerator if device is None else min(by_accelerator, device // per_worker)
        devices += device or 0
    replicas = workers // layout.pods
    if rdma:
        replicas = min(replicas, devices // (layout.pods + 1))
    return min(wanted, replicas)


def rdma_for(
    layout: RayLayout,
    nodes: Sequence[Node],
    *,
    measure: Measure,
    accelerator: str | None,
    asked: str | None,
    topology_key: str | None,
) -> tuple[str | None, str]:
    """The RDMA resource a layout can use, and otherwise why there is none.

    Requesting the resource keeps both ends on nodes that offer it; so it is usable when those nodes alone can hold the layout.
    Of several, one that fits what is free comes first.
    """
    names = [asked] if asked else sorted({name for node in nodes for name in rdma_resources(node)})

    def holds(name: str, by: Measure) -> bool:
        return fits(layout, nodes, measure=by, accelerator=accelerator, rdma=name, topology_key=topology_key)

    for name in sorted(names, key=lambda n: not holds(n, Measure.FREE)):
        if holds(name, measure):
            return name, ""
    lacking = [
        node.name for node in nodes if not (rdma_resources(node) if asked is None else node.offers.get(asked, 0))
    ]
    what = asked or "rdma/*"
    if lacking:
        return None, f"no {what} on {some(lacking)}, and the other nodes alone cannot hold the pods"
    return None, f"the nodes offer too few of {', '.join(names) or what} for one per worker pod and serving pod"


def some(names: Sequence[str], limit: int = 4) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
