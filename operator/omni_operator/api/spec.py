"""What a user writes: `OmniDeployment.spec`. Field descriptions are the text of `kubectl explain`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from omni_operator.api.base import (
    AnnotationMap,
    LabelMap,
    Model,
    ObjectName,
    Opaque,
    Quantity,
    ResourceName,
    in_words,
    key_rule,
    label_rules,
    rule,
    schema,
)
from omni_operator.api.serving_spec import RESOURCE_RULES, RaySpec, ResourceMap, RolloutSpec, ServingSpec


class Backend(StrEnum):
    """How the stages run."""

    AUTO = "Auto"
    RAY = "Ray"
    HEADLESS = "Headless"
    LOCAL = "Local"


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


class RdmaPolicy(StrEnum):
    """What to do about RDMA."""

    PREFER = "Prefer"
    REQUIRE = "Require"
    NEVER = "Never"


class SharedMemoryPolicy(StrEnum):
    """Where shared memory may be used."""

    ALLOW = "Allow"
    POD_ONLY = "PodOnly"


class Connector(StrEnum):
    """Connectors a user may ask for on an edge."""

    SHARED_MEMORY = "SharedMemory"
    MOONCAKE_STORE = "MooncakeStore"
    MOONCAKE_TRANSFER_ENGINE = "MooncakeTransferEngine"
    NIXL = "Nixl"


class Protocol(StrEnum):
    """What carries the bytes of an edge."""

    SHM = "shm"
    RDMA = "rdma"
    TCP = "tcp"


class PullPolicy(StrEnum):
    """When the kubelet pulls the engine image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class SecretKey(Model):
    """One key of a Secret in the namespace of the OmniDeployment."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")] = Field(
        default="token", description="Key inside the Secret."
    )


class ClaimSource(Model):
    """A PersistentVolumeClaim that holds model weights."""

    claim_name: ObjectName = Field(
        description="PersistentVolumeClaim in the same namespace. Every pod of the pipeline mounts it read-only, so with "
        "stages on several nodes it must be ReadOnlyMany or ReadWriteMany."
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
        json_schema_extra=in_words(
            r"^/[^:]*$", "hostPath.path must be an absolute path without ':', such as /data/models; correct it"
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
                    "weights.mountPath must not be in /etc/omni or /dev/shm, which the operator mounts; choose another, such as "
                    "/models",
                ),
            ]
        ),
    )


class ModelSpec(Model):
    """The model to serve."""

    name: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s-][^\s]*$")] = Field(
        description="Hugging Face repository such as Qwen/Qwen2.5-Omni-7B, or an absolute path inside the engine's pods "
        "(with model.weights: below its mountPath).",
        json_schema_extra=in_words(
            r"^[^\s-][^\s]*$",
            "model.name must be a repository such as Qwen/Qwen2.5-Omni-7B or a path, without spaces and without a leading '-'; "
            "correct it (further arguments belong in engine.extraArgs)",
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
    weights: Weights | None = Field(
        default=None, description="Volume with the weights; when not set, the engine downloads the model at its start."
    )
    token_secret: SecretKey | None = Field(
        default=None, description="Secret with a Hugging Face token, given to every engine container as HF_TOKEN."
    )


class EnvVar(Model):
    """One environment variable of the engine's containers."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "!has(self.value) || !has(self.valueFrom)",
                    "engine.env: a variable has value or valueFrom, not both; remove one of the two",
                    message_expression="'engine.env: variable ' + self.name + ' has both value and valueFrom; remove one of the two'",
                )
            ]
        ),
    }
    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")] = Field(
        description="Name of the variable."
    )
    value: Annotated[str, Field(max_length=32768)] | None = Field(default=None, description="Its value.")
    value_from: Opaque | None = Field(
        default=None, description="Source of the value, as in a Pod: secretKeyRef, configMapKeyRef, fieldRef."
    )


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


class EngineSpec(Model):
    """The vllm-omni release and how it is started."""

    version: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+((rc|\.post)[0-9]+)?$")] = Field(
        description="vllm-omni release in the image, such as 0.16.0. It decides flags, configuration format, backends "
        "and connectors (docs/reference/releases.md).",
        json_schema_extra=in_words(
            r"^[0-9]+\.[0-9]+\.[0-9]+((rc|\.post)[0-9]+)?$",
            "engine.version must be a full vllm-omni release such as 0.16.0, without 'v' and not a tag; correct it (the tag of an "
            "image belongs in engine.image)",
        ),
    )
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\s]+$")] | None = Field(
        default=None,
        description="Engine image with vllm-omni, Ray and bash; vllm/vllm-omni:v<version> when not set. The same image "
        "runs the Ray head, the Ray workers, the server and the Mooncake master, so Ray and Python cannot differ.",
        json_schema_extra=in_words(
            r"^[^\s]+$", "engine.image must be an image name without spaces, such as registry.example/omni:1; correct it"
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
        description="Auto takes what the release supports: Ray on 0.14 and 0.16. Ray runs every stage as a Ray actor. "
        "Headless and Local belong to 0.18 and later.",
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
                    message_expression=f"'engine.extraArgs must not have ' + {list(OWNED_FLAGS)!r}.filter(f, self.exists(a, "
                    "a.replace('_', '-').split('=', 2)[0] == f))[0] + ': the operator sets that flag; remove it and use the field of the spec that "
                    "stands for it'",
                )
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
                    message_expression=f"'engine.env must not set ' + {list(OWNED_ENV)!r}.filter(n, self.exists(e, e.name == n))[0] + "
                    "', which the operator sets; remove it (a Hugging Face token belongs in model.tokenSecret)'",
                )
            ],
        ),
    )


class AcceleratorSpec(Model):
    """The devices that stages run on."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "self.type != 'cpu' || !has(self.resourceName)",
                    "accelerator.resourceName must not be set with accelerator.type cpu, which requests no device; remove it",
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
                    "a toleration without key needs operator Exists, and then tolerates every taint; set operator or key",
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


class Resources(Model):
    """Requests and limits of one container, besides accelerators."""

    model_config = {**Model.model_config, "json_schema_extra": schema(rules=RESOURCE_RULES)}
    requests: ResourceMap = Field(
        default_factory=dict, description="Resources a container asks for, such as cpu and memory."
    )
    limits: ResourceMap = Field(
        default_factory=dict, description="Resources a container may not exceed."
    )


Tolerations = Annotated[list[Toleration], Field(max_length=32)]


class StageOverride(Model):
    """Overrides for one stage of the pipeline."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]+([-_][a-z0-9]+)*$")] = Field(
        description="Stage of the pipeline, such as thinker, talker or code2wav.",
        json_schema_extra=in_words(
            r"^[a-z0-9]+([-_][a-z0-9]+)*$",
            "stages[].name must be the name of a stage of the pipeline in lower case, such as thinker; correct it "
            "(docs/reference/pipelines.md)",
        ),
    )
    accelerators: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="Devices of one replica of the stage; the pipeline's own number when not set."
    )
    replicas: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="Copies of this stage inside one pipeline; 1 when not set. Not with backend Ray."
    )
    resources: Resources | None = Field(
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
        description="Affinity of every pod, as in a Pod; what the plan needs (such as pods that must share a node) is added.",
    )
    topology_key: Annotated[str, Field(min_length=1, max_length=316)] | None = Field(
        default=None,
        description="Node label whose value names a fast network domain, such as topology.kubernetes.io/zone or a rack or "
        "RDMA fabric label. All pods of one pipeline then stay inside one domain.",
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
                    "self.all(k, !k.startsWith('omni.vllm.ai/') && !k.startsWith('ray.io/') && !k.startsWith('app.kubernetes.io/'))",
                    "placement.labels must not use the prefixes omni.vllm.ai/, ray.io/ and app.kubernetes.io/, which the "
                    "operators set; rename the label",
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


class EdgeOverride(Model):
    """A user's choice for one edge."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "!has(self.connector) || !has(self.protocol) || (self.connector == 'SharedMemory') == (self.protocol == 'shm')",
                    "transport.edges: protocol shm belongs to connector SharedMemory, and only to it; change one of the two",
                    message_expression="'transport.edges[' + self.from + ' -> ' + self.to + ']: connector ' + self.connector + "
                    "' has no protocol ' + self.protocol + ' (shm belongs to SharedMemory, and only to it); change one of the two'",
                ),
                rule(
                    "has(self.connector) || has(self.protocol)",
                    "transport.edges: set connector, protocol or both",
                    message_expression="'transport.edges[' + self.from + ' -> ' + self.to + '] asks for nothing; set connector, "
                    "protocol or both, or remove the entry'",
                ),
            ]
        ),
    }
    from_stage: Annotated[str, Field(min_length=1, max_length=63)] = Field(alias="from", description="Producing stage.")
    to_stage: Annotated[str, Field(min_length=1, max_length=63)] = Field(alias="to", description="Consuming stage.")
    connector: Connector | None = Field(default=None, description="Connector this edge must use.")
    protocol: Protocol | None = Field(default=None, description="Protocol this edge must use.")


class TransportSpec(Model):
    """How tensors travel between stages."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "self.rdma != 'Never' || !has(self.edges) || self.edges.all(e, !has(e.protocol) || e.protocol != 'rdma')",
                    "transport.edges asks for protocol rdma while transport.rdma is Never; change one of the two",
                ),
                rule(
                    "self.rdma != 'Require' || !has(self.edges) || self.edges.all(e, !has(e.protocol) || e.protocol != 'tcp')",
                    "transport.edges asks for protocol tcp while transport.rdma is Require; change one of the two",
                ),
                rule(
                    "self.rdma != 'Never' || !has(self.rdmaResource)",
                    "transport.rdmaResource has no effect while transport.rdma is Never; remove one of the two",
                ),
            ]
        ),
    }
    rdma: RdmaPolicy = Field(
        default=RdmaPolicy.PREFER,
        description="Prefer uses RDMA between nodes where the nodes offer it and falls back to TCP, saying why. Require "
        "stops before any accelerator is taken when RDMA cannot be used. Never uses TCP.",
    )
    rdma_resource: ResourceName | None = Field(
        default=None,
        description="Extended resource of an RDMA device plugin, such as rdma/hca. When not set, the resource with the "
        "prefix rdma/ that the nodes offer.",
    )
    rdma_device: Annotated[str, Field(max_length=128, pattern=r"^[-A-Za-z0-9_.,:]+$")] | None = Field(
        default=None, description="HCA names for Mooncake, such as mlx5_0; its own choice when not set."
    )
    shared_memory: SharedMemoryPolicy = Field(
        default=SharedMemoryPolicy.ALLOW,
        description="Allow lets pods on one node share memory through a folder below the node's /dev/shm, when the "
        "namespace's pod security level permits a hostPath. PodOnly uses shared memory inside one pod only.",
    )
    edges: Annotated[list[EdgeOverride], Field(max_length=32)] = Field(
        default_factory=list,
        description="Choices per edge; one that cannot work is refused with the reason.",
        json_schema_extra=schema(list_type="map", list_keys=["from", "to"]),
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
        description="Whole copies of the pipeline behind one endpoint; each has its own Ray cluster. 0 is the same as suspend.",
    )
    suspend: bool = Field(
        default=False,
        description="Releases all accelerators and keeps the plan; setting it to false again brings the same revision back.",
    )
