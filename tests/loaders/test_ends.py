"""What the ends of an edge open, by release: the facts on which a comparison with a plan rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.loaders.conftest import RELEASES
from tests.loaders.loader import End, Loaded, Loader
from tests.loaders.samples import PIPELINE, SHARED_MEMORY, STORE, TRANSFER_ENGINE, three_stages

LoaderOf = Callable[[str], Loader]
ENGINE = TRANSFER_ENGINE["name"]
WITH_ENGINE = RELEASES[1:]  # 0.14 has no transfer engine connector


def loaded(loader: Loader, connector: dict[str, Any], *, async_chunk: bool, **changes: object) -> Loaded:
    """Three stages whose edges have `connector`; `changes` are keys of stage 0."""
    config, pipeline = three_stages(loader.wheel.release, connector, async_chunk=async_chunk, changes={0: changes})
    answer = loader.load(config, pipeline, stages=3)
    assert answer.ok, answer.error
    return answer


def end(found: End | None) -> tuple[str, str | None, tuple[str, ...]] | None:
    """Class, role and openers."""
    return None if found is None else (found.connector, found.role, found.opened_by)


@pytest.mark.parametrize("release", WITH_ENGINE)
def test_who_carries_payloads_without_chunks(release: str, loader_of: LoaderOf) -> None:
    """0.16: the server sends. 0.18, 0.20: no connector. 0.22, 0.24: shared memory in any case.

    get_stage_connector_spec of 0.18 to 0.24 gives nothing when async_chunk is off, and the engine's
    default takes over.
    """
    edge = loaded(loader_of(release), TRANSFER_ENGINE, async_chunk=False).edge(0, 1)
    assert edge.connector == ENGINE
    expected: tuple[Any, Any]
    if release == "0.16":
        expected = ((ENGINE, None, ("server",)), (ENGINE, "receiver", ("stage",)))
    elif release in {"0.18", "0.20"}:
        expected = (None, None)
    elif release in {"0.22", "0.24"}:
        shared = ("SharedMemoryConnector", None, ("model runner",))
        expected = (shared, shared)
    else:
        expected = ((ENGINE, "sender", ("model runner",)), (ENGINE, "receiver", ("model runner",)))
    assert (end(edge.producer), end(edge.consumer)) == expected


@pytest.mark.parametrize("release", WITH_ENGINE)
def test_who_carries_chunks(release: str, loader_of: LoaderOf) -> None:
    """From 0.22 on scheduler and model runner, two processes, open the same connector."""
    edge = loaded(loader_of(release), TRANSFER_ENGINE, async_chunk=True).edge(0, 1)
    openers = ("chunk adapter",) if release in {"0.16", "0.18", "0.20"} else ("chunk adapter", "model runner")
    assert edge.sender == "chunk adapter"
    assert (end(edge.producer), end(edge.consumer)) == ((ENGINE, "sender", openers), (ENGINE, "receiver", openers))


@pytest.mark.parametrize("async_chunk", [False, True])
@pytest.mark.parametrize("release", ["0.26", "0.28", "0.30"])
def test_a_middle_stage_is_a_receiver_on_both_of_its_edges(
    release: str, async_chunk: bool, loader_of: LoaderOf
) -> None:
    answer = loaded(loader_of(release), TRANSFER_ENGINE, async_chunk=async_chunk)
    assert answer.edge(1, 2).producer == answer.edge(0, 1).consumer
    producer = answer.edge(1, 2).producer
    assert producer is not None
    assert producer.role == "receiver"


def test_nixl_carries_the_outgoing_edge_of_a_middle_stage_along(loader_of: LoaderOf) -> None:
    nixl = {"name": "NixlConnector", "extra": {"host": "auto", "zmq_port": 50071}}
    producer = loaded(loader_of("0.30"), nixl, async_chunk=False).edge(1, 2).producer
    assert producer is not None
    assert producer.role == "receiver"
    assert producer.extra["outgoing"] == {"host": "auto", "zmq_port": 50071, "from_stage": 1, "to_stage": 2}
    assert {(port.key, port.port) for port in producer.ports} == {("zmq_port", 50072), ("sender_zmq_port", 50071)}


def test_settings_reach_the_constructors(loader: Loader) -> None:
    """All of `extra`, also where the class does not know a key."""
    store = STORE if loader.wheel.release != "0.14" else {**STORE, "name": "MooncakeConnector"}
    edge = loaded(loader, store, async_chunk=True).edge(0, 1)
    for found in (edge.producer, edge.consumer):
        assert found is not None
        assert found.connector == store["name"]
        assert found.extra["master"] == "store:50051"
        assert found.extra["stage_id"] == (edge.from_stage if found is edge.producer else edge.to_stage)


def test_an_edge_without_a_connector_has_shared_memory_or_none(loader: Loader) -> None:
    """load_omni_transfer_config adds it (stage_args), or the worker's default applies (deploy)."""
    release = loader.wheel.release
    plain: dict[int, dict[str, Any]] = {n: {"input_connectors": {}, "output_connectors": {}} for n in range(3)}
    config, pipeline = three_stages(release, SHARED_MEMORY, async_chunk=True, changes=plain)
    edge = loader.load(config, pipeline).edge(0, 1)
    assert edge.connector == ("SharedMemoryConnector" if pipeline is None else None)
    assert edge.producer is not None
    assert edge.producer.connector == "SharedMemoryConnector"


@pytest.mark.parametrize("release", RELEASES[3:])
def test_ports_of_replicas_and_ranks(release: str, loader_of: LoaderOf) -> None:
    """resolve_connector_spec is of 0.30: before, every worker of a stage opens the file's port.

    0.30: compute_connector_zmq_port, base + purpose + 1024 * replica + 16 * rank + stage.
    """
    answer = loaded(
        loader_of(release), TRANSFER_ENGINE, async_chunk=True, num_replicas=2, tensor_parallel_size=2, devices="0,1,2,3"
    )
    assert answer.stages[0].replica_devices == ("0,1", "2,3")
    producer = answer.edge(0, 1).producer
    assert producer is not None
    found = {(port.replica, port.rank): port.port for port in producer.ports}
    workers = [(0, 0), (0, 1), (1, 0), (1, 1)]
    own = [50051, 50067, 51075, 51091] if release == "0.30" else [50051] * 4
    assert found == dict(zip(workers, own, strict=True))


@pytest.mark.parametrize("release", RELEASES[3:])
def test_the_formula_knows_more_ports_than_are_opened(release: str, loader_of: LoaderOf) -> None:
    for source in (0, 1):
        formula = loaded(loader_of(release), TRANSFER_ENGINE, async_chunk=False).edge(source, source + 1).formula
        found = {port.purpose: port.port - source for port in formula}
        assert found == {"request_forwarding": 50051, "kv_transfer": 50151, "orchestrator": 50251}


@pytest.mark.parametrize("release", RELEASES[3:])
def test_a_kv_cache_has_a_connector_of_its_own(release: str, loader_of: LoaderOf) -> None:
    """BAGEL: need_send_cache and need_recv_cache come from its pipeline."""
    config = (
        "async_chunk: false\n"
        "connectors: {edge: {name: MooncakeTransferEngineConnector, extra: {host: auto, zmq_port: 50051}}}\n"
        "stages:\n"
        "- {stage_id: 0, devices: '0,1', tensor_parallel_size: 2, output_connectors: {to_stage_1: edge}}\n"
        "- {stage_id: 1, devices: '2', input_connectors: {from_stage_0: edge}}\n"
    )
    edge = loader_of(release).load(config, "bagel", stages=2).edge(0, 1)
    assert edge.kv_producer is not None
    assert edge.kv_consumer is not None
    assert (edge.kv_producer.role, edge.kv_consumer.role) == ("sender", "receiver")
    assert [(port.key, port.port) for port in edge.kv_producer.ports] == [("zmq_port", 50151), ("zmq_port", 50167)]
    assert edge.kv_consumer.extra.get("sender_zmq_port") == (50151 if release == "0.20" else None)


@pytest.mark.parametrize("release", RELEASES[3:])
def test_a_pipeline_has_more_edges_than_the_file(release: str, loader_of: LoaderOf) -> None:
    answer = loader_of(release).load("async_chunk: false\nstages: []\n", PIPELINE, stages=3)
    assert [(edge.from_stage, edge.to_stage, edge.connector) for edge in answer.edges] == [(0, 1, None), (1, 2, None)]
