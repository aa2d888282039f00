"""Makes the Plan of a spec, or a PlanError.

It uses the spec, its release and pipeline, the nodes and the namespace.
"""

from __future__ import annotations

from collections.abc import Sequence

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.engine_spec import VersionPolicy
from omni_operator.api.spec import AcceleratorType, Backend, OmniDeploymentSpec
from omni_operator.connectors.base import ImageFacts
from omni_operator.engine.definition import pipeline_of
from omni_operator.engine.pipeline import Pipeline, UnknownPipelineError
from omni_operator.engine.release import Release, ray_has_token_auth
from omni_operator.engine.releases import UnsupportedReleaseError, exact_release, nearest_release
from omni_operator.planning.build import build_plan
from omni_operator.planning.capacity import Capacity, NodeCapacity
from omni_operator.planning.context import TransportContext
from omni_operator.planning.demand import StageDemand, demands
from omni_operator.planning.feasibility import shortage
from omni_operator.planning.layout import Layout, layouts
from omni_operator.planning.model import PlanError, Planned
from omni_operator.planning.overrides import bad_overrides
from omni_operator.planning.plan_error import no_layout, no_transport
from omni_operator.planning.search import Best, MixedStore, NoLayout, search
from omni_operator.planning.transports import NoTransport
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity

_RESOURCE = {AcceleratorType.NVIDIA: "nvidia.com/gpu", AcceleratorType.AMD: "amd.com/gpu", AcceleratorType.CPU: None}


def make_plan(*, spec: OmniDeploymentSpec, inventory: Inventory, pod_security: PodSecurity) -> Planned | PlanError:
    """Decides everything about one revision.

    Args:
        spec: A spec that the schema has accepted.
        inventory: Nodes; what this OmniDeployment itself holds counts as available.
        pod_security: Level that the namespace enforces.
    """
    release = _release(spec)
    if isinstance(release, PlanError):
        return release
    try:
        pipeline = pipeline_of(spec.model, release)
    except UnknownPipelineError as exc:
        return _invalid(Reason.UNKNOWN_PIPELINE, str(exc))
    asked = spec.engine.backend
    if asked is not Backend.AUTO and asked not in release.backends:
        able = ", ".join(release.backends)
        return _invalid(
            Reason.BACKEND_UNAVAILABLE,
            f"engine.backend {asked}: vllm-omni {release.series} supports {able}; use Auto or one of these",
        )
    backends = release.backends if asked is Backend.AUTO else (asked,)
    if spec.ray.token_auth == "Enabled" and not ray_has_token_auth(spec.ray.version or release.ray_version):
        return _invalid(
            Reason.INVALID_SPEC,
            f"ray.tokenAuth Enabled: Ray {spec.ray.version} knows no tokens, 2.52 and later do; set Auto or raise "
            "ray.version",
        )
    if message := bad_overrides(spec, pipeline=pipeline, release=release, backends=backends, pod_security=pod_security):
        return _invalid(Reason.INVALID_SPEC, message)
    return _choose(
        spec=spec,
        release=release,
        pipeline=pipeline,
        backends=backends,
        inventory=inventory,
        pod_security=pod_security,
    )


def _release(spec: OmniDeploymentSpec) -> Release | PlanError:
    """The record of the version.

    Where engine.versionPolicy allows it, that of the nearest series before it.
    """
    version = spec.engine.version
    if (exact := exact_release(version)) is not None:
        return exact
    try:
        near = nearest_release(version)
    except UnsupportedReleaseError as exc:
        return _invalid(Reason.UNSUPPORTED_RELEASE, str(exc))
    if spec.engine.version_policy is VersionPolicy.EXACT:
        return _invalid(
            Reason.UNSUPPORTED_RELEASE,
            f"engine.version {version}: this operator has no record of it, and engine.versionPolicy is Exact; use a "
            f"version of {near.series}, or set Nearest to run it by the record of {near.series}",
        )
    return near


def _invalid(reason: Reason, message: str) -> PlanError:
    return PlanError(condition=ConditionType.ACCEPTED, reason=reason, message=message)


def _choose(
    *,
    spec: OmniDeploymentSpec,
    release: Release,
    pipeline: Pipeline,
    backends: Sequence[Backend],
    inventory: Inventory,
    pod_security: PodSecurity,
) -> Planned | PlanError:
    accelerator = spec.accelerator.resource_name or _RESOURCE[spec.accelerator.type]
    node_capacity = NodeCapacity(
        spec=spec, inventory=inventory, accelerator=accelerator, stages=[stage.name for stage in pipeline.stages]
    )
    needs = {
        backend: demands(pipeline, spec, backend=backend, across_pods=release.copies_across_pods)
        for backend in backends
    }
    context = TransportContext(
        release=release,
        pipeline=pipeline,
        backend=backends[0],
        async_chunk=pipeline.async_chunk,
        accelerator=spec.accelerator.type,
        pod_security=pod_security,
        policy=spec.transport,
        pods_ours=spec.ray.cluster_ref is None,
        image=ImageFacts(mooncake=release.mooncake(spec.engine.mooncake_version), nixl=spec.engine.nixl),
        rdma=None,
        needs=needs[backends[-1]],  # only Ray's are others, and it is alone
    )
    found = search(
        lambda capacity: _layouts(capacity, needs=needs, node_capacity=node_capacity),
        context=context,
        node_capacity=node_capacity,
        streaming=_streaming(pipeline),
    )
    if isinstance(found, Best):
        plan = build_plan(
            found, spec=spec, stages=needs[found.layout.backend], node_capacity=node_capacity, pod_security=pod_security
        )
        return Planned(plan=plan, waits_for=_waits(found, node_capacity))
    if isinstance(found, MixedStore):
        message = (
            "transport.edges: the edges would use one Mooncake store with both rdma and tcp, which Mooncake refuses; "
            "ask for the same protocol on all of them"
        )
        return _invalid(Reason.INVALID_SPEC, message)
    if isinstance(found, NoTransport):
        return no_transport(found, spec)
    assert isinstance(found, NoLayout)
    return no_layout(spec, nodes=node_capacity.nodes, accelerator=accelerator, needs=needs)


def _layouts(
    capacity: Capacity, *, needs: dict[Backend, tuple[StageDemand, ...]], node_capacity: NodeCapacity
) -> list[Layout]:
    """The layouts of all backends that may fit the nodes.

    On the user's own RayCluster, Ray places the stages.
    """
    spec = node_capacity.spec
    theirs = spec.ray.cluster_ref is not None
    found: list[Layout] = []
    for backend, stages in needs.items():
        devices = {device for stage in stages for device in stage.devices}
        if theirs or node_capacity.enough(len(devices), capacity):
            wanted, largest, largest_empty = (
                spec.placement.strategy,
                node_capacity.largest(capacity),
                node_capacity.largest(Capacity.ALLOCATABLE),
            )
            found += layouts(stages, backend=backend, wanted=wanted, largest=largest, largest_empty=largest_empty)
    return [each for each in found if not (theirs and each.follows)]


def _streaming(pipeline: Pipeline) -> tuple[bool, ...]:
    """Values of async_chunk to try: as shipped, and off where every edge allows one part."""
    if pipeline.async_chunk and all(edge.in_one_part for edge in pipeline.edges):
        return (True, False)
    return (pipeline.async_chunk,)


def _waits(best: Best, node_capacity: NodeCapacity) -> str | None:
    return None if best.fits_now else shortage(best.layout, best.rdma_request, node_capacity)
