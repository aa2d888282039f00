"""What the operator says: `OmniDeployment.status`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from omni_operator.api.base import Model, schema

Short = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(max_length=32768)]


class Condition(Model):
    """One judgement, in the form of metav1.Condition."""

    type: Short = Field(description="What is judged.")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$", max_length=8)] = Field(
        description="True, False or Unknown."
    )
    reason: Short = Field(description="Reason code (docs/reference/conditions.md).")
    message: Text = Field(description="What happened and what to do, for people.")
    last_transition_time: Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})] = Field(
        description="When status changed last."
    )
    observed_generation: int = Field(default=0, description="Generation of the spec that was judged.")


class RejectedChoice(Model):
    """A transport that was not taken."""

    choice: Short = Field(description="Connector and protocol, such as MooncakeStore/rdma.")
    code: Short = Field(description="Reason code (docs/reference/transport.md).")
    fact: Text = Field(description="The fact that caused it: a node, a label, a release, a field of the spec.")


class EdgeStatus(Model):
    """One edge of the pipeline and its transport."""

    from_stage: Short = Field(alias="from", description="Producing stage.")
    to_stage: Short = Field(alias="to", description="Consuming stage.")
    reach: Short = Field(description="SamePod, SameNode or CrossNode, as the pods are constrained.")
    connector: Short = Field(description="Connector class of vllm-omni.")
    protocol: Short = Field(description="shm, rdma or tcp.")
    reason: Text = Field(description="Why this transport.")
    rejected: Annotated[list[RejectedChoice], Field(max_length=16)] = Field(
        default_factory=list,
        description="Better transports that were not usable, best first.",
        json_schema_extra=schema(list_type="atomic"),
    )
    observed: Short = Field(
        default="Unknown",
        description="Verified: the engine counted payloads. Degraded: RDMA was planned and is not used. Unknown: "
        "nothing was seen.",
    )
    observed_reason: Text = Field(default="", description="What was seen, or why nothing was.")


class PodPlan(Model):
    """One pod of the layout."""

    name: Short = Field(description="Pod of the layout.")
    role: Short = Field(description="head, workers or serving.")
    count: int = Field(default=1, description="Pods of this shape in one replica of the pipeline.")
    stages: Annotated[list[Short], Field(max_length=16)] = Field(
        default_factory=list, description="Stages it runs.", json_schema_extra=schema(list_type="atomic")
    )
    accelerators: int = Field(default=0, description="Devices of one such pod.")
    nodes: Annotated[list[Short], Field(max_length=64)] = Field(
        default_factory=list, description="Nodes where it runs now.", json_schema_extra=schema(list_type="atomic")
    )


class PlanStatus(Model):
    """The plan of the active revision."""

    release: Short = Field(description="Release record that was used.")
    pipeline: Short = Field(description="Pipeline of the catalog.")
    strategy: Short = Field(description="OneNode or Spread.")
    summary: Text = Field(description="The plan in a sentence.")
    injected: Annotated[list[Text], Field(max_length=16)] = Field(
        default_factory=list,
        description="What was injected into the server's command line.",
        json_schema_extra=schema(list_type="atomic"),
    )
    pods: Annotated[list[PodPlan], Field(max_length=32)] = Field(
        default_factory=list, description="Pods of one replica.", json_schema_extra=schema(list_type="atomic")
    )
    edges: Annotated[list[EdgeStatus], Field(max_length=32)] = Field(
        default_factory=list,
        description="Edges with their transport.",
        json_schema_extra=schema(list_type="map", list_keys=["from", "to"]),
    )
    notes: Annotated[list[Text], Field(max_length=16)] = Field(
        default_factory=list,
        description="What else a reader should know.",
        json_schema_extra=schema(list_type="atomic"),
    )


class AnsweredServer(Model):
    """A server that answered its warm-up request."""

    pod: Short = Field(description="Pod.")
    since: Short = Field(description="When it had become ready.")


class NodeMemory(Model):
    """A node that may hold a shared-memory folder of a revision, until it has been removed."""

    node: Short = Field(description="Node.")
    revision: Short = Field(description="Revision.")


class OmniDeploymentStatus(Model):
    """What the operator chose and what runs."""

    conditions: Annotated[list[Condition], Field(max_length=16)] = Field(
        default_factory=list, description="Judgements.", json_schema_extra=schema(list_type="map", list_keys=["type"])
    )
    observed_generation: int | None = Field(
        default=None, description="Generation of the spec that this status is about."
    )
    revision: Short | None = Field(default=None, description="Active revision; its children carry it in their names.")
    backend: Short | None = Field(default=None, description="Backend in use.")
    transport: Short | None = Field(default=None, description="Transports in use, such as shm or MooncakeStore/tcp.")
    endpoint: Short | None = Field(
        default=None, description="Base URL of the OpenAI-compatible API inside the cluster."
    )
    replicas: int | None = Field(
        default=None,
        description="Replicas of the pipeline whose serving Deployment exists, wanted or not; the scale subresource "
        "reports them.",
    )
    ready_replicas: int | None = Field(default=None, description="Replicas of the pipeline that serve.")
    replicas_summary: Short | None = Field(default=None, description="Ready and wanted replicas, such as 1/1.")
    selector: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Label selector of the serving pods, for scaling."
    )
    plan: PlanStatus | None = Field(default=None, description="The plan of the active revision.")
    answered: Annotated[list[AnsweredServer], Field(max_length=64)] = Field(
        default_factory=list,
        description="Servers that answered their warm-up request since they became ready (serving.warmUp).",
        json_schema_extra=schema(list_type="map", list_keys=["pod"]),
    )
    node_memory: Annotated[list[NodeMemory], Field(max_length=1024)] = Field(
        default_factory=list,
        description="Nodes whose shared-memory folder has still to be removed when a revision ends.",
        json_schema_extra=schema(list_type="map", list_keys=["node", "revision"]),
    )
