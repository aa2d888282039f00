"""The facts by which transports are chosen for any layout.

Release, pipeline, namespace, image, and the user's rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.api.spec import AcceleratorType, Backend, EdgeOverride, TransportSpec
from omni_operator.connectors.base import ImageFacts
from omni_operator.connectors.transport import Fact, Rejection
from omni_operator.engine.pipeline import Edge, EdgePayload, Pipeline
from omni_operator.engine.release import PayloadKind, PayloadSender, Release
from omni_operator.planning.cost import CHUNK
from omni_operator.planning.demand import StageDemand
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import parse

_BOUND_OVER_USUAL = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportContext:
    """The facts by which the transport of every edge is chosen, whatever the layout.

    Attributes:
        release: The release.
        pipeline: The pipeline on it.
        backend: How stages run.
        async_chunk: Whether edges that can be sent in chunks are.
        accelerator: Device family.
        pod_security: Level that the namespace enforces.
        policy: What the user asks for.
        pods_ours: False with ray.clusterRef: pods whose volumes and devices the operator does not
            decide.
        image: What the engine image has.
        rdma: The RDMA resource that pods at the ends of an edge can request, or None.
        rdma_missing: Why it is None, and its code.
        needs: What the stages need, by id.
    """

    release: Release
    pipeline: Pipeline
    backend: Backend
    async_chunk: bool
    accelerator: AcceleratorType
    pod_security: PodSecurity
    policy: TransportSpec
    pods_ours: bool = True
    image: ImageFacts
    rdma: str | None
    needs: Sequence[StageDemand]
    rdma_missing: Fact = (Rejection.NO_RDMA_ON_NODE, "")

    def payload_kind(self, edge: Edge) -> PayloadKind:
        """What an edge asks of its connector."""
        if edge.payload is EdgePayload.PROMPT and self.release.payload_sender is PayloadSender.WORKERS:
            return PayloadKind.PROMPT
        if edge.payload in {EdgePayload.KV_CACHE, EdgePayload.SYNCHRONOUS}:
            return PayloadKind(edge.payload.value)
        if self.async_chunk and edge.in_chunks:
            return PayloadKind.CHUNKS
        if self.release.whole_by_server or edge.whole_by_server:
            return PayloadKind.PROMPT
        middle = any(self.pipeline.is_middle(stage) for stage in (edge.producer, edge.consumer))
        return PayloadKind.MIDDLE if middle else PayloadKind.ONE_PART

    def override(self, edge: Edge) -> EdgeOverride | None:
        """The transport that the user asks for on an edge."""
        stated = self.stated(edge)
        return stated if stated is not None and stated.asked else None

    def payload(self, edge: Edge) -> int:
        """Bytes that usually pass an edge at one time: a request's payload, or one chunk of it.

        Where the user does not say it is an assumption: bounds are for the longest request, and
        most are far from it.
        """
        stated = self.stated_payload(edge)
        one_part = edge.max_payload_bytes // _BOUND_OVER_USUAL if stated is None else stated
        return min(CHUNK, one_part) if self.payload_kind(edge) is PayloadKind.CHUNKS else one_part

    def bound(self, edge: Edge) -> int:
        """Bytes of the largest payload of one request.

        It is the pipeline's bound, or the user's payload where that is larger.
        """
        return max(edge.max_payload_bytes, self.stated_payload(edge) or 0)

    def names(self, edge: Edge) -> tuple[str, str]:
        """Names of the producer and the consumer."""
        return self.pipeline.stage(edge.producer).name, self.pipeline.stage(edge.consumer).name

    def stated_payload(self, edge: Edge) -> int | None:
        """Bytes that a request usually sends over an edge, as the user says."""
        stated = self.stated(edge)
        return None if stated is None or stated.payload is None else int(parse(stated.payload))

    def stated(self, edge: Edge) -> EdgeOverride | None:
        """The entry of an edge in transport.edges."""
        ends = self.names(edge)
        return next((o for o in self.policy.edges if (o.from_stage, o.to_stage) == ends), None)
