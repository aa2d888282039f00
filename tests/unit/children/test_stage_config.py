"""The stage configuration of every pipeline on every release.

It is upstream's, with only devices, connectors and edges from the operator.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from omni_operator.api.spec import Backend, Connector, ModelSpec
from omni_operator.children import stage_config
from omni_operator.children.revision import Revision
from omni_operator.engine.pipeline import UnknownPipelineError, catalog, pipeline_for
from omni_operator.engine.release import ConfigFormat
from omni_operator.engine.releases import UnsupportedReleaseError, exact_release, nearest_release, release_of, releases
from tests.unit.make import OWNER, RDMA_NODES, TWO_NODES, inventory, node, revision, spec

ALL = [(name, series) for name, entry in catalog().items() for series in entry.releases]
every = pytest.mark.parametrize(("name", "series"), ALL, ids=[f"{name}-{series}" for name, series in ALL])
LARGE_NODE = inventory(node("a", 16))
STAGE_ARGS = {release.series for release in releases() if release.config_format is ConfigFormat.STAGE_ARGS}
WIRING = {"devices", "num_replicas", "input_connectors", "output_connectors"}


def a_revision(name: str, series: str, **parts: Any) -> Revision:
    return revision(spec(model={"name": "m", "pipeline": name}, engine={"version": f"{series}.0"}, **parts), LARGE_NODE)


def document(made: Revision) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(stage_config.render(OWNER, made))
    return found


def stages(made: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made.get("stage_args") or made["stages"]
    return found


def connectors(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made.get("runtime", made).get("connectors", {})
    return found


@every
def test_upstream_survives(name: str, series: str) -> None:
    """Every key of the wheel's own file is there with its value."""
    shipped = catalog()[name].releases[series]
    made = document(a_revision(name, series))
    theirs = shipped.stage_args if shipped.deploy is None else shipped.deploy.stages
    for mine, theirs_one in zip(stages(made), theirs, strict=True):
        for key, value in theirs_one.items():
            if key == "runtime":
                assert {**mine["runtime"], "devices": ""} == {**value, "devices": ""}
            else:
                assert mine[key] == value
        assert mine.keys() - theirs_one.keys() <= {"runtime", *WIRING}
    if shipped.deploy is not None:
        assert made.items() >= shipped.deploy.settings.items()
        assert made["pipeline"] == shipped.topology


@every
def test_every_carried_edge_has_a_connector_of_its_own(name: str, series: str) -> None:
    revision_made = a_revision(name, series)
    made = document(revision_made)
    by_id = {stage["stage_id"]: stage for stage in stages(made)}
    used = []
    for edge in revision_made.plan.edges:
        sent = by_id[edge.producer].get("output_connectors", {}).get(f"to_stage_{edge.consumer}")
        assert by_id[edge.consumer].get("input_connectors", {}).get(f"from_stage_{edge.producer}") == sent
        assert (sent is None) == (edge.connector is None)
        used += [sent] if sent else []
    assert sorted(used) == sorted(connectors(made))
    assert len(used) == len(set(used)) == sum(len(s.get("output_connectors", ())) for s in by_id.values())
    known = {record.class_name: record.keys for record in release_of(series).connectors.values()}
    for connector in connectors(made).values():
        assert connector["name"] in known


@every
def test_connector_extras_of_the_model_survive(name: str, series: str) -> None:
    made = document(a_revision(name, series))
    for edge in catalog()[name].releases[series].edges:
        if (found := connectors(made).get(f"edge_{edge.producer}_{edge.consumer}")) is not None:
            assert found["extra"].items() >= edge.extra.items()


@every
def test_devices_are_those_of_the_pod(name: str, series: str) -> None:
    made = a_revision(name, series)
    shipped = catalog()[name].releases[series]
    if made.plan.backend is Backend.RAY:  # an actor has one accelerator, whatever the stage is
        assert {stage["runtime"]["devices"] for stage in stages(document(made))} == {"0"}
        assert made.plan.accelerators == len(shipped.stages)
        return
    assert made.plan.backend is Backend.LOCAL
    seen = {d for s in stages(document(made)) for d in (s.get("runtime") or s)["devices"].split(",")}
    assert sorted(map(int, seen)) == list(range(made.plan.accelerators))
    assert made.plan.accelerators == len({d for stage in shipped.stages for d in stage.devices})


def test_one_catalog_entry_is_not_changed_by_rendering() -> None:
    made = a_revision("qwen2_5_omni", "0.16", stages=[{"name": "thinker", "engineArgs": {"max_model_len": 1}}])
    before = catalog()["qwen2_5_omni"].model_dump_json()
    rendered = document(made)["stage_args"]
    assert rendered[0]["engine_args"]["max_model_len"] == 1
    assert rendered[0]["engine_args"]["model_stage"] == "thinker"
    assert "max_model_len" not in rendered[1]["engine_args"]
    assert catalog()["qwen2_5_omni"].model_dump_json() == before


@pytest.mark.parametrize(
    ("name", "series", "written"),
    [("bagel", "0.14", None), ("bagel", "0.16", False), ("qwen3_tts", "0.16", True), ("qwen3_omni_moe", "0.30", True)],
)
def test_async_chunk_is_written_where_the_release_knows_it(name: str, series: str, written: bool | None) -> None:
    assert document(a_revision(name, series)).get("async_chunk") == written


def test_shared_memory_has_its_threshold() -> None:
    for connector in document(a_revision("qwen2_5_omni", "0.16"))["runtime"]["connectors"].values():
        assert connector == {"name": "SharedMemoryConnector", "extra": {"shm_threshold_bytes": 65536}}


@pytest.mark.parametrize(("series", "cls"), [("0.14", "MooncakeConnector"), ("0.16", "MooncakeStoreConnector")])
def test_a_store_is_called_by_the_releases_name_and_reached_by_its_service(series: str, cls: str) -> None:
    made = revision(spec(engine={"version": f"{series}.0"}), TWO_NODES)
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
    assert pipeline_for(ModelSpec(name=name), series="0.16").name == pipeline


def test_an_unknown_model_is_not_guessed() -> None:
    with pytest.raises(UnknownPipelineError, match=r"set model\.pipeline to one of .*qwen2_5_omni"):
        pipeline_for(ModelSpec(name="acme/Qwen2.5-Omni-7B-tuned"), series="0.16")


@pytest.mark.parametrize(("version", "series"), [("0.14.0", "0.14"), ("0.16.0rc1", "0.16"), ("0.16.1.post1", "0.16")])
def test_a_version_belongs_to_its_line(version: str, series: str) -> None:
    assert nearest_release(version).series == series


@pytest.mark.parametrize(
    ("version", "series"), [("0.15.0", "0.14"), ("0.17.3", "0.16"), ("0.31.0", "0.30"), ("0.160.0", "0.30")]
)
def test_an_unknown_line_is_run_by_the_one_before_it(version: str, series: str) -> None:
    assert exact_release(version) is None
    assert nearest_release(version).series == series


@pytest.mark.parametrize("version", ["0.1.0", "0.13.9", "1.16.0"])
def test_versions_that_no_record_can_stand_for_are_refused(version: str) -> None:
    with pytest.raises(UnsupportedReleaseError, match=rf"engine\.version {version}.*0\.14, 0\.16"):
        nearest_release(version)


def test_every_release_can_share_memory() -> None:
    assert all(Connector.SHARED_MEMORY in release.connectors for release in releases())
    made = revision(spec(), inventory(node("a", 3)))
    assert made.plan.transport == "shm"
