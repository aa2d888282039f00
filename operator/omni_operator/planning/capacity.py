"""Capacity of the nodes for the layout search.

Equal nodes and equal domains are counted together, and results are cached.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from omni_operator.api.spec import OmniDeploymentSpec, StageOverride
from omni_operator.api.spec import Toleration as SpecToleration
from omni_operator.planning.layout import Layout, PodShape
from omni_operator.planning.packing import Bin, Bins, Demand, fits, most_copies
from omni_operator.topology.inventory import Inventory, Node, Toleration, matches_affinity, rdma_resources


class Capacity(StrEnum):
    """Which count of a node's resources is meant.

    All that it allocates, or what no pod has requested.
    """

    ALLOCATABLE = "allocatable"
    AVAILABLE = "available"


def admitting_nodes(
    spec: OmniDeploymentSpec, inventory: Inventory, overrides: Sequence[StageOverride] = ()
) -> tuple[Node, ...]:
    """The nodes that a pod of this spec may be scheduled on.

    `overrides` are those of the stages in it.
    """
    asked: list[SpecToleration] = [*spec.placement.tolerations, *(t for o in overrides for t in o.tolerations or ())]
    tolerations = [
        Toleration(key=t.key or "", operator=t.operator, value=t.value or "", effect=t.effect or "") for t in asked
    ]
    selectors = [spec.placement.node_selector, *(o.node_selector or {} for o in overrides)]
    affinity = (spec.placement.affinity or {}).get("nodeAffinity") or {}
    first, *more = (inventory.admitting(selector=s, tolerations=tolerations) for s in selectors)
    names = [{node.name for node in nodes} for nodes in more]
    kept = (n for n in first if all(n.name in some for some in names)) if names else first
    return tuple(n for n in kept if matches_affinity(n, affinity)) if affinity else tuple(kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class RdmaRequest:
    """The RDMA resource of a layout and the pods that request it."""

    resource: str
    pods: frozenset[str]


class _Kind(NamedTuple):
    """What equal nodes have, and which demands they admit."""

    admits: int
    allocatable: frozenset[tuple[str, int]]
    available: frozenset[tuple[str, int]]


class _Domains(NamedTuple):
    """Domains whose nodes have equal capacity."""

    bins: Bins
    names: Sequence[str]


@dataclass(slots=True, kw_only=True)
class NodeCapacity:
    """The nodes for one spec.

    Attributes:
        spec: The spec: selectors, tolerations, replicas, domains.
        inventory: All nodes.
        accelerator: Extended resource of the accelerators; None on CPU, where any node holds any
            number.
        stages: Names of the pipeline's stages in the order of their ids, to find their own
            selectors.
        nodes: Those that admit any pod of this spec; a stage's own tolerations may open nodes that
            others cannot use.
        rdma: RDMA resources that these have, sorted.
    """

    spec: OmniDeploymentSpec
    inventory: Inventory
    accelerator: str | None
    stages: Sequence[str]
    nodes: tuple[Node, ...] = field(init=False)
    rdma: tuple[str, ...] = field(init=False)
    _own: bool = field(init=False)
    _admits: dict[str, int] = field(init=False, default_factory=dict)
    _bits: dict[tuple[str, ...], int] = field(init=False, default_factory=dict)
    _census: dict[str, Counter[_Kind]] = field(init=False, default_factory=dict)
    _bins: dict[tuple[Capacity, str | None], list[_Domains]] = field(init=False, default_factory=dict)
    _known: dict[tuple[object, ...], bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        tolerant = [o.model_copy(update={"node_selector": None}) for o in self.spec.stages if o.tolerations]
        self.nodes = admitting_nodes(self.spec, self.inventory, tolerant)
        self.rdma = tuple(sorted({name for node in self.nodes for name in rdma_resources(node)}))
        self._own = any(o.node_selector or o.tolerations for o in self.spec.stages)
        self._bit(())

    @property
    def copies(self) -> int:
        """Replicas of the pipeline that must fit; a suspended one is planned as one."""
        return max(1, self.spec.replicas)

    def largest(self, capacity: Capacity) -> int:
        """The most accelerators of any node that admits a pod of this spec."""
        return max((self._accelerators(node, capacity) for node in self.nodes), default=0)

    def enough(self, accelerators: int, capacity: Capacity) -> bool:
        """Whether all replicas, each inside a domain, find so many accelerators on its nodes."""
        topology = self.spec.placement.topology_key
        totals: Counter[str | None] = Counter()
        for node in self.nodes:
            totals[node.labels.get(topology) if topology else ""] += self._accelerators(node, capacity)
        held = (total // accelerators for domain, total in totals.items() if domain or not topology)
        return sum(held) >= self.copies

    def fits(self, layout: Layout, capacity: Capacity, rdma_request: RdmaRequest | None = None) -> bool:
        """Whether the nodes can hold all replicas of a layout."""
        demands = tuple(sorted(self._demands(layout, rdma_request)))
        key = (demands, capacity, rdma_request.resource if rdma_request else None)
        if key not in self._known:
            self._known[key] = self._hold(demands, self._domains(capacity, rdma_request))
        return self._known[key]

    def domains_that_hold(
        self, layout: Layout, capacity: Capacity, rdma_request: RdmaRequest | None = None
    ) -> tuple[str, ...]:
        """Values of placement.topologyKey whose nodes can hold one whole replica, sorted.

        The first worker chooses the domain for all that follow it, and the scheduler places it
        alone: it must not begin where the others cannot follow.
        """
        demands = self._demands(layout, rdma_request)
        able = [domains.names for domains in self._domains(capacity, rdma_request) if fits(demands, domains.bins)]
        return tuple(sorted(name for names in able for name in names))

    def _hold(self, demands: Sequence[Demand], domains: Sequence[_Domains]) -> bool:
        if self.spec.placement.topology_key is None:
            return all(fits(demands, bins, copies=self.copies) for bins, _ in domains)
        missing = self.copies
        for bins, names in domains:
            missing -= len(names) * most_copies(demands, bins, limit=missing)
            if missing <= 0:
                return True
        return False

    def _demands(self, layout: Layout, rdma_request: RdmaRequest | None) -> list[Demand]:
        def demand(shape: PodShape, *, with_serving: bool = False) -> Demand:
            devices = int(rdma_request is not None and shape.name in rdma_request.pods)
            if with_serving:  # it sits on the worker's node and takes a device as well
                devices *= 2
            accelerators = shape.accelerators if self.accelerator is not None else 0
            return Demand(accelerators, devices, self._bit_of(layout, shape) if self._own else 1)

        if layout.follows:
            return [demand(layout.workers[0], with_serving=True)]
        return [demand(shape) for shape in layout.shapes for _ in range(shape.copies)]

    def _bit_of(self, layout: Layout, shape: PodShape) -> int:
        return self._bit(() if layout.by_ray else tuple(self.stages[i] for i in shape.stages))

    def _bit(self, names: tuple[str, ...]) -> int:
        """The bit of Bin.admits for a pod of these stages."""
        own = [o for o in self.spec.stages if o.name in names and (o.node_selector or o.tolerations)]
        key = tuple(o.name for o in own)
        if key not in self._bits:
            self._bits[key] = bit = 1 << len(self._bits)
            for node in admitting_nodes(self.spec, self.inventory, own):
                self._admits[node.name] = self._admits.get(node.name, 0) | bit
            self._census.clear()  # kinds and bins say which pods they admit
            self._bins.clear()
        return self._bits[key]

    def _domains(self, capacity: Capacity, rdma_request: RdmaRequest | None) -> list[_Domains]:
        """Bins by the value of placement.topologyKey, with equal domains once.

        Without the key all nodes are one domain.
        """
        device = rdma_request.resource if rdma_request else None
        if (capacity, device) not in self._bins:
            self._census = self._census or self._counted()
            alike: dict[frozenset[tuple[Bin, int]], list[str]] = {}
            for name, kinds in self._census.items():
                bins: Counter[Bin] = Counter()
                for kind, many in kinds.items():
                    bins[self._bin(kind, capacity, device)] += many
                alike.setdefault(frozenset(bins.items()), []).append(name)
            self._bins[capacity, device] = [_Domains(dict(bins), names) for bins, names in alike.items()]
        return self._bins[capacity, device]

    def _counted(self) -> dict[str, Counter[_Kind]]:
        """How many nodes of each kind are in each domain."""
        topology = self.spec.placement.topology_key
        found: defaultdict[str, Counter[_Kind]] = defaultdict(Counter, {} if topology else {"": Counter()})
        for node in self.inventory.nodes:
            admits = self._admits.get(node.name)
            domain = node.labels.get(topology) if topology else ""
            if admits and (domain or not topology):
                kind = _Kind(admits, frozenset(node.allocatable.items()), frozenset(node.available.items()))
                found[domain or ""][kind] += 1
        return found

    def _accelerators(self, node: Node, capacity: Capacity) -> int:
        if self.accelerator is None:
            return 1 << 30
        return (node.available if capacity is Capacity.AVAILABLE else node.allocatable).get(self.accelerator, 0)

    def _bin(self, kind: _Kind, capacity: Capacity, device: str | None) -> Bin:
        counts = dict(kind.available if capacity is Capacity.AVAILABLE else kind.allocatable)
        accelerators = counts.get(self.accelerator, 0) if self.accelerator else 0
        return Bin(accelerators, counts.get(device, 0) if device else 0, kind.admits)
