"""The part of the spec that describes a pipeline which the operator's catalog lacks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from omni_operator.api.base import Model, Opaque, rule, schema

_STAGE_NAME = r"^[A-Za-z0-9]+([-_][A-Za-z0-9]+)*$"
StageName = Annotated[str, Field(min_length=1, max_length=63, pattern=_STAGE_NAME)]


class DefinedKind(StrEnum):
    """What a stage does."""

    AR = "AR"
    GENERATION = "Generation"
    DIFFUSION = "Diffusion"


class DefinedPayload(StrEnum):
    """What passes over an edge."""

    PAYLOAD = "Payload"
    KV_CACHE = "KvCache"
    SYNCHRONOUS = "Synchronous"
    PROMPT = "Prompt"


class StageDefinition(Model):
    """One stage; its place in the list is its stage_id."""

    name: StageName = Field(description="Name of the stage, the engine's model_stage.")
    kind: DefinedKind = Field(default=DefinedKind.AR, description="AR, Generation or Diffusion.")
    accelerators: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="Devices of one copy of the stage.")
    shares_with: StageName | None = Field(
        default=None,
        description="An earlier stage whose first devices this one uses too; the two then stay in one pod.",
    )
    config: Opaque = Field(
        default_factory=dict,
        description="The stage's entry of the engine's own configuration: of stage_args up to 0.18 (with engine_args), "
        "of a deploy YAML from 0.20 on. Devices, connectors and stage_id are set by the operator.",
    )


class EdgeDefinition(Model):
    """One edge."""

    from_stage: StageName = Field(alias="from", description="Producing stage.")
    to_stage: StageName = Field(alias="to", description="Consuming stage.")
    payload: DefinedPayload = Field(
        default=DefinedPayload.PAYLOAD,
        description="Payload: hidden states or codes by the connector. KvCache: the producer's KV cache. Synchronous: "
        "a payload that a diffusion stage waits for with a deadline. Prompt: nothing, the server hands the result on.",
    )
    in_chunks: bool = Field(default=False, description="Whether it can be sent in chunks (async_chunk: true).")
    in_one_part: bool = Field(default=True, description="Whether it can be sent in one part (async_chunk: false).")
    max_payload_mib: Annotated[int, Field(ge=1, le=1 << 20)] = Field(
        alias="maxPayloadMiB", default=256, description="Bound of what one request sends, in MiB; sizes follow from it."
    )
    extra: Opaque = Field(
        default_factory=dict,
        description="Parameters of the model that the engine reads from the connector, such as codec_chunk_frames.",
    )


class PipelineDefinition(Model):
    """A pipeline that the catalog lacks."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "!has(self.edges) || self.edges.all(e, self.stages.exists(s, s.name == e.from) && "
                    "self.stages.exists(s, s.name == e.to))",
                    "model.definition.edges: from and to must be names of model.definition.stages; correct them",
                ),
                rule(
                    "!has(self.edges) || self.edges.all(e, e.inChunks || e.inOnePart)",
                    "model.definition.edges: an edge is sent in chunks (inChunks), in one part (inOnePart) or both; "
                    "set one to true",
                ),
            ]
        ),
    }
    stages: Annotated[list[StageDefinition], Field(min_length=1, max_length=16)] = Field(
        description="The stages, in the order of their ids.",
        json_schema_extra=schema(list_type="map", list_keys=["name"]),
    )
    edges: Annotated[list[EdgeDefinition], Field(max_length=32)] = Field(
        default_factory=list,
        description="The edges, from an earlier stage to a later one.",
        json_schema_extra=schema(list_type="map", list_keys=["from", "to"]),
    )
    async_chunk: bool = Field(default=False, description="Whether edges that can stream do.")
    settings: Opaque = Field(
        default_factory=dict, description="Top-level keys of the deploy YAML (0.20 on), such as trust_remote_code."
    )
