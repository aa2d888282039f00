"""Broken files are refused by the release's own code, and by which of the releases."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.loaders.conftest import RELEASES
from tests.loaders.loader import Loader
from tests.loaders.samples import SHARED_MEMORY, STORE, TRANSFER_ENGINE, deploy, is_legacy, stage_args, three_stages

LEGACY = [release for release in RELEASES if is_legacy(release)]
DEPLOY = [release for release in RELEASES if not is_legacy(release)]
INPUT_FROM_NOWHERE = {1: {"input_connectors": {"from_stage_0": "nowhere"}}}
INPUT_FROM_STORE = {1: {"input_connectors": {"from_stage_0": "other"}}}


def since(release: str) -> list[str]:
    """A release and all later ones."""
    return RELEASES[RELEASES.index(release) :]


def test_a_reference_to_no_connector(loader: Loader) -> None:
    """load_omni_transfer_config raises; the engine logs it and uses shared memory (0.18 on)."""
    answer = loader.load(*three_stages(loader.wheel.release, SHARED_MEMORY, changes=INPUT_FROM_NOWHERE))
    assert answer.error == "ValueError: Undefined connector reference: nowhere"


def test_a_class_that_the_release_does_not_have(loader: Loader) -> None:
    for async_chunk in (False, True):
        nobody = {"name": "CarrierPigeonConnector", "extra": {}}
        answer = loader.load(*three_stages(loader.wheel.release, nobody, async_chunk=async_chunk))
        assert answer.error is not None
        assert "Unknown connector: CarrierPigeonConnector. Available: [" in answer.error


def test_a_class_of_later_releases(loader: Loader) -> None:
    answer = loader.load(*three_stages(loader.wheel.release, {"name": "NixlConnector", "extra": {}}))
    assert answer.ok == (loader.wheel.release == "0.30"), answer.error


@pytest.mark.parametrize("release", since("0.16"))
def test_ends_with_different_classes(release: str, loader_of: Callable[[str], Loader]) -> None:
    broken = three_stages(release, SHARED_MEMORY, more={"other": STORE}, changes=INPUT_FROM_STORE)
    answer = loader_of(release).load(*broken)
    assert answer.error is not None
    assert answer.error.startswith(
        "ValueError: Connector type mismatch for edge 0->1: previously registered as 'Shared"
    )


def test_0_14_takes_ends_with_different_classes_and_the_last_one_counts(loader_of: Callable[[str], Loader]) -> None:
    """Its load_omni_transfer_config does not check: it reads stages in order, inputs first."""
    store = {"name": "MooncakeConnector", "extra": {}}
    answer = loader_of("0.14").load(
        *three_stages("0.14", SHARED_MEMORY, more={"other": store}, changes=INPUT_FROM_STORE)
    )
    assert answer.ok
    assert answer.edge(0, 1).connector == "MooncakeConnector"


@pytest.mark.parametrize("release", DEPLOY)
def test_stage_args_where_a_deploy_file_is_due(release: str, loader_of: Callable[[str], Loader]) -> None:
    """0.20 to 0.26 still have --stage-configs-path; later releases refuse the file."""
    config = stage_args({"edge": SHARED_MEMORY}, async_chunk=False, changes={})
    answer = loader_of(release).load(config, "qwen3_omni_moe")
    if release in {"0.28", "0.30"}:
        assert answer.error is not None
        assert "uses the removed `stage_args` schema" in answer.error
    else:
        assert answer.ok, answer.error
        assert any("--stage-configs-path is deprecated" in warning for warning in answer.warnings)


@pytest.mark.parametrize("release", LEGACY)
def test_a_deploy_file_where_stage_args_are_due(release: str, loader_of: Callable[[str], Loader]) -> None:
    answer = loader_of(release).load(deploy({"edge": SHARED_MEMORY}, async_chunk=False, changes={}), None)
    assert answer.error is not None
    assert answer.error.startswith("ConfigAttributeError: Missing key stage_args")


@pytest.mark.parametrize("release", DEPLOY)
def test_async_chunk_on_a_pipeline_without_a_producer_of_chunks(
    release: str, loader_of: Callable[[str], Loader]
) -> None:
    """0.22 alone accepts it: any next-stage processor counts there, and Qwen2.5-Omni has one."""
    config = "async_chunk: true\nstages: [{stage_id: 0}, {stage_id: 1}, {stage_id: 2}]\n"
    answer = loader_of(release).load(config, "qwen2_5_omni")
    if release == "0.22":
        assert answer.ok, answer.error
    else:
        assert answer.error is not None
        assert answer.error.startswith(
            "ValueError: Pipeline 'qwen2_5_omni' has async_chunk=True in deploy but no stage"
        )
    assert loader_of(release).load(config.replace("true", "false"), "qwen2_5_omni").ok


@pytest.mark.parametrize("release", DEPLOY)
def test_neighbours_of_which_one_streams_chunks(release: str, loader_of: Callable[[str], Loader]) -> None:
    """validate_stage_async_chunk_edges is of 0.30; before, stages have no own async_chunk."""
    config, pipeline = three_stages(release, SHARED_MEMORY, async_chunk=True, changes={0: {"async_chunk": False}})
    answer = loader_of(release).load(config, pipeline)
    if release == "0.30":
        assert answer.error is not None
        assert "has incompatible async_chunk settings on connector edge 0 -> 1" in answer.error
    else:
        assert answer.ok, answer.error


@pytest.mark.parametrize("release", DEPLOY)
def test_a_stage_key_that_nobody_owns(release: str, loader_of: Callable[[str], Loader]) -> None:
    """VllmOmniConfig.from_pipeline_config (0.30) rejects it; until 0.28 the engine gets it."""
    config, pipeline = three_stages(release, SHARED_MEMORY, changes={0: {"gpu_memory_utilisation": 0.5}})
    answer = loader_of(release).load(config, pipeline)
    if release == "0.30":
        assert answer.error is not None
        assert "no structured config owner: gpu_memory_utilisation" in answer.error
    else:
        assert answer.ok, answer.error
        assert answer.stages[0].engine_args["gpu_memory_utilisation"] == 0.5


@pytest.mark.parametrize("release", DEPLOY)
def test_a_pipeline_that_is_not_registered(release: str, loader_of: Callable[[str], Loader]) -> None:
    config, _ = three_stages(release, SHARED_MEMORY)
    assert not loader_of(release).load(config, "qwen9_omni").ok


@pytest.mark.parametrize("release", DEPLOY)
def test_a_stage_that_the_pipeline_does_not_have_is_dropped(release: str, loader_of: Callable[[str], Loader]) -> None:
    config = "async_chunk: false\nstages: [{stage_id: 0}, {stage_id: 9}]\n"
    answer = loader_of(release).load(config, "qwen3_omni_moe")
    assert [stage.id for stage in answer.stages] == [0, 1, 2]


def test_another_number_of_stages_than_expected(loader: Loader) -> None:
    config = three_stages(loader.wheel.release, SHARED_MEMORY)
    assert loader.load(*config, stages=3).ok
    assert loader.load(*config, stages=2).error == "RefusedError: 3 stages, not 2"


def test_no_yaml_at_all(loader: Loader) -> None:
    assert not loader.load("stages: [", "qwen3_omni_moe").ok


def test_after_a_refusal_the_process_goes_on(loader: Loader) -> None:
    release = loader.wheel.release
    assert not loader.load("", None).ok
    name = TRANSFER_ENGINE if release != "0.14" else SHARED_MEMORY
    assert loader.load(*three_stages(release, name)).ok
