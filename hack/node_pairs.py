"""Makes docs/reference/node-pairs.md: the plans on every two kinds of nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Protocol
from omni_operator.connectors.transport import Rejection
from omni_operator.planning.model import Plan, PlanError, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory, Node, Taint
from omni_operator.topology.namespace import PodSecurity

GPU, HCA, ZONE = "nvidia.com/gpu", "rdma/hca", "topology.kubernetes.io/zone"
# What is true of any two nodes, or of the release, would be a note in every cell.
_TOLD = (Rejection.NO_RDMA_ON_NODE, Rejection.CAPABILITY_FORBIDDEN, Rejection.HOST_MEMORY_FORBIDDEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of node.

    Attributes:
        name: Its name.
        about: What is special about it.
        large: Whether it alone can hold the pipeline; others hold a part.
        accelerators: Whether it has any.
        in_use: Whether others hold all its accelerators.
        allocatable: RDMA devices, by resource.
        held: How many of each others hold.
        zone: Its zone.
        cordoned: Whether it is cordoned.
        taints: Its taints.
        security: Level that the namespace enforces, when a node of this kind is one of the two.
    """

    name: str
    about: str
    large: bool = False
    accelerators: bool = True
    in_use: bool = False
    allocatable: dict[str, int] = field(default_factory=dict)
    held: int = 0
    zone: str = "near"
    cordoned: bool = False
    taints: tuple[Taint, ...] = ()
    security: PodSecurity = PodSecurity.PRIVILEGED

    def node(self, name: str, *, part: int, whole: int) -> Node:
        """A node of this kind."""
        count = (whole if self.large else part) if self.accelerators else 0
        available = {resource: n - self.held for resource, n in self.allocatable.items()}
        return Node(
            name=name,
            labels={"kubernetes.io/hostname": name, ZONE: self.zone},
            taints=self.taints,
            cordoned=self.cordoned,
            allocatable={GPU: count, **self.allocatable},
            available={GPU: 0 if self.in_use else count, **available},
        )


WITH_RDMA = {HCA: 8}
KINDS = (
    Kind(name="plain", about="no RDMA"),
    Kind(name="rdma", about="8 devices of `rdma/hca`", allocatable=WITH_RDMA),
    Kind(name="one-device", about="1 device of `rdma/hca`", allocatable={HCA: 1}),
    Kind(name="rdma-in-use", about="8 devices of `rdma/hca`, all held by others", allocatable=WITH_RDMA, held=8),
    Kind(name="other-fabric", about="8 devices of `rdma/roce` and none of `rdma/hca`", allocatable={"rdma/roce": 8}),
    Kind(
        name="restricted",
        about="as rdma, and the namespace enforces pod security level `restricted`: no host memory, no IPC_LOCK",
        allocatable=WITH_RDMA,
        security=PodSecurity.RESTRICTED,
    ),
    Kind(
        name="other-zone",
        about="as rdma, in a zone of its own; `placement.topologyKey` is set",
        allocatable=WITH_RDMA,
        zone="far",
    ),
    Kind(name="cordoned", about="as rdma, cordoned", allocatable=WITH_RDMA, cordoned=True),
    Kind(
        name="tainted",
        about="as rdma, with a taint that is not tolerated",
        allocatable=WITH_RDMA,
        taints=(Taint("pool", "other", "NoSchedule"),),
    ),
    Kind(name="no-accelerators", about="as rdma, without accelerators", allocatable=WITH_RDMA, accelerators=False),
    Kind(name="large", about="no RDMA, and accelerators for the whole pipeline", large=True),
    Kind(name="large-in-use", about="as large, all accelerators held by others", large=True, in_use=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A pipeline to plan.

    Attributes:
        title: What the table is about.
        spec: Its spec, without the domain.
        part: Accelerators of a node that holds a part.
        whole: Accelerators of a node that holds all.
    """

    title: str
    spec: dict[str, Any]
    part: int
    whole: int


PIPELINES = (
    Pipeline(
        title="qwen2_5_omni on 0.16: three stages, an accelerator each; a node has 2, a large one 3",
        spec={"model": {"name": "Qwen/Qwen2.5-Omni-7B"}, "engine": {"version": "0.16.0"}},
        part=2,
        whole=3,
    ),
    Pipeline(
        title="qwen2_5_omni on 0.30: three stages, two of them on one accelerator; a node has 1, a large one 2",
        spec={"model": {"name": "Qwen/Qwen2.5-Omni-7B"}, "engine": {"version": "0.30.0"}},
        part=1,
        whole=2,
    ),
    Pipeline(
        title=(
            "hunyuan_image_3_moe on 0.30: two stages of two accelerators and a KV cache between; a node has 2, a "
            "large one 4"
        ),
        spec={"model": {"name": "m", "pipeline": "hunyuan_image_3_moe"}, "engine": {"version": "0.30.0"}},
        part=2,
        whole=4,
    ),
)


def found(pipeline: Pipeline, *kinds: Kind) -> Planned | PlanError:
    """The plan on nodes of these kinds, which are named a, b and so on in the order of KINDS."""
    names = dict(zip(sorted(range(len(kinds)), key=lambda n: KINDS.index(kinds[n])), "abcdefgh", strict=False))
    nodes = [kind.node(names[n], part=pipeline.part, whole=pipeline.whole) for n, kind in enumerate(kinds)]
    held = [(node.name, {r: count - node.available[r] for r, count in node.allocatable.items()}) for node in nodes]
    zones = any(kind.zone != KINDS[0].zone for kind in kinds)
    spec = OmniDeploymentSpec.model_validate({**pipeline.spec, "placement": {"topologyKey": ZONE} if zones else {}})
    strictest = max((kind.security for kind in kinds), key=list(PodSecurity).index)
    return make_plan(spec=spec, inventory=Inventory.of(nodes, held), pod_security=strictest)


def cell(result: Planned | PlanError) -> str:
    """A result in a few words."""
    if isinstance(result, PlanError):
        return "refused"
    plan = result.plan
    where = plan.strategy if plan.backend is Backend.RAY else plan.backend
    transport = plan.transport.replace("MooncakeTransferEngine", "Engine").replace("MooncakeStore", "Store")
    return f"{where} {transport}" + (", waits" if result.waits_for else "")


def notes(result: Planned | PlanError) -> list[str]:
    """Why it is not more, in the planner's own words."""
    if isinstance(result, PlanError):
        return [f"`{result.reason}`: {result.message}"]
    said = list(dict.fromkeys(f"`{code}`: {fact}" for code, fact in _rejections(result.plan)))
    return said + ([f"waits: {result.waits_for}"] if result.waits_for else [])


def _rejections(plan: Plan) -> Iterator[tuple[Rejection, str]]:
    for edge in plan.edges:
        if edge.protocol is not Protocol.SHM:
            yield from ((r.code, r.fact) for r in edge.rejected if r.code in _TOLD)


def page() -> str:
    """The text of the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield (
        f"# What is planned on two nodes\n\nEvery two of {len(KINDS)} kinds of nodes ({len(KINDS) ** 2} pairs; the "
        "order of the two does not matter) and"
    )
    yield (
        "no other node in the cluster, with `engine.backend: Auto`, `transport.rdma: Prefer` and everything else by "
        "default. A node holds a part of"
    )
    yield (
        "the pipeline where its kind does not say otherwise. A cell has the strategy (with Ray) or the backend, the "
        "transport (Store is"
    )
    yield (
        "MooncakeStore, Engine is MooncakeTransferEngine) and the numbers of the notes below its table: why it is "
        "not shared memory or RDMA,"
    )
    yield (
        "why it waits, why it is refused. In notes, node a is the one whose kind comes first in this list, and b the "
        "other.\n"
    )
    yield "| kind | a node with |\n|---|---|"
    yield from (f"| {kind.name} | {kind.about} |" for kind in KINDS)
    for pipeline in PIPELINES:
        yield f"\n## {pipeline.title}\n"
        yield from _table(pipeline)


def _table(pipeline: Pipeline) -> Iterator[str]:
    numbers: dict[str, int] = {}

    def shown(result: Planned | PlanError) -> str:
        mine = [numbers.setdefault(note, len(numbers) + 1) for note in notes(result)]
        return cell(result) + "".join(f" [{number}]" for number in mine)

    yield _row(["", *(f"**{kind.name}**" for kind in KINDS)])
    yield "|" + "---|" * (1 + len(KINDS))
    for one in KINDS:
        yield _row([f"**{one.name}**", *(shown(found(pipeline, one, other)) for other in KINDS)])
    yield ""
    yield from (f"{number}. {note}" for note, number in numbers.items())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
