"""What every edge of a pipeline stands on, whatever the layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.api.spec import AcceleratorType, Backend, EdgeOverride, TransportSpec
from omni_operator.engine.connector import Rejection
from omni_operator.engine.pipeline import Carries, Edge, Pipeline
from omni_operator.engine.release import EdgeUse, Mover, Release
from omni_operator.planning.cost import CHUNK
from omni_operator.planning.demand import StageDemand
from omni_operator.planning.model import PodSecurity
from omni_operator.topology.quantity import parse

_BOUND_OVER_USUAL = 16


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
        """The transport that the user asks for on an edge."""
        said = self.said(edge)
        return said if said is not None and said.asked else None

    def payload(self, edge: Edge) -> int:
        """Bytes that an edge usually carries at one time: what a request sends over it, or a chunk of that.

        Where the user does not say it is an assumption: bounds are for the longest request, and most are far from it.
        """
        told = self.told(edge)
        whole = edge.max_payload_bytes // _BOUND_OVER_USUAL if told is None else told
        return min(CHUNK, whole) if self.use(edge) is EdgeUse.CHUNKS else whole

    def bound(self, edge: Edge) -> int:
        """Bytes of the most that one request sends: the pipeline's own bound, or the payload that the user says where it is larger."""
        return max(edge.max_payload_bytes, self.told(edge) or 0)

    def names(self, edge: Edge) -> tuple[str, str]:
        """Names of the producer and the consumer."""
        return self.pipeline.stage(edge.producer).name, self.pipeline.stage(edge.consumer).name

    def told(self, edge: Edge) -> int | None:
        """Bytes that a request usually sends over an edge, as the user says."""
        said = self.said(edge)
        return None if said is None or said.payload is None else int(parse(said.payload))

    def said(self, edge: Edge) -> EdgeOverride | None:
        """The entry of an edge in transport.edges."""
        ends = self.names(edge)
        return next((o for o in self.policy.edges if (o.from_stage, o.to_stage) == ends), None)
