"""The Plan of a chosen layout: pods with their sizes, stages with their devices, and ports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Protocol
from omni_operator.connectors.registry import used
from omni_operator.connectors.transport import Reach
from omni_operator.engine.pipeline import Pipeline
from omni_operator.engine.release import Release, ray_has_token_auth
from omni_operator.engine.releases import numbers
from omni_operator.planning.capacity import Capacity, NodeCapacity
from omni_operator.planning.context import TransportContext
from omni_operator.planning.demand import StageDemand, numbered
from omni_operator.planning.layout import SERVING, Layout, PodShape
from omni_operator.planning.model import (
    Domains,
    EdgePlan,
    Plan,
    ServingPod,
    Sizes,
    StagePlan,
    StorePlan,
    WorkerGroup,
)
from omni_operator.planning.ports import base_ports
from omni_operator.planning.search import Best
from omni_operator.planning.sizing import pool_bytes, ray_pod_sizes, stage_pod_sizes, store_plan, uses_store
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import binary


def build_plan(
    best: Best,
    *,
    spec: OmniDeploymentSpec,
    stages: Sequence[StageDemand],
    node_capacity: NodeCapacity,
    pod_security: PodSecurity,
) -> Plan:
    """The Plan."""
    layout, release, pipeline = best.layout, best.context.release, best.context.pipeline
    bases = base_ports(best.edges, release=release)
    edges = tuple(
        edge.model_copy(update={"pool_bytes": pool_bytes(edge), "port": bases.get((edge.producer, edge.consumer), 0)})
        for edge in best.edges
    )
    store = store_plan(edges)
    ray_version = spec.ray.version or release.ray_version
    knows_tokens = layout.backend is not Backend.LOCAL and ray_has_token_auth(ray_version)
    names = {stage.id: stage.name for stage in pipeline.stages}

    def uses_rdma(shape: PodShape) -> bool:
        return best.rdma_request is not None and shape.name in best.rdma_request.pods

    return Plan(
        version=spec.engine.version,
        series=release.series,
        pipeline=pipeline.name,
        backend=layout.backend,
        strategy=layout.strategy,
        async_chunk=best.context.async_chunk,
        accelerator=spec.accelerator.type,
        accelerator_resource=node_capacity.accelerator,
        serving=ServingPod(
            accelerators=layout.serving.accelerators,
            stages=tuple(names[i] for i in layout.serving.stages),
            rdma=uses_rdma(layout.serving),
            sizes=_sizes(layout, layout.serving, edges, stages=stages, store=store),
        ),
        groups=tuple(
            WorkerGroup(
                name=shape.name,
                pods=shape.copies,
                spans=shape.spans,
                accelerators=shape.accelerators,
                stages=tuple(names[i] for i in shape.stages),
                rdma=uses_rdma(shape),
                sizes=_sizes(layout, shape, edges, stages=stages, store=store),
            )
            for shape in layout.workers
        ),
        stages=_stages(layout, pipeline, stages),
        edges=edges,
        store=store,
        rdma_resource=best.rdma_request.resource if best.rdma_request else None,
        node_shared_memory=any(edge.protocol == "shm" and edge.reach is Reach.SAME_NODE for edge in edges),
        pod_security=pod_security,
        ray_version=ray_version,
        token_auth=knows_tokens and spec.ray.cluster_ref is None
        if spec.ray.token_auth == "Auto"
        else knows_tokens and spec.ray.token_auth == "Enabled",
        cluster_ref=spec.ray.cluster_ref.name if spec.ray.cluster_ref else None,
        topology_key=spec.placement.topology_key,
        domains=_domains(best, node_capacity=node_capacity),
        notes=tuple(_notes(best, edges, spec=spec, release=release)),
    )


def _sizes(
    layout: Layout,
    shape: PodShape,
    edges: Sequence[EdgePlan],
    *,
    stages: Sequence[StageDemand],
    store: StorePlan | None,
) -> Sizes:
    serving = shape.name == SERVING
    if layout.by_ray:
        of_store = sum(1 for edge in edges if uses_store(edge))
        # The server opens every edge's connector; a worker those of the stages that Ray may place
        # in it.
        instances = min(of_store, 1) if not serving and shape.copies > 1 else of_store
        return ray_pod_sizes(edges, store=store, instances=instances, worker=not serving)
    # Of several pods each has one copy of a stage, or its part of one.
    ranks = {
        stage.id: shape.accelerators if shape.copies > 1 else len(stage.devices)
        for stage in stages
        if stage.id in shape.stages
    }
    return stage_pod_sizes(edges, ranks=ranks, store=store, server=serving, ray_node=not serving)


def _stages(layout: Layout, pipeline: Pipeline, stages: Sequence[StageDemand]) -> tuple[StagePlan, ...]:
    out = []
    for stage in stages:
        name = pipeline.stage(stage.id).name
        if layout.by_ray:  # an actor sees the one device that Ray gave it
            out.append(StagePlan(id=stage.id, name=name, pod=layout.workers[0].name, devices=(0,)))
            continue
        home = layout.home(stage.id)
        if home.spans:  # vLLM takes what Ray gives it; a list of devices would have to name them all (0.28)
            out.append(StagePlan(id=stage.id, name=name, pod=home.name, devices=()))
            continue
        alone = home.copies > 1
        near = [other for other in stages if other.id in home.stages]
        devices = tuple(range(stage.per_replica)) if alone else numbered(near)[stage.id]
        out.append(StagePlan(id=stage.id, name=name, pod=home.name, devices=devices, replicas=stage.replicas))
    return tuple(out)


def _notes(best: Best, edges: Sequence[EdgePlan], *, spec: OmniDeploymentSpec, release: Release) -> list[str]:
    notes = []
    if numbers(spec.engine.version) != numbers(release.series):
        notes.append(
            f"vllm-omni {spec.engine.version} is not known to this operator and is run by the record of "
            f"{release.series} (engine.versionPolicy Nearest): flags, configuration and connectors may differ"
        )
    image = best.context.image
    users = used((edge.connector, edge.protocol) for edge in edges)
    if best.rdma_request:
        fallback = next(
            (m for m, protocols in users.items() if m.rdma_fallback_note and Protocol.RDMA in protocols), None
        )
        falls, torn = (fallback.rdma_fallback_note, fallback.torn_note(image)) if fallback else ("", "")
        notes.append(
            f"rdma is planned because the nodes offer {best.rdma_request.resource}{falls}, so the transfers themselves "
            f"are not verified{torn}"
        )
    if best.context.pipeline.async_chunk and not best.context.async_chunk:
        notes.append(
            "the pipeline is shipped with async_chunk: true, but no connector that works between these pods carries "
            "chunks; it sends whole payloads, so the first audio comes later"
        )
    notes += _payload_notes(best.context, edges)
    for shape in (shape for shape in best.layout.workers if shape.spans):
        stages = ", ".join(best.context.pipeline.stage(stage).name for stage in shape.stages)
        notes.append(
            f"{stages} spans {shape.copies} pods, since no node has {shape.copies * shape.accelerators} accelerators: "
            "its tensor parallelism crosses the network in every step; the engine must have Ray, and its NCCL the "
            "network between the nodes"
        )
    for module, protocols in users.items():
        notes += module.notes(protocols, image=image)
    return notes


def _payload_notes(context: TransportContext, edges: Sequence[EdgePlan]) -> Iterator[str]:
    """What a payload that the user says does besides its being weighed."""
    for shipped, edge in zip(context.pipeline.edges, edges, strict=True):
        stated = context.stated(shipped)
        if stated is None or stated.payload is None:
            continue
        field = f"transport.edges[{edge.from_stage} -> {edge.to_stage}].payload {stated.payload}"
        if edge.connector is None:
            yield f"{field} has no effect: {edge.reason}"
        elif edge.max_payload_bytes > shipped.max_payload_bytes:
            bound = binary(shipped.max_payload_bytes)
            yield (
                f"{field} is more than the pipeline's bound of {bound} and takes its place, so the pods have memory "
                "for it"
            )


def _domains(best: Best, *, node_capacity: NodeCapacity) -> Domains | None:
    if node_capacity.spec.placement.topology_key is None:
        return None
    able = node_capacity.domains_that_hold(best.layout, Capacity.ALLOCATABLE, best.rdma_request)
    return Domains(able=able, free=node_capacity.domains_that_hold(best.layout, Capacity.AVAILABLE, best.rdma_request))
