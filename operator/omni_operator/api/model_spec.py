"""The part of the spec about the model and its weights."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from omni_operator.api.base import Model, ObjectName, in_words, rule, schema
from omni_operator.api.pipeline_spec import PipelineDefinition


class SecretKey(Model):
    """One key of a Secret in the namespace of the OmniDeployment."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = Field(
        default="token", description="Key inside the Secret."
    )


class ClaimSource(Model):
    """A PersistentVolumeClaim that holds model weights."""

    claim_name: ObjectName = Field(
        description="PersistentVolumeClaim in the same namespace. Every pod of the pipeline mounts it read-only, so "
        "with stages on several nodes it must be ReadOnlyMany or ReadWriteMany."
    )
    sub_path: Annotated[str, Field(max_length=512)] | None = Field(
        default=None,
        description="Folder inside the volume; the whole volume when not set.",
        json_schema_extra=schema(
            rules=[
                rule(
                    "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
                    "subPath must be relative to the volume and without '..', such as models/qwen; correct it",
                )
            ]
        ),
    )


class HostPathSource(Model):
    """A folder that exists on every node."""

    path: Annotated[str, Field(min_length=2, max_length=512, pattern=r"^/[^:]*$")] = Field(
        description="Absolute folder that exists on every node that may host a stage. Needs a namespace whose pod "
        "security level is privileged.",
        json_schema_extra=schema(
            rules=[
                rule(
                    r"self.matches(r'^/[^:]*$') && !self.split('/').exists(part, part == '..')",
                    "hostPath.path must be an absolute path without ':' and '..', such as /data/models; correct it",
                )
            ]
        ),
    )


class Weights(Model):
    """Where the weights are; not set means that the engine downloads them."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "has(self.claim) != has(self.hostPath)",
                    "model.weights needs exactly one of claim and hostPath; remove the other, or remove weights to let "
                    "the engine download the model",
                )
            ]
        ),
    }
    claim: ClaimSource | None = Field(default=None, description="Weights on a PersistentVolumeClaim.")
    host_path: HostPathSource | None = Field(default=None, description="Weights in a folder of the nodes.")
    mount_path: Annotated[str, Field(min_length=2, max_length=256, pattern=r"^/[^:]*$")] = Field(
        default="/models",
        description="Where the volume is mounted in every pod; model.name is then a path below it.",
        json_schema_extra=schema(
            rules=[
                rule(
                    r"self.matches(r'^/[^:]*$')",
                    "weights.mountPath must be an absolute path without ':', such as /models; correct it",
                ),
                rule(
                    "!(self + '/').startsWith('/etc/omni/') && !(self + '/').startsWith('/dev/shm/')",
                    "weights.mountPath must not be in /etc/omni or /dev/shm, which the operator mounts; choose "
                    "another, such as /models",
                ),
            ]
        ),
    )


class ModelSpec(Model):
    """The model to serve."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "!has(self.definition) || has(self.pipeline)",
                    "model.definition needs model.pipeline, the name of the pipeline in the engine's own registry; add "
                    "it",
                )
            ]
        ),
    }

    name: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s-][^\s]*$")] = Field(
        description="Hugging Face repository such as Qwen/Qwen2.5-Omni-7B, or an absolute path inside the engine's "
        "pods (with model.weights: below its mountPath).",
        json_schema_extra=in_words(
            r"^[^\s-][^\s]*$",
            "model.name must be a repository such as Qwen/Qwen2.5-Omni-7B or a path, without spaces and without a "
            "leading '-'; correct it (further arguments belong in engine.extraArgs)",
        ),
    )
    served_name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\s-][^\s]*$")] | None = Field(
        default=None,
        description="Name that clients send as `model`; model.name when not set.",
        json_schema_extra=in_words(
            r"^[^\s-][^\s]*$", "model.servedName must have no spaces and no leading '-', such as omni; correct it"
        ),
    )
    pipeline: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")] | None = Field(
        default=None,
        description="Pipeline of the catalog (docs/reference/pipelines.md), such as qwen2_5_omni. Needed only when "
        "model.name does not tell, for example for a fine-tune or a local path.",
    )
    definition: PipelineDefinition | None = Field(
        default=None,
        description="A pipeline that the catalog lacks: its stages, edges and configuration. model.pipeline is then "
        "its name in the engine's own registry.",
    )
    weights: Weights | None = Field(
        default=None, description="Volume with the weights; when not set, the engine downloads the model at its start."
    )
    token_secret: SecretKey | None = Field(
        default=None, description="Secret with a Hugging Face token, given to every engine container as HF_TOKEN."
    )
