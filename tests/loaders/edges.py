"""The edges as a release resolves them: connector, role and ports of each end (child process)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.loaders import excerpt
from tests.loaders.openers import CONNECTORS, Opened, Openers, workers
from tests.loaders.stages import Stage, plain

Json = dict[str, Any]
Edge = tuple[str, str]


@dataclass(slots=True)
class Ends:
    """The connectors of one stage: at most one for payloads and one for KV caches."""

    payload: Json | None = None
    sender: str | None = None
    kv: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transfer:
    """OmniTransferConfig of the release, and the connectors of the server (0.14 and 0.16)."""

    config: Any
    of_server: dict[Edge, Opened]


def transfer(openers: Openers, path: Path, document: Json) -> Transfer:
    """Read the transfer configuration by the function that raises.

    0.14, 0.16: initialize_orchestrator_connectors, as OmniBase._initialize_stages calls it with
    `--worker-backend ray`. 0.18 on: load_omni_transfer_config; its caller
    load_omni_transfer_config_for_model would log the error and go on without connectors. From 0.18
    on nobody calls initialize_orchestrator_connectors.
    """
    initialization = _initialization()
    if openers.version < (0, 18):
        config, opened = initialization.initialize_orchestrator_connectors(str(path), worker_backend="ray")
        return Transfer(config, dict(opened))
    if openers.version < (0, 20):
        return Transfer(initialization.load_omni_transfer_config(str(path)), {})
    return Transfer(initialization.load_omni_transfer_config(config_dict=document), {})


def resolve(openers: Openers, path: Path, document: Json, stages: list[Stage], model: Path) -> list[Json]:
    """All edges: those with a connector in the file, and those of the pipeline.

    Raises:
        Exception: As the release's code does; the message is upstream's.
    """
    found = transfer(openers, path, document)
    for spec in found.config.connectors.values():
        openers.factory.create_connector(spec)  # its class is known, also when no process opens it
    ends = {stage.id: _ends(openers, found, stage, stages, model) for stage in stages}
    edges = [tuple(map(int, edge)) for edge in found.config.connectors]
    edges += [(source, stage.id) for stage in stages for source in stage.sources]
    by_id = {stage.id: stage for stage in stages}
    answers = []
    for producer, consumer in dict.fromkeys(edges):
        spec = found.config.connectors.get((str(producer), str(consumer)))
        answer: Json = {
            "from": producer,
            "to": consumer,
            "connector": spec.name if spec else None,
            "extra": plain(spec.extra) if spec else {},
            **_sides(openers, found, ends, stages, (producer, consumer)),
            "kv_producer": _at(ends, producer).kv.get("sender"),
            "kv_consumer": _at(ends, consumer).kv.get("receiver"),
            "formula": [],
        }
        if spec and openers.version >= (0, 20) and producer in by_id:
            answer["formula"] = _formula((str(producer), str(consumer)), spec, by_id[producer])
        answers.append(answer)
    return answers


def _at(ends: dict[int, Ends], stage: int) -> Ends:
    return ends.get(stage) or Ends()  # a connector to a stage that the pipeline does not have


def _sides(
    openers: Openers, found: Transfer, ends: dict[int, Ends], stages: list[Stage], edge: tuple[int, int]
) -> Json:
    """Producer, consumer and sender of payloads.

    The sender is the chunk adapter, the model runner or the server; None if payloads are part of
    requests.
    """
    producer, consumer = _at(ends, edge[0]), _at(ends, edge[1])
    sender = producer.sender or consumer.sender
    names = (str(edge[0]), str(edge[1]))
    if openers.version >= (0, 18) or sender or names not in found.of_server:
        return {"sender": sender, "producer": producer.payload, "consumer": consumer.payload}
    # try_send_via_connector in the server, try_recv_via_connector in the stage
    # (vllm_omni...omni_connectors.adapter)
    received = _initialization().build_stage_connectors(edge[1], _of_stage(found, edge[1]))
    sent = _end({"server": lambda: found.of_server[names]}, None, "payload")
    return {
        "sender": "server",
        "producer": sent,
        "consumer": _end({"stage": lambda: received[names]}, None, "payload"),
    }


def _ends(openers: Openers, found: Transfer, stage: Stage, stages: list[Stage], model: Path) -> Ends:
    ends = Ends()
    opening = openers.payload(stage, _spec(openers, found, stage, stages, model))
    if opening:
        ends.payload = _end(opening, stage, "payload")
        ends.sender = next(iter(opening))
    if kv := openers.kv(stage, found.config):
        ends.kv[kv[0]] = _end({"KV transfer manager": kv[1]}, stage, "kv")
    return ends


def _spec(openers: Openers, found: Transfer, stage: Stage, stages: list[Stage], model: Path) -> Json:
    """`stage_connector_spec` of the stage's engine arguments; empty means SharedMemoryConnector.

    0.14, 0.16: `_stage_worker_async` in vllm_omni.entrypoints.omni_stage takes the first. 0.18 on:
    get_stage_connector_spec, then build_engine_args_dict (vllm_omni.engine.stage_init_utils). Up to
    0.24 both give nothing when async_chunk is off.
    """
    if openers.version < (0, 18):
        args: Json = dict(stage.engine_args)
        excerpt.run(
            openers.root / "entrypoints" / "omni_stage.py",
            start="if engine_args.get('async_chunk', False)",
            end="if engine_args.get('async_chunk', False)",
            names={
                "engine_args": args,
                "connectors_config": _of_stage(found, stage.id),
                "stage_id": stage.id,
                "logger": SimpleNamespace(debug=lambda *args: None),
            },
        )
        return dict(args.get("stage_connector_spec") or {})
    _of_stage(found, stage.id)  # get_stage_connector_config swallows what this raises
    init = importlib.import_module("vllm_omni.engine.stage_init_utils")
    spec = init.get_stage_connector_spec(
        omni_transfer_config=found.config, stage_id=stage.id, async_chunk=stages[0].async_chunk
    )
    build: Callable[..., Json] = init.build_engine_args_dict
    if openers.version >= (0, 30):
        build = init.build_engine_args_dict_from_omni_stage_config
    return dict(build(stage.raw, str(model), stage_connector_spec=spec).get("stage_connector_spec") or {})


def _of_stage(found: Transfer, stage: int) -> Json:
    return dict(_initialization().get_connectors_config_for_stage(found.config, stage))


def _initialization() -> Any:
    return importlib.import_module(f"{CONNECTORS}.utils.initialization")


def _end(opening: dict[str, Callable[[], Opened]], stage: Stage | None, purpose: str) -> Json:
    """One end of an edge; every process that opens the connector must open the same one."""
    ports: list[Json] = []
    first: Opened | None = None
    for replica, rank in workers(stage) if stage else [(0, 0)]:
        opened = [open_one() for open_one in opening.values()]
        assert all(other == opened[0] for other in opened), opened
        first = first or opened[0]
        ports += _ports(opened[0], purpose, replica, rank)
    assert first is not None
    return {
        "role": first.role,
        "connector": first.name,
        "extra": first.extra,
        "opened_by": list(opening),
        "ports": ports,
    }


def _ports(opened: Opened, purpose: str, replica: int, rank: int) -> list[Json]:
    """zmq_port is what the connector listens on, sender_zmq_port what it calls."""
    keys = [key for key in ("zmq_port", "sender_zmq_port") if isinstance(opened.extra.get(key), int)]
    return [{"purpose": purpose, "key": k, "replica": replica, "rank": rank, "port": opened.extra[k]} for k in keys]


def _formula(edge: Edge, spec: Any, producer: Stage) -> list[Json]:
    """Ports of a sender by create_connectors_from_config (0.20 on), for every purpose it knows.

    Its callers (build_stage_connectors, initialize_orchestrator_connectors) are no longer called by
    the engine, so what a process really opens is in `producer` and `consumer`; in 0.30 both come
    from compute_connector_zmq_port.
    """
    create = _initialization().create_connectors_from_config
    found = []
    for replica, rank in workers(producer):
        for purpose in ("request_forwarding", "kv_transfer", "orchestrator"):
            caller = "orchestrator" if purpose == "orchestrator" else edge[0]
            given = "request_forwarding" if purpose == "orchestrator" else purpose
            opened = create({edge: spec}, purpose=given, caller_stage_id=caller, is_sender=True)[edge]
            found += [p for p in _ports(opened, purpose, replica, rank) if p["key"] == "zmq_port"]
    return found
