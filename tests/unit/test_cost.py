"""The transport by the size of what passes: within a step the quickest, and never across steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_operator.api.spec import Connector, Protocol
from omni_operator.engine.connector import TRANSPORTS, Transport
from omni_operator.planning.cost import BETWEEN_PODS, IN_ONE_POD, KIB, SIZES, cost, hardly_more
from omni_operator.planning.model import EdgePlan, Reach
from omni_operator.planning.sizing import MIB
from tests.unit import make
from tests.unit.make import inventory, node, planned, spec

ONE, TWO = inventory(node("a", 4)), inventory(node("a", 1), node("b", 1))
SHM = Transport(Connector.SHARED_MEMORY, Protocol.SHM)
payloads, reaches = st.integers(0, 1 << 40), st.sampled_from(list(Reach))


@given(st.sampled_from(TRANSPORTS), reaches, st.lists(payloads, min_size=2, max_size=2))
def test_more_costs_no_less(transport: Transport, reach: Reach, sizes: list[int]) -> None:
    small, large = sorted(sizes)
    assert cost(transport, reach, small) <= cost(transport, reach, large)


def test_what_was_measured_is_what_it_costs() -> None:
    for reach, table in (Reach.SAME_POD, IN_ONE_POD), (Reach.CROSS_NODE, BETWEEN_PODS):
        for transport, times in table.items():
            step = cost(transport, reach, 0) >> 40
            found = [cost(transport, reach, size) - (step << 40) for size in SIZES]
            assert found == [round(time * 1000) for time in times]


@given(st.sampled_from(TRANSPORTS[1:]), st.sampled_from(TRANSPORTS), payloads, payloads)
def test_no_size_outweighs_rdma_or_a_node_of_its_own(one: Transport, other: Transport, small: int, large: int) -> None:
    """rdma: Prefer is kept whatever the payload; and shared memory between pods, which is not measured against the rest, is not given up."""
    assert cost(SHM, Reach.SAME_NODE, large) < cost(one, Reach.SAME_NODE, small)
    if one.protocol is Protocol.RDMA and other.protocol is Protocol.TCP:
        assert cost(one, Reach.CROSS_NODE, large) < cost(other, Reach.CROSS_NODE, small)
        assert cost(other, Reach.SAME_POD, large) < cost(
            one, Reach.SAME_POD, small
        )  # no device for what stays in a pod


def test_a_tenth_is_hardly_more() -> None:
    step = 5 << 40
    assert hardly_more(step + 1100, step + 1000)
    assert not hardly_more(step + 1101, step + 1000)
    assert not hardly_more(step + 1000, 1000)


def edge(pipeline: str, nodes: Any, ends: tuple[int, int] = (0, 1), **said: Any) -> EdgePlan:
    """An edge of a plan on 0.30 with Nixl, a stage on each node where there are two; `said` is its entry in transport.edges."""
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
        (ONE, "16Mi", Connector.SHARED_MEMORY),
        (ONE, "64Mi", Connector.NIXL),
        (TWO, "1Ki", Connector.MOONCAKE_TRANSFER_ENGINE),
        (TWO, "16Mi", Connector.MOONCAKE_TRANSFER_ENGINE),
        (TWO, 64 * MIB, Connector.NIXL),
    ],
)
def test_the_payload_decides(nodes: Any, payload: str | int, connector: Connector) -> None:
    found = edge("indextts2", nodes, payload=payload)
    assert found.connector is connector
    assert (
        f"chosen for payloads of about {str(payload).replace(str(64 * MIB), '64Mi')} (transport.edges" in found.reason
    )
    assert all(rejected.choice != str(connector) for rejected in found.rejected)


def test_edges_that_meet_are_weighed_together() -> None:
    nodes = inventory(node("a", 1), node("b", 1), node("c", 1))
    assert edge("qwen2_5_omni", nodes, (1, 2)).connector is Connector.NIXL  # for what the first edge carries
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


def test_a_chunk_is_small() -> None:
    nodes = inventory(node("a", 4))
    asked = spec(model={"name": make.STREAMING})
    (found,) = [e for e in planned(asked, nodes).edges if e.connector]
    assert found.payload_bytes == 64 * KIB
