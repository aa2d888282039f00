"""`omni plan --diff`: how a plan differs from the active revision, as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.revision import new_revision
from omni_operator.cli.difference import changes, difference, facts
from omni_operator.planning.model import Plan
from omni_operator.topology.inventory import Inventory
from tests.unit import make
from tests.unit.cli.fake_cluster import (
    Cli,
    FakeAccess,
    deployed,
    manifest,
    namespace_object,
    node_list,
    pod_object,
    responses,
)
from tests.unit.golden_cases import CASES
from tests.unit.make import GPU, ONE_NODE, OWNER, RDMA_NODES, TWO_NODES, inventory, node

HOLD = {"strategy": "Hold"}


def against(omni: Cli, nodes: Inventory, old: dict[str, Any], new: dict[str, Any], *args: str) -> int:
    files = [omni.file(name, manifest(spec)) for name, spec in (("new.yaml", new), ("old.yaml", old))]
    there = omni.file("nodes.yaml", node_list(nodes))
    return omni("plan", "--diff", "-f", files[0], "--against", files[1], "--nodes", there, *args)


def cluster(nodes: Inventory, *pods: Any, **parts: Any) -> FakeAccess:
    """A cluster with an OmniDeployment whose active revision was planned on these nodes."""
    raw = make.raw_spec(**parts)
    objects = deployed(make.revision(OmniDeploymentSpec.model_validate(raw), nodes), spec=raw)
    return FakeAccess({**responses(nodes, *pods, namespaces=(namespace_object(OWNER.namespace),)), **objects})


def diff(omni: Cli, access: FakeAccess, *args: str, **parts: Any) -> int:
    omni.on(access)
    return omni("plan", "--diff", "-f", omni.file("new.yaml", manifest(make.raw_spec(**parts))), *args)


def test_an_equal_spec_is_no_change(omni: Cli) -> None:
    assert diff(omni, cluster(TWO_NODES)) == 0
    first, *notes = omni.out.strip().splitlines()
    assert first == f"no change: the same revision {make.revision().name}"
    assert notes[0].startswith("note: Mooncake 0.3.8.post1 says")


def test_another_release_is_a_new_revision(omni: Cli) -> None:
    assert diff(omni, cluster(RDMA_NODES), "-o", "json", engine={"version": "0.30.0"}) == 0
    found = json.loads(omni.out)
    assert found["newRevision"]
    assert found["before"] != found["after"]
    assert found["summary"].startswith(f"a new revision would be made: {found['after']}, in place of {found['before']}")
    assert {c["what"]: (c["before"], c["after"]) for c in found["spec"]} == {
        "spec.engine.version": ("0.16.0", "0.30.0")
    }
    plan = {c["what"]: (c["before"], c["after"]) for c in found["plan"]}
    assert plan["backend"] == ("Ray", "Local")
    assert plan["layout"] == ("Spread", "OneNode")
    assert plan["edge thinker → talker"] == ("MooncakeStore/rdma, CrossNode", "SharedMemory/shm, SamePod")
    assert plan["pod stages"][1] == "-"
    assert "memory" in plan["pod serving: sizes"][0]


def test_the_table_shows_both_sides(omni: Cli) -> None:
    assert diff(omni, cluster(RDMA_NODES), engine={"version": "0.30.0"}) == 0
    row = next(line for line in omni.out.splitlines() if line.startswith("backend"))
    assert row.split() == ["backend", "Ray", "Local"]


def test_what_changes_in_place_makes_no_revision(omni: Cli) -> None:
    assert diff(omni, cluster(inventory(node("a", 9))), "-o", "json", replicas=2) == 0
    found = json.loads(omni.out)
    assert not found["newRevision"]
    assert "the fields below change in place" in found["summary"]
    assert [c["what"] for c in found["spec"]] == ["spec.replicas"]


def test_current_values_are_those_of_the_live_spec(omni: Cli) -> None:
    access = cluster(inventory(node("a", 9)), replicas=3)
    assert diff(omni, access, "-o", "json", replicas=3) == 0
    assert json.loads(omni.out)["spec"] == []
    assert diff(omni, access, "-o", "json") == 0
    assert [(c["before"], c["after"]) for c in json.loads(omni.out)["spec"]] == [("3", "1")]


def test_an_unchanged_spec_keeps_its_plan(omni: Cli) -> None:
    """The current nodes would give a different plan, but the operator plans a spec once."""
    old = make.revision(make.spec(), TWO_NODES)
    access = FakeAccess(
        {
            **responses(inventory(node("a", 4), node("b", 2)), namespaces=(namespace_object(OWNER.namespace),)),
            **deployed(old, spec=make.raw_spec()),
        }
    )
    assert diff(omni, access, "-o", "json") == 0
    found = json.loads(omni.out)
    assert found["before"] == found["after"] == old.name
    assert "planned on the current nodes its plan would differ" in found["summary"]
    assert "a plan is kept as long as nodes can hold it" in found["summary"]
    assert found["plan"]


def test_a_plan_that_nodes_cannot_hold_is_replaced(omni: Cli) -> None:
    old = make.revision(make.spec(), RDMA_NODES)
    access = FakeAccess(
        {
            **responses(TWO_NODES, namespaces=(namespace_object(OWNER.namespace),)),
            **deployed(old, spec=make.raw_spec()),
        }
    )
    assert diff(omni, access) == 0
    assert "the nodes cannot hold the old one" in omni.out


def test_hold_keeps_the_revision(omni: Cli) -> None:
    assert diff(omni, cluster(TWO_NODES), "-o", "json", engine={"version": "0.14.0"}, rollout=HOLD) == 0
    found = json.loads(omni.out)
    assert not found["newRevision"]
    assert "rollout.strategy is Hold" in found["summary"]


@pytest.mark.parametrize("objects", [{}, deployed(None, spec=make.raw_spec())])
def test_without_an_active_revision_the_new_one_is_the_first(omni: Cli, objects: dict[str, Any]) -> None:
    access = FakeAccess({**responses(TWO_NODES, namespaces=(namespace_object(OWNER.namespace),)), **objects})
    assert diff(omni, access) == 0
    assert "would be the first" in omni.out


def test_devices_of_its_own_pods_are_available_to_an_update(omni: Cli) -> None:
    own = pod_object("w", on="a", requests={GPU: 4}, namespace=OWNER.namespace, omni=OWNER.name)
    other = pod_object("w", on="a", requests={GPU: 4})
    assert diff(omni, cluster(ONE_NODE, own), engine={"version": "0.14.0"}) == 0
    assert diff(omni, cluster(ONE_NODE, other), engine={"version": "0.14.0"}) == 3
    assert "note: must wait" in omni.out


def test_against_another_file_on_the_same_nodes(omni: Cli) -> None:
    old, new = make.raw_spec(), make.raw_spec(placement={"strategy": "Spread"})
    assert against(omni, ONE_NODE, old, new) == 0
    assert "spec.placement.strategy" in omni.out
    assert "SharedMemory/shm, SameNode" in omni.out
    assert against(omni, ONE_NODE, old, old) == 0
    assert "no change: the same revision" in omni.out


def test_a_failure_of_either_file_is_reported(omni: Cli) -> None:
    required = make.raw_spec(transport={"rdma": "Require"})
    assert against(omni, TWO_NODES, required, make.raw_spec()) == 4
    assert "old.yaml: Planned: PolicyCannotBeMet" in omni.err
    assert against(omni, TWO_NODES, make.raw_spec(), required) == 4
    assert against(omni, TWO_NODES, {"replicas": -1}, make.raw_spec()) == 2


@pytest.mark.parametrize(
    "args", [("--diff", "--nodes", "n.yaml"), ("--diff", "-o", "svg"), ("--diff", "-o", "manifests")]
)
def test_invalid_arguments_are_a_usage_error(omni: Cli, args: tuple[str, ...]) -> None:
    assert omni("plan", "-f", "x.yaml", *args) == 2
    assert "usage:" in omni.err


def test_facts_differ_between_all_cases() -> None:
    by_case = {name: facts(make.planned(c.spec, c.nodes, security=c.security)) for name, c in CASES.items()}
    assert len({tuple(f.items()) for f in by_case.values()}) == len(by_case)


_NOT_COMPARED = {"notes"}


@pytest.mark.parametrize("field", sorted(set(Plan.model_fields) - _NOT_COMPARED))
def test_every_field_of_a_plan_is_compared(field: str) -> None:
    """Each field is taken from plans that differ in it, one at a time."""
    plans = [make.planned(c.spec, c.nodes, security=c.security) for c in CASES.values()]
    values = [getattr(plan, field) for plan in plans]
    pairs = [(plan, value) for plan in plans for value in values if getattr(plan, field) != value]
    assert pairs, field

    def differs(plan: Plan, value: Any) -> bool:
        return bool(changes(facts(plan), facts(plan.model_copy(update={field: value}))))

    assert any(differs(plan, value) for plan, value in pairs)


def test_an_edge_with_another_reason_is_no_change_of_the_plan() -> None:
    old = make.revision()
    edges = tuple(edge.model_copy(update={"reason": "another reason"}) for edge in old.plan.edges)
    new = new_revision(spec=old.spec, plan=old.plan.model_copy(update={"edges": edges}))
    found = difference(old, new, inventory=TWO_NODES)
    assert found.plan == ()
    assert found.after == old.name
    assert difference(old, replace(old), inventory=TWO_NODES).summary == f"no change: the same revision {old.name}"


def test_a_plan_of_an_earlier_operator_is_not_compared_by_payload() -> None:
    """Earlier operators did not store the usual size of payloads."""
    now = make.revision()
    edges = tuple(edge.model_copy(update={"payload_bytes": 0}) for edge in now.plan.edges)
    old = new_revision(spec=now.spec, plan=now.plan.model_copy(update={"edges": edges}))
    assert old.name != now.name
    found = difference(old, now, inventory=TWO_NODES)
    assert found.summary == f"no change: the same revision {old.name}"
    assert found.plan == ()
