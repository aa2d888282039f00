"""A node with its resources, and sentences on why it is usable and RDMA-capable, or why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omni_operator.topology.inventory import RDMA_PREFIX, Node, Taint, rdma_resources

# Parts of the keys of labels that placement.topologyKey may name.
_TOPOLOGY = ("topology", "zone", "region", "rack", "fabric", "rdma")
_OLD_TOPOLOGY = "failure-domain.beta.kubernetes.io/"
_MAYBE_RDMA = ("rdma", "roce", "infiniband", "mlnx", "mellanox", "hostdev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A resource of a node."""

    resource: str
    allocatable: int
    available: int

    def __str__(self) -> str:
        """As in a column: available/allocatable."""
        return f"{self.resource} {self.available}/{self.allocatable}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """A node.

    Attributes:
        name: Its name.
        state: Ready or NotReady; cordoned; tainted.
        taints: Its taints.
        usable: Whether a spec without selector and tolerations can use it.
        rdma_capable: Whether it has a resource that the planner uses for RDMA.
        accelerators: Extended resources that are not RDMA devices.
        rdma: RDMA resources.
        topology: Labels that can name a network domain.
        why: Sentences on the other fields.
    """

    name: str
    state: tuple[str, ...]
    taints: tuple[str, ...]
    usable: bool
    rdma_capable: bool
    accelerators: tuple[Count, ...]
    rdma: tuple[Count, ...]
    topology: tuple[tuple[str, str], ...]
    why: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """JSON for -o json."""

        def counts(found: tuple[Count, ...]) -> dict[str, dict[str, int]]:
            return {c.resource: {"allocatable": c.allocatable, "available": c.available} for c in found}

        return {
            "name": self.name,
            "state": list(self.state),
            "taints": list(self.taints),
            "usable": self.usable,
            "rdmaCapable": self.rdma_capable,
            "accelerators": counts(self.accelerators),
            "rdma": counts(self.rdma),
            "topology": dict(self.topology),
            "why": list(self.why),
        }


def report(node: Node) -> NodeReport:
    """The report on a node."""
    usable = node.admits(selector={}, tolerations=())
    counts = [
        Count(resource=r, allocatable=count, available=node.available.get(r, 0))
        for r, count in sorted(node.allocatable.items())
    ]
    return NodeReport(
        name=node.name,
        state=(
            "Ready" if node.ready else "NotReady",
            *(["cordoned"] if node.cordoned else []),
            *(["tainted"] if node.taints else []),
        ),
        taints=tuple(_taint(taint) for taint in node.taints),
        usable=usable,
        rdma_capable=bool(rdma_resources(node)),
        accelerators=tuple(c for c in counts if not c.resource.startswith(RDMA_PREFIX)),
        rdma=tuple(c for c in counts if c.resource.startswith(RDMA_PREFIX)),
        topology=tuple((key, value) for key, value in sorted(node.labels.items()) if value and _names_a_domain(key)),
        why=(*_usability(node), *_devices(counts), *_rdma(counts)),
    )


def _names_a_domain(key: str) -> bool:
    return not key.startswith(_OLD_TOPOLOGY) and any(word in key.lower() for word in _TOPOLOGY)


def _taint(taint: Taint) -> str:
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"


def _usability(node: Node) -> Iterator[str]:
    if not node.ready:
        yield "not Ready: no pod is placed here"
    if node.cordoned:
        yield "cordoned: no new pod is placed here"
    for taint in node.taints:
        soft = taint.effect == "PreferNoSchedule"
        what = "so others are filled first" if soft else "not tolerated by a spec without tolerations"
        yield f"tainted {_taint(taint)} ({what})"


def _devices(counts: list[Count]) -> Iterator[str]:
    devices = [c for c in counts if not c.resource.startswith(RDMA_PREFIX) and c.allocatable]
    if not devices:
        yield "no accelerator: usable for accelerator.type cpu and for pods without stages"
    for count in devices:
        if not count.available:
            yield f"no {count.resource} is available: pods request all {count.allocatable}"


def _rdma(counts: list[Count]) -> Iterator[str]:
    found = [c for c in counts if c.resource.startswith(RDMA_PREFIX)]
    if not found:
        yield "no rdma/* resource: is the device plugin running?"
    for count in found:
        if not count.allocatable:
            yield f"{count.resource} is there 0 times: the device plugin runs and finds no device"
        elif not count.available:
            yield f"RDMA-capable by {count.resource}, of which none is available"
        else:
            yield f"RDMA-capable by {count.resource}"
    for count in counts:
        if count.allocatable and count not in found and any(word in count.resource.lower() for word in _MAYBE_RDMA):
            yield f"{count.resource} counts for RDMA only where transport.rdmaResource names it"
