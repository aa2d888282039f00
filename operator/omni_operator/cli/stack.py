"""The rows of a picture: stages below each other in their pods, pods in their nodes, and where each arrow meets its stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.spec import Backend
from omni_operator.cli.lanes import Span, ports
from omni_operator.cli.places import Place, PodPlace
from omni_operator.planning.model import Plan, StagePlan


class Level(StrEnum):
    """What a box stands for."""

    NODE = "node"
    POD = "pod"
    STAGE = "stage"
    HELPER = "helper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A box that has its rows and not yet its columns."""

    level: Level
    title: str = ""
    hint: str = ""
    text: tuple[str, ...] = ()
    top: int
    bottom: int

    @property
    def width(self) -> int:
        """Room that its texts ask for."""
        return max(len(line) for line in (self.title, *self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """All frames, the outer before the inner; the spans of the edges, in their order; and the first row below."""

    frames: tuple[Frame, ...]
    spans: tuple[Span, ...]
    height: int

    @classmethod
    def of(cls, plan: Plan, shown: Sequence[Place]) -> Stack:
        """Places from above, with as many rows in a stage as arrows meet it."""
        builder = _Builder(plan, [stage.id for place in shown for pod in place.pods for stage in pod.stages])
        for place in shown:
            builder.place(place)
        spans = tuple(
            Span(reach=edge.reach, one=builder.met[index, edge.producer], other=builder.met[index, edge.consumer])
            for index, edge in enumerate(plan.edges)
        )
        return cls(frames=tuple(builder.frames), spans=spans, height=builder.row)

    def widest(self, level: Level) -> int:
        """Room that the texts of a level ask for."""
        return max((frame.width for frame in self.frames if frame.level is level), default=0)


class _Builder:
    """Counts rows."""

    def __init__(self, plan: Plan, order: Sequence[int]) -> None:
        self.plan = plan
        self.order = order
        self.row = 0
        self.frames: list[Frame] = []
        self.met: dict[tuple[int, int], int] = {}  # row where an edge meets a stage, by edge index and stage id

    def place(self, place: Place) -> None:
        at, top = len(self.frames), self.row
        self.row += 1
        for pod in place.pods:
            self._pod(pod)
        self.frames.insert(at, Frame(level=Level.NODE, title=place.title, hint=place.hint, top=top, bottom=self.row))
        self.row += 1

    def _pod(self, pod: PodPlace) -> None:
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
        for number, port in enumerate(ports(self.order.index(stage.id), others), 1):
            self.met[touching[port], stage.id] = self.row + number
        bottom = self.row + max(1, len(touching)) + 1
        self.frames.append(Frame(level=Level.STAGE, text=(self._name(stage),), top=self.row, bottom=bottom))
        self.row = bottom + 1

    def _name(self, stage: StagePlan) -> str:
        plan = self.plan
        many = f" x {stage.replicas}" if stage.replicas > 1 else ""
        if plan.backend is Backend.RAY or plan.accelerator_resource is None:
            return f"{stage.name}{many}"
        return f"{stage.name}{many} · gpu {','.join(str(device) for device in stage.devices)}"
