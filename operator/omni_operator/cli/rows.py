"""The rows of a picture: stages in pods, pods in nodes, and the ends of arrows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.spec import Backend
from omni_operator.cli.placement_view import Placement, PodView
from omni_operator.cli.routing import Span, port_order
from omni_operator.planning.model import Plan, StagePlan


class Level(StrEnum):
    """What a box stands for."""

    NODE = "node"
    POD = "pod"
    STAGE = "stage"
    HELPER = "helper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A box whose rows are known, and whose columns are not."""

    level: Level
    title: str = ""
    hint: str = ""
    text: tuple[str, ...] = ()
    top: int
    bottom: int

    @property
    def width(self) -> int:
        """Characters of its longest text."""
        return max(len(line) for line in (self.title, *self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of all boxes and arrows.

    Attributes:
        frames: Boxes, each before those inside it.
        spans: Rows of the arrows, in the order of the plan's edges.
        height: First row below all frames.
    """

    frames: tuple[Frame, ...]
    spans: tuple[Span, ...]
    height: int

    @classmethod
    def of(cls, plan: Plan, shown: Sequence[Placement]) -> Rows:
        """Stacks the placements; a stage has one row for each arrow that meets it."""
        builder = _RowBuilder(plan, [stage.id for each in shown for pod in each.pods for stage in pod.stages])
        for each in shown:
            builder.add(each)
        spans = tuple(
            Span(reach=edge.reach, start=builder.ports[index, edge.producer], end=builder.ports[index, edge.consumer])
            for index, edge in enumerate(plan.edges)
        )
        return cls(frames=tuple(builder.frames), spans=spans, height=builder.row)

    def widest(self, level: Level) -> int:
        """Characters of the longest text of a level."""
        return max((frame.width for frame in self.frames if frame.level is level), default=0)


class _RowBuilder:
    """Assigns rows from above.

    Attributes:
        row: Next free row.
        frames: Boxes so far.
        ports: Row where an edge meets a stage, by edge index and stage id.
    """

    def __init__(self, plan: Plan, order: Sequence[int]) -> None:
        self.plan = plan
        self.order = order
        self.row = 0
        self.frames: list[Frame] = []
        self.ports: dict[tuple[int, int], int] = {}

    def add(self, placement: Placement) -> None:
        at, top = len(self.frames), self.row
        self.row += 1
        for pod in placement.pods:
            self._pod(pod)
        frame = Frame(level=Level.NODE, title=placement.title, hint=placement.hint, top=top, bottom=self.row)
        self.frames.insert(at, frame)
        self.row += 1

    def _pod(self, pod: PodView) -> None:
        at, top = len(self.frames), self.row
        self.row += 1 + len(pod.text)
        for stage in pod.stages:
            self._stage(stage)
        frame = Frame(level=Level.POD, title=pod.title, text=pod.text, top=top, bottom=self.row)
        self.frames.insert(at, frame)
        self.row += 1

    def _stage(self, stage: StagePlan) -> None:
        touching = [i for i, e in enumerate(self.plan.edges) if stage.id in {e.producer, e.consumer}]
        ends = [(self.plan.edges[i].producer, self.plan.edges[i].consumer) for i in touching]
        others = [self.order.index(consumer if producer == stage.id else producer) for producer, consumer in ends]
        for number, index in enumerate(port_order(self.order.index(stage.id), others), 1):
            self.ports[touching[index], stage.id] = self.row + number
        bottom = self.row + max(1, len(touching)) + 1
        self.frames.append(Frame(level=Level.STAGE, text=(self._name(stage),), top=self.row, bottom=bottom))
        self.row = bottom + 1

    def _name(self, stage: StagePlan) -> str:
        plan = self.plan
        many = f" x {stage.replicas}" if stage.replicas > 1 else ""
        if plan.backend is Backend.RAY or plan.accelerator_resource is None:
            return f"{stage.name}{many}"
        return f"{stage.name}{many} · gpu {','.join(str(device) for device in stage.devices)}"
