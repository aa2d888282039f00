"""One entry per edge in either configuration format: the connector's class and its `extra`, with only keys the release reads."""

from __future__ import annotations

from typing import Any

from omni_operator.api.spec import Connector, Protocol
from omni_operator.children import names
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision
from omni_operator.engine.pipeline import Edge, Pipeline
from omni_operator.engine.release import Release
from omni_operator.planning.model import EdgePlan

# vllm-omni's Ray guide says that Ray's default keeps payloads inline; 0.14 and 0.16 ignore the key (run), later ones read it.
SHM_THRESHOLD_BYTES = 65536


def name(edge: EdgePlan) -> str:
    """Every edge has an entry of its own: on 0.16 a shared TransferEngine entry binds one port twice (run)."""
    return f"edge_{edge.producer}_{edge.consumer}"


def entries(owner: Owner, revision: Revision, *, release: Release, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """The `connectors` of a configuration; an edge that the server hands on itself has none."""
    return {
        name(edge): _entry(edge, owner=owner, revision=revision, release=release, model=_model_keys(pipeline, edge))
        for edge in revision.plan.edges
        if edge.connector is not None
    }


def wiring(revision: Revision, stage_id: int) -> dict[str, dict[str, str]]:
    """`input_connectors` and `output_connectors` of a stage; a key without an edge is left out."""
    edges = [edge for edge in revision.plan.edges if edge.connector is not None]
    inputs = {f"from_stage_{e.producer}": name(e) for e in edges if e.consumer == stage_id}
    outputs = {f"to_stage_{e.consumer}": name(e) for e in edges if e.producer == stage_id}
    found = {"input_connectors": inputs, "output_connectors": outputs}
    return {key: value for key, value in found.items() if value}


def _model_keys(pipeline: Pipeline, plan: EdgePlan) -> dict[str, Any]:
    """Parameters of the model in `extra`, which must survive a change of connector."""
    edge: Edge = next(e for e in pipeline.edges if (e.producer, e.consumer) == (plan.producer, plan.consumer))
    return edge.extra


def _entry(
    edge: EdgePlan, *, owner: Owner, revision: Revision, release: Release, model: dict[str, Any]
) -> dict[str, Any]:
    assert edge.connector is not None
    own = {
        Connector.SHARED_MEMORY: _shared_memory,
        Connector.MOONCAKE_STORE: _store,
        Connector.MOONCAKE_TRANSFER_ENGINE: _transfer_engine,
        Connector.NIXL: _nixl,
    }[edge.connector](edge, owner, revision)
    known = release.connectors[edge.connector].keys
    return {"name": edge.connector_class, "extra": {**model, **{k: v for k, v in own.items() if k in known}}}


def _shared_memory(edge: EdgePlan, owner: Owner, revision: Revision) -> dict[str, Any]:
    del edge, owner, revision
    return {"shm_threshold_bytes": SHM_THRESHOLD_BYTES}


def _store(edge: EdgePlan, owner: Owner, revision: Revision) -> dict[str, Any]:
    store = revision.plan.store
    assert store is not None
    host = f"{names.store(owner, revision.name)}.{owner.namespace}.svc"
    settings: dict[str, Any] = {
        "host": "127.0.0.1",  # a label only: Mooncake finds the pod's own address (run with 0.3.8 and 0.3.11)
        "metadata_server": f"http://{host}:{store.http_port}/metadata",
        "master": f"{host}:{store.rpc_port}",
        "segment": store.segment_bytes,
        "localbuf": store.localbuf_bytes,
        "proto": edge.protocol.value,
    }
    if edge.protocol is Protocol.RDMA and revision.spec.transport.rdma_device:
        settings["rdma"] = revision.spec.transport.rdma_device
    return settings


def _transfer_engine(edge: EdgePlan, owner: Owner, revision: Revision) -> dict[str, Any]:
    """The host is found by the engine: since 0.26 the head tells each receiver where its sender is."""
    del owner
    settings: dict[str, Any] = {
        "host": "auto",
        "zmq_port": edge.port,
        "protocol": edge.protocol.value,
        "memory_pool_size": edge.pool_bytes,
        "memory_pool_device": "cpu",
    }
    if edge.protocol is Protocol.RDMA and revision.spec.transport.rdma_device:
        settings["device_name"] = revision.spec.transport.rdma_device
    return settings


def _nixl(edge: EdgePlan, owner: Owner, revision: Revision) -> dict[str, Any]:
    """UCX chooses the transport by its environment (command.environment)."""
    del owner, revision
    return {"host": "auto", "zmq_port": edge.port, "backends": ["UCX"]}
