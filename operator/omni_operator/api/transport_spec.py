"""The part of the spec about transport: what edges may use, must use and carry."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from omni_operator.api.base import Model, Quantity, ResourceName, in_words, rule, schema


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


class EdgeOverride(Model):
    """What the user says of one edge: the transport it must use, what it carries."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "!has(self.connector) || !has(self.protocol) || (self.connector == 'SharedMemory') == "
                    "(self.protocol == 'shm')",
                    "transport.edges: protocol shm belongs to connector SharedMemory, and only to it; change one of "
                    "the two",
                    message_expression="'transport.edges[' + self.from + ' -> ' + self.to + ']: connector ' + "
                    "self.connector + ' has no protocol ' + self.protocol + ' (shm belongs to SharedMemory, and only "
                    "to it); change one of the two'",
                ),
                rule(
                    "has(self.connector) || has(self.protocol) || has(self.payload)",
                    "transport.edges: set connector, protocol or payload",
                    message_expression="'transport.edges[' + self.from + ' -> ' + self.to + '] asks for nothing; set "
                    "connector, protocol or payload, or remove the entry'",
                ),
                rule(
                    "!has(self.payload) || !isQuantity(string(self.payload)) || "
                    "(quantity(string(self.payload)).compareTo(quantity('1Ki')) >= 0 && "
                    "quantity(string(self.payload)).compareTo(quantity('1Ti')) <= 0)",
                    "transport.edges: a payload is from 1Ki to 1Ti; correct it",
                    message_expression="'transport.edges[' + self.from + ' -> ' + self.to + '].payload ' + "
                    "string(self.payload) + ': a payload is from 1Ki to 1Ti; correct it'",
                ),
            ]
        ),
    }
    from_stage: Annotated[str, Field(min_length=1, max_length=63)] = Field(alias="from", description="Producing stage.")
    to_stage: Annotated[str, Field(min_length=1, max_length=63)] = Field(alias="to", description="Consuming stage.")
    connector: Connector | None = Field(default=None, description="Connector this edge must use.")
    protocol: Protocol | None = Field(default=None, description="Protocol this edge must use.")
    payload: Quantity | None = Field(
        default=None,
        description="What one request usually sends over this edge, from 1Ki to 1Ti; a sixteenth of the pipeline's "
        "bound when not set. Of TCP connectors the one that is quickest for it is taken, inside a pod also in place of "
        "shared memory. More than the bound raises the bound, and with it the memory of the pods.",
    )

    @property
    def asked(self) -> bool:
        """Whether it asks for a transport."""
        return self.connector is not None or self.protocol is not None


class TransportSpec(Model):
    """How tensors travel between stages."""

    model_config = {
        **Model.model_config,
        "json_schema_extra": schema(
            rules=[
                rule(
                    "self.rdma != 'Never' || !has(self.edges) || self.edges.all(e, !has(e.protocol) || e.protocol != "
                    "'rdma')",
                    "transport.edges asks for protocol rdma while transport.rdma is Never; change one of the two",
                ),
                rule(
                    "self.rdma != 'Require' || !has(self.edges) || self.edges.all(e, !has(e.protocol) || e.protocol != "
                    "'tcp')",
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
        description="Prefer uses RDMA between nodes where the nodes offer it and falls back to TCP, saying why. "
        "Require stops before any accelerator is taken when RDMA cannot be used. Never uses TCP.",
    )
    rdma_resource: ResourceName | None = Field(
        default=None,
        description="Extended resource of an RDMA device plugin, such as rdma/hca. When not set, the resource with the "
        "prefix rdma/ that the nodes offer.",
    )
    rdma_device: Annotated[str, Field(max_length=128, pattern=r"^[-A-Za-z0-9_.,:]+$")] | None = Field(
        default=None,
        description="HCA names for Mooncake, such as mlx5_0; its own choice when not set.",
        json_schema_extra=in_words(
            r"^[-A-Za-z0-9_.,:]+$", "transport.rdmaDevice is a list of HCA names such as mlx5_0,mlx5_1; correct it"
        ),
    )
    shared_memory: SharedMemoryPolicy = Field(
        default=SharedMemoryPolicy.ALLOW,
        description="Allow lets pods on one node share memory through a folder below the node's /dev/shm, when the "
        "namespace's pod security level permits a hostPath and the image runs as root, for whom the kubelet makes the "
        "folder. PodOnly uses shared memory inside one pod only.",
    )
    edges: Annotated[list[EdgeOverride], Field(max_length=32)] = Field(
        default_factory=list,
        description="Choices per edge; one that cannot work is refused with the reason.",
        json_schema_extra=schema(list_type="map", list_keys=["from", "to"]),
    )
