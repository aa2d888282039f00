"""What can be said against a transport on an edge: a code and the fact behind it."""

from __future__ import annotations

from omni_operator.api.spec import AcceleratorType, Backend, Connector, Protocol, RdmaPolicy, SharedMemoryPolicy
from omni_operator.engine.connector import Rejection, Transport
from omni_operator.engine.pipeline import Edge
from omni_operator.engine.release import EdgeUse, mooncake_acknowledges, mooncake_has_store
from omni_operator.planning.ground import Ground
from omni_operator.planning.model import PodSecurity, Reach
from omni_operator.planning.ports import LISTENERS, most_copies

BY_SERVER = "the server hands the result on with the next stage's request, so no connector is used"
_CANNOT_CARRY = {
    EdgeUse.CHUNKS: (
        Rejection.ASYNC_CHUNK_UNSUPPORTED,
        "the pipeline streams chunks (async_chunk: true), which this connector cannot carry",
    ),
    EdgeUse.MIDDLE: (
        Rejection.MIDDLE_STAGE_UNSUPPORTED,
        "a stage that receives over this connector cannot send over it, and a stage of this edge does both",
    ),
    EdgeUse.SYNCHRONOUS: (
        Rejection.SYNCHRONOUS_UNSUPPORTED,
        "the diffusion stage waits for its payload with a deadline, which this connector does not know",
    ),
    EdgeUse.KV_CACHE: (Rejection.KV_CACHE_UNSUPPORTED, "this connector cannot carry a KV cache"),
    EdgeUse.WHOLE: (  # and MIDDLE, where the release carries neither
        Rejection.RELEASE_IGNORES_CONNECTOR,
        "with async_chunk false this release uses SharedMemory for every payload, whatever is configured",
    ),
}


def reject(ground: Ground, edge: Edge, reach: Reach, transport: Transport) -> tuple[Rejection, str] | None:
    """Why a transport is not usable, or None when it is. Facts of the release come first: no setting changes them."""
    release, connector, policy = ground.release, transport.connector, ground.policy
    if connector not in release.connectors:
        return Rejection.RELEASE_LACKS_CONNECTOR, f"vllm-omni {release.line} has no {connector} connector"
    if ground.backend is Backend.RAY and connector is Connector.MOONCAKE_TRANSFER_ENGINE:
        return (
            Rejection.NEEDS_ACCELERATOR_IN_SERVING_POD,
            f"on vllm-omni {release.line} with Ray the server opens every edge's connector, this one pins memory by CUDA, and "
            "the serving pod has no accelerator",
        )
    use, override = ground.use(edge), ground.override(edge)
    if use is EdgeUse.PROMPT:  # asked for by the user all the same
        return Rejection.HANDED_ON_BY_SERVER, BY_SERVER
    if connector not in release.carriers[use]:
        ignored = use is EdgeUse.MIDDLE and connector not in release.carriers[EdgeUse.WHOLE]
        return _CANNOT_CARRY[EdgeUse.WHOLE if ignored else use]
    if override is not None:
        asked = [str(x) for x in (override.connector, override.protocol) if x is not None]
        if override.connector not in {None, connector} or override.protocol not in {None, transport.protocol}:
            return Rejection.FORBIDDEN_BY_USER, f"transport.edges asks for {'/'.join(asked)} on this edge"
    stage = ground.needs[edge.producer]
    if connector in LISTENERS and stage.replicas > (most := most_copies(use, formula=release.ports, stage=stage)):
        name = ground.pipeline.stage(stage.id).name
        return (
            Rejection.PORTS_COLLIDE,
            f"{stage.replicas} copies of {name} may share a pod, and vllm-omni {release.line} keeps the ports of {most} apart",
        )
    if (lacking := _reject_library(ground, transport, asked=override is not None)) is not None:
        return lacking
    if transport.protocol is Protocol.SHM:
        return _reject_shared_memory(ground, reach)
    if transport.protocol is Protocol.RDMA:
        return _reject_rdma(ground)
    if policy.rdma is RdmaPolicy.REQUIRE:
        return Rejection.FORBIDDEN_BY_USER, "transport.rdma is Require, so TCP is not used"
    return None


def _reject_library(ground: Ground, transport: Transport, *, asked: bool) -> tuple[Rejection, str] | None:
    connector = transport.connector
    if connector is Connector.NIXL and not ground.nixl:
        return Rejection.LIBRARY_MISSING, "the image is not known to have the nixl package (engine.nixl)"
    if connector is Connector.MOONCAKE_STORE and not mooncake_has_store(ground.mooncake):
        return (
            Rejection.LIBRARY_VERSION,
            f"the image has Mooncake {ground.mooncake}, and this connector needs one before 0.3.13 (with_soft_pin)",
        )
    over_tcp = connector is Connector.MOONCAKE_TRANSFER_ENGINE and transport.protocol is Protocol.TCP
    if over_tcp and not mooncake_acknowledges(ground.mooncake):
        return (
            Rejection.LIBRARY_VERSION,
            f"the image has Mooncake {ground.mooncake}; one before 0.3.12 says that a TCP write is done before it has arrived "
            "(TcpWritesUnacknowledged), and this connector reads at once",
        )
    # An image for CPUs that can do it anyway is the user's to know.
    if (
        connector is Connector.MOONCAKE_TRANSFER_ENGINE
        and ground.accelerator is AcceleratorType.CPU
        and ground.backend is not Backend.RAY
        and not asked
    ):
        return Rejection.NEEDS_ACCELERATOR, "this connector pins memory by an accelerator's runtime, and a CPU has none"
    return None


def _reject_shared_memory(ground: Ground, reach: Reach) -> tuple[Rejection, str] | None:
    if reach is Reach.SAME_POD:
        return None
    if not ground.pods_ours:
        return (
            Rejection.PODS_NOT_OURS,
            "the workers belong to the RayCluster of ray.clusterRef; their /dev/shm is their own",
        )
    if reach is Reach.CROSS_NODE:
        return Rejection.NO_SHARED_MEMORY, "the two ends may be on different nodes, and /dev/shm belongs to one node"
    if ground.policy.shared_memory is SharedMemoryPolicy.POD_ONLY:
        return Rejection.FORBIDDEN_BY_USER, "transport.sharedMemory is PodOnly and the two ends are different pods"
    if ground.pod_security is not PodSecurity.PRIVILEGED:
        return (
            Rejection.HOST_MEMORY_FORBIDDEN,
            f"the namespace enforces pod security level {ground.pod_security}, which forbids the hostPath that two pods need to "
            "share memory",
        )
    return None


def _reject_rdma(ground: Ground) -> tuple[Rejection, str] | None:
    if ground.policy.rdma is RdmaPolicy.NEVER:
        return Rejection.FORBIDDEN_BY_USER, "transport.rdma is Never"
    if not ground.pods_ours:
        return (
            Rejection.PODS_NOT_OURS,
            "the workers belong to the RayCluster of ray.clusterRef and may lack the RDMA resource",
        )
    if ground.rdma is None:
        return ground.rdma_missing
    if ground.pod_security is not PodSecurity.PRIVILEGED:
        return (
            Rejection.CAPABILITY_FORBIDDEN,
            f"the namespace enforces pod security level {ground.pod_security}, which forbids the IPC_LOCK capability that RDMA needs",
        )
    return None
