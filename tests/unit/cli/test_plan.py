"""`omni plan`: exit codes, outputs, and where the nodes come from: a file, or a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from omni_operator.cli import main as command_line
from omni_operator.cli import plan_command
from omni_operator.planning.model import Plan
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make
from tests.unit.cli.fake_cluster import Cli, FakeAccess, manifest, namespace_object, node_list, pod_object, responses
from tests.unit.make import GPU, ONE_NODE, OWNER, RDMA_NODES, TWO_NODES, inventory, node

BUSY = pod_object("training", on="a", requests={GPU: 4}, namespace="research")
OWN = pod_object("omni-worker", on="a", requests={GPU: 3}, namespace=OWNER.namespace, omni=OWNER.name)


def plan(omni: Cli, nodes: Inventory, *args: str, objects: tuple[Any, ...] = (), **parts: Any) -> int:
    """Plans a spec on nodes of a file."""
    asked = omni.file("omni.yaml", manifest(make.raw_spec(**parts)))
    there = omni.file("nodes.yaml", node_list(nodes), *objects)
    return omni("plan", "-f", asked, "--nodes", there, *args)


def planned(omni: Cli, nodes: Inventory, *args: str, **parts: Any) -> Plan:
    assert plan(omni, nodes, "-o", "json", *args, **parts) in {0, 3}, omni.err
    return Plan.model_validate_json(omni.out)


@pytest.mark.parametrize(
    ("parts", "nodes", "objects", "code", "words"),
    [
        ({}, ONE_NODE, (), 0, ""),
        ({"replicas": -1}, ONE_NODE, (), 2, "spec.replicas"),
        ({"engine": {"version": "0.1.0"}}, ONE_NODE, (), 2, "UnsupportedRelease"),
        ({}, ONE_NODE, (BUSY,), 3, ""),
        ({"transport": {"rdma": "Require"}}, TWO_NODES, (), 4, "transport.rdma is Require"),
        ({"replicas": 9}, ONE_NODE, (), 4, "NoLayout"),
    ],
)
def test_exit_codes(
    omni: Cli, parts: dict[str, Any], nodes: Inventory, objects: tuple[Any, ...], code: int, words: str
) -> None:
    assert plan(omni, nodes, objects=objects, **parts) == code
    assert words in omni.err
    assert bool(omni.err) == (code in {2, 4})
    assert bool(omni.out) == (code in {0, 3})


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"engine": {"version": "0.16.0", "versoin": "0.16.0"}}, ("spec.engine.versoin: ", "did you mean version?")),
        ({"zork": 1}, ("spec.zork: there is no such field; use one of model, engine",)),
        ({"engine": {"version": "v0.16"}}, ("spec.engine.version: ", "such as 0.16.0", "'v0.16'", "correct it")),
        ({"transport": {"rdma": "Maybe"}}, ("spec.transport.rdma: must be one of Prefer, Require, Never", "'Maybe'")),
        ({"replicas": 1000}, ("spec.replicas: ", "less than or equal to 32", "1000")),
        ({"transport": {"edges": [{"from": "thinker"}]}}, ("spec.transport.edges[0].to: is needed",)),
        (
            {"stages": [{"name": "talker", "resources": {"requests": {"memory": "4GB"}}}]},
            ("spec.stages[0].resources.requests.memory: ", "4Gi", "'4GB'", "correct it"),
        ),
    ],
)
def test_a_spec_that_the_api_server_rejects_is_rejected_with_the_same_words(
    omni: Cli, parts: dict[str, Any], says: tuple[str, ...]
) -> None:
    assert plan(omni, ONE_NODE, **parts) == 2
    for words in says:
        assert words in omni.err


def test_a_plan_that_must_wait_names_the_missing_capacity(omni: Cli) -> None:
    assert plan(omni, ONE_NODE, objects=(BUSY,)) == 3
    assert f"note: must wait: needs 3 x {GPU}, free now: a: 0" in omni.out


def test_the_table_shows_the_picture_above_the_edges(omni: Cli) -> None:
    plan(omni, ONE_NODE)
    lines = omni.out.splitlines()
    assert lines[0].startswith("qwen2_5_omni on vllm-omni 0.16.0, backend Ray: one worker pod")
    order = [
        next(n for n, line in enumerate(lines) if words in line)
        for words in ("╭ a ─", "│ thinker  ╞═ SharedMemory/shm ═", "═══ shared memory", "edge ", "thinker → talker")
    ]
    assert order == sorted(order)


def test_no_colours_in_a_pipe_even_where_a_terminal_is_known(omni: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    plan(omni, RDMA_NODES)
    assert "\x1b" not in omni.out


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_disables_colours_on_a_terminal(
    omni: Cli, monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    plan(omni, ONE_NODE)
    assert ("\x1b[32m" in omni.out) is coloured


def test_a_narrow_terminal_does_not_break_the_picture(omni: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(omni, ONE_NODE)
    wide = [line for line in omni.out.splitlines() if line.startswith(("╭", "│", "╰"))]
    monkeypatch.setenv("COLUMNS", "30")
    plan(omni, ONE_NODE)
    assert [line for line in omni.out.splitlines() if line.startswith(("╭", "│", "╰"))] == wide


def test_every_output_of_the_parser_exists() -> None:
    assert tuple(plan_command.OUTPUTS) == command_line.OUTPUTS
    assert tuple(PodSecurity) == command_line.LEVELS


def test_outputs_for_machines(omni: Cli) -> None:
    plan(omni, ONE_NODE, "-o", "json")
    found = Plan.model_validate_json(omni.out)
    assert found == make.planned(make.spec(), ONE_NODE)
    plan(omni, ONE_NODE, "-o", "yaml")
    assert Plan.model_validate(yaml.safe_load(omni.out)) == found
    plan(omni, ONE_NODE, "-o", "manifests")
    assert {obj["kind"] for obj in yaml.safe_load_all(omni.out)} >= {"ConfigMap", "RayCluster", "Deployment"}
    assert plan(omni, ONE_NODE, "-o", "svg") == 0
    assert ElementTree.fromstring(omni.out).tag.endswith("}svg")


def test_devices_of_other_pods_in_a_file_are_not_available(omni: Cli) -> None:
    assert plan(omni, ONE_NODE, objects=(BUSY,)) == 3
    assert plan(omni, ONE_NODE, objects=(OWN,)) == 0
    other = pod_object("omni-worker", on="a", requests={GPU: 3}, namespace="elsewhere", omni=OWNER.name)
    assert plan(omni, ONE_NODE, objects=(other,)) == 3


def test_a_namespace_in_a_file_has_its_pod_security_level(omni: Cli) -> None:
    assert planned(omni, ONE_NODE).pod_security == "privileged"
    level = namespace_object(OWNER.namespace, "baseline")
    other = namespace_object("other", "restricted")
    assert planned(omni, ONE_NODE, objects=(level, other)).pod_security == "baseline"
    assert planned(omni, ONE_NODE, "--pod-security", "restricted", objects=(level,)).pod_security == "restricted"


def test_nodes_as_json_and_as_a_list_of_one_kind(omni: Cli, tmp_path: Path) -> None:
    asked = omni.file("omni.yaml", manifest(make.raw_spec()))
    items = [{k: v for k, v in item.items() if k != "kind"} for item in node_list(ONE_NODE)["items"]]
    there = tmp_path / "nodes.json"
    there.write_text(json.dumps({"kind": "NodeList", "apiVersion": "v1", "items": items}))
    assert omni("plan", "-f", asked, "--nodes", there) == 0


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("omni.yaml", "kind: Pod", "0 objects of kind OmniDeployment"),
        ("omni.yaml", "kind: OmniDeployment\nspec: {}", "metadata.name is missing"),
        ("omni.yaml", "kind: OmniDeployment\nmetadata: {name: a}", "spec.model: is needed"),
        ("omni.yaml", "a: [", "omni.yaml: while parsing"),
        ("omni.yaml", "just words", "holds str, not an object"),
        ("nodes.yaml", "kind: List", "holds no Node"),
        ("nodes.yaml", "{", "nodes.yaml: Expecting"),
        ("nodes.yaml", "kind: Node", "an object is not as the API server writes it: KeyError('metadata')"),
    ],
)
def test_unusable_files(omni: Cli, name: str, text: str, words: str) -> None:
    files = {
        "omni.yaml": omni.file("omni.yaml", manifest(make.raw_spec())),
        "nodes.yaml": omni.file("nodes.yaml", node_list(ONE_NODE)),
    }
    files[name].write_text(text)
    assert omni("plan", "-f", files["omni.yaml"], "--nodes", files["nodes.yaml"]) == 2
    assert words in omni.err
    assert omni.out == ""


def test_a_missing_file(omni: Cli, tmp_path: Path) -> None:
    assert omni("plan", "-f", tmp_path / "none.yaml", "--nodes", tmp_path / "none.yaml") == 2
    assert "none.yaml" in omni.err


def test_without_cluster_and_nodes_the_error_names_the_options(omni: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(omni.folder / "none"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(omni.folder / "none"))
    assert omni("plan", "-f", omni.file("omni.yaml", manifest(make.raw_spec()))) == 1
    assert "no usable kubeconfig" in omni.err
    assert "--nodes FILE" in omni.err


def on_cluster(omni: Cli, access: FakeAccess, *args: str, namespace: str | None = OWNER.namespace) -> int:
    omni.on(access)
    return omni("plan", "-f", omni.file("omni.yaml", manifest(make.raw_spec(), namespace=namespace)), *args)


def test_the_level_is_that_of_the_manifests_namespace(omni: Cli) -> None:
    levels = (namespace_object(OWNER.namespace, "restricted"), namespace_object("mine"))
    access = FakeAccess(responses(ONE_NODE, namespaces=levels), namespace="mine")
    assert on_cluster(omni, access, "-o", "json") == 0
    assert json.loads(omni.out)["pod_security"] == "restricted"
    assert on_cluster(omni, access, "-o", "json", namespace=None) == 0
    assert json.loads(omni.out)["pod_security"] == "privileged"
    assert on_cluster(omni, access, "-o", "json", "-n", OWNER.namespace, namespace=None) == 0
    assert json.loads(omni.out)["pod_security"] == "restricted"


def test_a_namespace_beside_that_of_the_manifest_is_refused(omni: Cli) -> None:
    assert on_cluster(omni, FakeAccess(responses(ONE_NODE)), "-n", "other") == 2
    assert f"metadata.namespace is {OWNER.namespace}, and --namespace asks for other" in omni.err


@pytest.mark.parametrize(("status", "words"), [(404, "does not exist yet"), (403, "may not be read by you")])
def test_an_assumed_pod_security_level_is_noted(omni: Cli, status: int, words: str) -> None:
    access = FakeAccess({**responses(ONE_NODE), f"/api/v1/namespaces/{OWNER.namespace}": status})
    assert on_cluster(omni, access) == 0
    assert f"note: namespace {OWNER.namespace} {words}" in omni.out
    assert on_cluster(omni, access, "--pod-security", "baseline") == 0
    assert words not in omni.out


def test_devices_of_its_own_pods_are_available_to_an_update(omni: Cli) -> None:
    """A full cluster can plan an edit of the OmniDeployment whose pods fill it."""
    there = (namespace_object(OWNER.namespace),)
    full = inventory(node("a", 3))
    assert on_cluster(omni, FakeAccess(responses(full, OWN, namespaces=there))) == 0
    other = pod_object("train", on="a", requests={GPU: 1})
    assert on_cluster(omni, FakeAccess(responses(full, OWN, other, namespaces=there))) == 3


def test_a_denied_request_is_an_error(omni: Cli) -> None:
    assert on_cluster(omni, FakeAccess({**responses(ONE_NODE), "/api/v1/pods": 403})) == 1
    assert "/api/v1/pods" in omni.err
