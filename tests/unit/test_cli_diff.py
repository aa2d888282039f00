"""`omni plan --diff`: what would change of what runs, in words and for machines."""

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
from tests.unit.cases import CASES
from tests.unit.cluster import Cli, FakeAccess, answers, manifest, namespace_object, node_list, pod_object, running
from tests.unit.make import GPU, ONE_NODE, OWNER, RDMA_NODES, TWO_NODES, inventory, node

HOLD = {"strategy": "Hold"}


def against(omni: Cli, nodes: Inventory, old: dict[str, Any], new: dict[str, Any], *args: str) -> int:
    files = [omni.file(name, manifest(spec)) for name, spec in (("new.yaml", new), ("old.yaml", old))]
    there = omni.file("nodes.yaml", node_list(nodes))
    return omni("plan", "--diff", "-f", files[0], "--against", files[1], "--nodes", there, *args)


def cluster(nodes: Inventory, *pods: Any, **parts: Any) -> FakeAccess:
    """A cluster where a spec runs, with the revision that was made for it on these nodes."""
    raw = make.raw_spec(**parts)
    runs = running(make.revision(OmniDeploymentSpec.model_validate(raw), nodes), spec=raw)
    return FakeAccess({**answers(nodes, *pods, namespaces=(namespace_object(OWNER.namespace),)), **runs})


def diff(omni: Cli, access: FakeAccess, *args: str, **parts: Any) -> int:
    omni.on(access)
    return omni("plan", "--diff", "-f", omni.file("new.yaml", manifest(make.raw_spec(**parts))), *args)


def test_the_same_is_no_change(omni: Cli) -> None:
    assert diff(omni, cluster(TWO_NODES)) == 0
    first, *notes = omni.out.strip().splitlines()
    assert first == f"no change: the same revision {make.revision().name}"
    assert notes[0].startswith("note: Mooncake 0.3.8.post1 says")


def test_another_release_is_a_new_revision(omni: Cli) -> None:
    assert diff(omni, cluster(RDMA_NODES), "-o", "json", engine={"version": "0.30.0"}) == 0
    found = json.loads(omni.out)
    assert found["newRevision"]
    assert found["before"] != found["after"]
    assert found["verdict"].startswith(f"a new revision would be made: {found['after']}, in place of {found['before']}")
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
    assert "the fields below change in place" in found["verdict"]
    assert [c["what"] for c in found["spec"]] == ["spec.replicas"]


def test_fields_of_now_are_those_of_the_live_spec(omni: Cli) -> None:
    access = cluster(inventory(node("a", 9)), replicas=3)
    assert diff(omni, access, "-o", "json", replicas=3) == 0
    assert json.loads(omni.out)["spec"] == []
    assert diff(omni, access, "-o", "json") == 0
    assert [(c["before"], c["after"]) for c in json.loads(omni.out)["spec"]] == [("3", "1")]


def test_a_plan_is_kept_while_its_spec_is(omni: Cli) -> None:
    """The nodes of today would get another plan, but the operator plans a spec once."""
    old = make.revision(make.spec(), TWO_NODES)
    access = FakeAccess(
        {
            **answers(inventory(node("a", 4), node("b", 2)), namespaces=(namespace_object(OWNER.namespace),)),
            **running(old, spec=make.raw_spec()),
        }
    )
    assert diff(omni, access, "-o", "json") == 0
    found = json.loads(omni.out)
    assert found["before"] == found["after"] == old.name
    assert "made anew today its plan would be another" in found["verdict"]
    assert "a plan is kept as long as nodes can hold it" in found["verdict"]
    assert found["plan"]


def test_a_plan_that_nodes_cannot_hold_is_replaced(omni: Cli) -> None:
    old = make.revision(make.spec(), RDMA_NODES)
    access = FakeAccess(
        {
            **answers(TWO_NODES, namespaces=(namespace_object(OWNER.namespace),)),
            **running(old, spec=make.raw_spec()),
        }
    )
    assert diff(omni, access) == 0
    assert "the nodes cannot hold the old one" in omni.out


def test_hold_keeps_the_revision(omni: Cli) -> None:
    assert diff(omni, cluster(TWO_NODES), "-o", "json", engine={"version": "0.14.0"}, rollout=HOLD) == 0
    found = json.loads(omni.out)
    assert not found["newRevision"]
    assert "rollout.strategy is Hold" in found["verdict"]


@pytest.mark.parametrize("runs", [{}, running(None, spec=make.raw_spec())])
def test_nothing_runs_yet(omni: Cli, runs: dict[str, Any]) -> None:
    access = FakeAccess({**answers(TWO_NODES, namespaces=(namespace_object(OWNER.namespace),)), **runs})
    assert diff(omni, access) == 0
    assert "would be the first" in omni.out


def test_a_full_cluster_is_not_in_the_way_of_an_update_of_what_fills_it(omni: Cli) -> None:
    own = pod_object("w", on="a", holds={GPU: 4}, namespace=OWNER.namespace, omni=OWNER.name)
    other = pod_object("w", on="a", holds={GPU: 4})
    assert diff(omni, cluster(ONE_NODE, own), engine={"version": "0.14.0"}) == 0
    assert diff(omni, cluster(ONE_NODE, other), engine={"version": "0.14.0"}) == 3
    assert "note: must wait" in omni.out


def test_another_file_on_the_same_nodes(omni: Cli) -> None:
    old, new = make.raw_spec(), make.raw_spec(placement={"strategy": "Spread"})
    assert against(omni, ONE_NODE, old, new) == 0
    assert "spec.placement.strategy" in omni.out
    assert "SharedMemory/shm, SameNode" in omni.out
    assert against(omni, ONE_NODE, old, old) == 0
    assert "no change: the same revision" in omni.out


def test_a_file_that_is_refused_on_either_side(omni: Cli) -> None:
    required = make.raw_spec(transport={"rdma": "Require"})
    assert against(omni, TWO_NODES, required, make.raw_spec()) == 4
    assert "old.yaml: Planned: PolicyCannotBeMet" in omni.err
    assert against(omni, TWO_NODES, make.raw_spec(), required) == 4
    assert against(omni, TWO_NODES, {"replicas": -1}, make.raw_spec()) == 2


@pytest.mark.parametrize(
    "args", [("--diff", "--nodes", "n.yaml"), ("--diff", "-o", "svg"), ("--diff", "-o", "manifests")]
)
def test_arguments_that_make_no_sense(omni: Cli, args: tuple[str, ...]) -> None:
    assert omni("plan", "-f", "x.yaml", *args) == 2
    assert "usage:" in omni.err


def test_facts_tell_all_cases_apart() -> None:
    told = {name: facts(make.planned(c.spec, c.nodes, security=c.security)) for name, c in CASES.items()}
    assert len({tuple(f.items()) for f in told.values()}) == len(told)


_SAID_BY_EXPLAIN = {"notes"}


@pytest.mark.parametrize("field", sorted(set(Plan.model_fields) - _SAID_BY_EXPLAIN))
def test_no_part_of_a_plan_changes_unseen(field: str) -> None:
    """Each field is taken from plans that differ in it, one at a time."""
    plans = [make.planned(c.spec, c.nodes, security=c.security) for c in CASES.values()]
    values = [getattr(plan, field) for plan in plans]
    pairs = [(plan, value) for plan in plans for value in values if getattr(plan, field) != value]
    assert pairs, field

    def seen(plan: Plan, value: Any) -> bool:
        return bool(changes(facts(plan), facts(plan.model_copy(update={field: value}))))

    assert any(seen(plan, value) for plan, value in pairs)


def test_a_change_of_words_alone_is_no_change_of_the_plan() -> None:
    old = make.revision()
    edges = tuple(edge.model_copy(update={"reason": "other words"}) for edge in old.plan.edges)
    made = new_revision(spec=old.spec, plan=old.plan.model_copy(update={"edges": edges}))
    found = difference(old, made, inventory=TWO_NODES)
    assert found.plan == ()
    assert found.after == old.name
    assert difference(old, replace(old), inventory=TWO_NODES).verdict == f"no change: the same revision {old.name}"


def test_a_plan_of_an_earlier_operator_is_no_other_plan() -> None:
    """It did not keep what edges usually carry."""
    now = make.revision()
    edges = tuple(edge.model_copy(update={"payload_bytes": 0}) for edge in now.plan.edges)
    old = new_revision(spec=now.spec, plan=now.plan.model_copy(update={"edges": edges}))
    assert old.name != now.name
    found = difference(old, now, inventory=TWO_NODES)
    assert found.verdict == f"no change: the same revision {old.name}"
    assert found.plan == ()
