"""The loader of each release resolves rendered plans to the planned stages and edges."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import pytest
import yaml

from omni_operator.api.spec import Connector
from omni_operator.engine.release import ConfigFormat, PayloadKind, Release
from omni_operator.engine.releases import release_of, releases
from omni_operator.planning.model import EdgePlan
from omni_operator.planning.ports import listens, ports_of
from tests.loaders.loader import Edge, End, Loaded, Loader
from tests.loaders.plans import Rendered, plans

LINES = [release.series for release in releases()]
AT_LEAST, AT_MOST = 200, 240
# The server opens every connector there, and its pod has no accelerator to pin memory with.
_NOT_PLANNED = {"0.16": {Connector.MOONCAKE_TRANSFER_ENGINE}}


@pytest.mark.parametrize("series", LINES)
def test_loaders_resolve_what_was_planned(
    series: str, loader_of: Callable[[str], Loader], capsys: pytest.CaptureFixture[str]
) -> None:
    loader, release = loader_of(series), release_of(series)
    made = plans(series, most=AT_MOST)
    counts: Counter[str] = Counter()
    for each in made:
        topology = each.pipeline.topology if release.config_format is ConfigFormat.DEPLOY else None
        answer = loader.load(each.text, topology, len(each.plan.stages))
        assert answer.ok, f"{each.about}\n{answer.error}\n{each.text}"
        for stage, resolved in zip(each.plan.stages, answer.stages, strict=True):
            assert resolved.devices == ",".join(map(str, stage.devices)), each.about
            assert resolved.num_replicas == stage.replicas, each.about
        for edge in each.plan.edges:
            _same_edge(each, edge, answer, release=release)
            counts[f"{edge.payload_kind} {edge.connector or 'by the server'}"] += 1
    with capsys.disabled():
        told = ", ".join(f"{count} x {what}" for what, count in sorted(counts.items()))
        pipelines = len({each.pipeline.name for each in made})
        sys.stdout.write(f"\n{series}: {len(made)} configurations of {pipelines} pipelines; edges: {told}\n")
    assert len(made) >= AT_LEAST
    usable = {
        connector for able in release.supported_connectors.values() for connector in able
    } & release.connectors.keys()
    assert {edge.connector for each in made for edge in each.plan.edges} >= usable - _NOT_PLANNED.get(series, set())


def _same_edge(each: Rendered, edge: EdgePlan, answer: Loaded, *, release: Release) -> None:
    ends = f"{edge.from_stage} -> {edge.to_stage}"
    said = f"{each.about}: {ends} {edge.payload_kind} {edge.connector} {edge.protocol}\n{each.text}"
    resolved = answer.edge(edge.producer, edge.consumer)
    if edge.connector is None:
        assert resolved.connector in {None, "SharedMemoryConnector"}, said
        return
    assert resolved.connector == edge.connector_class, said
    if edge.payload_kind is PayloadKind.SYNCHRONOUS:  # opened inside the diffusion worker, which needs vLLM
        return
    for end, is_producer in _ends(edge, resolved):
        assert end is not None, said
        assert end.connector == edge.connector_class, said
        known = release.connectors[edge.connector].keys
        configured = _configured(each, edge)
        if _ignored(edge, release):
            continue
        for key, value in configured.items():
            if key not in {"zmq_port", "host"}:
                assert end.extra.get(key) == value, (key, said)
        assert set(configured) - set(_model_keys(each, edge)) <= known, said
        if listens(edge) and is_producer:
            assert end.role == "sender" or edge.connector is Connector.NIXL, said
    if listens(edge):
        _same_ports(each, edge, resolved, release=release, said=said)


def _ignored(edge: EdgePlan, release: Release) -> bool:
    """Whether the release ignores the file for such an edge and uses its default (0.22, 0.24)."""
    others = release.supported_connectors[PayloadKind.ONE_PART] - {Connector.SHARED_MEMORY}
    return edge.payload_kind in {PayloadKind.ONE_PART, PayloadKind.MIDDLE} and not others


def _ends(edge: EdgePlan, resolved: Edge) -> list[tuple[End | None, bool]]:
    if edge.payload_kind is PayloadKind.KV_CACHE:
        return [(resolved.kv_producer, True), (resolved.kv_consumer, False)]
    return [(resolved.producer, True), (resolved.consumer, False)]


def _same_ports(each: Rendered, edge: EdgePlan, resolved: Edge, *, release: Release, said: str) -> None:
    stage = each.plan.stages[edge.producer]
    ranks = max(1, len(stage.devices) // max(1, stage.replicas if stage.pod == "serving" else 1))
    planned = {
        (use.replica, use.rank, use.port)
        for use in ports_of(edge, formula=release.ports, replicas=stage.replicas, ranks=ranks)
    }
    producer = resolved.kv_producer if edge.payload_kind is PayloadKind.KV_CACHE else resolved.producer
    assert producer is not None
    bound = {(port.replica, port.rank, port.port) for port in producer.ports if port.key == "zmq_port"}
    assert planned <= bound, (planned, bound, said)


def _model_keys(each: Rendered, edge: EdgePlan) -> dict[str, object]:
    ends = (edge.producer, edge.consumer)
    return next(e.extra for e in each.pipeline.edges if (e.producer, e.consumer) == ends)


def _configured(each: Rendered, edge: EdgePlan) -> dict[str, object]:
    document = yaml.safe_load(each.text)
    connectors = document.get("runtime", document)["connectors"]
    found: dict[str, object] = connectors[f"edge_{edge.producer}_{edge.consumer}"]["extra"]
    return found
