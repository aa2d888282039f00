"""Sizes that follow from the payloads: shared memory, store segments, pinned pools, Ray's object store, memory requests.

All in bytes. A payload larger than Mooncake's `localbuf` is lost without an error on 0.14-0.18 (return code ignored), and a
full /dev/shm kills the writer with SIGBUS, so bounds are rounded up, never down.
"""

from __future__ import annotations

from collections.abc import Sequence

from omni_operator.api.spec import Connector, Protocol
from omni_operator.planning.model import EdgePlan, Reach, Sizes, StorePlan

MIB = 1 << 20
IN_FLIGHT = 4  # requests whose payloads may be in shared memory at one time, per edge
IN_POOL = 2  # the same for a pinned pool, as upstream ships them: 4 GiB for a KV cache of 2
# Nobody deletes what is in the store: it stays leased for 5 s after a read (mooncake_master's default_kv_lease_ttl) and is evicted then. Two
# clients at least give room for IN_FLIGHT payloads and as many that were read. It bounds no rate: 25 payloads of 64 MiB that followed each
# other at once were too many (run; 15 passed, 0.16 said of the others that they were put, 0.30 refused them).
IN_SEGMENT = 4
_RAY_BASE = 128 * MIB  # Ray refuses an object store below 75 MiB
_ENGINE_SHM = 256 * MIB  # vLLM's own message queues and torch's shared tensors, per engine
_STAGE_BASE = 2048 * MIB
_SERVER_BASE = 1536 * MIB
_LEAST_POOL = 256 * MIB
# Logs of Ray and the engine, compiled kernels; weights that the engine fetches are not known to the plan.
_DISK_BASE = 512 * MIB


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
        segment_bytes=max(64 * MIB, round_up(IN_SEGMENT * largest, to=64 * MIB)),
        localbuf_bytes=max(16 * MIB, round_up(largest + largest // 4, to=16 * MIB)),
    )


def pool_bytes(edge: EdgePlan) -> int:
    """The pinned pool of one end of an edge: a put that finds it full fails ("Pool exhausted"), and a buffer stays until it is pulled."""
    if edge.connector is not Connector.MOONCAKE_TRANSFER_ENGINE:
        return 0
    return max(_LEAST_POOL, round_up(IN_POOL * edge.max_payload_bytes, to=64 * MIB))


def ray_pod_sizes(edges: Sequence[EdgePlan], *, store: StorePlan | None, instances: int, worker: bool) -> Sizes:
    """Sizes of a pod of the Ray backend that opens `instances` connectors.

    Args:
        edges: All edges of the pipeline; with Ray every payload passes Ray's object store as a stage result.
        store: The store, when an edge uses it.
        instances: Connectors of the store that this pod opens; each mounts segment + localbuf.
        worker: Whether the pod runs stages.
    """
    largest = max((edge.max_payload_bytes for edge in edges), default=0)
    object_store = max(_RAY_BASE, round_up(2 * largest, to=64 * MIB))
    in_memory = sum(edge.max_payload_bytes * IN_FLIGHT for edge in edges if edge.protocol is Protocol.SHM)
    shm = round_up(object_store + in_memory + _ENGINE_SHM, to=64 * MIB)
    pools = instances * (store.segment_bytes + store.localbuf_bytes) if store else 0
    base = _STAGE_BASE if worker else _SERVER_BASE
    return _sizes(base, shm=shm, object_store=object_store, pools=pools)


def stage_pod_sizes(
    edges: Sequence[EdgePlan], *, ranks: dict[int, int], store: StorePlan | None, server: bool, ray_node: bool
) -> Sizes:
    """Sizes of a pod that runs stages as processes of its own (Local, Headless).

    Args:
        edges: All edges of the pipeline.
        ranks: Engine processes of every stage in the pod, by its id: copies times accelerators of a copy.
        store: The store, when an edge uses it.
        server: Whether the pod also runs the API server.
        ray_node: Whether the pod is a Ray node; no payload passes the object store then, so it is as small as Ray allows.
    """
    mine = [edge for edge in edges if edge.producer in ranks or edge.consumer in ranks]
    in_memory = sum(
        e.max_payload_bytes * IN_FLIGHT for e in mine if e.protocol is Protocol.SHM and e.reach is Reach.SAME_POD
    )
    object_store = _RAY_BASE if ray_node else 0
    shm = round_up(object_store + in_memory + _ENGINE_SHM * len(ranks), to=64 * MIB)
    pools = 0
    for stage, count in ranks.items():
        touching = [edge for edge in mine if stage in {edge.producer, edge.consumer}]
        if store is not None and any(edge.connector is Connector.MOONCAKE_STORE for edge in touching):
            pools += count * (store.segment_bytes + store.localbuf_bytes)
        pools += count * max((edge.pool_bytes for edge in touching), default=0)
    base = _STAGE_BASE * len(ranks) + (_SERVER_BASE if server else 0)
    return _sizes(base, shm=shm, object_store=object_store, pools=pools)


def _sizes(base: int, *, shm: int, object_store: int, pools: int) -> Sizes:
    return Sizes(
        shm_bytes=shm,
        object_store_bytes=object_store,
        memory_bytes=round_up(base + shm + pools, to=64 * MIB),
        pool_bytes=pools,
        disk_bytes=_DISK_BASE + object_store,  # a full object store is spilled to /tmp
    )
