"""Puts the parts together: spec, pipeline, release, nodes and namespace in; Plan or refusal out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.spec import AcceleratorType, Backend, OmniDeploymentSpec, Strategy
from omni_operator.engine.connector import Rejection, Transport, cost
from omni_operator.engine.pipeline import Pipeline, UnknownPipelineError, pipeline_for
from omni_operator.engine.release import Release, UnsupportedReleaseError, ray_has_token_auth, release_for
from omni_operator.planning.edges import Ground, NoTransport, mixed_store_protocols, plan_edge
from omni_operator.planning.layout import Measure, RayLayout, domains_that_hold, fits, layouts, rdma_for
from omni_operator.planning.model import Domains, EdgePlan, Plan, Planned, PodSecurity, Reach, Refused, WorkerGroup
from omni_operator.planning.overrides import bad_overrides
from omni_operator.planning.refusal import no_layout, no_transport
from omni_operator.planning.sizing import pod_sizes, store_plan
from omni_operator.topology.inventory import Inventory, Node, Toleration, matches_affinity

_RESOURCE = {AcceleratorType.NVIDIA: "nvidia.com/gpu", AcceleratorType.AMD: "amd.com/gpu", AcceleratorType.CPU: None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A layout with its edges; ordered by what is better for the user."""

    layout: RayLayout
    edges: tuple[EdgePlan, ...]
    rdma: str | None
    fits_now: bool

    def rank(self) -> tuple[bool, int, int]:
        """Free accelerators first, then the cost of moving payloads, then fewer pods."""
        moved = sum(cost(Transport(e.connector, e.protocol)) * e.max_payload_bytes for e in self.edges)
        return (not self.fits_now, moved, self.layout.pods)


def make_plan(*, spec: OmniDeploymentSpec, inventory: Inventory, pod_security: PodSecurity) -> Planned | Refused:
    """Decides everything about one revision.

    Args:
        spec: A spec that the schema has accepted.
        inventory: Nodes; what this OmniDeployment itself holds counts as free.
        pod_security: Level that the namespace enforces.
    """
    try:
        release = release_for(spec.engine.version)
    except UnsupportedReleaseError as exc:
        return _invalid(Reason.UNSUPPORTED_RELEASE, str(exc))
    try:
        pipeline = pipeline_for(spec.model, line=release.line)
    except UnknownPipelineError as exc:
        return _invalid(Reason.UNKNOWN_PIPELINE, str(exc))
    backend = release.backends[0] if spec.engine.backend is Backend.AUTO else spec.engine.backend
    if backend not in release.backends:
        able = ", ".join(release.backends)
        return _invalid(
            Reason.BACKEND_UNAVAILABLE,
            f"engine.backend {backend}: vllm-omni {release.line} supports {able}; use Auto or one of these",
        )
    if spec.ray.token_auth == "Enabled" and not ray_has_token_auth(spec.ray.version or release.ray_version):
        return _invalid(
            Reason.INVALID_SPEC,
            f"ray.tokenAuth Enabled: Ray {spec.ray.version} knows no tokens, 2.52 and later do; set Auto or raise ray.version",
        )
    if message := bad_overrides(spec, pipeline=pipeline, pod_security=pod_security):
        return _invalid(Reason.INVALID_SPEC, message)
    return _choose(
        spec=spec, release=release, pipeline=pipeline, backend=backend, inventory=inventory, pod_security=pod_security
    )


def _invalid(reason: Reason, message: str) -> Refused:
    return Refused(condition=ConditionType.ACCEPTED, reason=reason, message=message)


def _choose(
    *,
    spec: OmniDeploymentSpec,
    release: Release,
    pipeline: Pipeline,
    backend: Backend,
    inventory: Inventory,
    pod_security: PodSecurity,
) -> Planned | Refused:
    accelerator = spec.accelerator.resource_name or _RESOURCE[spec.accelerator.type]
    nodes = admitting_nodes(spec, inventory)
    key = spec.placement.topology_key
    ours = spec.ray.cluster_ref is None
    stages = len(pipeline.stages)
    candidates: list[_Candidate] = []
    dead_ends: list[NoTransport] = []
    for layout in layouts(stages=stages, wanted=spec.placement.strategy, replicas=spec.replicas):
        if ours and not fits(layout, nodes, measure=Measure.OFFERS, accelerator=accelerator, topology_key=key):
            continue
        if not ours and layout.strategy is Strategy.ONE_NODE and spec.placement.strategy is Strategy.AUTO:
            continue
        found = _with_edges(
            layout, spec=spec, release=release, pipeline=pipeline, backend=backend, nodes=nodes, accelerator=accelerator,
            pod_security=pod_security,
        )  # fmt: skip
        if isinstance(found, NoTransport):
            dead_ends.append(found)
        else:
            candidates += found
    if not candidates:
        if dead_ends:
            return no_transport(dead_ends[-1], spec)
        return no_layout(spec, nodes=nodes, accelerator=accelerator, stages=stages)
    best = min((c for c in candidates if not mixed_store_protocols(c.edges)), key=_Candidate.rank, default=None)
    if best is None:
        message = (
            "transport.edges: the edges would use one Mooncake store with both rdma and tcp, which Mooncake refuses; ask for the "
            "same protocol on all of them"
        )
        return _invalid(Reason.INVALID_SPEC, message)
    plan = _plan(
        best,
        spec=spec,
        release=release,
        pipeline=pipeline,
        backend=backend,
        accelerator=accelerator,
        pod_security=pod_security,
        nodes=nodes,
    )
    waits = None
    if ours and not best.fits_now:
        waits = _waits(best, nodes=nodes, accelerator=accelerator)
    return Planned(plan=plan, waits_for=waits)


def _waits(best: _Candidate, *, nodes: tuple[Node, ...], accelerator: str | None) -> str:
    """What a layout needs and what is free of it."""
    copies, pods = max(1, best.layout.replicas), best.layout.pods
    needs = {accelerator: copies * pods * best.layout.accelerators_per_pod, best.rdma: copies * (pods + 1)}
    said = []
    for resource, count in needs.items():
        if resource is not None:
            free = ", ".join(f"{n.name}: {n.free.get(resource, 0)}" for n in nodes[:8])
            said.append(f"{count} x {resource}, free now: {free}")
    return f"needs {' and '.join(said)}; pods stay Pending until others release theirs"


def admitting_nodes(spec: OmniDeploymentSpec, inventory: Inventory) -> tuple[Node, ...]:
    """The nodes that a pod of this spec may be scheduled on."""
    tolerations = [
        Toleration(key=t.key or "", operator=t.operator, value=t.value or "", effect=t.effect or "")
        for t in spec.placement.tolerations
    ]
    admitted = inventory.admitting(selector=spec.placement.node_selector, tolerations=tolerations)
    affinity = (spec.placement.affinity or {}).get("nodeAffinity") or {}
    return tuple(node for node in admitted if matches_affinity(node, affinity))


def _with_edges(
    layout: RayLayout,
    *,
    spec: OmniDeploymentSpec,
    release: Release,
    pipeline: Pipeline,
    backend: Backend,
    nodes: tuple[Node, ...],
    accelerator: str | None,
    pod_security: PodSecurity,
) -> list[_Candidate] | NoTransport:
    """A layout with its edges; a second time without RDMA where the devices are taken now or another edge forbids it."""
    key = spec.placement.topology_key
    ours = spec.ray.cluster_ref is None
    rdma, missing = rdma_for(
        layout,
        nodes,
        measure=Measure.OFFERS,
        accelerator=accelerator,
        asked=spec.transport.rdma_resource,
        topology_key=key,
    )
    ground = Ground(
        release=release,
        backend=backend,
        async_chunk=pipeline.releases[release.line].async_chunk,
        reach=Reach.SAME_NODE if layout.strategy is Strategy.ONE_NODE and ours else Reach.CROSS_NODE,
        pod_security=pod_security,
        rdma_resource=rdma,
        rdma_missing=missing,
        pods_ours=ours,
    )

    def candidate(ground: Ground) -> _Candidate | NoTransport:
        edges: list[EdgePlan] = []
        for edge in pipeline.edges:
            decided = plan_edge(pipeline=pipeline, edge=edge, ground=ground, policy=spec.transport)
            if isinstance(decided, NoTransport):
                return decided
            edges.append(decided)
        used = ground.rdma_resource if any(edge.protocol == "rdma" for edge in edges) else None
        now = not ours or fits(
            layout, nodes, measure=Measure.FREE, accelerator=accelerator, rdma=used, topology_key=key
        )
        return _Candidate(layout=layout, edges=tuple(edges), rdma=used, fits_now=now)

    best = candidate(ground)
    if isinstance(best, NoTransport):
        return best
    if mixed_store_protocols(best.edges):
        code = Rejection.FORBIDDEN_BY_USER
        fact = "another edge uses the same store with tcp, as transport.edges asks, and one store has one protocol"
    elif best.rdma and not best.fits_now:
        code, fact = Rejection.NO_RDMA_ON_NODE, f"the nodes that offer {best.rdma} have too little free now"
    else:
        return [best]
    other = candidate(replace(ground, rdma_resource=None, rdma_missing=fact, rdma_code=code))
    return [best] if isinstance(other, NoTransport) else [best, other]


def _plan(
    best: _Candidate,
    *,
    spec: OmniDeploymentSpec,
    release: Release,
    pipeline: Pipeline,
    backend: Backend,
    accelerator: str | None,
    pod_security: PodSecurity,
    nodes: tuple[Node, ...],
) -> Plan:
    layout, edges = best.layout, best.edges
    store = store_plan(edges)
    store_edges = [edge for edge in edges if edge.connector == "MooncakeStore"]
    ray_version = spec.ray.version or release.ray_version
    notes = []
    if best.rdma:
        notes.append(
            f"rdma is planned because the nodes offer {best.rdma}; Mooncake falls back to TCP without an error when it finds no "
            "device, so the transfers themselves are not verified"
        )
    inputs = 1 if layout.strategy is Strategy.SPREAD else len(store_edges)
    shared = any(edge.protocol == "shm" and edge.reach is Reach.SAME_NODE for edge in edges)
    return Plan(
        version=spec.engine.version,
        line=release.line,
        pipeline=pipeline.name,
        backend=backend,
        strategy=layout.strategy,
        accelerator=spec.accelerator.type,
        accelerator_resource=accelerator,
        groups=(
            WorkerGroup(
                name="stages",
                pods=layout.pods,
                accelerators=layout.accelerators_per_pod,
                stages=tuple(stage.name for stage in pipeline.stages),
            ),
        ),
        edges=edges,
        store=store,
        rdma_resource=best.rdma,
        node_shared_memory=shared,
        pod_security=pod_security,
        ray_version=ray_version,
        token_auth=ray_has_token_auth(ray_version) and spec.ray.cluster_ref is None
        if spec.ray.token_auth == "Auto"
        else spec.ray.token_auth == "Enabled",
        cluster_ref=spec.ray.cluster_ref.name if spec.ray.cluster_ref else None,
        topology_key=spec.placement.topology_key,
        domains=_domains(best, nodes=nodes, accelerator=accelerator, key=spec.placement.topology_key),
        worker_sizes=pod_sizes(edges, store=store, instances=inputs if store else 0, worker=True),
        serving_sizes=pod_sizes(edges, store=store, instances=len(store_edges), worker=False),
        notes=tuple(notes),
    )


def _domains(best: _Candidate, *, nodes: tuple[Node, ...], accelerator: str | None, key: str | None) -> Domains | None:
    if key is None:
        return None

    def holding(measure: Measure) -> tuple[str, ...]:
        return domains_that_hold(
            best.layout, nodes, measure=measure, accelerator=accelerator, rdma=best.rdma, topology_key=key
        )

    return Domains(able=holding(Measure.OFFERS), free=holding(Measure.FREE))
