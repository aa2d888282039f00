"""What payloads cost over each transport: which step a transport is on, and on one step the time by size.

Times are measured (`bench/transfers`: put and get between two processes of vllm-omni 0.30), since no transport is the quickest at
every size: a connector that asks by a message of its own is slow for a chunk and quick for a KV cache (docs/adr/0013).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omni_operator.api.spec import Connector, Protocol
from omni_operator.engine.connector import TRANSPORTS, Transport
from omni_operator.planning.model import Reach
from omni_operator.planning.sizing import MIB

KIB = 1 << 10
CHUNK = 64 * KIB  # more than a few tokens' worth
SIZES = (KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB)  # bytes, of the columns below

SHARED_MEMORY = Transport(Connector.SHARED_MEMORY, Protocol.SHM)
# Milliseconds. No RDMA was at hand: nothing of it is claimed but its step.
IN_ONE_POD: Mapping[Transport, tuple[float, ...]] = {
    SHARED_MEMORY: (0.6, 5.1, 16.4, 63.3, 443.2),
    Transport(Connector.MOONCAKE_TRANSFER_ENGINE, Protocol.TCP): (1.8, 4.7, 14.2, 42.2, 482.9),
    Transport(Connector.NIXL, Protocol.TCP): (12.4, 18.8, 16.4, 35.7, 152.2),
    Transport(Connector.MOONCAKE_STORE, Protocol.TCP): (2.6, 6.7, 22.7, 79.0, 470.3),
}
BETWEEN_PODS: Mapping[Transport, tuple[float, ...]] = {
    Transport(Connector.MOONCAKE_TRANSFER_ENGINE, Protocol.TCP): (2.7, 7.8, 21.5, 64.6, 464.6),
    Transport(Connector.NIXL, Protocol.TCP): (22.8, 38.6, 47.8, 87.1, 296.3),
    Transport(Connector.MOONCAKE_STORE, Protocol.TCP): (3.4, 11.4, 23.8, 92.4, 455.5),
}
_WEIGHTS = (1, 2, 10)  # of a byte, by step: what a layout costs is decided by steps, not by times
_TENTH = 0.1  # what a measurement is good for


@dataclass(frozen=True, slots=True)
class Load:
    """What passes over an edge.

    Attributes:
        reach: How far.
        payload: Bytes at one time.
        told: Whether the user says so.
    """

    reach: Reach
    payload: int
    told: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Cost:
    """What loads cost over one transport; less is better, by step and then by time.

    Attributes:
        step: 0 for shared memory, and inside a pod for TCP that is quicker with the payloads that the user tells; 1 for RDMA; 2 for TCP.
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
        # Shared memory needs no pinned pool, port or library: it is not given up for what is merely assumed to pass.
        weighed = all(load.reach is Reach.SAME_POD and load.told for load in loads)
        step = 0 if weighed and seconds < sum(_seconds(SHARED_MEMORY, load) for load in loads) else 2
    return Cost(step=step, seconds=seconds, weight=_WEIGHTS[step] * sum(load.payload for load in loads))


def best(transports: Sequence[Transport], loads: Sequence[Load]) -> Transport | None:
    """The cheapest; of those that are as good the first, so that noise adds no Mooncake master to a pipeline."""
    costs = {transport: cost(transport, loads) for transport in TRANSPORTS if transport in transports}
    if not costs:
        return None
    least = min(costs.values())
    return next(transport for transport, found in costs.items() if found.as_good_as(least))


def _seconds(transport: Transport, load: Load) -> float:
    """Between the sizes that were measured by a straight line, and beyond them in proportion, which changes no order."""
    if transport.protocol is Protocol.RDMA:
        return 0
    in_pod = load.reach is Reach.SAME_POD or transport == SHARED_MEMORY
    times = (IN_ONE_POD if in_pod else BETWEEN_PODS)[transport]
    if load.payload >= SIZES[-1]:
        return times[-1] / 1000 * load.payload / SIZES[-1]
    upper = max(bisect_right(SIZES, load.payload), 1)
    (small, quick), (large, slow) = zip(SIZES[upper - 1 : upper + 1], times[upper - 1 : upper + 1], strict=True)
    return (quick + (slow - quick) * (max(load.payload, small) - small) / (large - small)) / 1000
