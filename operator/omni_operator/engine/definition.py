"""A pipeline that a user describes in the spec, as the catalog would hold it."""

from __future__ import annotations

from typing import Any

from omni_operator.api.model_spec import ModelSpec
from omni_operator.api.pipeline_spec import PipelineDefinition, StageDefinition
from omni_operator.engine.pipeline import (
    DeployBody,
    Edge,
    EdgePayload,
    Pipeline,
    Stage,
    StageKind,
    UnknownPipelineError,
    pipeline_for,
)
from omni_operator.engine.release import ConfigFormat, Release

_MIB = 1 << 20


def pipeline_of(model: ModelSpec, release: Release) -> Pipeline:
    """The pipeline of a model on a release: as the user describes it, or as the catalog has it.

    Raises:
        UnknownPipelineError: Neither tells it, or the description does not fit together.
    """
    if model.definition is None or model.pipeline is None:
        return pipeline_for(model, series=release.series)
    return defined(model.definition, topology=model.pipeline, release=release)


def defined(definition: PipelineDefinition, *, topology: str, release: Release) -> Pipeline:
    """The pipeline on a release.

    Args:
        definition: What the user wrote.
        topology: Its name in the engine's own registry (model.pipeline).
        release: The release, which tells the format of its configuration.

    Raises:
        UnknownPipelineError: The parts do not fit together; the message names the field and the
            remedy.
    """
    stage_args = release.config_format is ConfigFormat.STAGE_ARGS
    order = {stage.name: number for number, stage in enumerate(definition.stages)}
    devices: dict[str, tuple[int, ...]] = {}
    for stage in definition.stages:
        devices[stage.name] = _devices(stage, devices)
        _check(stage, release=release)
    edges = []
    for edge in definition.edges:
        if order[edge.from_stage] >= order[edge.to_stage]:
            msg = (
                f"model.definition.edges[{edge.from_stage} -> {edge.to_stage}]: an edge goes from an earlier stage to "
                "a later one; change the order of model.definition.stages"
            )
            raise UnknownPipelineError(msg)
        edges.append(
            Edge(
                producer=order[edge.from_stage],
                consumer=order[edge.to_stage],
                payload=EdgePayload[edge.payload.name],
                in_chunks=edge.in_chunks,
                in_one_part=edge.in_one_part,
                max_payload_bytes=edge.max_payload_mib * _MIB,
                extra=edge.extra,
            )
        )
    bodies = tuple({"stage_id": order[stage.name], **stage.config} for stage in definition.stages)
    return Pipeline(
        name=topology,
        topology=topology,
        series=release.series,
        async_chunk=definition.async_chunk,
        stages=tuple(
            Stage(id=order[s.name], name=s.name, kind=StageKind[s.kind.name], devices=devices[s.name])
            for s in definition.stages
        ),
        edges=tuple(edges),
        stage_args=bodies if stage_args else (),
        deploy=None if stage_args else DeployBody(settings=definition.settings, stages=bodies),
    )


def _devices(stage: StageDefinition, before: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    taken = {device for devices in before.values() for device in devices}
    first = max(taken, default=-1) + 1
    if stage.shares_with is None:
        return tuple(range(first, first + stage.accelerators))
    if stage.shares_with not in before:
        msg = (
            f"model.definition.stages[{stage.name}].sharesWith {stage.shares_with}: no earlier stage has this name; "
            f"use one of {', '.join(before) or 'none'}"
        )
        raise UnknownPipelineError(msg)
    theirs = before[stage.shares_with][: stage.accelerators]
    return (*theirs, *range(first, first + stage.accelerators - len(theirs)))


def _check(stage: StageDefinition, *, release: Release) -> None:
    where = f"model.definition.stages[{stage.name}].config"
    for key in release.owned_stage_keys:
        if key in stage.config:
            msg = f"{where}.{key}: the operator sets it; remove it"
            raise UnknownPipelineError(msg)
    args: Any = stage.config.get("engine_args")
    if release.config_format is ConfigFormat.STAGE_ARGS and not isinstance(args, dict):
        needed = "it needs engine_args with model_stage and model_arch; add them"
        msg = f"{where}: vllm-omni {release.series} reads stage_args, so {needed}"
        raise UnknownPipelineError(msg)
