"""What a user writes: `OmniDeployment.spec`.

Field descriptions are the text of `kubectl explain`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from omni_operator.api.base import (
    KEY,
    VALUE,
    AnnotationMap,
    LabelMap,
    Model,
    ObjectName,
    Opaque,
    ResourceName,
    in_words,
    key_rule,
    label_rules,
    rule,
    schema,
)
from omni_operator.api.engine_spec import OWNED_ENV, OWNED_FLAGS, Backend, EngineSpec, EnvVar, PullPolicy
from omni_operator.api.model_spec import ClaimSource, HostPathSource, ModelSpec, SecretKey, Weights
from omni_operator.api.serving_spec import (
    ContainerResources,
    RaySpec,
    RolloutSpec,
    ServingSpec,
)
from omni_operator.api.transport_spec import (
    Connector,
    EdgeOverride,
    Protocol,
    RdmaPolicy,
    SharedMemoryPolicy,
    TransportSpec,
)

__all__ = [
    "OWNED_ENV",
    "OWNED_FLAGS",
    "AcceleratorSpec",
    "AcceleratorType",
    "Backend",
    "ClaimSource",
    "Connector",
    "EdgeOverride",
    "EngineSpec",
    "EnvVar",
    "HostPathSource",
    "ModelSpec",
    "OmniDeploymentSpec",
    "PlacementSpec",
    "Protocol",
    "PullPolicy",
    "RaySpec",
    "RdmaPolicy",
    "RolloutSpec",
    "SecretKey",
    "ServingSpec",
    "SharedMemoryPolicy",
    "StageOverride",
    "Strategy",
    "Toleration",
    "Tolerations",
    "TransportSpec",
    "Weights",
]


class AcceleratorType(StrEnum):
    """The device family; cpu is the fallback without devices."""

    NVIDIA = "nvidia"
    AMD = "amd"
    CPU = "cpu"


class Strategy(StrEnum):
    """Whether the stages of one pipeline should share a node."""

    AUTO = "Auto"
    ONE_NODE = "OneNode"
    SPREAD = "Spread"


class AcceleratorSpec(Model):
    """The devices that stages run on."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "self.type != 'cpu' || !has(self.resourceName)",
                    "accelerator.resourceName must not be set with accelerator.type cpu, which requests no device; "
                    "remove it",
                ),
                rule(
                    "self.type == oldSelf.type",
                    "accelerator.type is immutable: stages cannot move to another device family; delete the "
                    "OmniDeployment and create a new one",
                ),
            ]
        ),
    }
    type: AcceleratorType = Field(
        default=AcceleratorType.NVIDIA,
        description="Device family. cpu is the fallback for tests and tiny models: no device is requested, and Ray is "
        "told its GPU count by start parameters.",
    )
    resource_name: ResourceName | None = Field(
        default=None, description="Extended resource of the nodes; nvidia.com/gpu or amd.com/gpu when not set."
    )
    runtime_class_name: ObjectName | None = Field(
        default=None, description="RuntimeClass of pods with devices, such as nvidia."
    )


class Toleration(Model):
    """A toleration, as in a Pod."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "has(self.key) || self.operator == 'Exists'",
                    "a toleration without key needs operator Exists, and then tolerates every taint; set operator or "
                    "key",
                ),
                rule(
                    f"!has(self.key) || self.key.matches(r'{KEY}')",
                    "the key of a toleration is a name such as gpu or example.com/gpu; correct it",
                    message_expression="'the key of a toleration, ' + self.key + ', is no name such as gpu or "
                    "example.com/gpu; correct it'",
                ),
                rule(
                    f"!has(self.value) || self.value.matches(r'{VALUE}')",
                    "the value of a toleration has letters, digits, '-', '_' and '.'; correct it",
                    message_expression="'the value of a toleration, ' + self.value + ', may have only letters, digits, "
                    "dashes, underscores and dots; correct it'",
                ),
                rule(
                    "self.operator != 'Exists' || !has(self.value)",
                    "a toleration with operator Exists has no value; remove value, or set operator to Equal",
                ),
                rule(
                    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                    "tolerationSeconds belongs to effect NoExecute; set effect, or remove tolerationSeconds",
                ),
            ]
        ),
    }
    key: Annotated[str, Field(max_length=316)] | None = Field(default=None, description="Taint key; any when not set.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="Exists or Equal.")
    value: Annotated[str, Field(max_length=63)] | None = Field(default=None, description="Taint value, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Taint effect; any when not set."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=86400)] | None = Field(
        default=None, description="Seconds a pod stays after a NoExecute taint appears."
    )


Tolerations = Annotated[list[Toleration], Field(max_length=32)]


class StageOverride(Model):
    """Overrides for one stage of the pipeline."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]+([-_][A-Za-z0-9]+)*$")] = Field(
        description="Stage of the pipeline, such as thinker, talker or code2wav.",
        json_schema_extra=in_words(
            r"^[A-Za-z0-9]+([-_][A-Za-z0-9]+)*$",
            "stages[].name must be the name of a stage of the pipeline, such as thinker; correct it "
            "(docs/reference/pipelines.md)",
        ),
    )
    accelerators: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Devices of one replica of the stage; the pipeline's own number when not set. On backend Headless "
        "a language model that no node can hold spans pods, which vLLM joins by Ray; a whole tensor-parallel group on "
        "one node is faster.",
    )
    replicas: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="Copies of this stage inside one pipeline; 1 when not set. Not with backend Ray."
    )
    resources: ContainerResources | None = Field(
        default=None, description="Requests and limits this stage adds to the pod that runs it."
    )
    engine_args: Opaque | None = Field(
        default=None,
        description="Engine arguments of this stage (engine_args of the stage configuration), such as max_model_len or "
        "gpu_memory_utilization; merged over the pipeline's own.",
    )
    node_selector: LabelMap | None = Field(
        default=None,
        description="Labels of the nodes for this stage. Not with backend Ray.",
        json_schema_extra=schema(rules=label_rules("stages[].nodeSelector")),
    )
    tolerations: Tolerations | None = Field(
        default=None,
        description="Tolerations this stage's pod has besides placement.tolerations.",
        json_schema_extra=schema(list_type="atomic"),
    )


class PlacementSpec(Model):
    """Where pods may run."""

    strategy: Strategy = Field(
        default=Strategy.AUTO,
        description="OneNode keeps all stages and the server on one node, so edges can use shared memory. Spread gives "
        "every stage a pod of its own. Auto takes OneNode when a node can hold the pipeline, else Spread.",
    )
    node_selector: LabelMap = Field(
        default_factory=dict,
        description="Labels that a node needs to host any pod of the pipeline.",
        json_schema_extra=schema(rules=label_rules("placement.nodeSelector")),
    )
    tolerations: Tolerations = Field(
        default_factory=list, description="Tolerations of every pod.", json_schema_extra=schema(list_type="atomic")
    )
    affinity: Opaque | None = Field(
        default=None,
        description="Affinity of every pod, as in a Pod; what the plan needs (such as pods that must share a node) is "
        "added.",
    )
    topology_key: Annotated[str, Field(min_length=1, max_length=316)] | None = Field(
        default=None,
        description="Node label whose value names a fast network domain, such as topology.kubernetes.io/zone or a rack "
        "or RDMA fabric label. All pods of one pipeline then stay inside one domain.",
    )
    priority_class_name: ObjectName | None = Field(default=None, description="PriorityClass of every pod.")
    scheduler_name: ObjectName | None = Field(
        default=None, description="Scheduler of every pod; the default one when not set."
    )
    labels: LabelMap = Field(
        default_factory=dict,
        description="Labels of the RayCluster, of the serving Deployment and of every pod, for queues such as Kueue.",
        json_schema_extra=schema(
            rules=[
                rule(
                    "self.all(k, !k.startsWith('omni.vllm.ai/') && !k.startsWith('ray.io/') && "
                    "!k.startsWith('app.kubernetes.io/'))",
                    "placement.labels must not use the prefixes omni.vllm.ai/, ray.io/ and app.kubernetes.io/, which "
                    "the operators set; rename the label",
                ),
                *label_rules("placement.labels"),
            ]
        ),
    )
    annotations: AnnotationMap = Field(
        default_factory=dict,
        description="Annotations of every pod.",
        json_schema_extra=schema(rules=[key_rule("placement.annotations")]),
    )


class OmniDeploymentSpec(Model):
    """The pipeline to serve."""

    model: ModelSpec = Field(description="The model to serve.")
    engine: EngineSpec = Field(description="The vllm-omni release and how it is started.")
    accelerator: AcceleratorSpec = Field(default_factory=AcceleratorSpec, description="The devices that stages run on.")
    stages: Annotated[list[StageOverride], Field(max_length=16)] = Field(
        default_factory=list,
        description="Overrides by stage name.",
        json_schema_extra=schema(list_type="map", list_keys=["name"]),
    )
    placement: PlacementSpec = Field(default_factory=PlacementSpec, description="Where pods may run.")
    transport: TransportSpec = Field(default_factory=TransportSpec, description="How tensors travel between stages.")
    serving: ServingSpec = Field(default_factory=ServingSpec, description="The API server and its Service.")
    ray: RaySpec = Field(default_factory=RaySpec, description="The Ray cluster below the stages.")
    rollout: RolloutSpec = Field(default_factory=RolloutSpec, description="How a change of the spec is made real.")
    replicas: Annotated[int, Field(ge=0, le=32)] = Field(
        default=1,
        description="Whole copies of the pipeline behind one endpoint; each has its own Ray cluster. 0 is the same as "
        "suspend.",
    )
    suspend: bool = Field(
        default=False,
        description="Releases all accelerators and keeps the plan; setting it to false again brings the same revision "
        "back.",
    )
