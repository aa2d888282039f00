"""The parts of the spec about serving, Ray and rollout."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from omni_operator.api import ports
from omni_operator.api.base import AnnotationMap, Model, ObjectName, Quantity, in_words, key_rule, rule, schema


class ServiceType(StrEnum):
    """Type of the public Service."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class RolloutStrategy(StrEnum):
    """How a new revision replaces the old one."""

    RECREATE = "Recreate"
    HOLD = "Hold"


class TokenAuth(StrEnum):
    """Whether Ray asks for a token."""

    AUTO = "Auto"
    ENABLED = "Enabled"
    DISABLED = "Disabled"


def _json_object(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        msg = f'must be a JSON object as text ({exc}), such as \'{{"input": "Hello"}}\''
        raise ValueError(msg) from exc
    if not isinstance(found, dict):
        msg = f'must be a JSON object as text, such as \'{{"input": "Hello"}}\', not a {type(found).__name__}'
        raise ValueError(msg)
    return text


_KNOWN = "k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') || k.contains('/')"
ResourceMap = Annotated[
    dict[str, Quantity],
    Field(
        max_length=16,
        json_schema_extra=schema(
            rules=[
                rule(
                    f"self.all(k, {_KNOWN})",
                    "a resource is cpu, memory, ephemeral-storage, hugepages-<size> or a name with a domain such as "
                    "example.com/fpga; correct it",
                    message_expression=f"'resource ' + self.filter(k, !({_KNOWN}))[0] + ' is not known: use cpu, "
                    "memory, ephemeral-storage, hugepages-<size> or a name with a domain such as example.com/fpga "
                    "(accelerators follow from the pipeline and need no request)'",
                )
            ]
        ),
    ),
]
_OVER = (
    "k in self.limits && isQuantity(string(self.requests[k])) && isQuantity(string(self.limits[k])) && "
    "quantity(string(self.requests[k])).isGreaterThan(quantity(string(self.limits[k])))"
)
RESOURCE_RULES = [
    rule(
        f"!self.requests.exists(k, {_OVER})",
        "a request must not be greater than its limit; lower requests or raise limits",
        message_expression=f"'requests of ' + self.requests.filter(k, {_OVER})[0] + ' are greater than its limits; "
        "lower requests or raise limits'",
    )
]


class ContainerResources(Model):
    """Requests and limits of a container without accelerators."""

    model_config = {**Model.model_config, "json_schema_extra": schema(rules=RESOURCE_RULES)}
    requests: ResourceMap = Field(default_factory=dict, description="Resources the container asks for.")
    limits: ResourceMap = Field(default_factory=dict, description="Resources the container may not exceed.")


class ServiceSpec(Model):
    """The public Service."""

    type: ServiceType = Field(default=ServiceType.CLUSTER_IP, description="Type of the Service.")
    annotations: AnnotationMap = Field(
        default_factory=dict,
        description="Annotations of the Service, for load balancers.",
        json_schema_extra=schema(rules=[key_rule("serving.service.annotations")]),
    )


class WarmUpMode(StrEnum):
    """Whether a server is asked before its pipeline counts as Ready."""

    AUTO = "Auto"
    NEVER = "Never"


class WarmUpSpec(Model):
    """The warm-up request: a new server must answer it before the pipeline is Ready.

    /health says nothing of the stages.
    """

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "has(self.path) == has(self.body)",
                    "serving.warmUp.path and serving.warmUp.body go together; set both or remove both",
                )
            ]
        ),
    }
    mode: WarmUpMode = Field(
        default=WarmUpMode.AUTO,
        description="Auto asks every server once after it became ready: with path and body, or else with a short chat "
        "request where the catalog knows that one passes every stage and no API key is set; otherwise /health is all "
        "that Ready says. Never asks nothing.",
    )
    path: Annotated[str, Field(max_length=256, pattern=r"^/[^\s]*$")] | None = Field(
        default=None,
        description="Where to POST, such as /v1/audio/speech.",
        json_schema_extra=in_words(
            r"^/[^\s]*$", "serving.warmUp.path must be a path such as /v1/audio/speech; correct it"
        ),
    )
    body: Annotated[str, Field(min_length=2, max_length=16384), AfterValidator(_json_object)] | None = Field(
        default=None,
        description="What to POST: a JSON object as text; model is added where it is missing.",
    )
    timeout_seconds: Annotated[int, Field(ge=5, le=3600)] = Field(
        default=600,
        description="Seconds one such request may take. A failed one is tried again after 30 s, then later and later.",
    )


class ProbesSpec(Model):
    """How long the server may take."""

    ray_wait_seconds: Annotated[int, Field(ge=10, le=7200)] = Field(
        default=900,
        description="Seconds the server waits for the Ray head and for enough accelerators in Ray before it gives up "
        "with a reason. Covers image pulls of the workers.",
    )
    init_timeout_seconds: Annotated[int, Field(ge=30, le=14400)] = Field(
        default=600,
        description="Seconds the engine may take to initialise all stages. The startup probe allows this, plus 60 s, "
        "with backend Ray also plus rayWaitSeconds, and then restarts the server; it never serves with a stage "
        "missing.",
    )
    liveness_failure_seconds: Annotated[int, Field(ge=30, le=3600)] = Field(
        default=180, description="Seconds a started server may fail /health before it is restarted."
    )


class ServingSpec(Model):
    """The API server and its Service."""

    port: Annotated[int, Field(ge=1024, le=65535)] = Field(
        default=ports.SERVER,
        description="Port of the server and of the Service.",
        json_schema_extra=schema(
            rules=[
                rule(
                    f"!({ports.in_list(ports.RESERVED_FOR_SERVER)})",
                    "serving.port must not be a port that Ray or Mooncake use inside the same pods "
                    f"({ports.in_words(ports.RESERVED_FOR_SERVER)}); choose another, such as {ports.SERVER}",
                )
            ]
        ),
    )
    service: ServiceSpec = Field(
        default_factory=ServiceSpec, description="The public Service, named as the OmniDeployment."
    )
    resources: ContainerResources = Field(
        default_factory=ContainerResources, description="Requests and limits of the server's container."
    )
    warm_up: WarmUpSpec = Field(
        default_factory=WarmUpSpec, description="The request that a new server must answer before Ready is True."
    )
    probes: ProbesSpec = Field(default_factory=ProbesSpec, description="Time budgets of start and health.")
    termination_grace_period_seconds: Annotated[int, Field(ge=60, le=3600)] = Field(
        default=60, description="Seconds a server may take to end; vllm-omni's own shutdown takes up to 40."
    )


OWNED_START_PARAMS = (
    "address",
    "head",
    "block",
    "port",
    "num-cpus",
    "num-gpus",
    "labels",
    "resources",
    "dashboard-host",
    "dashboard-port",
    "include-dashboard",
)
_START_PARAMS_RULES = [
    rule(
        f"self.all(k, !(k in {list(OWNED_START_PARAMS)!r}))",
        "start parameters that the operator sets cannot be given (" + ", ".join(OWNED_START_PARAMS) + "); remove them",
        message_expression=f"'start parameter ' + self.filter(k, k in {list(OWNED_START_PARAMS)!r})[0] + ' is set by "
        "the operator; remove it'",
    ),
    rule(
        "self.all(k, k.matches('^[a-z][-a-z0-9]*$'))",
        "start parameters are names of `ray start` options without the leading dashes, such as object-store-memory; "
        "rename them",
        message_expression="'start parameter ' + self.filter(k, !k.matches('^[a-z][-a-z0-9]*$'))[0] + ' is no option "
        "of `ray start` without its dashes, such as object-store-memory; rename it'",
    ),
]
StartParams = Annotated[
    dict[str, Annotated[str, Field(max_length=1024)]],
    Field(max_length=32, json_schema_extra=schema(rules=_START_PARAMS_RULES)),
]


class RayHeadSpec(Model):
    """The Ray head pod, which runs no stage."""

    resources: ContainerResources = Field(
        default_factory=ContainerResources, description="Requests and limits of the Ray head's container."
    )


class ClusterRef(Model):
    """A RayCluster that exists already."""

    name: ObjectName = Field(description="Name of a RayCluster in the same namespace.")


class RaySpec(Model):
    """The Ray cluster below the stages."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "!has(self.clusterRef) || !has(self.version)",
                    "ray.version cannot be set with ray.clusterRef, whose Ray version is its own; remove it",
                ),
                rule(
                    "!has(self.clusterRef) || (size(self.headStartParams) == 0 && size(self.workerStartParams) == 0)",
                    "ray.headStartParams and ray.workerStartParams cannot be set with ray.clusterRef, which is started "
                    "by its owner; remove them",
                ),
                rule(
                    "has(self.clusterRef) == has(oldSelf.clusterRef)",
                    "ray.clusterRef cannot be added or removed on a live OmniDeployment; delete it and create a new "
                    "one",
                ),
            ]
        ),
    }
    version: Annotated[str, Field(max_length=16, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] | None = Field(
        default=None,
        description="Ray version in the engine image. KubeRay chooses probes and token authentication by it, and with "
        "backend Ray the server compares it with the image's before it joins. When not set, the version that the "
        "vllm-omni release was built with.",
        json_schema_extra=in_words(
            r"^[0-9]+\.[0-9]+\.[0-9]+$", "ray.version must be a full version such as 2.53.0; correct it"
        ),
    )
    port: Annotated[int, Field(ge=1024, le=65535)] = Field(
        default=ports.RAY_GCS,
        description="Port of Ray's GCS on the head, used in --ray-address.",
        json_schema_extra=schema(
            rules=[
                rule(
                    f"!({ports.in_list(ports.RESERVED_FOR_GCS)}) && "
                    f"!(self >= {ports.RAY_WORKERS[0]} && self <= {ports.RAY_WORKERS[1]})",
                    f"ray.port must not be another port of the Ray head ({ports.in_words(ports.RESERVED_FOR_GCS)}) or "
                    f"one of Ray's workers ({ports.RAY_WORKERS[0]}-{ports.RAY_WORKERS[1]}); choose another, such as "
                    f"{ports.RAY_GCS}",
                )
            ]
        ),
    )
    head: RayHeadSpec = Field(default_factory=RayHeadSpec, description="The Ray head pod.")
    token_auth: TokenAuth = Field(
        default=TokenAuth.AUTO,
        description="Auto asks for a token where the Ray version knows it (2.52 and later). The token is a Secret made "
        "by KubeRay; it is never in a ConfigMap. With clusterRef, Auto sends none: set Enabled when that cluster asks "
        "for its token.",
    )
    head_start_params: StartParams = Field(default_factory=dict, description="Further options of `ray start --head`.")
    worker_start_params: StartParams = Field(
        default_factory=dict, description="Further options of `ray start` on workers."
    )
    cluster_ref: ClusterRef | None = Field(
        default=None,
        description="Joins this RayCluster instead of making one. It must have the same Ray and Python versions as the "
        "engine image and free accelerators; shared memory and RDMA are not used, since its pods are not ours.",
    )


class RolloutSpec(Model):
    """How a change of the spec is made real."""

    strategy: RolloutStrategy = Field(
        default=RolloutStrategy.RECREATE,
        description="Recreate ends the old revision, then starts the new one. Hold keeps the running revision and "
        "reports what waits; setting Recreate lets it go on.",
    )
    progress_deadline_seconds: Annotated[int, Field(ge=60, le=86400)] = Field(
        default=1800,
        description="Seconds a revision may take to become Ready before Progressing turns False. It is kept running.",
    )
