"""The cost of payloads over each transport.

Transports have steps, and on one step the time for the payload's size decides. Times are measured
and are kept with each connector (connectors/), since no transport is the quickest at every size: a
connector that asks by a message of its own is slow for a chunk and quick for a KV cache
(docs/adr/0013).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.api.spec import Protocol
from omni_operator.connectors.base import SIZES
from omni_operator.connectors.registry import connectors
from omni_operator.connectors.transport import SHARED_MEMORY, TRANSPORTS, Reach, Transport
from omni_operator.topology.quantity import KIB

CHUNK = 64 * KIB  # more than a few tokens' worth


def _tables() -> tuple[dict[Transport, tuple[float, ...]], dict[Transport, tuple[float, ...]]]:
    measured = {Transport(m.kind, protocol): times for m in connectors() for protocol, times in m.times.items()}
    return (
        {transport: times.in_one_pod for transport, times in measured.items()},
        {transport: times.between_pods for transport, times in measured.items() if times.between_pods},
    )


# Milliseconds by SIZES, of what was measured. No RDMA was at hand: nothing of it is claimed but its
# step.
IN_ONE_POD, BETWEEN_PODS = _tables()
_WEIGHTS = (1, 2, 10)  # of a byte, by step: what a layout costs is decided by steps, not by times
_TENTH = 0.1  # what a measurement is good for


@dataclass(frozen=True, slots=True)
class Load:
    """What passes over an edge.

    Attributes:
        reach: How far.
        payload: Bytes at one time.
        stated: Whether the user states it (transport.edges[].payload).
    """

    reach: Reach
    payload: int
    stated: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Cost:
    """What loads cost over one transport; less is better, by step and then by time.

    Attributes:
        step: 0 for shared memory, and inside a pod for TCP that is quicker with the payloads that
            the user states; 1 for RDMA; 2 for TCP.
        seconds: The time of all loads as measured; 0 for RDMA.
        weight: What it adds to the cost of a layout.
    """

    step: int
    seconds: float
    weight: int

    def as_good_as(self, other: Cost) -> bool:
        """Whether it is no worse, or by no more than a measurement is good for."""
        return (self.step, self.seconds) <= (other.step, other.seconds * (1 + _TENTH))


def cost(transport: Transport, loads: Sequence[Load]) -> Cost:
    """What it costs to carry all loads over one transport."""
    seconds = sum(_seconds(transport, load) for load in loads)
    if transport.protocol is Protocol.SHM:
        step = 0
    elif transport.protocol is Protocol.RDMA:
        step = 1
    else:
        # Shared memory needs no pinned pool, port or library: it is not given up for what is merely
        # assumed to pass.
        weighed = all(load.reach is Reach.SAME_POD and load.stated for load in loads)
        step = 0 if weighed and seconds < sum(_seconds(SHARED_MEMORY, load) for load in loads) else 2
    return Cost(step=step, seconds=seconds, weight=_WEIGHTS[step] * sum(load.payload for load in loads))


def best(transports: Sequence[Transport], loads: Sequence[Load]) -> Transport | None:
    """The cheapest transport, and the first of equal ones.

    Otherwise noise could add a Mooncake master to a pipeline.
    """
    costs = {transport: cost(transport, loads) for transport in TRANSPORTS if transport in transports}
    if not costs:
        return None
    least = min(costs.values())
    return next(transport for transport, found in costs.items() if found.as_good_as(least))


def _seconds(transport: Transport, load: Load) -> float:
    """Time for a size, linear between the sizes that were measured.

    Beyond them it is proportional, which changes no order.
    """
    if transport.protocol is Protocol.RDMA:
        return 0
    in_pod = load.reach is Reach.SAME_POD or transport == SHARED_MEMORY
    times = (IN_ONE_POD if in_pod else BETWEEN_PODS)[transport]
    if load.payload >= SIZES[-1]:
        return times[-1] / 1000 * load.payload / SIZES[-1]
    upper = max(bisect_right(SIZES, load.payload), 1)
    (small, quick), (large, slow) = zip(SIZES[upper - 1 : upper + 1], times[upper - 1 : upper + 1], strict=True)
    return (quick + (slow - quick) * (max(load.payload, small) - small) / (large - small)) / 1000
