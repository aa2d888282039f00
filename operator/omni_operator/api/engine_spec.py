"""The part of the spec about vllm-omni: its release, its image, and what is passed to it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from omni_operator.api.base import Model, ObjectName, Opaque, in_words, rule, schema


class Backend(StrEnum):
    """How the stages run."""

    AUTO = "Auto"
    RAY = "Ray"
    HEADLESS = "Headless"
    LOCAL = "Local"


class PullPolicy(StrEnum):
    """When the kubelet pulls the engine image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class EnvVar(Model):
    """One environment variable of the engine's containers."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "!has(self.value) || !has(self.valueFrom)",
                    "engine.env: a variable has value or valueFrom, not both; remove one of the two",
                    message_expression="'engine.env: variable ' + self.name + ' has both value and valueFrom; remove "
                    "one of the two'",
                )
            ]
        ),
    }
    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")] = Field(
        description="Name of the variable.",
        json_schema_extra=in_words(
            r"^[-._a-zA-Z][-._a-zA-Z0-9]*$",
            "the name of a variable has letters, digits, '-', '_' and '.', and does not begin with a digit; correct it",
        ),
    )
    value: Annotated[str, Field(max_length=32768)] | None = Field(
        default=None,
        description="Its value. It is kept as it is in the revision's ConfigMap and in pods; secrets belong in "
        "valueFrom.",
    )
    value_from: Opaque | None = Field(
        default=None, description="Source of the value, as in a Pod: secretKeyRef, configMapKeyRef, fieldRef."
    )


# Flags that the operator sets for some release. No user may pass one to any: where a release does
# not read it, it would only seem to have an effect.
OWNED_FLAGS = (
    "--omni",
    "--worker-backend",
    "--ray-address",
    "--stage-configs-path",
    "--deploy-config",
    "--stage-id",
    "--headless",
    "--omni-master-address",
    "--omni-master-port",
    "-oma",
    "-omp",
    "--host",
    "--port",
    "--served-model-name",
    "--init-timeout",
    "--stage-init-timeout",
)
OWNED_ENV = (
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "HF_TOKEN",
    "VLLM_HOST_IP",
    "CUDA_VISIBLE_DEVICES",
)


class VersionPolicy(StrEnum):
    """What to do with a release that the operator has no record of."""

    NEAREST = "Nearest"
    EXACT = "Exact"


class EngineSpec(Model):
    """The vllm-omni release and how it is started."""

    version: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+((rc|\.post)[0-9]+)?$")] = Field(
        description="vllm-omni release in the image, such as 0.16.0. It decides flags, configuration format, backends "
        "and connectors (docs/reference/releases.md).",
        json_schema_extra=in_words(
            r"^[0-9]+\.[0-9]+\.[0-9]+((rc|\.post)[0-9]+)?$",
            "engine.version must be a full vllm-omni release such as 0.16.0, without 'v' and not a tag; correct it "
            "(the tag of an image belongs in engine.image)",
        ),
    )
    version_policy: VersionPolicy = Field(
        default=VersionPolicy.NEAREST,
        description="What to do with a release series that this operator has no record of. Nearest runs it by the "
        "record of the newest series before it and says so in status.plan.notes; Exact refuses it.",
    )
    mooncake_version: (
        Annotated[str, Field(max_length=32, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(\.post[0-9]+)?$")] | None
    ) = Field(
        default=None,
        description="Mooncake version in the image; the release's own pin when not set. 0.3.12 serves all connectors: "
        "MooncakeStore needs one before 0.3.13, and before 0.3.12 a payload over TCP may be read before it has "
        "arrived.",
        json_schema_extra=in_words(
            r"^[0-9]+\.[0-9]+\.[0-9]+(\.post[0-9]+)?$",
            "engine.mooncakeVersion must be a full version such as 0.3.12.post1; correct it",
        ),
    )
    nixl: bool = Field(
        default=False,
        description="Whether the image has the nixl package, which the Nixl connector needs (0.30 and later).",
    )
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s]+$")] | None = Field(
        default=None,
        description="Engine image with vllm-omni, Ray, python3 and bash; vllm/vllm-omni:v<version> when not set. The "
        "same image runs the Ray head, the Ray workers, the server and the Mooncake master, so Ray and Python cannot "
        "differ.",
        json_schema_extra=in_words(
            r"^[^\s]+$",
            "engine.image must be an image name without spaces, such as registry.example/omni:1; correct it",
        ),
    )
    image_pull_policy: PullPolicy = Field(default=PullPolicy.IF_NOT_PRESENT, description="When the image is pulled.")
    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=8)] = Field(
        default_factory=list,
        description="Names of Secrets for the image registry.",
        json_schema_extra=schema(list_type="set"),
    )
    backend: Backend = Field(
        default=Backend.AUTO,
        description="Auto takes what the release supports: Ray on 0.14 and 0.16, Local on 0.18, and from 0.20 on Local "
        "where one node can hold all stages, else Headless. Ray runs every stage as a Ray actor. Local runs all stages "
        "in the serving pod. Headless runs stage 0 there and the others in Ray worker pods.",
    )
    extra_args: Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=64)] = Field(
        default_factory=list,
        description="Further arguments of `vllm serve`. Flags that the operator sets are refused.",
        json_schema_extra=schema(
            list_type="atomic",
            rules=[
                # vLLM's parser reads --worker_backend as --worker-backend.
                rule(
                    f"self.all(a, !(a.replace('_', '-').split('=', 2)[0] in {list(OWNED_FLAGS)!r}))",
                    "engine.extraArgs must not set a flag that the operator sets ("
                    + ", ".join(OWNED_FLAGS)
                    + "); remove it and use the field of the spec that stands for it",
                    message_expression=f"'engine.extraArgs must not have ' + {list(OWNED_FLAGS)!r}.filter(f, "
                    "self.exists(a, a.replace('_', '-').split('=', 2)[0] == f))[0] + ': the operator sets that flag; "
                    "remove it and use the field of the spec that stands for it'",
                ),
                rule(
                    "!self.exists(a, a.replace('_', '-').startsWith('--ssl-'))",
                    "engine.extraArgs must not have --ssl-*: probes and clients inside the cluster speak HTTP to the "
                    "server; remove it and end TLS at an Ingress or Gateway",
                ),
            ],
        ),
    )
    env: Annotated[list[EnvVar], Field(max_length=64)] = Field(
        default_factory=list,
        description="Environment of every engine container: the server, the Ray head and the Ray workers (Ray passes "
        "no environment from the server to its actors).",
        json_schema_extra=schema(
            list_type="map",
            list_keys=["name"],
            rules=[
                rule(
                    f"self.all(e, !(e.name in {list(OWNED_ENV)!r}))",
                    "engine.env must not set a variable that the operator sets ("
                    + ", ".join(OWNED_ENV)
                    + "); remove it",
                    message_expression=f"'engine.env must not set ' + {list(OWNED_ENV)!r}.filter(n, self.exists(e, "
                    "e.name == n))[0] + ', which the operator sets; remove it (a Hugging Face token belongs in "
                    "model.tokenSecret)'",
                )
            ],
        ),
    )
