"""The picture of a plan: kept texts of many cases, and what must hold of every picture.

After a change that is meant: `pytest tests/unit/test_cli_picture.py --update-golden`, then look at the pictures.
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
from omni_operator.cli.picture import COLUMNS, Box, Line, Picture, line_of, picture, transport_of
from omni_operator.cli.places import places
from omni_operator.cli.stack import Level
from omni_operator.engine.pipeline import catalog
from omni_operator.planning.model import Plan, Planned, PodSecurity
from omni_operator.planning.plan import make_plan
from omni_operator.topology.inventory import Inventory, Node
from tests.unit import make, worlds
from tests.unit.cases import CASES, LONGEST, LONGEST_STORE, ZONE, Case
from tests.unit.make import OWNER, inventory, node
from tests.unit.pods import hosts, pods_of

GOLDEN = Path(__file__).parent.parent / "drawn"
AS_SVG = ("one-node-shm", "rdma", "headless-store", "headless-transfer-engine", "local-0.18", "cluster-ref")
SVG = "{http://www.w3.org/2000/svg}"


def planned(case: Case) -> Plan:
    return make.planned(case.spec, case.nodes, security=case.security)


def drawn(case: Case) -> Picture:
    return picture(planned(case), spec=case.spec, inventory=case.nodes)


def as_text(made: Picture, *, terminal_colours: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=COLUMNS, color_system="256" if terminal_colours else None)
    console.print(terminal.draw(made), soft_wrap=True, end="")
    return out.getvalue()


def as_svg(case: Case) -> str:
    return svg.draw(drawn(case), title=OWNER.name, about=summary(planned(case)))


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, update_golden: bool) -> None:
    made = {f"{name}.txt": as_text(drawn(CASES[name]))}
    if name in AS_SVG:
        made[f"{name}.svg"] = as_svg(CASES[name])
    for file, text in made.items():
        if update_golden:
            GOLDEN.mkdir(exist_ok=True)
            (GOLDEN / file).write_text(text)
        assert (GOLDEN / file).read_text() == text, file


def test_no_golden_picture_is_left_over() -> None:
    wanted = {f"{name}.txt" for name in CASES} | {f"{name}.svg" for name in AS_SVG}
    assert {path.name for path in GOLDEN.iterdir()} == wanted


def judge(made: Picture, plan: Plan) -> None:
    """What must hold of every picture."""
    text = as_text(made)
    lines = text.splitlines()
    assert made.width <= COLUMNS
    assert max(len(line) for line in lines[: made.height]) <= made.width
    assert all(line == line.rstrip() for line in lines)
    stages = [box for box in made.boxes if box.level is Level.STAGE]
    pods = [box for box in made.boxes if box.level is Level.POD]
    nodes = [box for box in made.boxes if box.level is Level.NODE]
    assert len(stages) == len(plan.stages)
    assert all(sum(_holds(pod, stage) for pod in pods) == 1 for stage in stages)
    assert all(sum(_holds(it, pod) for it in nodes) == 1 for pod in pods)
    for level in (stages, pods, nodes):
        assert all(one.bottom < other.top or other.bottom < one.top for one, other in combinations(level, 2))
    assert [arrow.label for arrow in made.arrows] == [transport_of(edge) for edge in plan.edges]
    met = [row for arrow in made.arrows for row in (arrow.start, arrow.end)]
    assert len(met) == len(set(met)), "each end of an arrow has a row of its own"
    for arrow, edge in zip(made.arrows, plan.edges, strict=True):
        for row, name in ((arrow.start, edge.from_stage), (arrow.end, edge.to_stage)):
            mine = next(box for box in stages if box.top < row < box.bottom)
            assert mine.hint == "" or name in mine.hint
            assert mine.text[0].rstrip("…") in f"{name} ·" or mine.text[0].startswith(name)
        assert f" {arrow.label} " in lines[arrow.start]
    for one, other in combinations(made.arrows, 2):
        if one.lane == other.lane:
            assert max(one.start, one.end) < min(other.start, other.end) or max(other.start, other.end) < min(
                one.start, one.end
            )
    assert set(made.legend) == {line_of(edge) for edge in plan.edges}
    root = ElementTree.fromstring(svg.draw(made, title="t", about=summary(plan)))
    assert root.tag == f"{SVG}svg"


def _holds(outer: Box, inner: Box) -> bool:
    return (
        outer.left < inner.left and inner.right < outer.right and outer.top < inner.top and inner.bottom < outer.bottom
    )


def judge_hosts(spec: OmniDeploymentSpec, plan: Plan, nodes: Inventory) -> None:
    """The nodes of a box are those that the API server's own rules leave to the pods that are rendered."""
    rendered = pods_of(OWNER, new_revision(spec=spec, plan=plan), 1)
    pods = [pod for pod in rendered if pod.labels[COMPONENT] in {"serving", "worker"}]
    if plan.backend is Backend.RAY and plan.strategy is Strategy.ONE_NODE:
        (shown,) = places(plan, spec=spec, inventory=nodes)
        named = set(shown.hint.split(", "))
        assert all(named <= set(hosts(pod, nodes.nodes)) for pod in pods)
        return
    wanted = [hosts(pod, nodes.nodes) for pod in pods]
    if plan.topology_key and plan.domains:  # a pod that has no device of its own follows the others into their domain
        domain = {n.name for n in nodes.nodes if n.labels.get(plan.topology_key) in plan.domains.able}
        wanted = [[name for name in names if name in domain] for names in wanted]
    found = [shown.hint for shown in places(plan, spec=spec, inventory=nodes)]
    assert {", ".join(names) for names in wanted} == set(found)


@given(spec=worlds.specs(), nodes=worlds.nodes(), security=worlds.security_levels)
def test_every_picture_on_ray(spec: OmniDeploymentSpec, nodes: tuple[Node, ...], security: PodSecurity) -> None:
    _judge_world(spec, nodes, security)


@given(spec=worlds.modern_specs(), nodes=worlds.nodes(), security=worlds.security_levels)
def test_every_picture_without_ray(spec: OmniDeploymentSpec, nodes: tuple[Node, ...], security: PodSecurity) -> None:
    _judge_world(spec, nodes, security)


_CONFIG = {"engine_args": {"model_stage": "s", "model_arch": "A"}}


@st.composite
def tangles(draw: st.DrawFn) -> OmniDeploymentSpec:
    """Pipelines that nobody ships: as many stages and edges as a definition may have, in any order."""
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


@given(spec=tangles())
def test_every_picture_of_a_tangle(spec: OmniDeploymentSpec) -> None:
    _judge_world(spec, (node("a", 16),), PodSecurity.PRIVILEGED)


def _judge_world(spec: OmniDeploymentSpec, nodes: tuple[Node, ...], security: PodSecurity) -> None:
    found = make_plan(spec=spec, inventory=Inventory(nodes=nodes), pod_security=security)
    assume(isinstance(found, Planned))
    assert isinstance(found, Planned)
    there = Inventory(nodes=nodes)
    judge(picture(found.plan, spec=spec, inventory=there), found.plan)
    if not found.plan.cluster_ref:
        judge_hosts(spec, found.plan, there)


@pytest.mark.parametrize("name", sorted(catalog()))
def test_every_pipeline_has_a_picture(name: str) -> None:
    """On the newest release that has it: in one pod, and in as many as its stages permit."""
    line = list(catalog()[name].releases)[-1]
    long = [node(f"worker-{n}.a-long-name-of-a-region.compute.internal.example", 8, rdma=8) for n in range(8)]
    for strategy in ("Auto", "Spread"):
        spec = make.spec(
            model={"name": "m", "pipeline": name}, engine={"version": f"{line}.0"}, placement={"strategy": strategy}
        )
        found = make.plan(spec, inventory(*long))
        if isinstance(found, Planned):
            judge(picture(found.plan, spec=spec, inventory=inventory(*long)), found.plan)


@pytest.mark.parametrize("case", [LONGEST, LONGEST_STORE, *CASES.values()])
def test_every_case(case: Case) -> None:
    judge(drawn(case), planned(case))


def test_a_pipeline_with_long_names_is_cut_to_fit() -> None:
    case = Case(make.spec(), make.ONE_NODE)
    plan = planned(case)
    renamed = {s.name: s.name + "-" + "x" * 90 for s in plan.stages}
    plan = plan.model_copy(
        update={"stages": tuple(s.model_copy(update={"name": renamed[s.name]}) for s in plan.stages)}
    )
    made = picture(plan, spec=case.spec, inventory=case.nodes)
    assert made.width > COLUMNS - 3
    assert "…" in as_text(made)


def test_places_name_every_node_that_is_left_open() -> None:
    five = inventory(*(node(f"gpu-{n}", 1) for n in range(5)), node("cpu", 0))
    plan = make.planned(make.spec(), five)
    server, *workers = places(plan, spec=make.spec(), inventory=five)
    assert server.title == "any of: gpu-0, gpu-1 (+4)"
    assert {worker.title for worker in workers} == {"any of: gpu-0, gpu-1 (+3)"}
    assert workers[0].hint == "gpu-0, gpu-1, gpu-2, gpu-3, gpu-4"


def test_places_follow_selectors_of_stages_and_domains() -> None:
    case = CASES["headless-transfer-engine"]
    titles = [shown.title for shown in places(planned(case), spec=case.spec, inventory=case.nodes)]
    assert titles == ["any of: a, b (+1)", "c"]
    small = inventory(node("a", 4, labels={ZONE: "x"}), node("b", 1, labels={ZONE: "y"}))
    spec = make.spec(placement={"topologyKey": ZONE})
    assert [p.title for p in places(make.planned(spec, small), spec=spec, inventory=small)] == ["a"]


def test_colours_are_those_of_the_transports() -> None:
    coloured = as_text(drawn(CASES["one-node-shm"]), terminal_colours=True)
    assert "\x1b[32m" in coloured  # green
    assert "\x1b[" not in as_text(drawn(CASES["one-node-shm"]))
    assert {line: terminal.COLOUR[line] for line in Line} == {
        Line.SHM: "green",
        Line.RDMA: "dodger_blue1",
        Line.TCP: "dark_orange",
        Line.SERVER: "bright_black",
    }


def test_lines_differ_without_colours() -> None:
    forms = [terminal._STROKES[line].along for line in Line]
    assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("name", AS_SVG)
def test_an_svg_stands_alone(name: str) -> None:
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
    text = svg.draw(drawn(case), title="<&>", about='"<b>"')
    title = ElementTree.fromstring(text).find(f"{SVG}title")
    assert title is not None
    assert title.text == "<&>"
