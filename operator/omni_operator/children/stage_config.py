"""The stage configuration file in both formats.

The engine arguments are upstream's; devices, connectors and edges are the operator's.
"""

from __future__ import annotations

from typing import Any

import yaml

from omni_operator.api.spec import AcceleratorType
from omni_operator.children import connectors
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision
from omni_operator.engine.definition import pipeline_of
from omni_operator.engine.pipeline import Pipeline, StageKind
from omni_operator.engine.release import ConfigFormat, Release
from omni_operator.engine.releases import release_of
from omni_operator.planning.model import StagePlan
from omni_operator.planning.overrides import PARALLEL

# The emitter in C writes the same text several times faster; a build of PyYAML without it has only
# the other.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_PLATFORM = {AcceleratorType.NVIDIA: "cuda", AcceleratorType.AMD: "rocm"}


def render(owner: Owner, revision: Revision) -> str:
    """The file as YAML."""
    release = release_of(revision.plan.series)
    # By the name in the plan: what a later catalog makes of the model's name is another revision's
    # concern.
    model = revision.spec.model.model_copy(update={"pipeline": revision.plan.pipeline})
    pipeline = pipeline_of(model, release)
    make = _stage_args if release.config_format is ConfigFormat.STAGE_ARGS else _deploy
    document = make(owner, revision, release, pipeline)
    return str(yaml.dump(document, Dumper=_DUMPER, sort_keys=False, width=120))


def _stage_args(owner: Owner, revision: Revision, release: Release, pipeline: Pipeline) -> dict[str, Any]:
    """The format of 0.14 to 0.18 (load_stage_configs_from_yaml)."""
    document: dict[str, Any] = {}
    if release.async_chunk_key:
        document["async_chunk"] = revision.plan.async_chunk
    document["stage_args"] = [
        _stage_args_entry(raw, revision=revision, stage=stage, kind=pipeline.stage(stage.id).kind)
        for raw, stage in zip(pipeline.stage_args, revision.plan.stages, strict=True)
    ]
    document["runtime"] = {
        "enabled": True,
        "defaults": {"window_size": -1, "max_inflight": 1},
        "connectors": connectors.entries(owner, revision, release=release, pipeline=pipeline),
        "edges": [{"from": e.producer, "to": e.consumer, "window_size": -1} for e in revision.plan.edges],
    }
    return document


def _stage_args_entry(raw: dict[str, Any], *, revision: Revision, stage: StagePlan, kind: StageKind) -> dict[str, Any]:
    out = dict(raw)
    # With Ray an actor has one device as CUDA_VISIBLE_DEVICES; any index but "0" would be taken
    # literally (verified with 0.16).
    out["runtime"] = {**raw.get("runtime", {}), "devices": _devices(stage)}
    if mine := _engine_args(revision, stage, kind=kind):
        out["engine_args"] = {**raw["engine_args"], **mine}
    return {**out, **connectors.wiring(revision, stage.id)}


def _deploy(owner: Owner, revision: Revision, release: Release, pipeline: Pipeline) -> dict[str, Any]:
    """The format of 0.20 on (config/stage_config.py, load_deploy_config).

    It has placement and tuning; the topology is in the engine's code.
    """
    body, plan = pipeline.deploy, revision.plan
    assert body is not None
    document: dict[str, Any] = {"pipeline": pipeline.topology, "async_chunk": plan.async_chunk, **body.settings}
    if entries := connectors.entries(owner, revision, release=release, pipeline=pipeline):
        document["connectors"] = entries
    if by_connector := [edge for edge in plan.edges if edge.connector is not None]:
        document["edges"] = [{"from": edge.producer, "to": edge.consumer} for edge in by_connector]
    document["stages"] = [
        _deploy_entry(raw, revision=revision, stage=stage, kind=pipeline.stage(stage.id).kind)
        for raw, stage in zip(body.stages, plan.stages, strict=True)
    ]
    family = _PLATFORM.get(plan.accelerator, "")
    own = {o.name: o.engine_args or {} for o in revision.spec.stages}
    names = {stage.id: stage.name for stage in plan.stages}
    stages = [
        {key: value for key, value in entry.items() if key not in own.get(names[entry["stage_id"]], {})}
        for entry in body.platforms.get(family, ())
    ]
    settings = body.platform_settings.get(family, {})
    if stages or settings:  # it would win over the stage's own keys, so what the user sets is taken out of it
        document["platforms"] = {family: {**settings, **({"stages": stages} if stages else {})}}
    return document


def _deploy_entry(raw: dict[str, Any], *, revision: Revision, stage: StagePlan, kind: StageKind) -> dict[str, Any]:
    out: dict[str, Any] = {**raw, **({"devices": _devices(stage)} if stage.devices else {})}
    if stage.replicas > 1:
        out["num_replicas"] = stage.replicas
    mine = _engine_args(revision, stage, kind=kind)
    return {**out, **mine, **connectors.wiring(revision, stage.id)}


def _devices(stage: StagePlan) -> str:
    return ",".join(str(device) for device in stage.devices)


def _engine_args(revision: Revision, stage: StagePlan, *, kind: StageKind) -> dict[str, Any]:
    """The user's arguments.

    A number of accelerators becomes the tensor parallelism unless they set one.
    """
    override = next((o for o in revision.spec.stages if o.name == stage.name), None)
    spread = next((group for group in revision.plan.groups if group.spans and group.name == stage.pod), None)
    mine: dict[str, Any] = dict((override.engine_args if override else None) or {})
    if spread is not None:
        mine["distributed_executor_backend"] = "ray"
    asked = spread.total if spread is not None else override.accelerators if override else None
    if asked is not None and kind is not StageKind.DIFFUSION and not any(key in mine for key in PARALLEL):
        mine["tensor_parallel_size"] = asked
    return mine
