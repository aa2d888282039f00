"""The catalog of pipelines: stages, edges, and the configuration that each release ships.

Data files lie in `pipelines/`, one per pipeline; those of shipped models are made from the wheels
themselves by `hack/import_pipelines.py`, so engine arguments are upstream's and not ours. Devices
and connectors are kept apart from them: they are what the planner decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from omni_operator.api.spec import ModelSpec


class UnknownPipelineError(ValueError):
    """The model does not tell its pipeline, or the named pipeline is not in the catalog."""


class WarmUp(StrEnum):
    """The kind of request that needs no more than text and passes every stage."""

    CHAT = "chat"


class StageKind(StrEnum):
    """What a stage does, which decides its worker and its scheduler in the engine."""

    AR = "ar"
    GENERATION = "generation"
    DIFFUSION = "diffusion"


class EdgePayload(StrEnum):
    """What passes over an edge, which decides the connectors that support it.

    Attributes:
        PAYLOAD: Hidden states or codes, put by the producer's worker and waited for by the
            consumer's (0.14, 0.16 with Ray: put by the server).
        KV_CACHE: The producer's KV cache (`omni_kv_config`), sent per rank.
        SYNCHRONOUS: A payload that a diffusion worker waits for with a deadline
            (`stage_input_payload_keys`).
        PROMPT: Nothing: the server hands the result of the producer on with the next request.
    """

    PAYLOAD = "payload"
    KV_CACHE = "kv_cache"
    SYNCHRONOUS = "synchronous"
    PROMPT = "prompt"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Data):
    """A stage of a pipeline.

    Attributes:
        id: Number of the stage in the engine, from 0.
        name: The engine's `model_stage`.
        kind: What it does.
        devices: Logical devices of the whole pipeline as shipped; stages that name the same device
            share it.
        replicas: Copies of the stage as shipped.
    """

    id: int
    name: str
    kind: StageKind
    devices: tuple[int, ...] = (0,)
    replicas: int = 1

    @property
    def accelerators(self) -> int:
        """Devices of one copy."""
        return len(self.devices) // self.replicas


class Edge(_Data):
    """An edge.

    Attributes:
        producer: Id of the stage that sends.
        consumer: Id of the stage that receives.
        payload: What passes; `carries` in the catalog's files.
        in_chunks: Whether the producer can send it in chunks (`async_chunk: true`); `streams:` in
            the catalog's files.
        in_one_part: Whether it can be sent in one part (`async_chunk: false`); `whole:` there.
        whole_by_server: Whether the server hands a payload on when it is sent whole, so that no
            connector carries it.
        max_payload_bytes: Bound of what one request sends.
        extra: Model parameters that the engine reads from the connector's `extra`; they survive a
            change of connector.
    """

    producer: int
    consumer: int
    payload: EdgePayload = Field(default=EdgePayload.PAYLOAD, validation_alias=AliasChoices("payload", "carries"))
    in_chunks: bool = Field(default=False, validation_alias=AliasChoices("in_chunks", "streams"))
    in_one_part: bool = Field(default=True, validation_alias=AliasChoices("in_one_part", "whole"))
    whole_by_server: bool = False
    max_payload_bytes: int
    extra: dict[str, Any] = Field(default_factory=dict)


class DeployBody(_Data):
    """A deploy YAML (0.20 on) without what the planner decides.

    Attributes:
        settings: Top-level keys, such as trust_remote_code.
        stages: One entry per stage, by stage_id.
        platforms: Changes to stages for a device family: cuda or rocm.
        platform_settings: Changes to top-level keys for a device family, which stand beside its
            stages (`model_runner`).
    """

    settings: dict[str, Any] = Field(default_factory=dict)
    stages: tuple[dict[str, Any], ...]
    platforms: dict[str, tuple[dict[str, Any], ...]] = Field(default_factory=dict)
    platform_settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Pipeline(_Data):
    """A pipeline as one release has it.

    Attributes:
        name: Name in the catalog.
        topology: Name in the engine's own registry (`pipeline` of a deploy YAML).
        series: Release series.
        async_chunk: Whether it is shipped with edges that send chunks.
        stage_args: Body of the `stage_args` format (0.14 to 0.18).
        deploy: Body of the deploy format (0.20 on).
    """

    name: str
    topology: str
    series: str
    async_chunk: bool = False
    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...]
    stage_args: tuple[dict[str, Any], ...] = ()
    deploy: DeployBody | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Pipeline:
        ids = [stage.id for stage in self.stages]
        if ids != list(range(len(ids))):
            msg = f"pipeline {self.name} on {self.series}: stage ids must be 0..{len(ids) - 1}, not {ids}"
            raise ValueError(msg)
        if any(edge.producer not in ids or edge.consumer not in ids for edge in self.edges):
            msg = f"pipeline {self.name} on {self.series}: an edge names a stage that does not exist"
            raise ValueError(msg)
        return self

    def stage(self, stage_id: int) -> Stage:
        """The stage with an id."""
        return self.stages[stage_id]

    def is_middle(self, stage_id: int) -> bool:
        """Whether a stage receives over one edge and sends over another."""
        return any(e.consumer == stage_id for e in self.edges) and any(e.producer == stage_id for e in self.edges)


class Entry(_Data):
    """A file of the catalog.

    Attributes:
        name: Name in the catalog.
        about: What it is, for people.
        models: Hugging Face names that it is chosen for.
        warm_up: The request that warms it up; none where that is not known.
        releases: A Pipeline by release series; in the file also the series that has the same.
    """

    name: str
    about: str
    models: tuple[str, ...] = ()
    warm_up: WarmUp | None = None
    releases: dict[str, Pipeline]

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, raw: dict[str, Any]) -> dict[str, Any]:
        releases: Mapping[str, Any] = raw["releases"]

        def body(series: str) -> dict[str, Any]:
            found = releases[series]
            return body(found) if isinstance(found, str) else dict(found)

        def named(series: str) -> dict[str, Any]:
            return {"topology": raw["name"], **body(series), "name": raw["name"], "series": series}

        return {**raw, "releases": {series: named(series) for series in releases}}

    @property
    def newest(self) -> Pipeline:
        """The pipeline on the newest release that has it."""
        return self.releases[max(self.releases, key=lambda series: tuple(map(int, series.split("."))))]


def _closest(text: str, names: Sequence[str]) -> str:
    """The names most similar to a text; the first ones when none is similar."""
    plain = text.lower().replace("-", "_").replace(".", "_")
    return ", ".join(get_close_matches(plain, names, n=4, cutoff=0.3) or names[:4])


@cache
def catalog() -> dict[str, Entry]:
    """All pipelines by name."""
    found = {}
    for file in sorted(resources.files("omni_operator.engine").joinpath("pipelines").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            raw = yaml.load(file.read_text(), Loader=_LOADER)  # noqa: S506  a safe loader
            entry = Entry.model_validate(raw)
            found[entry.name] = entry
    return found


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # by libyaml, where it is


def pipeline_for(model: ModelSpec, *, series: str) -> Pipeline:
    """The pipeline of a model as it is on a release series.

    Raises:
        UnknownPipelineError: Nothing tells the pipeline, or it has no configuration for the
            release.
    """
    entries = catalog()
    if model.pipeline is not None:
        if model.pipeline not in entries:
            near = _closest(model.pipeline, [name for name, entry in entries.items() if series in entry.releases])
            msg = (
                f"model.pipeline {model.pipeline}: not in the catalog; use one of its {len(entries)} "
                f"(docs/reference/pipelines.md), such as {near}"
            )
            raise UnknownPipelineError(msg)
        found = entries[model.pipeline]
    else:
        # A local path ends with the repository's own name more often than not.
        tail = model.name.rstrip("/").rsplit("/", 1)[-1].lower()
        matches = [e for e in entries.values() if any(tail == known.rsplit("/", 1)[-1].lower() for known in e.models)]
        if not matches:
            near = _closest(tail, [name for name, entry in entries.items() if series in entry.releases])
            msg = (
                f"model.name {model.name}: no pipeline of the catalog is known for it; set model.pipeline to one of "
                f"its {len(entries)} (docs/reference/pipelines.md), such as {near}"
            )
            raise UnknownPipelineError(msg)
        found = matches[0]
    if series not in found.releases:
        by = "" if model.pipeline else f" (by model.name {model.name})"
        msg = (
            f"model.pipeline {found.name}{by} has no configuration for vllm-omni {series}; it has one for "
            f"{', '.join(sorted(found.releases))}: change engine.version"
        )
        raise UnknownPipelineError(msg)
    return found.releases[series]
