"""What a payload costs over each transport: which kind of way comes first, and among ways of one kind the time by size.

Times are measured (`bench/transfers`: put and get between two processes of vllm-omni 0.30), since no transport is the quickest at
every size: a connector that asks by a message of its own is slow for a chunk and quick for a KV cache.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from omni_operator.api.spec import Connector, Protocol
from omni_operator.engine.connector import Transport
from omni_operator.engine.pipeline import Edge
from omni_operator.engine.release import EdgeUse
from omni_operator.planning.model import Reach
from omni_operator.planning.sizing import MIB

KIB = 1 << 10
SIZES = (KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB)  # bytes, of the columns below

# Milliseconds. No RDMA was at hand: nothing of it is claimed but its place (`_kind`).
IN_ONE_POD: Mapping[Transport, tuple[float, ...]] = {
    Transport(Connector.SHARED_MEMORY, Protocol.SHM): (0.3, 2.0, 7.5, 43.9, 244.8),
    Transport(Connector.MOONCAKE_TRANSFER_ENGINE, Protocol.TCP): (1.4, 3.9, 12.1, 55.9, 338.2),
    Transport(Connector.NIXL, Protocol.TCP): (3.8, 12.3, 17.1, 46.4, 119.9),
    Transport(Connector.MOONCAKE_STORE, Protocol.TCP): (2.2, 4.6, 17.0, 69.9, 313.4),
}
BETWEEN_PODS: Mapping[Transport, tuple[float, ...]] = {
    Transport(Connector.SHARED_MEMORY, Protocol.SHM): IN_ONE_POD[Transport(Connector.SHARED_MEMORY, Protocol.SHM)],
    Transport(Connector.MOONCAKE_TRANSFER_ENGINE, Protocol.TCP): (1.4, 3.9, 12.1, 55.9, 338.2),
    Transport(Connector.NIXL, Protocol.TCP): (20.4, 24.3, 26.3, 62.5, 212.0),
    Transport(Connector.MOONCAKE_STORE, Protocol.TCP): (2.2, 4.6, 17.0, 69.9, 313.4),
}
_RDMA_PLACE = (Connector.MOONCAKE_TRANSFER_ENGINE, Connector.NIXL, Connector.MOONCAKE_STORE)

# One step of kind outweighs any time: 2^40 us are 12 days.
_KIND = 1 << 40
_CHUNK = 64 * KIB
_BOUND_OVER_USUAL = 16


def usual_payload(edge: Edge, use: EdgeUse) -> int:
    """Bytes that one transfer usually carries, where the user does not say (`transport.edges[].payload`).

    An assumption: bounds are for the longest request, and most are far from it. A chunk is a few tokens' worth.
    """
    usual = max(KIB, edge.max_payload_bytes // _BOUND_OVER_USUAL)
    return min(_CHUNK, usual) if use is EdgeUse.CHUNKS else usual


def cost(transport: Transport, reach: Reach, payload: int) -> int:
    """What a payload costs: less is better, and costs of several edges can be added.

    Within a kind it is microseconds: between the sizes that were measured by a straight line.

    Args:
        transport: What carries it.
        reach: How far.
        payload: Its size in bytes.
    """
    return _kind(transport, reach) * _KIND + _microseconds(transport, reach, payload)


def hardly_more(one: int, least: int) -> bool:
    """Whether a cost exceeds another by no more than what a measurement is good for: a tenth of the time."""
    return one - least <= least % _KIND // 10


def _kind(transport: Transport, reach: Reach) -> int:
    """Shared memory and what stays in a pod, then RDMA, then TCP between pods (rdma: Prefer), which is far behind."""
    if transport.protocol is Protocol.SHM or (transport.protocol is Protocol.TCP and reach is Reach.SAME_POD):
        return 0
    return 1 if transport.protocol is Protocol.RDMA else 5


def _microseconds(transport: Transport, reach: Reach, payload: int) -> int:
    if transport.protocol is Protocol.RDMA:
        return _RDMA_PLACE.index(transport.connector)
    times = (IN_ONE_POD if reach is Reach.SAME_POD else BETWEEN_PODS)[transport]
    if payload >= SIZES[-1]:  # in proportion: what was not measured changes no order
        return round(times[-1] * 1000 * payload / SIZES[-1])
    upper = max(bisect_right(SIZES, payload), 1)
    (small, quick), (large, slow) = zip(SIZES[upper - 1 : upper + 1], times[upper - 1 : upper + 1], strict=True)
    return round(1000 * (quick + (slow - quick) * (max(payload, small) - small) / (large - small)))
