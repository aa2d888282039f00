"""The stage configuration file: upstream's engine arguments with our devices, connectors and edges."""

from __future__ import annotations

from typing import Any

import yaml

from omni_operator.api.spec import Connector, Protocol
from omni_operator.children import names
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision
from omni_operator.engine.pipeline import Pipeline, catalog
from omni_operator.engine.release import Release, release_for
from omni_operator.planning.model import EdgePlan

# vllm-omni's Ray guide says that Ray's default keeps payloads inline; 0.14 and 0.16 ignore the key (run), later ones read it.
SHM_THRESHOLD_BYTES = 65536


def render(owner: Owner, revision: Revision) -> str:
    """The file as YAML in the `stage_args` format of 0.14 and 0.16."""
    release = release_for(revision.plan.version)
    pipeline = catalog()[revision.plan.pipeline]
    document: dict[str, Any] = {}
    shipped = pipeline.releases[release.line]
    if release.async_chunk_key:
        document["async_chunk"] = shipped.async_chunk
    document["stage_args"] = [_stage(raw, revision=revision, pipeline=pipeline) for raw in shipped.stage_args]
    document["runtime"] = {
        "enabled": True,
        "defaults": {"window_size": -1, "max_inflight": 1},
        "connectors": {
            _connector_name(edge): _connector(
                edge, owner=owner, revision=revision, release=release, extra=shipped.connector_extra
            )
            for edge in revision.plan.edges
        },
        "edges": [{"from": e.producer, "to": e.consumer, "window_size": -1} for e in revision.plan.edges],
    }
    return yaml.safe_dump(document, sort_keys=False, width=120)


def _connector_name(edge: EdgePlan) -> str:
    """Every edge has an entry of its own: on 0.16 a shared TransferEngine entry binds one port twice (run)."""
    return f"edge_{edge.producer}_{edge.consumer}"


def _stage(raw: dict[str, Any], *, revision: Revision, pipeline: Pipeline) -> dict[str, Any]:
    stage_id = raw["stage_id"]
    stage = pipeline.stage(stage_id)
    override = next((o for o in revision.spec.stages if o.name == stage.name), None)
    out = dict(raw)
    # Ray gives the actor one device as CUDA_VISIBLE_DEVICES; any index but "0" would be taken literally (run).
    out["runtime"] = {**raw.get("runtime", {}), "devices": "0"}
    if override and override.engine_args:
        out["engine_args"] = {**raw["engine_args"], **override.engine_args}
    inputs = {f"from_stage_{e.producer}": _connector_name(e) for e in revision.plan.edges if e.consumer == stage_id}
    outputs = {f"to_stage_{e.consumer}": _connector_name(e) for e in revision.plan.edges if e.producer == stage_id}
    if inputs:
        out["input_connectors"] = inputs
    if outputs:
        out["output_connectors"] = outputs
    return out


def _connector(
    edge: EdgePlan, *, owner: Owner, revision: Revision, release: Release, extra: dict[str, Any]
) -> dict[str, Any]:
    """One connector; `extra` also carries model parameters, which must survive a change of connector."""
    settings: dict[str, Any] = dict(extra)
    if edge.connector is Connector.SHARED_MEMORY:
        if release.shm_threshold_key:
            settings["shm_threshold_bytes"] = SHM_THRESHOLD_BYTES
    elif edge.connector is Connector.MOONCAKE_STORE:
        store = revision.plan.store
        assert store is not None
        host = f"{names.store(owner, revision.name)}.{owner.namespace}.svc"
        settings |= {
            "host": "127.0.0.1",  # a label only: Mooncake finds the pod's own address (run with 0.3.8 and 0.3.11)
            "metadata_server": f"http://{host}:{store.http_port}/metadata",
            "master": f"{host}:{store.rpc_port}",
            "segment": store.segment_bytes,
            "localbuf": store.localbuf_bytes,
            "proto": edge.protocol.value,
        }
        if edge.protocol is Protocol.RDMA and revision.spec.transport.rdma_device:
            settings["rdma"] = revision.spec.transport.rdma_device
    return {"name": edge.connector_class, "extra": settings}
