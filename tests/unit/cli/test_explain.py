"""`omni explain`: sentences with the facts, for a file and for the active revision."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.status import EdgeStatus
from omni_operator.children.describe import describe
from omni_operator.children.revision import new_revision
from omni_operator.cli.explain import DEFECTS, edges_named, paragraphs
from omni_operator.connectors.transport import Rejection
from omni_operator.engine.releases import releases
from omni_operator.planning.model import Plan
from omni_operator.planning.plan_error import REMEDIES
from omni_operator.topology.inventory import Inventory
from tests.unit import make
from tests.unit.cli.fake_cluster import Cli, FakeAccess, deployed, manifest, node_list
from tests.unit.make import MODEL, ONE_NODE, OWNER, RDMA_NODES, TWO_NODES, inventory, node

ONE_EACH = inventory(node("a", 1), node("b", 1))
MODERN = {"model": {"name": MODEL}, "engine": {"version": "0.30.0"}}


def explain(omni: Cli, nodes: Inventory, *args: str, **parts: Any) -> str:
    asked = omni.file("omni.yaml", manifest(make.raw_spec(**parts)))
    assert omni("explain", "-f", asked, "--nodes", omni.file("nodes.yaml", node_list(nodes)), *args) == 0, omni.err
    return " ".join(omni.out.split())


def sentences(plan: Plan) -> dict[str, list[str]]:
    described = describe(OWNER, new_revision(spec=make.spec(), plan=plan), nodes={})
    return dict(paragraphs(described, detail=plan, edges=described.edges))


def test_the_choice_and_its_reason_come_first(omni: Cli) -> None:
    said = explain(omni, ONE_NODE)
    assert "thinker → talker: SharedMemory, between two pods on one node" in said
    assert "Why: the server moves payloads on Ray; it shares a node" in said
    assert "at most 512Mi per request" in said
    assert "Nothing better exists." in said


def test_each_better_choice_has_its_fact_its_code_and_its_remedy(omni: Cli) -> None:
    said = explain(omni, TWO_NODES)
    assert "MooncakeStore over TCP, between pods that may be on different nodes" in said
    assert "Not SharedMemory/shm: the two ends may be on different nodes" in said
    assert f"(NoSharedMemory). To have it: {REMEDIES[Rejection.NO_SHARED_MEMORY]}." in said
    assert "no rdma/* on a, b" in said
    assert f"(NoRdmaOnNode). To have it: {REMEDIES[Rejection.NO_RDMA_ON_NODE]}." in said
    assert "Not Nixl/rdma nor Nixl/tcp: vllm-omni 0.16 has no Nixl connector" in said
    assert "vllm-omni 0.30 and later have it." in said
    assert "No setting changes this on vllm-omni 0.16." in said


def test_a_choice_that_the_user_forbids_names_the_field(omni: Cli) -> None:
    said = explain(omni, RDMA_NODES, transport={"rdma": "Never"})
    assert "transport.rdma is Never (ForbiddenByUser). To have it: change that field of the spec." in said


def test_only_relevant_defects_are_printed() -> None:
    def defects(nodes: Inventory, **parts: Any) -> set[str]:
        said = sentences(make.planned(make.spec(**parts), nodes))
        found = next((lines for heading, lines in said.items() if heading.startswith("Known defects")), [])
        return {line.partition(":")[0] for line in found}

    assert defects(ONE_NODE) == {"ShmThresholdIgnored", "HealthSaysNothing"}
    assert defects(TWO_NODES) == {"StorePutErrorsLost", "HealthSaysNothing", "TcpWritesUnacknowledged"}
    acknowledged = {"engine": {"version": "0.16.0", "mooncakeVersion": "0.3.12.post1"}}
    assert defects(TWO_NODES, **acknowledged) == {"StorePutErrorsLost", "HealthSaysNothing"}
    assert defects(RDMA_NODES, **acknowledged) == {"StorePutErrorsLost", "HealthSaysNothing", "RdmaFallsBackToTcp"}
    assert "TcpWritesUnacknowledged" in defects(RDMA_NODES), "RDMA may fall back to TCP"
    assert defects(ONE_NODE, **MODERN) == {"RayBackendIgnored", "UnknownStageKeysRefused"}
    assert "StagesNotReadopted" in defects(ONE_EACH, **MODERN)


def test_relevance_rules_name_existing_defects() -> None:
    assert DEFECTS.keys() <= {defect.code for release in releases() for defect in release.defects}


def test_notes_of_the_plan_and_of_capacity(omni: Cli) -> None:
    assert "Mooncake falls back to TCP without an error" in explain(omni, RDMA_NODES)


@pytest.mark.parametrize(
    "word", ["thinker->talker", "thinker-talker", "thinker,talker", "thinker→talker", "thinker -> talker"]
)
def test_one_edge(omni: Cli, word: str) -> None:
    said = explain(omni, TWO_NODES, word)
    assert "thinker → talker: " in said
    assert "talker → code2wav: " not in said


def test_an_edge_that_does_not_exist(omni: Cli) -> None:
    asked = omni.file("omni.yaml", manifest(make.raw_spec()))
    there = omni.file("nodes.yaml", node_list(ONE_NODE))
    assert omni("explain", "-f", asked, "--nodes", there, "a-b") == 2
    assert "no edge a-b; the edges are: 'thinker->talker', 'talker->code2wav'" in omni.err


def test_dashes_in_names_of_stages() -> None:
    def edge(one: str, other: str) -> EdgeStatus:
        return EdgeStatus.model_validate(
            {"from": one, "to": other, "reach": "", "connector": "", "protocol": "", "reason": ""}
        )

    edges = [edge("a-b", "c"), edge("a", "b-c"), edge("c", "d")]
    assert edges_named("a-b->c", edges) == edges[:1]
    assert edges_named("a-b-c", edges) == edges[:2]
    assert edges_named("d-c", edges) == []


def test_a_pipeline_of_one_stage_has_nothing_to_choose(omni: Cli) -> None:
    definition = {"stages": [{"name": "only", "kind": "Diffusion"}], "edges": []}
    said = explain(
        omni, ONE_NODE, model={"name": "m", "pipeline": "mine", "definition": definition}, engine={"version": "0.30.0"}
    )
    assert "The pipeline has one stage, and so no edge." in said


def test_a_prompt_needs_no_connector(omni: Cli) -> None:
    said = explain(omni, ONE_NODE, engine={"version": "0.18.0"})
    assert "thinker → talker: no connector, inside one pod" in said
    assert "Why: the server hands the result on" in said


def test_every_rejection_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Rejection)


def test_a_spec_without_a_plan_is_explained_by_the_error(omni: Cli) -> None:
    asked = omni.file("omni.yaml", manifest(make.raw_spec(transport={"rdma": "Require"})))
    assert omni("explain", "-f", asked, "--nodes", omni.file("nodes.yaml", node_list(TWO_NODES))) == 4
    assert "offer RDMA on more nodes" in omni.err


CONDITION = {
    "type": "TransportAsPlanned",
    "status": "True",
    "reason": "AsPlanned",
    "message": "both ends are on node a",
}


def explain_live(omni: Cli, objects: dict[str, Any], *args: str) -> int:
    omni.on(FakeAccess(objects, namespace=OWNER.namespace))
    return omni("explain", OWNER.name, *args)


def test_the_active_revision_is_explained_from_its_config_map(omni: Cli) -> None:
    objects = deployed(make.revision(), spec=make.raw_spec(), status={"conditions": [CONDITION]})
    assert explain_live(omni, objects, "thinker,talker") == 0
    said = " ".join(omni.out.split())
    assert "thinker → talker: MooncakeStore over TCP" in said
    assert "at most 512Mi per request" in said
    assert "TransportAsPlanned is True (AsPlanned): both ends are on node a" in said


def test_options_may_be_between_arguments(omni: Cli) -> None:
    omni.on(FakeAccess(deployed(make.revision(), spec=make.raw_spec())))
    assert omni("explain", OWNER.name, "-n", OWNER.namespace, "thinker,talker") == 0
    assert "talker → code2wav" not in omni.out
    assert omni("explain", OWNER.name, "--no-such-option") == 2
    assert omni("inventory", "word") == 2


def test_without_its_config_map_it_is_explained_from_status(omni: Cli) -> None:
    made = make.revision()
    status = {"plan": describe(OWNER, made, nodes={}).model_dump(by_alias=True, mode="json")}
    objects = deployed(made, spec=make.raw_spec(), status=status)
    config_map = next(path for path in objects if "configmaps" in path)
    for response in (403, 404, {"metadata": {}, "data": {"plan.json": "{}", "spec.json": "{}"}}):
        assert explain_live(omni, {**objects, config_map: response}) == 0
        assert "thinker → talker: MooncakeStoreConnector over TCP" in omni.out
        assert "per request" not in omni.out


def test_without_an_active_revision_there_is_nothing_to_explain(omni: Cli) -> None:
    assert explain_live(omni, {}) == 1
    assert f"there is no OmniDeployment {OWNER.name} in namespace {OWNER.namespace}" in omni.err
    assert explain_live(omni, deployed(None, spec=make.raw_spec())) == 1
    assert "has no revision yet" in omni.err


@pytest.mark.parametrize("args", [(), ("--nodes", "nodes.yaml"), ("a", "b", "c"), ("-f", "x.yaml", "a", "b")])
def test_invalid_arguments_are_a_usage_error(omni: Cli, args: tuple[str, ...]) -> None:
    assert omni("explain", *args) == 2
    assert "usage:" in omni.err
