"""Transports, the reach of an edge, and the codes of facts that exclude a transport."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from omni_operator.api.spec import Connector, Protocol


class Rejection(StrEnum):
    """Why a transport is not used on an edge; docs/reference/transport.md has the stable codes."""

    NO_SHARED_MEMORY = "NoSharedMemory"
    HOST_MEMORY_FORBIDDEN = "HostMemoryForbidden"
    NO_RDMA_ON_NODE = "NoRdmaOnNode"
    CAPABILITY_FORBIDDEN = "CapabilityForbidden"
    RELEASE_LACKS_CONNECTOR = "ReleaseLacksConnector"
    HANDED_ON_BY_SERVER = "HandedOnByServer"
    PORTS_COLLIDE = "PortsCollide"
    RELEASE_IGNORES_CONNECTOR = "ReleaseIgnoresConnector"
    ASYNC_CHUNK_UNSUPPORTED = "AsyncChunkUnsupported"
    MIDDLE_STAGE_UNSUPPORTED = "MiddleStageUnsupported"
    SYNCHRONOUS_UNSUPPORTED = "SynchronousUnsupported"
    KV_CACHE_UNSUPPORTED = "KvCacheUnsupported"
    ONE_CONNECTOR_PER_STAGE = "OneConnectorPerStage"
    NEEDS_ACCELERATOR = "NeedsAccelerator"
    NEEDS_ACCELERATOR_IN_SERVING_POD = "NeedsAcceleratorInServingPod"
    LIBRARY_MISSING = "LibraryMissing"
    LIBRARY_VERSION = "LibraryVersion"
    PODS_NOT_OURS = "PodsNotOurs"
    FORBIDDEN_BY_USER = "ForbiddenByUser"


class Reach(StrEnum):
    """How far apart the two ends of an edge are, as the pods are constrained."""

    SAME_POD = "SamePod"
    SAME_NODE = "SameNode"
    CROSS_NODE = "CrossNode"


@dataclass(frozen=True, slots=True)
class Transport:
    """A connector with its protocol."""

    connector: Connector
    protocol: Protocol

    def __str__(self) -> str:
        """As in status: shm, or Connector/protocol."""
        return "SharedMemory/shm" if self.protocol is Protocol.SHM else f"{self.connector}/{self.protocol}"


Fact = tuple[Rejection, str]
"""Why a transport is not usable: a code, and the fact that caused it."""

SHARED_MEMORY = Transport(Connector.SHARED_MEMORY, Protocol.SHM)

# Best first where nothing else decides (docs/reference/transport.md).
TRANSPORTS: tuple[Transport, ...] = (
    SHARED_MEMORY,
    Transport(Connector.MOONCAKE_TRANSFER_ENGINE, Protocol.RDMA),
    Transport(Connector.NIXL, Protocol.RDMA),
    Transport(Connector.MOONCAKE_STORE, Protocol.RDMA),
    Transport(Connector.MOONCAKE_TRANSFER_ENGINE, Protocol.TCP),
    Transport(Connector.NIXL, Protocol.TCP),
    Transport(Connector.MOONCAKE_STORE, Protocol.TCP),
)
