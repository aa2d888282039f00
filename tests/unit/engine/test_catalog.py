"""The pipeline catalog is consistent, as the planner and the rendering assume."""

from __future__ import annotations

from collections import Counter

import pytest

from omni_operator.api.spec import ModelSpec
from omni_operator.engine.pipeline import EdgePayload, Pipeline, StageKind, UnknownPipelineError, catalog, pipeline_for
from omni_operator.engine.releases import releases

PIPELINES = [pipeline for entry in catalog().values() for pipeline in entry.releases.values()]
WIRING = {"devices", "num_replicas", "input_connectors", "output_connectors"}

each = pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: f"{p.name}-{p.series}")


def bodies(pipeline: Pipeline) -> tuple[dict, ...]:
    return pipeline.stage_args or (pipeline.deploy.stages if pipeline.deploy else ())


@each
def test_there_is_one_body_per_stage_in_the_format_of_its_release(pipeline: Pipeline) -> None:
    assert [body["stage_id"] for body in bodies(pipeline)] == [stage.id for stage in pipeline.stages]
    stage_args_only = tuple(map(int, pipeline.series.split("."))) < (0, 20)
    assert bool(pipeline.stage_args) is stage_args_only
    assert (pipeline.deploy is None) is stage_args_only


@each
def test_no_wiring_is_left_in_the_bodies(pipeline: Pipeline) -> None:
    changes = [change for found in pipeline.deploy.platforms.values() for change in found] if pipeline.deploy else []
    for body in [*bodies(pipeline), *changes]:
        assert not WIRING & body.keys()
        assert not WIRING & body.get("runtime", {}).keys()
    if pipeline.deploy:
        assert (
            not {"stages", "edges", "connectors", "async_chunk", "pipeline", "base_config", "platforms"}
            & pipeline.deploy.settings.keys()
        )
        assert pipeline.deploy.platforms.keys() | pipeline.deploy.platform_settings.keys() <= {"cuda", "rocm"}
        assert all(change["stage_id"] < len(pipeline.stages) for change in changes)


@each
def test_edges_lead_from_lower_to_higher_stages_and_reach_all(pipeline: Pipeline) -> None:
    pairs = [(edge.producer, edge.consumer) for edge in pipeline.edges]
    assert all(producer < consumer for producer, consumer in pairs)
    assert len(set(pairs)) == len(pairs)
    assert {consumer for _, consumer in pairs} == {stage.id for stage in pipeline.stages[1:]}


@each
def test_edges_can_do_what_is_shipped(pipeline: Pipeline) -> None:
    assert all(edge.in_chunks or edge.in_one_part for edge in pipeline.edges)
    assert all(edge.max_payload_bytes > 0 for edge in pipeline.edges)
    if pipeline.async_chunk:
        assert any(edge.in_chunks for edge in pipeline.edges)
    else:
        assert all(edge.in_one_part for edge in pipeline.edges)


@each
def test_what_an_edge_carries_fits_its_ends(pipeline: Pipeline) -> None:
    for edge in pipeline.edges:
        to_diffusion = pipeline.stage(edge.consumer).kind is StageKind.DIFFUSION
        assert to_diffusion or edge.payload not in {EdgePayload.KV_CACHE, EdgePayload.SYNCHRONOUS}
        assert not (edge.in_chunks and edge.payload is not EdgePayload.PAYLOAD)


@each
def test_devices_are_numbered_from_0_and_shared_evenly_by_copies(pipeline: Pipeline) -> None:
    used = {device for stage in pipeline.stages for device in stage.devices}
    assert used == set(range(len(used)))
    for stage in pipeline.stages:
        assert len(set(stage.devices)) == len(stage.devices)
        assert stage.replicas >= 1
        assert stage.accelerators * stage.replicas == len(stage.devices)


@each
def test_a_stage_has_the_accelerators_its_tensor_parallelism_needs(pipeline: Pipeline) -> None:
    for stage, body in zip(pipeline.stages, bodies(pipeline), strict=True):
        args = {**body, **body.get("engine_args", {})}
        assert stage.accelerators % (args.get("tensor_parallel_size") or 1) == 0


def test_every_release_has_a_pipeline() -> None:
    assert {release.series for release in releases()} <= {pipeline.series for pipeline in PIPELINES}


def test_a_model_belongs_to_one_pipeline() -> None:
    # By the last part of the name, as it is looked up; two owners of the same checkpoint may stand
    # in one entry.
    tails = Counter(
        tail for entry in catalog().values() for tail in {m.rsplit("/", 1)[-1].lower() for m in entry.models}
    )
    assert [tail for tail, count in tails.items() if count > 1] == []


@pytest.mark.parametrize("entry", catalog().values(), ids=lambda e: e.name)
def test_every_pipeline_is_found_by_its_models_and_its_name(entry) -> None:
    series = entry.newest.series
    for model in entry.models:
        assert pipeline_for(ModelSpec(name=model), series=series).name == entry.name
    assert pipeline_for(ModelSpec(name="local/copy", pipeline=entry.name), series=series) == entry.newest


def test_a_release_without_the_pipeline_is_refused_with_those_that_have_it() -> None:
    with pytest.raises(UnknownPipelineError, match=r"it has one for 0\.30: change engine\.version"):
        pipeline_for(ModelSpec(name="tencent/AuK"), series="0.16")
