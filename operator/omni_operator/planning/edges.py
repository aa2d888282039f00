"""The transport of every edge: the first usable of the preference list, and a coded reason for every better one that is not.

Where workers move payloads (0.18 on), a stage that receives and sends has one connector for both, that of its first input
(engine/stage_init_utils.py get_stage_connector_spec), so the edges that meet in such a stage are decided together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from omni_operator.api.spec import (
    AcceleratorType,
    Backend,
    Connector,
    EdgeOverride,
    Protocol,
    RdmaPolicy,
    SharedMemoryPolicy,
    TransportSpec,
)
from omni_operator.engine.connector import PREFERENCE, Rejection, Transport
from omni_operator.engine.pipeline import Carries, Edge, Pipeline
from omni_operator.engine.release import EdgeUse, Mover, Release, mooncake_acknowledges, mooncake_has_store
from omni_operator.planning.demand import StageDemand
from omni_operator.planning.model import EdgePlan, PodSecurity, Reach, Rejected
from omni_operator.planning.ports import LISTENERS, most_copies

_BY_SERVER = "the server hands the result on with the next stage's request, so no connector is used"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every edge stands on, whatever the layout.

    Attributes:
        release: The release.
        pipeline: The pipeline on it.
        backend: How stages run.
        streams: Whether edges that can be streamed are (`async_chunk`).
        accelerator: Device family.
        pod_security: Level that the namespace enforces.
        policy: What the user asks for.
        pods_ours: False with ray.clusterRef: pods whose volumes and devices the operator does not decide.
        mooncake: Mooncake version in the image.
        nixl: Whether the image has NIXL.
        rdma: The RDMA resource that pods at the ends of an edge can request, or None.
        rdma_missing: Why it is None, and its code.
        needs: What the stages need, by id.
    """

    release: Release
    pipeline: Pipeline
    backend: Backend
    streams: bool
    accelerator: AcceleratorType
    pod_security: PodSecurity
    policy: TransportSpec
    pods_ours: bool = True
    mooncake: str
    nixl: bool
    rdma: str | None
    needs: Sequence[StageDemand]
    rdma_missing: tuple[Rejection, str] = (Rejection.NO_RDMA_ON_NODE, "")

    def use(self, edge: Edge) -> EdgeUse:
        """What an edge asks of its connector."""
        if edge.carries is Carries.PROMPT and self.release.mover is Mover.WORKERS:
            return EdgeUse.PROMPT
        if edge.carries in {Carries.KV_CACHE, Carries.SYNCHRONOUS}:
            return EdgeUse(edge.carries.value)
        if self.streams and edge.streams:
            return EdgeUse.CHUNKS
        if self.release.whole_by_server or edge.whole_by_server:
            return EdgeUse.PROMPT
        middle = any(self.pipeline.is_middle(stage) for stage in (edge.producer, edge.consumer))
        return EdgeUse.MIDDLE if middle else EdgeUse.WHOLE

    def override(self, edge: Edge) -> EdgeOverride | None:
        """The user's wish for an edge."""
        ends = self.names(edge)
        return next((o for o in self.policy.edges if (o.from_stage, o.to_stage) == ends), None)

    def names(self, edge: Edge) -> tuple[str, str]:
        """Names of the producer and the consumer."""
        return self.pipeline.stage(edge.producer).name, self.pipeline.stage(edge.consumer).name


@dataclass(frozen=True, slots=True)
class NoTransport:
    """No transport is usable on an edge."""

    edge: str
    rejected: tuple[Rejected, ...]


@dataclass(slots=True)
class Chooser:
    """Chooses transports on one ground; remembers, since many layouts ask the same."""

    ground: Ground
    _chains: list[tuple[int, ...]] = field(init=False)
    _usable: dict[tuple[int, Reach], int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._chains = chains(self.ground)

    def pick(self, reaches: Sequence[Reach]) -> list[tuple[tuple[int, ...], Transport]] | None:
        """Edges that use one transport together, by their indices, and that transport; None when an edge cannot have any."""
        out = []
        for chain in self._chains:
            found = self._first_usable(chain, reaches)
            if found is None:
                return None
            out.append((chain, found))
        return out

    def explain(self, reaches: Sequence[Reach]) -> tuple[EdgePlan, ...] | NoTransport:
        """The same decision with every better choice that was rejected, and why."""
        ground, plans = self.ground, []
        for index, edge in enumerate(ground.pipeline.edges):
            chain = next((c for c in self._chains if index in c), None)
            if chain is None:
                plans.append(_edge_plan(ground, edge, reaches[index], None))
                continue
            transport = self._first_usable(chain, reaches)
            near = {i: reaches[i] for i in chain}
            rejected = _rejections(ground, near, index=index, up_to=transport)
            if transport is None:
                return NoTransport(edge=" -> ".join(ground.names(edge)), rejected=rejected)
            plans.append(_edge_plan(ground, edge, reaches[index], transport, rejected))
        return tuple(plans)

    def _first_usable(self, chain: Sequence[int], reaches: Sequence[Reach]) -> Transport | None:
        able = -1
        for index in chain:
            able &= self._usable_on(index, reaches[index])
        return next((transport for place, (transport, _) in enumerate(PREFERENCE) if able >> place & 1), None)

    def _usable_on(self, index: int, reach: Reach) -> int:
        """A bit for every transport of PREFERENCE that is usable on one edge."""
        key = index, reach
        if key not in self._usable:
            edge = self.ground.pipeline.edges[index]
            against = [_reject(self.ground, edge, reach, transport) for transport, _ in PREFERENCE]
            self._usable[key] = sum(1 << place for place, found in enumerate(against) if found is None)
        return self._usable[key]


def chains(ground: Ground) -> list[tuple[int, ...]]:
    """Edges that must use one connector together, by their indices; those that no connector carries are left out, unless the user asks for one."""
    edges = ground.pipeline.edges
    found: list[tuple[int, ...]] = []
    for index, edge in enumerate(edges):
        by_server = ground.use(edge) is EdgeUse.PROMPT
        if by_server and ground.override(edge) is None:
            continue
        joined = [
            chain
            for chain in found
            if not by_server
            and ground.release.mover is Mover.WORKERS
            and any(edges[i].consumer == edge.producer or edges[i].producer == edge.consumer for i in chain)
        ]
        found = [chain for chain in found if chain not in joined]
        found.append((*(i for chain in joined for i in chain), index))
    return found


def _rejections(
    ground: Ground, chain: Mapping[int, Reach], *, index: int, up_to: Transport | None
) -> tuple[Rejected, ...]:
    """What is said against every transport that is better than the chosen one on an edge of a chain."""
    edges, out = ground.pipeline.edges, []
    edge = edges[index]
    for transport, _ in PREFERENCE:
        if transport == up_to:
            break
        against = {i: _reject(ground, edges[i], reach, transport) for i, reach in chain.items()}
        mine = against[index]
        if mine is None:
            other, fact = next((edges[i], found[1]) for i, found in against.items() if found is not None)
            both = " -> ".join(ground.names(other))
            stage = ground.pipeline.stage(edge.consumer if other.producer == edge.consumer else edge.producer).name
            mine = (
                Rejection.ONE_CONNECTOR_PER_STAGE,
                f"stage {stage} has one connector for all its edges, and {both} cannot use this one: {fact}",
            )
        out.append(Rejected(choice=str(transport), code=mine[0], fact=mine[1]))
    return tuple(out)


def _edge_plan(
    ground: Ground, edge: Edge, reach: Reach, transport: Transport | None, rejected: tuple[Rejected, ...] = ()
) -> EdgePlan:
    """The plan of an edge; without a transport the server hands the result on itself."""
    producer, consumer = ground.names(edge)
    connector = transport.connector if transport else None
    return EdgePlan(
        producer=edge.producer,
        consumer=edge.consumer,
        from_stage=producer,
        to_stage=consumer,
        reach=reach,
        use=ground.use(edge),
        connector=connector,
        connector_class=ground.release.connectors[connector].class_name if connector else "none",
        protocol=transport.protocol if transport else Protocol.TCP,
        max_payload_bytes=edge.max_payload_bytes,
        reason=_why(ground, edge, reach, transport) if transport else _BY_SERVER,
        rejected=rejected,
    )


def _reject(ground: Ground, edge: Edge, reach: Reach, transport: Transport) -> tuple[Rejection, str] | None:
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
        return Rejection.HANDED_ON_BY_SERVER, _BY_SERVER
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


def _why(ground: Ground, edge: Edge, reach: Reach, transport: Transport) -> str:
    moves = "the server moves payloads on Ray; " if ground.backend is Backend.RAY else ""
    asked = " (as transport.edges asks)" if ground.override(edge) is not None else ""
    if transport.protocol is Protocol.SHM:
        if reach is Reach.SAME_POD:
            return f"{moves}both ends are one pod{asked}"
        return f"{moves}it shares a node, and one folder of its /dev/shm, with the workers{asked}"
    if transport.protocol is Protocol.RDMA:
        return f"{moves}every node that may host an end offers {ground.rdma}, which both ends request{asked}"
    if reach is Reach.SAME_POD:
        return f"{moves}TCP works inside a pod as between any two{asked}"
    return f"{moves}TCP works between any two pods{asked}"


def mixed_store_protocols(transports: Sequence[Transport]) -> bool:
    """Whether edges of one store would differ in protocol, which Mooncake refuses (kvcache-ai/Mooncake#553)."""
    return len({t.protocol for t in transports if t.connector is Connector.MOONCAKE_STORE}) > 1
