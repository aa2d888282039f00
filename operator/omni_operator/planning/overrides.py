"""What the schema cannot check in a spec.

Names of stages and edges, limits of a backend, and embedded objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from omni_operator.api.engine_spec import OWNED_FLAGS
from omni_operator.api.spec import Backend, OmniDeploymentSpec, StageOverride, Strategy
from omni_operator.engine.flags import flag_of
from omni_operator.engine.pipeline import Pipeline, Stage, StageKind
from omni_operator.engine.release import ConfigFormat, Release
from omni_operator.planning.demand import demands, device_groups
from omni_operator.topology.inventory import affinity_problem
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import parse

PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
# Sources of a variable and what the API demands of each; a pod that lacks it would be refused.
_ENV_SOURCES = {
    "secretKeyRef": ("name", "key"),
    "configMapKeyRef": ("name", "key"),
    "fieldRef": ("fieldPath",),
    "resourceFieldRef": ("resource",),
}


def bad_overrides(
    spec: OmniDeploymentSpec,
    *,
    pipeline: Pipeline,
    release: Release,
    backends: Sequence[Backend],
    pod_security: PodSecurity,
) -> str | None:
    """The first field that cannot be used, with its value and the remedy; None when all can."""
    names = [stage.name for stage in pipeline.stages]
    for override in spec.stages:
        where = f"stages[{override.name}]"
        if override.name not in names:
            return f"{where}: pipeline {pipeline.name} has no such stage; it has {', '.join(names)}; use one of these"
        stage = pipeline.stage(names.index(override.name))
        message = (
            _with_ray(where, override, pods_ours=spec.ray.cluster_ref is None)
            if Backend.RAY in backends
            else _without_ray(where, override, stage=stage, release=release)
        )
        if message:
            return message
    if message := _bad_backend(spec, pipeline=pipeline, backends=backends):
        return message
    if spec.ray.cluster_ref and spec.placement.strategy is Strategy.ONE_NODE:
        return "placement.strategy OneNode: the pods of ray.clusterRef are not ours to place; remove it"
    if spec.ray.cluster_ref and spec.placement.topology_key:  # the server would wait for workers that never come
        return "placement.topologyKey: the pods of ray.clusterRef are not ours to place; remove it"
    edges = {(pipeline.stage(e.producer).name, pipeline.stage(e.consumer).name) for e in pipeline.edges}
    for edge in spec.transport.edges:
        where = f"transport.edges[{edge.from_stage} -> {edge.to_stage}]"
        if (edge.from_stage, edge.to_stage) not in edges:
            able = ", ".join(f"{a} -> {b}" for a, b in sorted(edges))
            return f"{where}: pipeline {pipeline.name} has the edges {able}; use one of these"
        # The CRD says it too; files are planned without a server.
        if edge.payload is not None and not 1 << 10 <= parse(edge.payload) <= 1 << 40:
            return f"{where}.payload {edge.payload}: a payload is from 1Ki to 1Ti; correct it"
    for variable in spec.engine.env:
        where = f"engine.env[{variable.name}].valueFrom"
        if variable.value_from is not None and (message := _bad_source(where, variable.value_from)):
            return message
    if (owned := next((a for a in spec.engine.extra_args if flag_of(a) in OWNED_FLAGS), None)) is not None:
        return (
            f"engine.extraArgs {owned}: the operator sets that flag; remove it and use the field of the spec that "
            "stands for it"
        )
    if Backend.RAY in backends and (flag := _parallel_flag(spec.engine.extra_args)) is not None:
        return f"engine.extraArgs {flag}: with backend Ray an actor sees one accelerator; remove it"
    if problem := affinity_problem(spec.placement.affinity or {}):
        return f"placement.affinity.{problem}; correct it"
    weights = spec.model.weights
    if weights and weights.host_path and pod_security is not PodSecurity.PRIVILEGED:
        return (
            f"model.weights.hostPath: the namespace enforces pod security level {pod_security}, which forbids "
            f"hostPath; use "
            "model.weights.claim"
        )
    return None


def _with_ray(where: str, override: StageOverride, *, pods_ours: bool) -> str | None:
    """What an actor with one accelerator, placed by Ray, cannot do (0.14, 0.16)."""
    if (override.accelerators or 1) > 1:
        return (
            f"{where}.accelerators {override.accelerators}: with backend Ray an actor sees one accelerator, so every "
            f"stage has "
            "exactly 1; remove it"
        )
    if (override.replicas or 1) > 1:
        return (
            f"{where}.replicas {override.replicas}: backend Ray runs one actor per stage; raise spec.replicas instead"
        )
    args = override.engine_args or {}
    for key in PARALLEL:
        if str(args.get(key, 1)) != "1":
            return f"{where}.engineArgs.{key} {args[key]}: with backend Ray an actor sees one accelerator; remove it"
    if args.get("distributed_executor_backend") == "ray":
        return (
            f"{where}.engineArgs.distributed_executor_backend ray: inside a Ray actor it waits for accelerators that "
            f"the actor "
            "itself holds; remove it"
        )
    if override.resources and not pods_ours:
        return f"{where}.resources: the pods of ray.clusterRef are not ours to size; remove it"
    if override.node_selector:
        return f"{where}.nodeSelector: with backend Ray it is Ray that places stages; use placement.nodeSelector"
    if override.tolerations:
        return f"{where}.tolerations: with backend Ray it is Ray that places stages; use placement.tolerations"
    return None


def _without_ray(where: str, override: StageOverride, *, stage: Stage, release: Release) -> str | None:
    """What the configuration of a stage process cannot say, or says twice."""
    args = override.engine_args or {}
    if (override.replicas or 1) > 1 and release.config_format is ConfigFormat.STAGE_ARGS:
        return (
            f"{where}.replicas {override.replicas}: vllm-omni {release.series} runs one copy of a stage; raise "
            "spec.replicas instead"
        )
    for key in release.owned_stage_keys:
        if key in args:
            return (
                f"{where}.engineArgs.{key}: the operator sets it; remove it and use the field of the spec that stands "
                "for it"
            )
    accelerators = override.accelerators or stage.accelerators
    if stage.kind is StageKind.DIFFUSION:
        if override.accelerators and accelerators != stage.accelerators and not _parallel_keys(args):
            return (
                f"{where}.accelerators {accelerators}: a diffusion stage is split in more than one way; say which in "
                "engineArgs.parallel_config, such as {ulysses_degree: " + str(accelerators) + "}"
            )
        return None
    given = {key: args[key] for key in PARALLEL if key in args}
    try:
        needed = math.prod(int(value) for value in given.values())
    except (TypeError, ValueError):
        return f"{where}.engineArgs: {given} must be whole numbers; correct them"
    if given and needed != accelerators:
        said = ", ".join(f"{key} {value}" for key, value in given.items())
        return (
            f"{where}.engineArgs: {said} needs {needed} accelerators and the stage has {accelerators}, which the "
            f"engine refuses; set {where}.accelerators to {needed}"
        )
    return None


def _bad_source(where: str, sources: Mapping[str, Any]) -> str | None:
    if len(sources) != 1 or (source := next(iter(sources))) not in _ENV_SOURCES:
        found = ", ".join(sources) or "nothing"
        return f"{where}: has {found}, but needs exactly one of {', '.join(_ENV_SOURCES)}; correct it"
    given = sources[source] if isinstance(sources[source], Mapping) else {}
    lacking = [key for key in _ENV_SOURCES[source] if not (isinstance(given.get(key), str) and given[key])]
    return f"{where}.{source}: needs {' and '.join(lacking)}; add it" if lacking else None


def _parallel_flag(args: Sequence[str]) -> str | None:
    """A flag that gives every stage more than one accelerator.

    0.14 and 0.16 merge the command line into each stage.
    """
    for arg in args:
        if flag_of(arg) in {"-tp", "-pp", "-dp", *(f"--{key.replace('_', '-')}" for key in PARALLEL)}:
            return arg
    return None


def _parallel_keys(args: Mapping[str, Any]) -> bool:
    return "parallel_config" in args or any(key.endswith(("_degree", "_parallel_size")) for key in args)


def _bad_backend(spec: OmniDeploymentSpec, *, pipeline: Pipeline, backends: Sequence[Backend]) -> str | None:
    """Strategies and references that a backend cannot follow."""
    if Backend.RAY in backends:
        return None
    if spec.ray.cluster_ref:
        return (
            f"ray.clusterRef {spec.ray.cluster_ref.name}: backend {backends[0]} runs stages in pods of its own and "
            f"joins no "
            "RayCluster; remove it"
        )
    strategy = spec.placement.strategy
    if tuple(backends) == (Backend.HEADLESS,):
        if strategy is Strategy.ONE_NODE:
            return (
                "placement.strategy OneNode: backend Headless runs stages in several pods, which may end on several "
                "nodes; set engine.backend to Local for one pod"
            )
        if len(device_groups(demands(pipeline, spec, backend=Backend.HEADLESS))) < 2:
            return (
                f"engine.backend Headless: the stages of pipeline {pipeline.name} share their accelerators, so they "
                f"stay in one "
                "pod; use Local, or give a stage its own with stages[].accelerators"
            )
    if tuple(backends) == (Backend.LOCAL,) and strategy is Strategy.SPREAD:
        return "placement.strategy Spread: backend Local runs all stages in one pod; set it to Auto"
    return None
