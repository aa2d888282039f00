"""A plan as a picture: boxes and arrows in cells of a grid, for whoever draws them (terminal.py, svg.py).

Stages stand below each other in their pods, pods in their nodes. An arrow leaves its stage to the right, turns in a lane and
comes back; the lane is in the pod, in the node or outside of it, as far as the edge may reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Strategy
from omni_operator.cli.lanes import lanes
from omni_operator.cli.places import Place, anywhere, places
from omni_operator.cli.stack import Frame, Level, Stack
from omni_operator.planning.model import EdgePlan, Plan, Reach
from omni_operator.topology.inventory import Inventory

COLUMNS = 100  # the widest picture
BOXES = "boxes: stages in pods in nodes"  # for a legend
_NODE, _POD, _STAGE = 0, 2, 4  # left columns
_LEAST_NAME = 16  # of a stage, before lanes stand closer


class Line(StrEnum):
    """What carries an edge."""

    SHM = "shm"
    RDMA = "rdma"
    TCP = "tcp"
    SERVER = "server"

    @property
    def words(self) -> str:
        """Its meaning, for a legend."""
        return _WORDS[self]


_WORDS = {
    Line.SHM: "shared memory",
    Line.RDMA: "RDMA",
    Line.TCP: "TCP",
    Line.SERVER: "handed on by the server",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box; the border is in its outer cells, the title in the upper one (a stage's name is its text).

    Attributes:
        level: What it stands for.
        title: Title.
        hint: What there was no room for.
        text: Lines below the upper border.
        left: First column; right is the last.
        right: Last column.
        top: First row.
        bottom: Last row.
    """

    level: Level
    title: str = ""
    hint: str = ""
    text: tuple[str, ...] = ()
    left: int
    right: int
    top: int
    bottom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An edge: from a stage to the right, along a lane, and back to the left.

    Attributes:
        line: What carries it.
        label: Its transport.
        hint: The edge and its transport in words.
        left: First column behind the stages.
        lane: Column of the turn.
        start: Row where it leaves the producer.
        end: Row where it meets the consumer.
    """

    line: Line
    label: str
    hint: str
    left: int
    lane: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Boxes, the outer before the inner, and arrows; `notes` say what cannot be drawn."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    notes: tuple[str, ...]
    width: int
    height: int

    @property
    def legend(self) -> tuple[Line, ...]:
        """The kinds of arrows in it."""
        return tuple(line for line in Line if any(arrow.line is line for arrow in self.arrows))


def picture(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> Picture:
    """The picture of a plan on nodes."""
    shown = places(plan, spec=spec, inventory=inventory)
    stack = Stack.of(plan, shown)
    columns = _Columns.of(plan, stack)
    boxes = [columns.box(frame) for frame in stack.frames]
    boxes += _helpers(anywhere(plan, spec=spec, inventory=inventory), top=stack.height)
    arrows = tuple(columns.arrow(edge, index, stack) for index, edge in enumerate(plan.edges))
    return Picture(
        boxes=tuple(boxes),
        arrows=arrows,
        notes=_notes(plan, spec),
        width=1 + max([box.right for box in boxes] + [arrow.lane for arrow in arrows]),
        height=1 + max(box.bottom for box in boxes),
    )


def line_of(edge: EdgePlan) -> Line:
    """How an edge is drawn."""
    return Line.SERVER if edge.connector is None else Line(edge.protocol.value)


def transport_of(edge: EdgePlan) -> str:
    """An edge's transport as people read it."""
    return "by the server" if edge.connector is None else f"{edge.connector}/{edge.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The columns that all boxes of a level share.

    Attributes:
        stage: Right border of stages.
        pod: Right border of pods.
        node: Right border of nodes.
        lanes: Column of every edge's lane.
    """

    stage: int
    pod: int
    node: int
    lanes: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan, stack: Stack) -> _Columns:
        """As narrow as titles, labels and lanes permit, and never wider than a picture may be."""
        wide = cls._with(plan, stack, step=2)
        enough = _STAGE + min(stack.widest(Level.STAGE), _LEAST_NAME) + 3
        return wide if wide.stage >= enough else cls._with(plan, stack, step=1)

    @classmethod
    def _with(cls, plan: Plan, stack: Stack, *, step: int) -> _Columns:
        """Columns with lanes at every `step`."""
        mine = lanes(stack.spans)
        room = {
            reach: step * max((n + 1 for n, s in zip(mine, stack.spans, strict=True) if s.reach is reach), default=0)
            for reach in Reach
        }
        beside = 2 + room[Reach.SAME_NODE]  # between the borders of a pod and its node
        limit = COLUMNS - 2 - room[Reach.CROSS_NODE] - beside
        labels = max((len(transport_of(edge)) + 4 for edge in plan.edges), default=2)
        behind = labels + room[Reach.SAME_POD]
        stage = min(_STAGE + stack.widest(Level.STAGE) + 3, limit - behind - 1)
        wanted = [stage + 1 + behind, _POD + stack.widest(Level.POD) + 3, stack.widest(Level.NODE) + 3 - beside]
        pod = min(max(wanted), limit)
        node = pod + beside
        inner = {Reach.SAME_POD: pod - room[Reach.SAME_POD], Reach.SAME_NODE: pod + 2, Reach.CROSS_NODE: node + 2}
        turns = tuple(inner[span.reach] + step * lane for span, lane in zip(stack.spans, mine, strict=True))
        return cls(stage=stage, pod=pod, node=node, lanes=turns)

    def box(self, frame: Frame) -> Box:
        """The box of a frame, its texts cut to what there is room for."""
        left, right = {
            Level.NODE: (_NODE, self.node),
            Level.POD: (_POD, self.pod),
            Level.STAGE: (_STAGE, self.stage),
        }[frame.level]
        room = right - left - 3
        text = tuple(_cut(line, room) for line in frame.text)
        title = _cut(frame.title, room)
        return Box(
            level=frame.level,
            title=title,
            hint=frame.hint or frame.title,
            text=text,
            left=left,
            right=right,
            top=frame.top,
            bottom=frame.bottom,
        )

    def arrow(self, edge: EdgePlan, index: int, stack: Stack) -> Arrow:
        """The arrow of an edge."""
        transport, span = transport_of(edge), stack.spans[index]
        return Arrow(
            line=line_of(edge),
            label=transport,
            hint=f"{edge.from_stage} → {edge.to_stage}: {transport}: {edge.reason}",
            left=self.stage + 1,
            lane=self.lanes[index],
            start=span.one,
            end=span.other,
        )


def _helpers(found: Sequence[Place], *, top: int) -> list[Box]:
    """Small boxes in a row, or below each other where a row would be too wide."""
    boxes: list[Box] = []
    left = 0
    for place in found:
        text = tuple(pod.title for pod in place.pods)
        width = min(max(len(place.title), *(len(line) for line in text)) + 4, COLUMNS)
        if left and left + width > COLUMNS:
            left, top = 0, boxes[-1].bottom + 1
        right = left + width - 1
        boxes.append(
            Box(
                level=Level.HELPER,
                title=place.title,
                hint=place.hint,
                text=tuple(_cut(line, width - 4) for line in text),
                left=left,
                right=right,
                top=top,
                bottom=top + 1 + len(text),
            )
        )
        left = right + 2
    return boxes


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _notes(plan: Plan, spec: OmniDeploymentSpec) -> tuple[str, ...]:
    notes = []
    if plan.backend is Backend.RAY and (plan.cluster_ref or plan.strategy is Strategy.SPREAD):
        notes.append("Ray decides which worker runs which stage")
    if spec.replicas > 1:
        once = "; all share one Mooncake master" if plan.store else ""
        notes.append(f"replicas: {spec.replicas} times what is drawn{once}")
    return tuple(notes)
