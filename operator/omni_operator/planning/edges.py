"""The transport of one edge: the first usable of the preference list, and a coded reason for every better one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.api.spec import (
    Backend,
    Connector,
    EdgeOverride,
    Protocol,
    RdmaPolicy,
    SharedMemoryPolicy,
    TransportSpec,
)
from omni_operator.engine.connector import PREFERENCE, Rejection, Transport
from omni_operator.engine.pipeline import Edge, Pipeline
from omni_operator.engine.release import Release
from omni_operator.planning.model import EdgePlan, PodSecurity, Reach, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every edge of a layout stands on.

    Attributes:
        reach: How far apart the ends of every edge are (with Ray: the serving pod and the workers' pods).
        rdma_resource: The RDMA resource all possible nodes of this layout offer, or None.
        rdma_missing: Why it is None: the nodes and what they lack.
        rdma_code: The code of that reason.
        pods_ours: False with ray.clusterRef: pods whose volumes and devices the operator does not decide.
    """

    release: Release
    backend: Backend
    async_chunk: bool
    reach: Reach
    pod_security: PodSecurity
    rdma_resource: str | None
    rdma_missing: str
    pods_ours: bool
    rdma_code: Rejection = Rejection.NO_RDMA_ON_NODE


@dataclass(frozen=True, slots=True)
class NoTransport:
    """No transport is usable on an edge."""

    edge: str
    rejected: tuple[Rejected, ...]


def plan_edge(*, pipeline: Pipeline, edge: Edge, ground: Ground, policy: TransportSpec) -> EdgePlan | NoTransport:
    """The decision for one edge, with every better choice that was rejected."""
    producer, consumer = pipeline.stage(edge.producer).name, pipeline.stage(edge.consumer).name
    override = next((o for o in policy.edges if o.from_stage == producer and o.to_stage == consumer), None)
    rejected: list[Rejected] = []
    for transport, _ in PREFERENCE:
        found = _reject(transport, ground=ground, policy=policy, override=override)
        if found is None:
            return EdgePlan(
                producer=edge.producer,
                consumer=edge.consumer,
                from_stage=producer,
                to_stage=consumer,
                reach=ground.reach,
                connector=transport.connector,
                connector_class=ground.release.connectors[transport.connector],
                protocol=transport.protocol,
                max_payload_bytes=edge.max_payload_bytes,
                reason=_why(transport, ground=ground, override=override),
                rejected=tuple(rejected),
            )
        rejected.append(Rejected(choice=str(transport), code=found[0], fact=found[1]))
    return NoTransport(edge=f"{producer} -> {consumer}", rejected=tuple(rejected))


def _reject(
    transport: Transport, *, ground: Ground, policy: TransportSpec, override: EdgeOverride | None
) -> tuple[Rejection, str] | None:
    """Why a transport is not usable, or None when it is. Facts of the release come first: no setting changes them."""
    if transport.connector not in ground.release.connectors:
        return (
            Rejection.RELEASE_LACKS_CONNECTOR,
            f"vllm-omni {ground.release.line} has no {transport.connector} connector",
        )
    if ground.backend is Backend.RAY and transport.connector is Connector.MOONCAKE_TRANSFER_ENGINE:
        return (
            Rejection.NEEDS_ACCELERATOR_IN_SERVING_POD,
            f"on vllm-omni {ground.release.line} with Ray the server opens every edge's connector, this one pins memory by "
            "CUDA, and the serving pod has no accelerator",
        )
    if ground.async_chunk and transport.connector is Connector.MOONCAKE_STORE:
        return (
            Rejection.ASYNC_CHUNK_UNSUPPORTED,
            "the pipeline streams chunks (async_chunk: true), which this connector cannot carry",
        )
    if override is not None:
        asked = [str(x) for x in (override.connector, override.protocol) if x is not None]
        if override.connector not in {None, transport.connector} or override.protocol not in {None, transport.protocol}:
            return Rejection.FORBIDDEN_BY_USER, f"transport.edges asks for {'/'.join(asked)} on this edge"
    if transport.protocol is Protocol.SHM:
        return _reject_shared_memory(ground=ground, policy=policy)
    if transport.protocol is Protocol.RDMA:
        return _reject_rdma(ground=ground, policy=policy)
    if policy.rdma is RdmaPolicy.REQUIRE:
        return Rejection.FORBIDDEN_BY_USER, "transport.rdma is Require, so TCP is not used"
    return None


def _reject_shared_memory(*, ground: Ground, policy: TransportSpec) -> tuple[Rejection, str] | None:
    if ground.reach is Reach.SAME_POD:
        return None
    if not ground.pods_ours:
        return (
            Rejection.PODS_NOT_OURS,
            "the workers belong to the RayCluster of ray.clusterRef; their /dev/shm is their own",
        )
    if ground.reach is Reach.CROSS_NODE:
        return Rejection.NO_SHARED_MEMORY, "the two ends may be on different nodes, and /dev/shm belongs to one node"
    if policy.shared_memory is SharedMemoryPolicy.POD_ONLY:
        return Rejection.FORBIDDEN_BY_USER, "transport.sharedMemory is PodOnly and the two ends are different pods"
    if ground.pod_security is not PodSecurity.PRIVILEGED:
        return (
            Rejection.HOST_MEMORY_FORBIDDEN,
            f"the namespace enforces pod security level {ground.pod_security}, which forbids the hostPath that two pods need to "
            "share memory",
        )
    return None


def _reject_rdma(*, ground: Ground, policy: TransportSpec) -> tuple[Rejection, str] | None:
    if policy.rdma is RdmaPolicy.NEVER:
        return Rejection.FORBIDDEN_BY_USER, "transport.rdma is Never"
    if not ground.pods_ours:
        return (
            Rejection.PODS_NOT_OURS,
            "the workers belong to the RayCluster of ray.clusterRef and may lack the RDMA resource",
        )
    if ground.rdma_resource is None:
        return ground.rdma_code, ground.rdma_missing
    if ground.pod_security is not PodSecurity.PRIVILEGED:
        return (
            Rejection.CAPABILITY_FORBIDDEN,
            f"the namespace enforces pod security level {ground.pod_security}, which forbids the IPC_LOCK capability that RDMA needs",
        )
    return None


def _why(transport: Transport, *, ground: Ground, override: EdgeOverride | None) -> str:
    moves = "the server moves payloads on Ray; " if ground.backend is Backend.RAY else ""
    asked = " (as transport.edges asks)" if override is not None else ""
    if transport.protocol is Protocol.SHM:
        if ground.reach is Reach.SAME_POD:
            return f"{moves}both ends are one pod{asked}"
        return f"{moves}it shares a node, and one folder of its /dev/shm, with the workers{asked}"
    if transport.protocol is Protocol.RDMA:
        return f"{moves}every node that may host an end offers {ground.rdma_resource}, which both ends request{asked}"
    return f"{moves}TCP works between any two pods{asked}"


def mixed_store_protocols(edges: Sequence[EdgePlan]) -> bool:
    """Whether edges of one store would differ in protocol, which Mooncake refuses (kvcache-ai/Mooncake#553)."""
    return len({edge.protocol for edge in edges if edge.connector is Connector.MOONCAKE_STORE}) > 1
