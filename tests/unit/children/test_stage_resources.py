"""The resources of stages in one pod make a valid container.

No limit of one stage applies to all.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from omni_operator.children import ray_cluster
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.quantity import parse
from tests.unit.make import ONE_NODE, OWNER, TWO_NODES, inventory, node, revision, spec

GIB = 1 << 30


def worker(stages: list[dict[str, Any]], nodes: Inventory, version: str = "0.16.0") -> dict[str, Any]:
    made = revision(spec(stages=stages, engine={"version": version}), nodes)
    (group,) = ray_cluster.build(OWNER, made, 0)["spec"]["workerGroupSpecs"]
    found: dict[str, Any] = group["template"]["spec"]["containers"][0]["resources"]
    return found


@st.composite
def resources(draw: st.DrawFn) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, unit in (("memory", "Gi"), ("cpu", ""), ("example.com/fpga", "")):
        low = draw(st.integers(0, 8))
        if draw(st.booleans()):
            out.setdefault("requests", {})[key] = f"{low}{unit}"
        if draw(st.booleans()):
            out.setdefault("limits", {})[key] = (
                f"{low + draw(st.integers(0, 8)) if key != 'example.com/fpga' else low}{unit}"
            )
    return out


@given(wanted=st.lists(resources(), min_size=3, max_size=3), one=st.booleans())
def test_requests_are_within_limits(wanted: list[dict[str, Any]], one: bool) -> None:
    names = ("thinker", "talker", "code2wav")
    stages = [{"name": n, "resources": r} for n, r in zip(names, wanted, strict=True) if r]
    made = worker(stages, ONE_NODE if one else TWO_NODES)
    for key, limit in made.get("limits", {}).items():
        assert parse(made["requests"].get(key, 0)) <= parse(limit)
    for key in made["requests"]:
        if "/" in key:
            assert parse(made["limits"][key]) == parse(made["requests"][key])


def test_a_limit_of_one_stage_is_no_limit_of_the_others() -> None:
    made = worker([{"name": "code2wav", "resources": {"limits": {"memory": "2Gi"}}}], ONE_NODE)
    assert "memory" not in made.get("limits", {})


def test_a_limit_of_every_stage_is_their_sum() -> None:
    stages = [{"name": n, "resources": {"limits": {"memory": "4Gi"}}} for n in ("thinker", "talker", "code2wav")]
    assert parse(worker(stages, ONE_NODE)["limits"]["memory"]) >= 12 * GIB


def test_headless_groups_ask_for_their_own_stages_only() -> None:
    nodes = inventory(node("a", 1), node("b", 1))
    stages = [
        {"name": "thinker", "resources": {"requests": {"memory": "64Gi"}}},
        {"name": "talker", "resources": {"requests": {"memory": "8Gi"}}},
    ]
    asked = parse(worker(stages, nodes, "0.30.0")["requests"]["memory"])
    assert 8 * GIB <= asked < 12 * GIB
