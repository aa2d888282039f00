"""The catalog of pipelines: stages, edges and the stage configuration that each release ships for them.

Data files lie in `pipelines/`, one per pipeline; those of shipped models are made from the wheels' own stage_configs by
`hack/import_pipelines.py`, so engine arguments are upstream's and not ours.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from omni_operator.api.spec import ModelSpec


class UnknownPipelineError(ValueError):
    """The model does not tell its pipeline, or the named pipeline is not in the catalog."""


class Stage(BaseModel):
    """A stage of a pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: int
    name: str
    kind: str = Field(description="ar, generation or diffusion")
    accelerators: int = 1


class Edge(BaseModel):
    """An edge; max_payload_bytes bounds what one request sends over it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    producer: int
    consumer: int
    max_payload_bytes: int


class PipelineRelease(BaseModel):
    """The stage configuration of one release."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    async_chunk: bool = False
    stage_args: tuple[dict[str, Any], ...]
    connector_extra: dict[str, Any] = Field(
        default_factory=dict, description="Model parameters in a connector's `extra`."
    )


class Pipeline(BaseModel):
    """A pipeline of the catalog."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    about: str
    models: tuple[str, ...] = ()
    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...]
    releases: dict[str, PipelineRelease]

    def stage(self, stage_id: int) -> Stage:
        """The stage with an id."""
        return next(stage for stage in self.stages if stage.id == stage_id)

    def at(self, line: str) -> Pipeline:
        """The stages and edges that a release has: Qwen3-TTS is one stage in 0.14 and two in 0.16."""
        ids = {raw["stage_id"] for raw in self.releases[line].stage_args}
        return self.model_copy(
            update={
                "stages": tuple(stage for stage in self.stages if stage.id in ids),
                "edges": tuple(edge for edge in self.edges if {edge.producer, edge.consumer} <= ids),
            }
        )


@cache
def catalog() -> dict[str, Pipeline]:
    """All pipelines by name."""
    found = {}
    for entry in sorted(resources.files("omni_operator.engine").joinpath("pipelines").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            pipeline = Pipeline.model_validate(yaml.safe_load(entry.read_text()))
            found[pipeline.name] = pipeline
    return found


def pipeline_for(model: ModelSpec, *, line: str) -> Pipeline:
    """The pipeline of a model as it is on a release line.

    Raises:
        UnknownPipelineError: Nothing tells the pipeline, or it has no configuration for the release.
    """
    pipelines = catalog()
    if model.pipeline is not None:
        if model.pipeline not in pipelines:
            msg = f"model.pipeline {model.pipeline}: not in the catalog ({', '.join(pipelines)}); use one of these"
            raise UnknownPipelineError(msg)
        found = pipelines[model.pipeline]
    else:
        # A local path ends with the repository's own name more often than not.
        tail = model.name.rstrip("/").rsplit("/", 1)[-1].lower()
        matches = [p for p in pipelines.values() if any(tail == known.rsplit("/", 1)[-1].lower() for known in p.models)]
        if not matches:
            msg = f"model.name {model.name}: no pipeline of the catalog is known for it; set model.pipeline to one of {', '.join(pipelines)}"
            raise UnknownPipelineError(msg)
        found = matches[0]
    if line not in found.releases:
        msg = (
            f"model.pipeline {found.name} has no configuration for vllm-omni {line}; it has one for "
            f"{', '.join(sorted(found.releases))}: change engine.version"
        )
        raise UnknownPipelineError(msg)
    return found.at(line)
