"""What each stage needs on a backend: its devices, its copies, and with whom it shares devices."""

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
        across_pods: Whether copies may be in pods of their own.
        spans: Whether its accelerators may be in several pods: a language model that vLLM runs by
            Ray actors of its own.
    """

    id: int
    devices: tuple[int, ...]
    replicas: int = 1
    across_pods: bool = True
    spans: bool = False

    @property
    def per_replica(self) -> int:
        """Devices of one copy."""
        return len(self.devices) // self.replicas


def demands(
    pipeline: Pipeline, spec: OmniDeploymentSpec, *, backend: Backend, across_pods: bool = True
) -> tuple[StageDemand, ...]:
    """The demand of every stage: the pipeline's own, or that of the spec for this stage alone.

    With Ray an actor takes one accelerator whatever the stage is (0.14, 0.16: one bundle {GPU: 1}
    per stage).
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
        made.append(StageDemand(id=stage.id, devices=devices, replicas=replicas, across_pods=across_pods, spans=spans))
    return tuple(made)


def _may_span(stage: Stage, override: StageOverride | None) -> bool:
    """Whether vLLM's own Ray executor can run the stage (0.20 on).

    It cannot run the head's stage, nor diffusion, which has no such executor (abstract.py).
    """
    executor = ((override.engine_args or {}) if override else {}).get("distributed_executor_backend", "ray")
    return stage.id != 0 and stage.kind is not StageKind.DIFFUSION and executor == "ray"


def device_groups(stages: Sequence[StageDemand]) -> list[list[StageDemand]]:
    """Stages that share an accelerator, directly or through another stage; they stay in one pod."""
    found: list[list[StageDemand]] = []
    for stage in stages:
        near = [group for group in found if any(set(stage.devices) & set(other.devices) for other in group)]
        found = [group for group in found if group not in near]
        found.append([*(member for group in near for member in group), stage])
    return sorted(found, key=lambda group: min(stage.id for stage in group))


def numbered(stages: Sequence[StageDemand]) -> dict[int, tuple[int, ...]]:
    """Devices of stages that are in one pod, counted from 0 as the pod sees them, by stage id."""
    order = {device: n for n, device in enumerate(sorted({d for stage in stages for d in stage.devices}))}
    return {stage.id: tuple(order[device] for device in stage.devices) for stage in stages}
