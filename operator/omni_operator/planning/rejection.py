"""Why a transport cannot be used on an edge.

The release and the user's rules come first, then the connector's own module.
"""

from __future__ import annotations

from omni_operator.connectors.base import Site
from omni_operator.connectors.registry import connector
from omni_operator.connectors.transport import Fact, Reach, Rejection, Transport
from omni_operator.engine.pipeline import Edge
from omni_operator.engine.release import PayloadKind
from omni_operator.planning.context import TransportContext
from omni_operator.planning.ports import most_copies

BY_SERVER = "the server hands the result on with the next stage's request, so no connector is used"
_CANNOT_CARRY = {
    PayloadKind.CHUNKS: (
        Rejection.ASYNC_CHUNK_UNSUPPORTED,
        "the pipeline streams chunks (async_chunk: true), which this connector cannot carry",
    ),
    PayloadKind.MIDDLE: (
        Rejection.MIDDLE_STAGE_UNSUPPORTED,
        "a stage that receives over this connector cannot send over it, and a stage of this edge does both",
    ),
    PayloadKind.SYNCHRONOUS: (
        Rejection.SYNCHRONOUS_UNSUPPORTED,
        "the diffusion stage waits for its payload with a deadline, which this connector does not know",
    ),
    PayloadKind.KV_CACHE: (Rejection.KV_CACHE_UNSUPPORTED, "this connector cannot carry a KV cache"),
    PayloadKind.ONE_PART: (  # and MIDDLE, where the release carries neither
        Rejection.RELEASE_IGNORES_CONNECTOR,
        "with async_chunk false this release uses SharedMemory for every payload, whatever is configured",
    ),
}


def reject(context: TransportContext, edge: Edge, reach: Reach, transport: Transport) -> Fact | None:
    """Why a transport is not usable, or None when it is.

    Facts of the release come first: no setting changes them.
    """
    release, kind = context.release, transport.connector
    if kind not in release.connectors:
        return Rejection.RELEASE_LACKS_CONNECTOR, f"vllm-omni {release.series} has no {kind} connector"
    module = connector(kind)
    if (fact := module.reject_backend(context.backend, release=release)) is not None:
        return fact
    payload_kind, override = context.payload_kind(edge), context.override(edge)
    if payload_kind is PayloadKind.PROMPT:  # asked for by the user all the same
        return Rejection.HANDED_ON_BY_SERVER, BY_SERVER
    if kind not in release.supported_connectors[payload_kind]:
        for_one_part = release.supported_connectors[PayloadKind.ONE_PART]
        ignored = payload_kind is PayloadKind.MIDDLE and kind not in for_one_part
        return _CANNOT_CARRY[PayloadKind.ONE_PART if ignored else payload_kind]
    if override is not None:
        asked = [str(x) for x in (override.connector, override.protocol) if x is not None]
        if override.connector not in {None, kind} or override.protocol not in {None, transport.protocol}:
            return Rejection.FORBIDDEN_BY_USER, f"transport.edges asks for {'/'.join(asked)} on this edge"
    stage = context.needs[edge.producer]
    most = most_copies(payload_kind, formula=release.ports, stage=stage)
    if module.listens and stage.replicas > most:
        name = context.pipeline.stage(stage.id).name
        return (
            Rejection.PORTS_COLLIDE,
            f"{stage.replicas} copies of {name} may share a pod, and vllm-omni {release.series} keeps the ports of "
            f"{most} apart",
        )
    site = site_of(context, edge, reach, transport)
    return module.reject_image(site) or module.reject_place(site)


def site_of(context: TransportContext, edge: Edge, reach: Reach, transport: Transport) -> Site:
    """The place of an edge, as a connector's module is asked about it."""
    return Site(
        release=context.release,
        backend=context.backend,
        reach=reach,
        protocol=transport.protocol,
        requested=context.override(edge) is not None,
        image=context.image,
        accelerator=context.accelerator,
        pod_security=context.pod_security,
        pods_ours=context.pods_ours,
        shared_memory=context.policy.shared_memory,
        rdma_policy=context.policy.rdma,
        rdma=context.rdma,
        rdma_missing=context.rdma_missing,
    )
