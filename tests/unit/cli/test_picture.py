"""The picture of a plan: snapshots of many cases, and invariants of every picture.

After an intended change, run `pytest tests/unit/cli/test_picture.py --update-golden` and review the
snapshots.
"""

from __future__ import annotations

from io import StringIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Strategy
from omni_operator.children.describe import summary
from omni_operator.children.names import COMPONENT
from omni_operator.children.revision import new_revision
from omni_operator.cli import svg, terminal
from omni_operator.cli.picture import COLUMNS, ArrowKind, Box, Picture, kind_of, picture, transport_of
from omni_operator.cli.placement_view import placements
from omni_operator.cli.rows import Level
from omni_operator.engine.pipeline import catalog
from omni_operator.planning.model import Plan, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory, Node
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make, strategies
from tests.unit.golden_cases import CASES, LONGEST, LONGEST_STORE, ZONE, Case
from tests.unit.make import OWNER, inventory, node
from tests.unit.pods import hosts, pods_of

SNAPSHOTS = Path(__file__).parent.parent.parent / "snapshots"
AS_SVG = ("one-node-shm", "rdma", "headless-store", "headless-transfer-engine", "local-0.18", "cluster-ref")
SVG = "{http://www.w3.org/2000/svg}"


def planned(case: Case) -> Plan:
    return make.planned(case.spec, case.nodes, security=case.security)


def picture_of(case: Case) -> Picture:
    return picture(planned(case), spec=case.spec, inventory=case.nodes)


def as_text(shown: Picture, *, terminal_colours: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=COLUMNS, color_system="256" if terminal_colours else None)
    console.print(terminal.draw(shown), soft_wrap=True, end="")
    return out.getvalue()


def as_svg(case: Case) -> str:
    return svg.draw(picture_of(case), title=OWNER.name, about=summary(planned(case)))


@pytest.mark.parametrize("name", CASES)
def test_snapshot(name: str, update_golden: bool) -> None:
    texts = {f"{name}.txt": as_text(picture_of(CASES[name]))}
    if name in AS_SVG:
        texts[f"{name}.svg"] = as_svg(CASES[name])
    for file, text in texts.items():
        if update_golden:
            SNAPSHOTS.mkdir(exist_ok=True)
            (SNAPSHOTS / file).write_text(text)
        assert (SNAPSHOTS / file).read_text() == text, file


def test_every_snapshot_belongs_to_a_case() -> None:
    wanted = {f"{name}.txt" for name in CASES} | {f"{name}.svg" for name in AS_SVG}
    assert {path.name for path in SNAPSHOTS.iterdir()} == wanted


def check(shown: Picture, plan: Plan) -> None:
    """Checks the invariants of every picture."""
    text = as_text(shown)
    lines = text.splitlines()
    assert shown.width <= COLUMNS
    assert max(len(line) for line in lines[: shown.height]) <= shown.width
    assert all(line == line.rstrip() for line in lines)
    stages = [box for box in shown.boxes if box.level is Level.STAGE]
    pods = [box for box in shown.boxes if box.level is Level.POD]
    nodes = [box for box in shown.boxes if box.level is Level.NODE]
    assert len(stages) == len(plan.stages)
    assert all(sum(_contains(pod, stage) for pod in pods) == 1 for stage in stages)
    assert all(sum(_contains(it, pod) for it in nodes) == 1 for pod in pods)
    for level in (stages, pods, nodes):
        assert all(one.bottom < other.top or other.bottom < one.top for one, other in combinations(level, 2))
    assert [arrow.label for arrow in shown.arrows] == [transport_of(edge) for edge in plan.edges]
    met = [row for arrow in shown.arrows for row in (arrow.start, arrow.end)]
    assert len(met) == len(set(met)), "each end of an arrow has a row of its own"
    for arrow, edge in zip(shown.arrows, plan.edges, strict=True):
        for row, name in ((arrow.start, edge.from_stage), (arrow.end, edge.to_stage)):
            mine = next(box for box in stages if box.top < row < box.bottom)
            assert mine.hint == "" or name in mine.hint
            assert mine.text[0].rstrip("…") in f"{name} ·" or mine.text[0].startswith(name)
        assert f" {arrow.label} " in lines[arrow.start]
    for one, other in combinations(shown.arrows, 2):
        if one.track == other.track:
            assert max(one.start, one.end) < min(other.start, other.end) or max(other.start, other.end) < min(
                one.start, one.end
            )
    assert set(shown.legend) == {kind_of(edge) for edge in plan.edges}
    root = ElementTree.fromstring(svg.draw(shown, title="t", about=summary(plan)))
    assert root.tag == f"{SVG}svg"


def _contains(outer: Box, inner: Box) -> bool:
    return (
        outer.left < inner.left and inner.right < outer.right and outer.top < inner.top and inner.bottom < outer.bottom
    )


def check_nodes(spec: OmniDeploymentSpec, plan: Plan, nodes: Inventory) -> None:
    """The nodes of a box are those that the scheduler's rules allow for the rendered pods."""
    rendered = pods_of(OWNER, new_revision(spec=spec, plan=plan), 1)
    pods = [pod for pod in rendered if pod.labels[COMPONENT] in {"serving", "worker"}]
    if plan.backend is Backend.RAY and plan.strategy is Strategy.ONE_NODE:
        (shown,) = placements(plan, spec=spec, inventory=nodes)
        named = set(shown.hint.split(", "))
        assert all(named <= set(hosts(pod, nodes.nodes)) for pod in pods)
        return
    wanted = [hosts(pod, nodes.nodes) for pod in pods]
    if plan.topology_key and plan.domains:  # a pod without devices follows the others into their domain
        domain = {n.name for n in nodes.nodes if n.labels.get(plan.topology_key) in plan.domains.able}
        wanted = [[name for name in names if name in domain] for names in wanted]
    found = [each.hint for each in placements(plan, spec=spec, inventory=nodes)]
    assert {", ".join(names) for names in wanted} == set(found)


@given(spec=strategies.specs(), nodes=strategies.nodes(), security=strategies.security_levels)
def test_every_picture_on_ray(spec: OmniDeploymentSpec, nodes: tuple[Node, ...], security: PodSecurity) -> None:
    _check_planned(spec, nodes, security)


@given(spec=strategies.modern_specs(), nodes=strategies.nodes(), security=strategies.security_levels)
def test_every_picture_without_ray(spec: OmniDeploymentSpec, nodes: tuple[Node, ...], security: PodSecurity) -> None:
    _check_planned(spec, nodes, security)


_CONFIG = {"engine_args": {"model_stage": "s", "model_arch": "A"}}


@st.composite
def dense_pipelines(draw: st.DrawFn) -> OmniDeploymentSpec:
    """Pipelines with up to as many stages and edges as a definition may have, in any order."""
    names = [f"stage-{n}" for n in range(draw(st.integers(2, 16)))]
    ends = draw(st.lists(st.sampled_from(list(combinations(names, 2))), min_size=1, max_size=32, unique=True))
    definition = {
        "stages": [{"name": n, "config": _CONFIG} for n in names],
        "edges": [{"from": a, "to": b} for a, b in ends],
    }
    version = draw(st.sampled_from(("0.16.0", "0.18.0", "0.30.0")))
    return make.spec(
        model={"name": "m", "pipeline": "mine", "definition": definition},
        engine={"version": version},
        placement={"strategy": draw(st.sampled_from(("OneNode", "Spread"))) if version != "0.18.0" else "Auto"},
    )


@given(spec=dense_pipelines())
def test_every_picture_of_a_dense_pipeline(spec: OmniDeploymentSpec) -> None:
    _check_planned(spec, (node("a", 16),), PodSecurity.PRIVILEGED)


def _check_planned(spec: OmniDeploymentSpec, nodes: tuple[Node, ...], security: PodSecurity) -> None:
    found = make_plan(spec=spec, inventory=Inventory(nodes=nodes), pod_security=security)
    assume(isinstance(found, Planned))
    assert isinstance(found, Planned)
    there = Inventory(nodes=nodes)
    check(picture(found.plan, spec=spec, inventory=there), found.plan)
    if not found.plan.cluster_ref:
        check_nodes(spec, found.plan, there)


@pytest.mark.parametrize("name", sorted(catalog()))
def test_every_pipeline_has_a_picture(name: str) -> None:
    """On the newest release that has it, in one pod and in as many as its stages permit."""
    series = list(catalog()[name].releases)[-1]
    long = [node(f"worker-{n}.a-long-name-of-a-region.compute.internal.example", 8, rdma=8) for n in range(8)]
    for strategy in ("Auto", "Spread"):
        spec = make.spec(
            model={"name": "m", "pipeline": name}, engine={"version": f"{series}.0"}, placement={"strategy": strategy}
        )
        found = make.plan(spec, inventory(*long))
        if isinstance(found, Planned):
            check(picture(found.plan, spec=spec, inventory=inventory(*long)), found.plan)


@pytest.mark.parametrize("case", [LONGEST, LONGEST_STORE, *CASES.values()])
def test_every_case(case: Case) -> None:
    check(picture_of(case), planned(case))


def test_a_pipeline_with_long_names_is_cut_to_fit() -> None:
    case = Case(make.spec(), make.ONE_NODE)
    plan = planned(case)
    renamed = {s.name: s.name + "-" + "x" * 90 for s in plan.stages}
    plan = plan.model_copy(
        update={"stages": tuple(s.model_copy(update={"name": renamed[s.name]}) for s in plan.stages)}
    )
    shown = picture(plan, spec=case.spec, inventory=case.nodes)
    assert shown.width > COLUMNS - 3
    assert "…" in as_text(shown)


def test_placements_name_every_candidate_node() -> None:
    five = inventory(*(node(f"gpu-{n}", 1) for n in range(5)), node("cpu", 0))
    plan = make.planned(make.spec(), five)
    server, *workers = placements(plan, spec=make.spec(), inventory=five)
    assert server.title == "any of: gpu-0, gpu-1 (+4)"
    assert {worker.title for worker in workers} == {"any of: gpu-0, gpu-1 (+3)"}
    assert workers[0].hint == "gpu-0, gpu-1, gpu-2, gpu-3, gpu-4"


def test_placements_follow_node_selectors_and_domains() -> None:
    case = CASES["headless-transfer-engine"]
    titles = [each.title for each in placements(planned(case), spec=case.spec, inventory=case.nodes)]
    assert titles == ["any of: a, b (+1)", "c"]
    small = inventory(node("a", 4, labels={ZONE: "x"}), node("b", 1, labels={ZONE: "y"}))
    spec = make.spec(placement={"topologyKey": ZONE})
    assert [p.title for p in placements(make.planned(spec, small), spec=spec, inventory=small)] == ["a"]


def test_colours_are_those_of_the_transports() -> None:
    coloured = as_text(picture_of(CASES["one-node-shm"]), terminal_colours=True)
    assert "\x1b[32m" in coloured  # green
    assert "\x1b[" not in as_text(picture_of(CASES["one-node-shm"]))
    assert {kind: terminal.COLOUR[kind] for kind in ArrowKind} == {
        ArrowKind.SHM: "green",
        ArrowKind.RDMA: "dodger_blue1",
        ArrowKind.TCP: "dark_orange",
        ArrowKind.SERVER: "bright_black",
    }


def test_arrows_differ_without_colours() -> None:
    forms = [terminal._STROKES[kind].along for kind in ArrowKind]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("name", AS_SVG)
def test_an_svg_is_self_contained(name: str) -> None:
    text = as_svg(CASES[name])
    root = ElementTree.fromstring(text)
    assert not any(word in text for word in ("href", "@import", "url(", "@font-face", "<script", "var("))
    assert text.count("http") == 1, "only the name of the namespace"
    title, about = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert about is not None
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {about.get('id')}"
    plan = planned(CASES[name])
    assert summary(plan) in str(about.text)
    assert all(f"{edge.from_stage} → {edge.to_stage}: " in str(about.text) for edge in plan.edges)
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {transport_of(edge) for edge in plan.edges} <= texts
    assert "prefers-color-scheme: dark" in text


def test_an_svg_has_the_same_rules_for_light_and_dark() -> None:
    assert svg._LIGHT.keys() == svg._DARK.keys()
    assert all(svg._LIGHT[what] != svg._DARK[what] for what in svg._LIGHT)


def test_everything_in_an_svg_is_inside_of_it() -> None:
    for name in AS_SVG:
        root = ElementTree.fromstring(as_svg(CASES[name]))
        width, height = float(root.get("width", 0)), float(root.get("height", 0))
        for element in root.iter(f"{SVG}text"):
            assert float(element.get("y", 0)) < height
            assert float(element.get("x", 0)) + len(element.text or "") * svg._CHARACTER < width, element.text


def test_texts_are_escaped() -> None:
    case = CASES["local"]
    text = svg.draw(picture_of(case), title="<&>", about='"<b>"')
    title = ElementTree.fromstring(text).find(f"{SVG}title")
    assert title is not None
    assert title.text == "<&>"
