"""One entry per edge in either configuration format.

It has the connector's class and its `extra`, with only the keys that the release reads.
"""

from __future__ import annotations

from typing import Any

from omni_operator.children import names
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision
from omni_operator.connectors.base import EdgeSettings, StoreAddress
from omni_operator.connectors.registry import connector
from omni_operator.engine.pipeline import Edge, Pipeline
from omni_operator.engine.release import Release
from omni_operator.planning.model import EdgePlan


def name(edge: EdgePlan) -> str:
    """Name of an edge's entry; every edge has its own.

    A shared TransferEngine entry binds one port twice (verified with 0.16).
    """
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
    own = connector(edge.connector).settings(_settings(edge, owner=owner, revision=revision))
    known = release.connectors[edge.connector].keys
    return {"name": edge.connector_class, "extra": {**model, **{k: v for k, v in own.items() if k in known}}}


def _settings(edge: EdgePlan, *, owner: Owner, revision: Revision) -> EdgeSettings:
    store = revision.plan.store
    return EdgeSettings(
        protocol=edge.protocol,
        port=edge.port,
        pool_bytes=edge.pool_bytes,
        rdma_device=revision.spec.transport.rdma_device,
        store=None
        if store is None
        else StoreAddress(
            host=f"{names.store(owner, revision.name)}.{owner.namespace}.svc",
            rpc_port=store.rpc_port,
            http_port=store.http_port,
            segment_bytes=store.segment_bytes,
            localbuf_bytes=store.localbuf_bytes,
        ),
    )
