"""The stage configuration of every pipeline on every release: upstream's, with only devices, connectors and edges from us."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from omni_operator.api.spec import Connector, ModelSpec
from omni_operator.children import stage_config
from omni_operator.children.revision import Revision
from omni_operator.engine.pipeline import UnknownPipelineError, catalog, pipeline_for
from omni_operator.engine.release import UnsupportedReleaseError, release_for, releases
from tests.unit.make import ONE_NODE, OWNER, RDMA_NODES, TWO_NODES, inventory, node, revision, spec

ALL = [(name, line) for name, pipeline in catalog().items() for line in pipeline.releases]
every = pytest.mark.parametrize(("name", "line"), ALL, ids=[f"{name}-{line}" for name, line in ALL])


def a_revision(name: str, line: str, **parts: Any) -> Revision:
    return revision(spec(model={"name": "m", "pipeline": name}, engine={"version": f"{line}.0"}, **parts), ONE_NODE)


def document(made: Revision) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(stage_config.render(OWNER, made))
    return found


@every
def test_upstream_survives(name: str, line: str) -> None:
    """Every key of the wheel's own file is there with its value."""
    shipped = catalog()[name].releases[line]
    for ours, theirs in zip(document(a_revision(name, line))["stage_args"], shipped.stage_args, strict=True):
        for key, value in theirs.items():
            if key == "runtime":
                assert ours["runtime"] == {**value, "devices": "0"}
            else:
                assert ours[key] == value
        assert ours.keys() - theirs.keys() <= {"runtime", "input_connectors", "output_connectors"}


@every
def test_every_edge_has_a_connector_of_its_own_between_stages_that_exist(name: str, line: str) -> None:
    made = document(a_revision(name, line))
    runtime, stages = made["runtime"], {stage["stage_id"]: stage for stage in made["stage_args"]}
    used = set()
    for edge in runtime["edges"]:
        producer, consumer = stages[edge["from"]], stages[edge["to"]]
        connector = producer["output_connectors"][f"to_stage_{edge['to']}"]
        assert consumer["input_connectors"][f"from_stage_{edge['from']}"] == connector
        used.add(connector)
    assert used == runtime["connectors"].keys()
    assert len(used) == len(runtime["edges"]) == sum(len(s.get("output_connectors", ())) for s in stages.values())
    consumers = {edge["to"] for edge in runtime["edges"]}
    assert consumers == {i for i, stage in stages.items() if stage.get("engine_input_source")}


@every
def test_connector_extras_of_the_model_survive(name: str, line: str) -> None:
    shipped = catalog()[name].releases[line].connector_extra
    for connector in document(a_revision(name, line))["runtime"]["connectors"].values():
        assert connector["extra"].items() >= shipped.items()


@every
def test_the_accelerators_are_those_of_the_stages(name: str, line: str) -> None:
    made = a_revision(name, line)
    assert made.plan.accelerators == len(catalog()[name].releases[line].stage_args)


def test_one_catalog_entry_is_not_changed_by_rendering() -> None:
    made = a_revision("qwen2_5_omni", "0.16", stages=[{"name": "thinker", "engineArgs": {"max_model_len": 1}}])
    before = catalog()["qwen2_5_omni"].model_dump_json()
    stages = document(made)["stage_args"]
    assert stages[0]["engine_args"]["max_model_len"] == 1
    assert stages[0]["engine_args"]["model_stage"] == "thinker"
    assert "max_model_len" not in stages[1]["engine_args"]
    assert catalog()["qwen2_5_omni"].model_dump_json() == before


@pytest.mark.parametrize("line", ["0.14", "0.16"])
def test_async_chunk_is_written_where_the_release_knows_it(line: str) -> None:
    made = document(a_revision("qwen3_tts", line))
    assert made.get("async_chunk") == (True if line == "0.16" else None)


def test_shared_memory_has_its_threshold() -> None:
    for connector in document(a_revision("qwen2_5_omni", "0.16"))["runtime"]["connectors"].values():
        assert connector == {"name": "SharedMemoryConnector", "extra": {"shm_threshold_bytes": 65536}}


@pytest.mark.parametrize(("line", "cls"), [("0.14", "MooncakeConnector"), ("0.16", "MooncakeStoreConnector")])
def test_a_store_is_called_by_the_releases_name_and_reached_by_its_service(line: str, cls: str) -> None:
    made = revision(spec(engine={"version": f"{line}.0"}), TWO_NODES)
    store = made.plan.store
    assert store is not None
    for connector in document(made)["runtime"]["connectors"].values():
        assert connector["name"] == cls
        host = f"omni-{made.name}-store.shop.svc"
        assert connector["extra"]["master"] == f"{host}:{store.rpc_port}"
        assert connector["extra"]["metadata_server"] == f"http://{host}:{store.http_port}/metadata"
        assert connector["extra"]["proto"] == "tcp"
        assert connector["extra"]["localbuf"] == store.localbuf_bytes
        assert "rdma" not in connector["extra"]


def test_the_rdma_device_is_said_when_the_user_names_it() -> None:
    made = document(revision(spec(transport={"rdmaDevice": "mlx5_1"}), RDMA_NODES))
    assert {c["extra"].get("rdma") for c in made["runtime"]["connectors"].values()} == {"mlx5_1"}
    made = document(revision(spec(), RDMA_NODES))
    assert {c["extra"].get("rdma") for c in made["runtime"]["connectors"].values()} == {None}


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("Qwen/Qwen2.5-Omni-7B", "qwen2_5_omni"),
        ("/models/qwen2.5-omni-7b/", "qwen2_5_omni"),
        ("ByteDance-Seed/BAGEL-7B-MoT", "bagel"),
    ],
)
def test_a_model_tells_its_pipeline(name: str, pipeline: str) -> None:
    assert pipeline_for(ModelSpec(name=name), line="0.16").name == pipeline


def test_models_belong_to_one_pipeline_each() -> None:
    tails = [model.rsplit("/", 1)[-1].lower() for pipeline in catalog().values() for model in pipeline.models]
    assert len(tails) == len(set(tails))


def test_an_unknown_model_is_not_guessed() -> None:
    with pytest.raises(UnknownPipelineError, match=r"set model\.pipeline to one of bagel"):
        pipeline_for(ModelSpec(name="acme/Qwen2.5-Omni-7B-tuned"), line="0.16")


@pytest.mark.parametrize(("version", "line"), [("0.14.0", "0.14"), ("0.16.0rc1", "0.16"), ("0.16.1.post1", "0.16")])
def test_a_version_belongs_to_its_line(version: str, line: str) -> None:
    assert release_for(version).line == line


@pytest.mark.parametrize("version", ["0.15.0", "0.1.0", "0.160.0", "1.16.0"])
def test_unknown_versions_are_refused_with_those_that_are_known(version: str) -> None:
    with pytest.raises(UnsupportedReleaseError, match=rf"engine\.version {version}.*0\.14, 0\.16"):
        release_for(version)


def test_every_release_can_share_memory() -> None:
    assert all(Connector.SHARED_MEMORY in release.connectors for release in releases())
    made = revision(spec(), inventory(node("a", 3)))
    assert made.plan.transport == "shm"
