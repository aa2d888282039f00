"""What each stage of a pipeline needs on a backend: its devices, its copies, and whom it shares devices with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.api.spec import Backend, OmniDeploymentSpec, StageOverride
from omni_operator.engine.pipeline import Pipeline, Stage, StageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class StageDemand:
    """What a stage needs.

    Attributes:
        id: Its id in the pipeline.
        devices: Logical devices of all its copies; stages that name one together share it.
        replicas: Copies.
        apart: Whether copies may be in pods of their own.
        spans: Whether its accelerators may be in several pods: a language model that vLLM runs by Ray actors of its own.
    """

    id: int
    devices: tuple[int, ...]
    replicas: int = 1
    apart: bool = True
    spans: bool = False

    @property
    def each(self) -> int:
        """Devices of one copy."""
        return len(self.devices) // self.replicas


def demands(
    pipeline: Pipeline, spec: OmniDeploymentSpec, *, backend: Backend, apart: bool = True
) -> tuple[StageDemand, ...]:
    """The demand of every stage: the pipeline's own, or what the spec says, which is then the stage's alone.

    With Ray an actor takes one accelerator whatever the stage is (0.14, 0.16: one bundle {GPU: 1} per stage).
    """
    if backend is Backend.RAY:
        return tuple(StageDemand(id=stage.id, devices=(stage.id,)) for stage in pipeline.stages)
    overrides = {o.name: o for o in spec.stages}
    fresh = 1 + max(device for stage in pipeline.stages for device in stage.devices)
    made = []
    for stage in pipeline.stages:
        override = overrides.get(stage.name)
        replicas = (override.replicas if override else None) or stage.replicas
        each = (override.accelerators if override else None) or stage.accelerators
        devices = stage.devices
        if each != stage.accelerators or replicas != stage.replicas or (override and override.accelerators):
            devices = tuple(range(fresh, fresh + each * replicas))
            fresh += each * replicas
        spans = backend is Backend.HEADLESS and _may_span(stage, override) and replicas == 1
        made.append(StageDemand(id=stage.id, devices=devices, replicas=replicas, apart=apart, spans=spans))
    return tuple(made)


def _may_span(stage: Stage, override: StageOverride | None) -> bool:
    """Whether vLLM's own Ray executor can run it (0.20 on): not the head's stage, and no diffusion, which has none (abstract.py)."""
    executor = ((override.engine_args or {}) if override else {}).get("distributed_executor_backend", "ray")
    return stage.id != 0 and stage.kind is not StageKind.DIFFUSION and executor == "ray"


def units(stages: Sequence[StageDemand]) -> list[list[StageDemand]]:
    """Stages that share an accelerator, directly or through another, in one list; these stay in one pod."""
    found: list[list[StageDemand]] = []
    for stage in stages:
        near = [unit for unit in found if any(set(stage.devices) & set(other.devices) for other in unit)]
        found = [unit for unit in found if unit not in near]
        found.append([*(member for unit in near for member in unit), stage])
    return sorted(found, key=lambda unit: min(stage.id for stage in unit))


def numbered(stages: Sequence[StageDemand]) -> dict[int, tuple[int, ...]]:
    """Devices of stages that are in one pod, counted from 0 as the pod sees them, by stage id."""
    order = {device: n for n, device in enumerate(sorted({d for stage in stages for d in stage.devices}))}
    return {stage.id: tuple(order[device] for device in stage.devices) for stage in stages}
