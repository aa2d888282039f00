"""What the schema cannot know of a spec: names of stages and edges, what one Ray actor per stage cannot do, embedded objects."""

from __future__ import annotations

from typing import Any

from omni_operator.api.spec import OmniDeploymentSpec, Strategy
from omni_operator.engine.pipeline import Pipeline
from omni_operator.planning.model import PodSecurity
from omni_operator.topology.inventory import affinity_problem

_ENV_SOURCES = ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef")


def bad_overrides(spec: OmniDeploymentSpec, *, pipeline: Pipeline, pod_security: PodSecurity) -> str | None:
    """The first field that cannot be used, with its value and the remedy; None when all can."""
    names = [stage.name for stage in pipeline.stages]
    for stage in spec.stages:
        where = f"stages[{stage.name}]"
        if stage.name not in names:
            return f"{where}: pipeline {pipeline.name} has no such stage; it has {', '.join(names)}; use one of these"
        if (stage.accelerators or 1) > 1:
            return (
                f"{where}.accelerators {stage.accelerators}: with backend Ray an actor sees one accelerator, so every stage has "
                "exactly 1; remove it"
            )
        if (stage.replicas or 1) > 1:
            return (
                f"{where}.replicas {stage.replicas}: backend Ray runs one actor per stage; raise spec.replicas instead"
            )
        if message := _bad_engine_args(where, stage.engine_args or {}):
            return message
        if stage.resources and spec.ray.cluster_ref:
            return f"{where}.resources: the pods of ray.clusterRef are not ours to size; remove it"
        if stage.node_selector:
            return f"{where}.nodeSelector: with backend Ray it is Ray that places stages; use placement.nodeSelector"
        if stage.tolerations:
            return f"{where}.tolerations: with backend Ray it is Ray that places stages; use placement.tolerations"
    if spec.ray.cluster_ref and spec.placement.strategy is Strategy.ONE_NODE:
        return "placement.strategy OneNode: the pods of ray.clusterRef are not ours to place; remove it"
    if spec.ray.cluster_ref and spec.placement.topology_key:  # the server would wait for workers that never come
        return "placement.topologyKey: the pods of ray.clusterRef are not ours to place; remove it"
    edges = {(pipeline.stage(e.producer).name, pipeline.stage(e.consumer).name) for e in pipeline.edges}
    for edge in spec.transport.edges:
        if (edge.from_stage, edge.to_stage) not in edges:
            able = ", ".join(f"{a} -> {b}" for a, b in sorted(edges))
            return f"transport.edges[{edge.from_stage} -> {edge.to_stage}]: pipeline {pipeline.name} has the edges {able}; use one of these"
    for variable in spec.engine.env:
        sources = list(variable.value_from or ())
        if variable.value_from is not None and (len(sources) != 1 or sources[0] not in _ENV_SOURCES):
            return (
                f"engine.env[{variable.name}].valueFrom: has {', '.join(sources) or 'nothing'}, but needs exactly one of "
                f"{', '.join(_ENV_SOURCES)}; correct it"
            )
    if problem := affinity_problem(spec.placement.affinity or {}):
        return f"placement.affinity.{problem}; correct it"
    weights = spec.model.weights
    if weights and weights.host_path and pod_security is not PodSecurity.PRIVILEGED:
        return (
            f"model.weights.hostPath: the namespace enforces pod security level {pod_security}, which forbids hostPath; use "
            "model.weights.claim"
        )
    return None


def _bad_engine_args(where: str, args: dict[str, Any]) -> str | None:
    """Arguments that need more than the one accelerator of a Ray actor (0.14, 0.16)."""
    for key in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        if str(args.get(key, 1)) != "1":
            return f"{where}.engineArgs.{key} {args[key]}: with backend Ray an actor sees one accelerator; remove it"
    if args.get("distributed_executor_backend") == "ray":
        return (
            f"{where}.engineArgs.distributed_executor_backend ray: inside a Ray actor it waits for accelerators that the actor "
            "itself holds; remove it"
        )
    return None
