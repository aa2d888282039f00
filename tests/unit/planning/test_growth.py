"""The work of planning, counted and not timed.

It grows with the number of different things, not with the number of things.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Strategy
from omni_operator.planning import capacity
from omni_operator.planning.capacity import NodeCapacity
from omni_operator.planning.demand import StageDemand
from omni_operator.planning.layout import Layout, layouts
from omni_operator.planning.packing import Bin, Demand, fits
from omni_operator.planning.transports import Chooser
from omni_operator.topology.inventory import Inventory
from tests.unit.make import inventory, node, planned, refused, spec

LAYOUTS_8 = 4140 - 1  # all partitions of 8 stages (the Bell number) without the one of a single pod, which is Local
SUMS_OF_8 = 22  # ways to write 8 as a sum: what pods of 8 equal stages can ask of nodes


class Work(Counter[str]):
    """Counts calls while a test plans."""

    def watch(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self[name] += 1
            return real(*args, **kwargs)

        patch.setattr(owner, name, counted)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    found = Work()
    found.watch(monkeypatch, capacity, "fits")
    found.watch(monkeypatch, capacity, "most_copies")
    found.watch(monkeypatch, Chooser, "pick")
    found.watch(monkeypatch, NodeCapacity, "fits")
    return found


def pipeline_of(stages: int, **parts: Any) -> OmniDeploymentSpec:
    names = [f"s{number}" for number in range(stages)]
    edges = [{"from": one, "to": other} for one, other in pairwise(names)]
    definition = {"stages": [{"name": name} for name in names], "edges": edges}
    model = {"name": "m", "pipeline": "chain", "definition": definition}
    return spec(model=model, engine={"version": "0.30.0", **parts.pop("engine", {})}, **parts)


def headless(stages: int, *, largest: int, wanted: Strategy = Strategy.AUTO) -> list[Layout]:
    demands = [StageDemand(id=number, devices=(number,)) for number in range(stages)]
    return list(layouts(demands, backend=Backend.HEADLESS, wanted=wanted, largest=largest, largest_empty=largest))


def mixed(count: int) -> Inventory:
    """Nodes of five kinds, none of which can take 8 stages now."""
    kinds: list[dict[str, Any]] = [
        {"gpus": 8, "available": 5},
        {"gpus": 4},
        {"gpus": 2, "rdma": 4},
        {"gpus": 8, "available": 3, "rdma": 4, "rdma_available": 1},
        {},
    ]
    return inventory(*(node(f"n{n:04}", labels={"rack": f"r{n // 5}"}, **kinds[n % 5]) for n in range(count)))


def test_all_partitions_of_8_stages_are_tried_once() -> None:
    found = headless(8, largest=8)
    assert len(found) == LAYOUTS_8
    assert len({tuple(sorted(shape.stages for shape in each.shapes)) for each in found}) == LAYOUTS_8
    assert all(each.serving.stages[0] == 0 for each in found)


@pytest.mark.parametrize(("largest", "count"), [(0, 0), (1, 1), (2, 764), (3, 2780), (7, LAYOUTS_8)])
def test_pods_that_no_node_can_hold_are_never_made(largest: int, count: int) -> None:
    assert len(headless(8, largest=largest)) == count


def test_many_stages_do_not_explode() -> None:
    found = headless(16, largest=16)
    assert len(found) == 2**15 - 1
    assert all(
        shape.stages == tuple(range(shape.stages[0], shape.stages[-1] + 1)) for each in found for shape in each.shapes
    )
    assert len(headless(16, largest=16, wanted=Strategy.SPREAD)) == 1


def test_transports_are_chosen_once_per_set_of_edges_inside_pods(work: Work) -> None:
    planned(pipeline_of(8), mixed(50))
    with_and_without_rdma, for_words = 2, 1
    assert work["pick"] <= with_and_without_rdma * 2**7 + for_words


@pytest.mark.parametrize("parts", [{}, {"replicas": 2}, {"placement": {"topologyKey": "rack"}}], ids=str)
def test_more_of_the_same_nodes_are_no_more_work(work: Work, parts: dict[str, Any]) -> None:
    counts = []
    for count in 50, 500, 5000:
        work.clear()
        planned(pipeline_of(8, **parts), mixed(count))
        counts.append(dict(work))
    assert counts[0] == counts[1] == counts[2]


def test_equal_pods_are_asked_for_once(work: Work) -> None:
    """No layout fits, so all are tried; they differ in the sizes of their pods only."""
    nodes = inventory(node("a", 8), node("b", 1, rdma=8))
    refused(pipeline_of(8, transport={"rdma": "Require"}, engine={"backend": "Headless"}), nodes)
    assert work["fits"] > 2 * LAYOUTS_8
    assert work["holds"] <= 2 * SUMS_OF_8


def test_nothing_is_asked_of_nodes_that_have_too_few_free(work: Work) -> None:
    taken = [node(f"n{n}", 8, available=1) for n in range(7)]
    planned(pipeline_of(8), inventory(*taken))
    assert work["fits"] <= 2
    assert work["holds"] <= 2


def test_packing_does_not_end_with_the_depth_of_python() -> None:
    """Thousands of bins that take only the smallest pod come before those that matter."""
    bins = {Bin(5, 0): 32, Bin(4, 0): 32} | {Bin(1, devices): 160 for devices in range(10)}
    pods = [Demand(size, 0) for size in (3, 2, 2, 2, 1)]
    assert fits(pods, bins, copies=32)
    assert not fits(pods, {**bins, Bin(4, 0): 31}, copies=32)
