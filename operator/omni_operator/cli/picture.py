"""A plan as a picture: boxes and arrows in the cells of a grid, drawn by terminal.py and svg.py.

Stages are in their pods and pods in their nodes. An arrow leaves its stage to the right, turns in
a track and comes back. The track is inside the pod, inside the node or outside of it, which shows
the reach of the edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Strategy
from omni_operator.cli.placement_view import Placement, helper_placements, placements
from omni_operator.cli.routing import assign_tracks
from omni_operator.cli.rows import Frame, Level, Rows
from omni_operator.connectors.transport import Reach
from omni_operator.planning.model import EdgePlan, Plan
from omni_operator.topology.inventory import Inventory

COLUMNS = 100  # the widest picture
BOXES = "boxes: stages in pods in nodes"  # for a legend
_NODE, _POD, _STAGE = 0, 2, 4  # left columns
_LEAST_NAME = 16  # characters of a stage's name, before tracks get closer to each other


class ArrowKind(StrEnum):
    """What moves the payload of an edge."""

    SHM = "shm"
    RDMA = "rdma"
    TCP = "tcp"
    SERVER = "server"

    @property
    def label(self) -> str:
        """Its text in the legend."""
        return _LABELS[self]


_LABELS = {
    ArrowKind.SHM: "shared memory",
    ArrowKind.RDMA: "RDMA",
    ArrowKind.TCP: "TCP",
    ArrowKind.SERVER: "handed on by the server",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box with its border in the outer cells and its title in the upper border.

    Attributes:
        level: What it stands for.
        title: Title; empty for a stage, whose name is its text.
        hint: The full title.
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
    """An edge: from a stage to the right, along a track, and back to the left.

    Attributes:
        kind: What moves its payload.
        label: Its transport.
        hint: The edge and its transport in words.
        left: First column right of the stages.
        track: Column of the turn.
        start: Row where it leaves the producer.
        end: Row where it meets the consumer.
    """

    kind: ArrowKind
    label: str
    hint: str
    left: int
    track: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Boxes, each before those inside it, and arrows; `notes` say what the picture cannot show."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    notes: tuple[str, ...]
    width: int
    height: int

    @property
    def legend(self) -> tuple[ArrowKind, ...]:
        """The kinds of arrows in it."""
        return tuple(kind for kind in ArrowKind if any(arrow.kind is kind for arrow in self.arrows))


def picture(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> Picture:
    """The picture of a plan on the nodes of an inventory."""
    shown = placements(plan, spec=spec, inventory=inventory)
    rows = Rows.of(plan, shown)
    columns = _Columns.of(plan, rows)
    boxes = [columns.box(frame) for frame in rows.frames]
    boxes += _helpers(helper_placements(plan, spec=spec, inventory=inventory), top=rows.height)
    arrows = tuple(columns.arrow(edge, index, rows) for index, edge in enumerate(plan.edges))
    return Picture(
        boxes=tuple(boxes),
        arrows=arrows,
        notes=_notes(plan, spec),
        width=1 + max([box.right for box in boxes] + [arrow.track for arrow in arrows]),
        height=1 + max(box.bottom for box in boxes),
    )


def kind_of(edge: EdgePlan) -> ArrowKind:
    """What moves the payload of an edge."""
    return ArrowKind.SERVER if edge.connector is None else ArrowKind(edge.protocol.value)


def transport_of(edge: EdgePlan) -> str:
    """The transport of an edge as it is printed."""
    return "by the server" if edge.connector is None else f"{edge.connector}/{edge.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """The columns that all boxes of a level share.

    Attributes:
        stage: Right border of stages.
        pod: Right border of pods.
        node: Right border of nodes.
        tracks: Column of every edge's track.
    """

    stage: int
    pod: int
    node: int
    tracks: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan, rows: Rows) -> _Columns:
        """As narrow as titles, labels and tracks permit, and at most COLUMNS wide."""
        wide = cls._with(plan, rows, step=2)
        enough = _STAGE + min(rows.widest(Level.STAGE), _LEAST_NAME) + 3
        return wide if wide.stage >= enough else cls._with(plan, rows, step=1)

    @classmethod
    def _with(cls, plan: Plan, rows: Rows, *, step: int) -> _Columns:
        """Columns with a track at every `step`."""
        assigned = assign_tracks(rows.spans)
        widths = {
            reach: step * max((n + 1 for n, s in zip(assigned, rows.spans, strict=True) if s.reach is reach), default=0)
            for reach in Reach
        }
        beside = 2 + widths[Reach.SAME_NODE]  # between the borders of a pod and its node
        limit = COLUMNS - 2 - widths[Reach.CROSS_NODE] - beside
        labels = max((len(transport_of(edge)) + 4 for edge in plan.edges), default=2)
        behind = labels + widths[Reach.SAME_POD]
        stage = min(_STAGE + rows.widest(Level.STAGE) + 3, limit - behind - 1)
        wanted = [stage + 1 + behind, _POD + rows.widest(Level.POD) + 3, rows.widest(Level.NODE) + 3 - beside]
        pod = min(max(wanted), limit)
        node = pod + beside
        inner = {Reach.SAME_POD: pod - widths[Reach.SAME_POD], Reach.SAME_NODE: pod + 2, Reach.CROSS_NODE: node + 2}
        turns = tuple(inner[span.reach] + step * track for span, track in zip(rows.spans, assigned, strict=True))
        return cls(stage=stage, pod=pod, node=node, tracks=turns)

    def box(self, frame: Frame) -> Box:
        """The box of a frame, its texts cut to its width."""
        left, right = {
            Level.NODE: (_NODE, self.node),
            Level.POD: (_POD, self.pod),
            Level.STAGE: (_STAGE, self.stage),
        }[frame.level]
        width = right - left - 3
        text = tuple(_cut(line, width) for line in frame.text)
        title = _cut(frame.title, width)
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

    def arrow(self, edge: EdgePlan, index: int, rows: Rows) -> Arrow:
        """The arrow of an edge."""
        transport, span = transport_of(edge), rows.spans[index]
        return Arrow(
            kind=kind_of(edge),
            label=transport,
            hint=f"{edge.from_stage} → {edge.to_stage}: {transport}: {edge.reason}",
            left=self.stage + 1,
            track=self.tracks[index],
            start=span.start,
            end=span.end,
        )


def _helpers(found: Sequence[Placement], *, top: int) -> list[Box]:
    """Small boxes beside each other; one that exceeds COLUMNS starts a new row."""
    boxes: list[Box] = []
    left = 0
    for placement in found:
        text = tuple(pod.title for pod in placement.pods)
        width = min(max(len(placement.title), *(len(line) for line in text)) + 4, COLUMNS)
        if left and left + width > COLUMNS:
            left, top = 0, boxes[-1].bottom + 1
        right = left + width - 1
        boxes.append(
            Box(
                level=Level.HELPER,
                title=placement.title,
                hint=placement.hint,
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
        notes.append(f"replicas: {spec.replicas} times what is shown{once}")
    return tuple(notes)
