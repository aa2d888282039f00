"""The transport by the size of what passes: on one step the quickest, and never across steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_operator.api.spec import Connector, Protocol
from omni_operator.connectors.base import SIZES
from omni_operator.connectors.transport import SHARED_MEMORY, TRANSPORTS, Reach, Transport
from omni_operator.planning.cost import BETWEEN_PODS, CHUNK, IN_ONE_POD, Load, best, cost
from omni_operator.planning.model import EdgePlan, Plan
from omni_operator.topology.quantity import MIB, about, parse
from tests.unit import make
from tests.unit.make import inventory, node, planned, spec

ONE, TWO = inventory(node("a", 4)), inventory(node("a", 1), node("b", 1))
payloads = st.integers(0, 1 << 40)
loads = st.lists(st.builds(Load, st.sampled_from(list(Reach)), payloads, st.booleans()), min_size=1, max_size=8)
able = st.lists(st.sampled_from(TRANSPORTS), min_size=1, unique=True)


@given(st.sampled_from(TRANSPORTS), st.sampled_from(list(Reach)), payloads, payloads)
def test_more_costs_no_less(transport: Transport, reach: Reach, one: int, other: int) -> None:
    small, large = (cost(transport, [Load(reach, size)]).seconds for size in sorted((one, other)))
    assert small <= large


def test_what_was_measured_is_what_it_costs() -> None:
    for reach, table in (Reach.SAME_POD, IN_ONE_POD), (Reach.CROSS_NODE, BETWEEN_PODS):
        for transport, times in table.items():
            found = [cost(transport, [Load(reach, size)]).seconds * 1000 for size in SIZES]
            assert found == pytest.approx(times)


@given(able, loads)
def test_the_best_is_the_first_of_those_within_a_tenth(transports: list[Transport], loads: list[Load]) -> None:
    found = best(transports, loads)
    least = min(cost(transport, loads) for transport in transports)
    as_good = [t for t in TRANSPORTS if t in transports and cost(t, loads).as_good_as(least)]
    assert found == as_good[0]
    assert all(each.step == least.step for each in (cost(t, loads) for t in as_good))
    assert cost(as_good[0], loads).seconds <= least.seconds * 1.1 + 1e-9


@given(able, loads)
def test_no_size_and_no_number_of_edges_outweighs_rdma(transports: list[Transport], loads: list[Load]) -> None:
    """With rdma Prefer, TCP comes first only inside a pod.

    There it is quicker than shared memory for the payload that the user sets.
    """
    found = best(transports, loads)
    assert found is not None
    if found.protocol is Protocol.TCP and any(t.protocol is Protocol.RDMA for t in transports):
        assert all(load.reach is Reach.SAME_POD and load.stated for load in loads)
        assert cost(found, loads).seconds < cost(SHARED_MEMORY, loads).seconds
    if SHARED_MEMORY in transports and any(load.reach is not Reach.SAME_POD or not load.stated for load in loads):
        assert found == SHARED_MEMORY


def edge(pipeline: str, nodes: Any, ends: tuple[int, int] = (0, 1), **said: Any) -> EdgePlan:
    """An edge of a plan on 0.30 with Nixl, with a stage on each node of two.

    `said` is its entry in transport.edges.
    """
    names = {"indextts2": ("indextts2_talker", "indextts2_s2mel_decoder"), "qwen2_5_omni": ("talker", "code2wav")}
    first, second = names[pipeline]
    parts: dict[str, Any] = {"transport": {"edges": [{"from": first, "to": second, **said}]}} if said else {}
    if nodes is TWO and pipeline == "indextts2":
        parts["stages"] = [{"name": name, "accelerators": 1} for name in names[pipeline]]
    asked = spec(model={"pipeline": pipeline}, engine={"version": "0.30.0", "nixl": True}, **parts)
    return next(e for e in planned(asked, nodes).edges if (e.producer, e.consumer) == ends)


@pytest.mark.parametrize(
    ("nodes", "payload", "connector"),
    [
        (ONE, "1Ki", Connector.SHARED_MEMORY),
        (ONE, "1Mi", Connector.SHARED_MEMORY),
        (ONE, "4Mi", Connector.MOONCAKE_TRANSFER_ENGINE),
        (ONE, "16Mi", Connector.NIXL),
        (ONE, "64Mi", Connector.NIXL),
        (TWO, "1Ki", Connector.MOONCAKE_TRANSFER_ENGINE),
        (TWO, "16Mi", Connector.MOONCAKE_TRANSFER_ENGINE),
        (TWO, 64 * MIB, Connector.NIXL),
    ],
)
def test_the_payload_decides(nodes: Any, payload: str | int, connector: Connector) -> None:
    found = edge("indextts2", nodes, payload=payload)
    assert found.connector is connector
    assert f"chosen for payloads of about {about(int(parse(payload)))} (transport.edges[].payload)" in found.reason
    assert all(rejected.choice != str(connector) for rejected in found.rejected)


def test_shared_memory_is_not_given_up_for_an_assumption() -> None:
    asked = spec(model={"pipeline": "bagel"}, engine={"version": "0.30.0", "nixl": True})
    (found,) = [edge for edge in planned(asked, ONE).edges if edge.connector]
    assert found.payload_bytes > 16 * MIB
    assert found.connector is Connector.SHARED_MEMORY


def test_edges_that_meet_are_weighed_together() -> None:
    nodes = inventory(node("a", 1), node("b", 1), node("c", 1))
    found = edge("qwen2_5_omni", nodes, (1, 2))
    assert found.connector is Connector.NIXL
    assert "about 32Mi on thinker -> talker and 1Mi on talker -> code2wav" in found.reason
    small = {"transport": {"edges": [{"from": "thinker", "to": "talker", "payload": "1Mi"}]}}
    asked = spec(model={"pipeline": "qwen2_5_omni"}, engine={"version": "0.30.0", "nixl": True}, **small)
    assert {e.connector for e in planned(asked, nodes).edges} == {Connector.MOONCAKE_STORE}


def test_a_payload_asks_for_no_transport() -> None:
    """It does not make an exception of the edge, as a connector that is asked for does."""
    found = edge("indextts2", TWO, payload="1Mi")
    assert "as transport.edges asks" not in found.reason
    assert edge("indextts2", TWO, payload="1Mi", connector="Nixl").connector is Connector.NIXL


def test_a_payload_over_the_bound_raises_it() -> None:
    without = edge("indextts2", TWO, connector="MooncakeTransferEngine")
    assert (without.payload_bytes, without.max_payload_bytes) == (4 * MIB, 64 * MIB)
    found = edge("indextts2", TWO, connector="MooncakeTransferEngine", payload="1Gi")
    assert (found.payload_bytes, found.max_payload_bytes) == (1 << 30, 1 << 30)
    assert found.pool_bytes >= 1 << 30


@pytest.mark.parametrize("payload", ["500m", "1023", 0, "2Ti"])
def test_a_payload_out_of_range_is_refused(payload: str | int) -> None:
    said = {"edges": [{"from": "thinker", "to": "talker", "payload": payload}]}
    refused = make.refused(spec(transport=said), ONE)
    assert f"transport.edges[thinker -> talker].payload {payload}:" in refused.message
    assert "correct it" in refused.message


def test_a_raised_bound_is_told() -> None:
    said = {"edges": [{"from": "thinker", "to": "talker", "payload": "1Gi"}]}
    (note,) = [note for note in planned(spec(transport=said)).notes if "payload" in note and "bound" in note]
    assert note.startswith("transport.edges[thinker -> talker].payload 1Gi is more than the pipeline's bound of 512Mi")


def test_a_payload_that_no_connector_carries_is_told() -> None:
    said = {"edges": [{"from": "ar", "to": "dit", "payload": "1Ti"}]}
    found = planned(spec(model={"name": "zai-org/GLM-Image"}, engine={"version": "0.30.0"}, transport=said), ONE)
    assert any("transport.edges[ar -> dit].payload 1Ti has no effect: the server hands" in note for note in found.notes)
    assert found.edges[0].max_payload_bytes < 1 << 40


def test_a_chunk_is_a_part_of_the_payload() -> None:
    """So that the same payload is right when the pipeline cannot stream and sends it whole."""
    ends = {"from": "qwen3_tts", "to": "code2wav"}
    for said, expected in ({}, CHUNK), ({"payload": "2Mi"}, CHUNK), ({"payload": "4Ki"}, 4 << 10):
        transport = {"transport": {"edges": [ends | said]}} if said else {}
        (found,) = [e for e in planned(spec(model={"name": make.STREAMING}, **transport), ONE).edges if e.connector]
        assert found.payload_bytes == expected


def fork(nodes: Any, *said: dict[str, Any], shared: bool = True) -> Plan:
    """A stage that sends to two others; the payload of the first edge is large.

    The first consumer may share the stage's device.
    """
    stages: list[dict[str, Any]] = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    if shared:
        stages[1]["sharesWith"] = "a"
    edges = [{"from": "a", "to": "b", "maxPayloadMiB": 512}, {"from": "a", "to": "c", "maxPayloadMiB": 16}]
    asked = spec(
        model={"pipeline": "fork", "definition": {"stages": stages, "edges": edges}},
        engine={"version": "0.30.0"},
        transport={"edges": list(said)},
    )
    return planned(asked, nodes)


def test_one_store_keeps_one_protocol_where_a_part_of_it_is_inside_a_pod() -> None:
    nodes = inventory(node("a", 1, rdma=2), node("b", 1, rdma=2))
    said = [{"from": "a", "to": end, "connector": "MooncakeStore"} for end in "bc"]
    assert {edge.protocol for edge in fork(nodes, *said).edges} == {Protocol.RDMA}


def test_the_heavy_edge_stays_in_the_pod_with_rdma_too() -> None:
    found = fork(inventory(node("a", 2, rdma=2), node("b", 1, rdma=2)), shared=False)
    assert [edge.reach for edge in found.edges] == [Reach.SAME_POD, Reach.CROSS_NODE]
    assert [edge.protocol for edge in found.edges] == [Protocol.SHM, Protocol.RDMA]
