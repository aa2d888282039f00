"""Sizes that follow from the payloads: shared memory, store segments, Ray's object store, memory requests.

All in bytes. A payload larger than Mooncake's `localbuf` is lost without an error on 0.14-0.18 (return code ignored), and a
full /dev/shm kills the writer with SIGBUS, so bounds are rounded up, never down.
"""

from __future__ import annotations

from collections.abc import Sequence

from omni_operator.api.spec import Connector, Protocol
from omni_operator.planning.model import EdgePlan, Sizes, StorePlan

MIB = 1 << 20
_IN_FLIGHT = 4  # requests whose payloads may be in shared memory at one time, per edge
_RAY_BASE = 128 * MIB  # Ray refuses an object store below 75 MiB
_ENGINE_SHM = 256 * MIB  # vLLM's own message queues and torch's shared tensors
_WORKER_BASE = 2048 * MIB
_SERVING_BASE = 1536 * MIB


def round_up(size: int, *, to: int) -> int:
    """The least multiple of `to` that is at least `size`."""
    return -(-size // to) * to


def store_plan(edges: Sequence[EdgePlan]) -> StorePlan | None:
    """Segment and localbuf for the edges that use the store; None when none does."""
    users = [edge for edge in edges if edge.connector is Connector.MOONCAKE_STORE]
    if not users:
        return None
    largest = max(edge.max_payload_bytes for edge in users)
    return StorePlan(
        protocol=users[0].protocol,
        segment_bytes=max(64 * MIB, round_up(2 * largest, to=64 * MIB)),
        localbuf_bytes=max(16 * MIB, round_up(largest + largest // 4, to=16 * MIB)),
    )


def pod_sizes(edges: Sequence[EdgePlan], *, store: StorePlan | None, instances: int, worker: bool) -> Sizes:
    """Sizes of a pod that opens `instances` connectors.

    Args:
        edges: All edges of the pipeline; with Ray every payload passes Ray's object store as a stage result.
        store: The store, when an edge uses it.
        instances: Connectors of the store that this pod opens; each mounts segment + localbuf.
        worker: Whether the pod runs stages.
    """
    largest = max((edge.max_payload_bytes for edge in edges), default=0)
    object_store = max(_RAY_BASE, round_up(2 * largest, to=64 * MIB))
    in_memory = sum(edge.max_payload_bytes * _IN_FLIGHT for edge in edges if edge.protocol is Protocol.SHM)
    shm = round_up(object_store + in_memory + _ENGINE_SHM, to=64 * MIB)
    pools = instances * (store.segment_bytes + store.localbuf_bytes) if store else 0
    base = _WORKER_BASE if worker else _SERVING_BASE
    memory = round_up(base + shm + pools, to=64 * MIB)
    return Sizes(shm_bytes=shm, object_store_bytes=object_store, memory_bytes=memory, pool_bytes=pools)
