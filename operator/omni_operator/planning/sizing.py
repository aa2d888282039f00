"""Sizes that follow from the payloads.

Shared memory, store segments, pinned pools, Ray's object store and memory requests. All in bytes. A
payload larger than Mooncake's `localbuf` is lost without an error on 0.14-0.18 (return code
ignored), and a full /dev/shm kills the writer with SIGBUS, so bounds are rounded up, never down.
"""

from __future__ import annotations

from collections.abc import Sequence

from omni_operator.api.spec import Protocol
from omni_operator.connectors.mooncake_store import localbuf_bytes, segment_bytes
from omni_operator.connectors.registry import connector
from omni_operator.connectors.transport import Reach
from omni_operator.planning.model import EdgePlan, Sizes, StorePlan
from omni_operator.topology.quantity import MIB, round_up

IN_FLIGHT = 4  # requests whose payloads may be in shared memory at one time, per edge
_RAY_BASE = 128 * MIB  # Ray refuses an object store below 75 MiB
_ENGINE_SHM = 256 * MIB  # vLLM's own message queues and torch's shared tensors, per engine
_STAGE_BASE = 2048 * MIB
_SERVER_BASE = 1536 * MIB
# Logs of Ray and the engine, compiled kernels; weights that the engine fetches are not known to the
# plan.
_DISK_BASE = 512 * MIB


def uses_store(edge: EdgePlan) -> bool:
    """Whether an edge's payloads pass the store."""
    return edge.connector is not None and connector(edge.connector).needs_store


def store_plan(edges: Sequence[EdgePlan]) -> StorePlan | None:
    """Segment and localbuf for the edges that use the store; None when none does."""
    users = [edge for edge in edges if uses_store(edge)]
    if not users:
        return None
    largest = max(edge.max_payload_bytes for edge in users)
    return StorePlan(
        protocol=users[0].protocol,
        segment_bytes=segment_bytes(largest),
        localbuf_bytes=localbuf_bytes(largest),
    )


def pool_bytes(edge: EdgePlan) -> int:
    """The pinned pool of one end of an edge; 0 where its connector pins none."""
    return connector(edge.connector).pool_bytes(edge.max_payload_bytes) if edge.connector is not None else 0


def ray_pod_sizes(edges: Sequence[EdgePlan], *, store: StorePlan | None, instances: int, worker: bool) -> Sizes:
    """Sizes of a pod of the Ray backend that opens `instances` connectors.

    Args:
        edges: All edges of the pipeline; with Ray every payload passes Ray's object store as a
            stage result.
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
        ranks: Engine processes of every stage in the pod, by its id: copies times accelerators of a
            copy.
        store: The store, when an edge uses it.
        server: Whether the pod also runs the API server.
        ray_node: Whether the pod is a Ray node; no payload passes the object store then, so it is
            as small as Ray allows.
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
        if store is not None and any(uses_store(edge) for edge in touching):
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
