"""Layouts of a pipeline: which stages share a pod, and which pods a node.

Ray places one actor per stage by PACK and takes no wish from us, so all workers must be equal in
reach: either one pod holds every accelerator of the pipeline (OneNode), or every stage has an equal
pod of its own (Spread). Several small pods pinned to one node are not a layout: they could end on a
node that cannot hold them all.

Local is one pod. Headless is any partition of the stages into two or more pods: stage 0 in the
serving pod, and stages that share an accelerator together. All partitions of few stages are tried:
4140 of 8, and nothing that is shipped has more. Those of many are too many (a user may describe
16 stages: 10 480 142 147), so their pods are of successive stages only. A stage that no node could
hold even if it were empty is in as few equal pods as nodes can hold, when its engine can be
(`spans`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from omni_operator.api.spec import Backend, Strategy
from omni_operator.connectors.transport import Reach
from omni_operator.planning.demand import StageDemand, device_groups

SERVING = "serving"
_FEW = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PodShape:
    """Equal pods of a layout.

    Attributes:
        name: Name of its worker group, or "serving".
        stages: Ids of the stages that it runs; with Ray, of those that may run there.
        accelerators: Accelerators of one pod.
        copies: Number of pods.
        spans: Whether these pods run one copy of one stage together.
    """

    name: str
    stages: tuple[int, ...]
    accelerators: int
    copies: int = 1
    spans: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The pods of one replica of a pipeline."""

    backend: Backend
    strategy: Strategy
    serving: PodShape
    workers: tuple[PodShape, ...] = ()

    @property
    def by_ray(self) -> bool:
        """Whether Ray places the stages."""
        return self.backend is Backend.RAY

    @property
    def follows(self) -> bool:
        """Whether the serving pod must be on the node of the only worker pod."""
        return self.by_ray and self.strategy is Strategy.ONE_NODE

    @property
    def pods(self) -> int:
        """Pods that run stages or the server."""
        return 1 + sum(pod.copies for pod in self.workers)

    @property
    def shapes(self) -> tuple[PodShape, ...]:
        """The serving pod and the workers."""
        return (self.serving, *self.workers)

    def home(self, stage: int) -> PodShape:
        """The pod that runs a stage."""
        return next(shape for shape in self.shapes if stage in shape.stages)

    def reach(self, producer: int, consumer: int) -> Reach:
        """How far apart the ends of an edge may be.

        With Ray they are the serving pod and a worker, whatever the stages.
        """
        if self.by_ray:
            return Reach.SAME_NODE if self.follows else Reach.CROSS_NODE
        together = any(producer in shape.stages and consumer in shape.stages for shape in self.shapes)
        return Reach.SAME_POD if together else Reach.CROSS_NODE


def layouts(
    stages: Sequence[StageDemand], *, backend: Backend, wanted: Strategy, largest: int, largest_empty: int
) -> Iterator[Layout]:
    """The layouts of a backend.

    Args:
        stages: What the stages need, in the order of their ids.
        backend: How stages run.
        wanted: What the user asks for.
        largest: Accelerators of the largest pod that any node could hold; larger pods are left out.
        largest_empty: The same, if all nodes were empty; a stage that needs more spans nodes.
    """
    if backend is Backend.RAY:
        yield from _with_ray(len(stages), wanted=wanted)
    elif backend is Backend.LOCAL:
        everything = _shape(SERVING, stages)
        if wanted is not Strategy.SPREAD and everything.accelerators <= largest:
            yield Layout(backend=backend, strategy=Strategy.ONE_NODE, serving=everything)
    elif wanted is not Strategy.ONE_NODE:
        groups = _DeviceGroups(device_groups(stages), largest=largest, largest_empty=largest_empty)
        yield from _headless(groups, one_pod_per_group=wanted is Strategy.SPREAD)


def _with_ray(stages: int, *, wanted: Strategy) -> Iterator[Layout]:
    every = tuple(range(stages))
    serving = PodShape(name=SERVING, stages=(), accelerators=0)
    shapes = {
        Strategy.ONE_NODE: PodShape(name="stages", stages=every, accelerators=stages),
        Strategy.SPREAD: PodShape(name="stages", stages=every, accelerators=1, copies=stages),
    }
    for strategy, workers in shapes.items():
        if wanted in {Strategy.AUTO, strategy}:
            yield Layout(backend=Backend.RAY, strategy=strategy, serving=serving, workers=(workers,))


def _headless(groups: _DeviceGroups, *, one_pod_per_group: bool) -> Iterator[Layout]:
    for found in groups.one_pod_per_group() if one_pod_per_group else groups.partitions():
        if len(found) > 1:
            serving, *workers = map(groups.shape, sorted(found, reverse=True))
            yield Layout(backend=Backend.HEADLESS, strategy=Strategy.SPREAD, serving=serving, workers=tuple(workers))


@dataclass(slots=True)
class _DeviceGroups:
    """Sets of device groups, and their pods, which many layouts share.

    A set is a number with one bit per group, the first group's bit the highest.
    """

    groups: Sequence[Sequence[StageDemand]]
    largest: int = field(kw_only=True)
    largest_empty: int = field(kw_only=True)
    _shapes: dict[int, PodShape] = field(init=False, default_factory=dict)

    @property
    def bits(self) -> tuple[int, ...]:
        """The device groups, each alone."""
        return tuple(1 << place for place in reversed(range(len(self.groups))))

    def shape(self, members: int) -> PodShape:
        """The pod of a set of device groups."""
        if members not in self._shapes:
            mine = [
                stage for bit, group in zip(self.bits, self.groups, strict=True) if members & bit for stage in group
            ]
            self._shapes[members] = _pod(sorted(mine, key=lambda stage: stage.id), largest_empty=self.largest_empty)
        return self._shapes[members]

    def one_pod_per_group(self) -> Iterator[tuple[int, ...]]:
        """The partition with one pod per device group, where nodes are large enough for it."""
        if all(map(self._able, self.bits)):
            yield self.bits

    def partitions(self) -> Iterator[tuple[int, ...]]:
        """All partitions that nodes are large enough for, each once.

        With many groups only those whose pods have successive groups.
        """
        return self._partitions(self.bits)

    def _partitions(self, bits: Sequence[int]) -> Iterator[tuple[int, ...]]:
        if not bits:
            yield ()
            return
        first = bits[0]
        if not self._able(first):
            return
        for smaller in self._partitions(bits[1:]):
            yield (first, *smaller)
            for at, members in enumerate(smaller if len(self.groups) <= _FEW else smaller[:1]):
                if self._able(first | members):  # no larger set would be, either
                    yield (*smaller[:at], first | members, *smaller[at + 1 :])

    def _able(self, members: int) -> bool:
        return self.shape(members).accelerators <= self.largest


def _pod(stages: Sequence[StageDemand], *, largest_empty: int) -> PodShape:
    first = stages[0]
    if first.id == 0:
        return _shape(SERVING, stages)
    name = "-".join(["stage", *(str(stage.id) for stage in stages)])
    if len(stages) == 1 and first.replicas > 1 and first.across_pods:  # each copy in a pod of its own
        return PodShape(name=name, stages=(first.id,), accelerators=first.per_replica, copies=first.replicas)
    if len(stages) == 1 and first.spans and first.per_replica > largest_empty > 0:
        pods = next(
            n
            for n in range(2, first.per_replica + 1)
            if first.per_replica % n == 0 and first.per_replica // n <= largest_empty
        )
        return PodShape(name=name, stages=(first.id,), accelerators=first.per_replica // pods, copies=pods, spans=True)
    return _shape(name, stages)


def _shape(name: str, stages: Sequence[StageDemand]) -> PodShape:
    devices = {device for stage in stages for device in stage.devices}
    return PodShape(name=name, stages=tuple(stage.id for stage in stages), accelerators=len(devices))
