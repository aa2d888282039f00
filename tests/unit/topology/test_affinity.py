"""The user's node affinity as the planner reads it, and its errors; the schema leaves it open."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.topology.inventory import affinity_problem, matches_affinity
from tests.unit import make
from tests.unit.make import inventory, node, planned, refused, spec

RULE = "requiredDuringSchedulingIgnoredDuringExecution"
NODE = node("a", 4, labels={"zone": "x", "gen": "5"})


def terms(*given: Any) -> dict[str, Any]:
    return {"nodeAffinity": {RULE: {"nodeSelectorTerms": list(given)}}}


def expressions(*given: Any) -> dict[str, Any]:
    return {"matchExpressions": list(given)}


def one(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


ZONE_X, ZONE_Y = one("zone", "In", "x"), one("zone", "In", "y")


@pytest.mark.parametrize(
    ("term", "met"),
    [
        (expressions(ZONE_X), True),
        (expressions(ZONE_Y), False),
        (expressions(one("zone", "NotIn", "x", "y")), False),
        (expressions(one("zone", "NotIn", "y")), True),
        (expressions(one("none", "NotIn", "y")), True),  # an absent label is not in any list
        (expressions(one("none", "In", "y")), False),
        (expressions(one("zone", "Exists")), True),
        (expressions(one("none", "Exists")), False),
        (expressions(one("none", "DoesNotExist")), True),
        (expressions(one("zone", "DoesNotExist")), False),
        (expressions(one("gen", "Gt", "4")), True),
        (expressions(one("gen", "Gt", "5")), False),
        (expressions(one("gen", "Gt", "10")), False),
        (expressions(one("gen", "Lt", "10")), True),  # as numbers, not as text
        (expressions(one("zone", "Gt", "4")), False),
        (expressions(one("none", "Lt", "4")), False),
        (expressions(ZONE_X, one("gen", "Gt", "9")), False),
        ({"matchFields": [one("metadata.name", "In", "a")]}, True),
        ({"matchFields": [one("metadata.name", "In", "b")]}, False),
        ({"matchFields": [one("metadata.name", "In", "a")], **expressions(ZONE_Y)}, False),
        ({}, False),  # a term that says nothing matches nothing
    ],
)
def test_terms(term: dict[str, Any], met: bool) -> None:
    affinity = terms(term)
    assert affinity_problem(affinity) is None
    assert matches_affinity(NODE, affinity["nodeAffinity"]) is met


def test_one_of_several_terms_is_enough_and_preferences_do_not_count() -> None:
    assert matches_affinity(NODE, terms(expressions(ZONE_Y), expressions(ZONE_X))["nodeAffinity"])
    assert matches_affinity(NODE, {})
    preferred = [{"weight": 1, "preference": expressions(ZONE_Y)}]
    assert matches_affinity(NODE, {"preferredDuringSchedulingIgnoredDuringExecution": preferred})


def test_a_plan_counts_only_nodes_that_meet_it() -> None:
    nodes = inventory(
        node("a", 4, labels={"zone": "y"}), node("b", 2, labels={"zone": "x"}), node("c", 2, labels={"zone": "x"})
    )
    assert planned(spec(), nodes).strategy == "OneNode"
    assert planned(spec(placement={"affinity": terms(expressions(ZONE_X))}), nodes).strategy == "Spread"
    found = refused(spec(placement={"affinity": terms(expressions(one("zone", "In", "z")))}), nodes)
    assert found.reason is Reason.NO_LAYOUT
    assert "placement" in found.message


BROKEN: dict[str, Any] = {
    "node affinity in words": {"nodeAffinity": "gpu"},
    "pod affinity in words": {"podAffinity": "gpu"},
    "anti-affinity as a list": {"podAntiAffinity": [{}]},
    "required in words": {"nodeAffinity": {RULE: "gpu"}},
    "required pods as an object": {"podAffinity": {RULE: {"labelSelector": {}}}},
    "terms as an object": {"nodeAffinity": {RULE: {"nodeSelectorTerms": expressions(ZONE_X)}}},
    "a term in words": terms("gpu"),
    "expressions as an object": terms({"matchExpressions": ZONE_X}),
    "no operator": terms(expressions({"key": "zone"})),
    "no key": terms(expressions({"operator": "Exists"})),
    "an unknown operator": terms(expressions(one("zone", "Equals", "x"))),
    "an operator that is no text": terms(expressions({"key": "zone", "operator": ["In"]})),
    "no value": terms(expressions(one("zone", "In"))),
    "a value too many": terms(expressions(one("zone", "Exists", "x"))),
    "values in words": terms(expressions({"key": "zone", "operator": "In", "values": "x"})),
    "greater than a word": terms(expressions(one("gen", "Gt", "four"))),
    "greater than two numbers": terms(expressions(one("gen", "Gt", "4", "5"))),
    "a field in words": terms({"matchFields": ["a"]}),
}


@pytest.mark.parametrize("affinity", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("nodes", [inventory(NODE), inventory()], ids=["nodes", "no nodes"])
def test_what_cannot_be_read_is_refused_and_named(affinity: dict[str, Any], nodes: Any) -> None:
    """Otherwise every reconcile would end in an exception that no user sees."""
    found = refused(spec(placement={"affinity": affinity}), nodes)
    assert (found.condition, found.reason) == (ConditionType.ACCEPTED, Reason.INVALID_SPEC)
    assert found.message.startswith("placement.affinity.")
    assert found.message.endswith("correct it")


@pytest.mark.parametrize("value", [[1], {"a": 1}, 2, "2", None])
def test_engine_arguments_of_any_shape_are_refused_not_raised(value: Any) -> None:
    stages = [{"name": "thinker", "engineArgs": {"tensor_parallel_size": value}}]
    assert refused(spec(stages=stages), make.ONE_NODE).reason is Reason.INVALID_SPEC
