"""The planner by example: choices, rejections, plan errors and their messages."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.conditions import Reason
from omni_operator.connectors.transport import Reach
from omni_operator.planning.feasibility import is_still_feasible
from omni_operator.planning.model import PlanError, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory, Taint
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make
from tests.unit.make import GPU, ONE_NODE, RDMA_NODES, STREAMING, TWO_NODES, TWO_STAGES, inventory, node, planned, spec

TCP, RDMA = "MooncakeStore/tcp", "MooncakeStore/rdma"
ZONES = inventory(node("a", 3, labels={"zone": "x"}), node("b", 3, labels={"zone": "y"}))
SPLIT_ZONES = inventory(node("a", 2, labels={"zone": "x"}), node("b", 2, labels={"zone": "y"}))
ONE_RACK = inventory(node("a", 2, rdma=4), node("b", 2))


def rules(**rdma: Any) -> dict[str, Any]:
    return {"transport": rdma}


def edge(one: str, other: str, **asked: str) -> dict[str, Any]:
    return {"transport": {"edges": [{"from": one, "to": other, **asked}]}}


def two_stages(mooncake: str) -> dict[str, Any]:
    """The pipeline that MooncakeTransferEngine can serve, in two pods."""
    return {
        "model": {"pipeline": "indextts2"},
        "engine": {"version": "0.30.0", "backend": "Headless", "mooncakeVersion": mooncake},
        "stages": [{"name": "indextts2_talker", "accelerators": 1}],
    }


def on(stage: str, name: str) -> dict[str, Any]:
    """A stage's own node, which others do not tolerate."""
    selector = {"kubernetes.io/hostname": name}
    return {"name": stage, "nodeSelector": selector, "tolerations": [{"key": name, "operator": "Exists"}]}


CHOICES = {
    "one node holds all": ({}, ONE_NODE, "OneNode", "shm"),
    "two nodes": ({}, TWO_NODES, "Spread", TCP),
    "spread is asked for": ({"placement": {"strategy": "Spread"}}, ONE_NODE, "Spread", TCP),
    "rdma everywhere": ({}, RDMA_NODES, "Spread", RDMA),
    "shared memory beats rdma": ({}, inventory(node("a", 4, rdma=8)), "OneNode", "shm"),
    "pods may not share memory": (rules(sharedMemory="PodOnly"), ONE_NODE, "OneNode", TCP),
    "pods may not share memory, rdma": (
        rules(sharedMemory="PodOnly"),
        inventory(node("a", 4, rdma=2)),
        "OneNode",
        RDMA,
    ),
    "a device for the worker, none beside it for the server": (
        {"placement": {"strategy": "OneNode"}, **rules(sharedMemory="PodOnly")},
        inventory(node("a", 3, rdma=1), node("b", rdma=1)),
        "OneNode",
        TCP,
    ),
    "rdma on one node of two": ({}, ONE_RACK, "Spread", TCP),
    "rdma is never": (rules(rdma="Never"), RDMA_NODES, "Spread", TCP),
    "rdma is required": (rules(rdma="Require"), RDMA_NODES, "Spread", RDMA),
    "rdma is required and memory is shared": (rules(rdma="Require"), ONE_NODE, "OneNode", "shm"),
    "rdma devices are taken": (
        {},
        inventory(node("a", 2, rdma=2, rdma_available=0), node("b", 2, rdma=2)),
        "Spread",
        TCP,
    ),
    "another rdma resource": (rules(rdmaResource="rdma/other"), RDMA_NODES, "Spread", TCP),
    "the free node of two": ({}, inventory(node("a", 3, available=0), node("b", 2), node("c", 2)), "Spread", TCP),
    "the device of one edge": (edge("thinker", "talker", protocol="rdma"), RDMA_NODES, "Spread", RDMA),
    "tcp on one edge makes it tcp on both": (edge("thinker", "talker", protocol="tcp"), RDMA_NODES, "Spread", TCP),
    "tcp on one edge of one node": (edge("thinker", "talker", protocol="tcp"), ONE_NODE, "OneNode", f"{TCP}, shm"),
    "cpu": ({"accelerator": {"type": "cpu"}}, inventory(node("a")), "OneNode", "shm"),
    "domains that hold it": ({"placement": {"topologyKey": "zone"}}, ZONES, "OneNode", "shm"),
    "replicas need a node each": ({"replicas": 2}, inventory(node("a", 3), node("b", 3)), "OneNode", "shm"),
    "replicas that fit apart only": ({"replicas": 2}, inventory(node("a", 4), node("b", 2)), "Spread", TCP),
    "their cluster": ({"ray": {"clusterRef": {"name": "theirs"}}}, ONE_NODE, "Spread", TCP),
    "their cluster, no nodes of ours": ({"ray": {"clusterRef": {"name": "theirs"}}}, inventory(), "Spread", TCP),
    "streaming on one node": ({"model": {"name": STREAMING}}, inventory(node("a", 2)), "OneNode", "shm"),
    "one pod holds all": ({"engine": {"version": "0.30.0"}}, ONE_NODE, "OneNode", "shm"),
    "stages that share a device need one between them": (
        {"engine": {"version": "0.30.0"}},
        inventory(node("a", 2)),
        "OneNode",
        "shm",
    ),
    "headless over two nodes": (
        {"engine": {"version": "0.30.0"}},
        inventory(node("a", 1), node("b", 1)),
        "Spread",
        TCP,
    ),
    "headless, rdma cannot save a middle stage from the store": (
        {"engine": {"version": "0.28.0"}},
        inventory(node("a", 1, rdma=2), node("b", 1, rdma=2)),
        "Spread",
        RDMA,
    ),
    "two stages, transfer engine": (
        two_stages("0.3.11.post1"),
        inventory(node("a", 1, rdma=2), node("b", 1, rdma=2)),
        "Spread",
        "MooncakeTransferEngine/rdma",
    ),
    "two stages, transfer engine over tcp": (
        two_stages("0.3.12.post1"),
        inventory(node("a", 1), node("b", 1)),
        "Spread",
        "MooncakeTransferEngine/tcp",
    ),
    "a mooncake that does not wait for its writes cannot have it": (
        two_stages("0.3.11.post1"),
        inventory(node("a", 1), node("b", 1)),
        "Spread",
        TCP,
    ),
    "chunks need nixl between pods": (
        {"model": {"pipeline": "qwen3_omni_moe"}, "engine": {"version": "0.30.0", "nixl": True}},
        inventory(node("a", 1), node("b", 1)),
        "Spread",
        "Nixl/tcp",
    ),
    "without nixl chunks become whole": (
        {"model": {"pipeline": "qwen3_omni_moe"}, "engine": {"version": "0.30.0"}},
        inventory(node("a", 1), node("b", 1)),
        "Spread",
        TCP,
    ),
    "an image with a newer mooncake has no store": (
        {"engine": {"version": "0.30.0", "mooncakeVersion": "0.3.13.post1", "nixl": True}},
        inventory(node("a", 1), node("b", 1)),
        "Spread",
        "Nixl/tcp",
    ),
    "every stage has tainted nodes of its own, with rdma": (
        {
            "model": {"pipeline": "hunyuan_image_3_moe"},
            "engine": {"version": "0.30.0"},
            "stages": [on("AR", "a"), on("dit", "b")],
        },
        inventory(*(node(name, 2, rdma=2, taints=(Taint(name, "", "NoSchedule"),)) for name in "ab")),
        "Spread",
        "MooncakeTransferEngine/rdma",
    ),
    "the server hands a prompt on": (
        {"model": {"pipeline": "glm_image"}, "engine": {"version": "0.30.0"}},
        inventory(node("a", 1), node("b", 1)),
        "Spread",
        "none",
    ),
}


@pytest.mark.parametrize(("parts", "nodes", "strategy", "transport"), CHOICES.values(), ids=CHOICES)
def test_choices(parts: dict[str, Any], nodes: Inventory, strategy: str, transport: str) -> None:
    made = planned(spec(**parts), nodes)
    assert (made.strategy, made.transport) == (strategy, transport)


@pytest.mark.parametrize(("sizes", "together"), [((1, 1024), ("s1", "s2")), ((1024, 1), ("s0", "s1"))])
def test_the_cut_is_where_least_passes(sizes: tuple[int, int], together: tuple[str, str]) -> None:
    """The middle stage has one connector for both edges, so their cost is the same for any cut."""
    edges = [{"from": f"s{n}", "to": f"s{n + 1}", "maxPayloadMiB": size} for n, size in enumerate(sizes)]
    definition = {"stages": [{"name": f"s{n}"} for n in range(3)], "edges": edges}
    wanted = spec(model={"pipeline": "chain", "definition": definition}, engine={"version": "0.30.0"})
    made = planned(wanted, inventory(node("a", 2), node("b", 1)))
    assert together in {made.serving.stages, *(group.stages for group in made.groups)}


def test_waiting_says_what_is_needed_and_what_is_free() -> None:
    found = make.plan(spec(), inventory(node("a", 4, available=1)))
    assert isinstance(found, Planned)
    assert found.waits_for == f"needs 3 x {GPU}, free now: a: 1; pods stay Pending until others release theirs"


def test_waiting_for_rdma_devices_names_them() -> None:
    taken = inventory(node("a", rdma=4, rdma_available=1))
    wanted = spec(accelerator={"type": "cpu"}, transport={"rdma": "Require", "sharedMemory": "PodOnly"})
    found = make.plan(wanted, taken)
    assert isinstance(found, Planned)
    assert found.waits_for is not None
    assert found.waits_for.startswith("needs 2 x rdma/hca, free now: a: 1")


def test_of_two_rdma_resources_the_free_one_is_taken() -> None:
    taken = {"rdma/aa": 8}
    nodes = [node(n, 2, rdma=8, allocatable=taken) for n in "ab"]
    held = Inventory.of(nodes, [("a", taken), ("b", taken)])
    assert planned(spec(), held).rdma_resource == "rdma/hca"
    assert planned(spec(), Inventory.of(nodes)).rdma_resource == "rdma/aa"


def test_rdma_is_never_called_verified() -> None:
    assert any("not verified" in note for note in planned(spec(), RDMA_NODES).notes)
    assert not any("not verified" in note for note in planned(spec(), TWO_NODES).notes)


@pytest.mark.parametrize("nodes", [TWO_NODES, RDMA_NODES, ONE_NODE], ids=["tcp", "rdma", "one node"])
@pytest.mark.parametrize("mooncake", ["0.3.11.post1", "0.3.12.post1"])
def test_payloads_that_a_mooncake_may_tear_are_warned_of(nodes: Inventory, mooncake: str) -> None:
    """Before Mooncake 0.3.12 a TCP write is reported before it arrives; RDMA may become TCP."""
    made = planned(spec(engine={"version": "0.16.0", "mooncakeVersion": mooncake}), nodes)
    warned = any("TcpWritesUnacknowledged" in note for note in made.notes)
    assert warned is (nodes is not ONE_NODE and mooncake == "0.3.11.post1")


@pytest.mark.parametrize(
    ("ray", "token"),
    [({}, True), ({"version": "2.51.2"}, False), ({"tokenAuth": "Disabled"}, False), ({"tokenAuth": "Enabled"}, True)],
)
def test_token_auth(ray: dict[str, str], token: bool) -> None:
    assert planned(spec(ray=ray)).token_auth is token


def test_edges_say_how_far_apart_their_ends_are() -> None:
    assert {e.reach for e in planned(spec(), ONE_NODE).edges} == {Reach.SAME_NODE}
    assert {e.reach for e in planned(spec(), TWO_NODES).edges} == {Reach.CROSS_NODE}


def test_a_plan_stands_while_empty_nodes_could_hold_one_replica() -> None:
    wanted = spec(model={"name": TWO_STAGES}, replicas=2)
    made = planned(wanted, TWO_NODES)
    assert is_still_feasible(made, spec=wanted, inventory=inventory(node("a", 2, available=0)))
    assert not is_still_feasible(made, spec=wanted, inventory=inventory(node("a", 1), node("b", 1)))
    assert not is_still_feasible(made, spec=wanted, inventory=inventory(node("a", 2, ready=False)))


def test_a_plan_on_their_cluster_always_stands() -> None:
    wanted = spec(ray={"clusterRef": {"name": "theirs"}})
    assert is_still_feasible(planned(wanted, inventory()), spec=wanted, inventory=inventory())


def two_talkers(accelerators: int, **args: Any) -> dict[str, Any]:
    stage = {"name": "talker", "accelerators": accelerators, **({"engineArgs": args} if args else {})}
    return {"engine": {"version": "0.30.0"}, "stages": [stage]}


@pytest.mark.parametrize(
    ("accelerators", "sizes", "pods"),
    [
        (2, (1, 1, 1), [(1, 2, True)]),
        (4, (1, 2, 2), [(2, 2, True)]),
        (6, (1, 2, 2, 2), [(2, 3, True)]),
        (2, (1, 2), [(2, 1, False)]),  # a node holds it
        (3, (1, 2, 2), [(1, 3, True)]),
    ],
)
def test_a_stage_spans_as_few_pods_as_nodes_allow(
    accelerators: int, sizes: tuple[int, ...], pods: list[tuple[int, int, bool]]
) -> None:
    made = planned(spec(**two_talkers(accelerators)), inventory(*(node(f"n{i}", size) for i, size in enumerate(sizes))))
    assert [(g.accelerators, g.pods, g.spans) for g in made.groups] == pods
    assert is_still_feasible(
        made,
        spec=spec(**two_talkers(accelerators)),
        inventory=inventory(*(node(f"n{i}", size) for i, size in enumerate(sizes))),
    )


@pytest.mark.parametrize(
    "parts",
    [
        two_talkers(2, distributed_executor_backend="mp"),
        {"engine": {"version": "0.30.0"}, "stages": [{"name": "thinker", "accelerators": 2}]},  # the head's own
        {"engine": {"version": "0.30.0"}, "stages": [{"name": "talker", "replicas": 2, "accelerators": 2}]},
    ],
)
def test_what_cannot_span_nodes_has_no_layout(parts: dict[str, Any]) -> None:
    found = make_plan(
        spec=spec(**parts), inventory=inventory(*(node(n, 1) for n in "abcdef")), pod_security=PodSecurity.PRIVILEGED
    )
    assert isinstance(found, PlanError)
    assert found.reason is Reason.NO_LAYOUT
