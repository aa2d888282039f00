"""The interface of connectors and the values that its methods take; no I/O.

Frozen values in, frozen values out, no I/O.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from omni_operator.api.spec import AcceleratorType, Backend, Connector, Protocol, RdmaPolicy, SharedMemoryPolicy
from omni_operator.connectors.transport import Fact, Reach
from omni_operator.engine.release import Release
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import KIB, MIB

SIZES = (KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB)  # bytes of the payloads that were measured, see Times


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Milliseconds of a put and a get, one for each of SIZES.

    Measured by `bench/transfers` between two processes of vllm-omni 0.30.

    Attributes:
        in_one_pod: Between two processes of one pod.
        between_pods: Between two pods; empty where the connector does not reach that far.
    """

    in_one_pod: tuple[float, ...]
    between_pods: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the engine image has, as the spec or the release's record says.

    Attributes:
        mooncake: Version of Mooncake.
        nixl: Whether it has the nixl package.
    """

    mooncake: str
    nixl: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The place of one edge: everything by which a connector can tell whether it works there.

    Attributes:
        release: The release.
        backend: How stages run.
        reach: How far apart the ends are.
        protocol: The protocol that is asked about.
        requested: Whether the user asks for a transport on this edge (transport.edges).
        image: What the image has.
        accelerator: Device family.
        pod_security: Level that the namespace enforces.
        pods_ours: False with ray.clusterRef: pods whose volumes and devices the operator does not
            decide.
        shared_memory: transport.sharedMemory.
        rdma_policy: transport.rdma.
        rdma: The RDMA resource that pods at the ends can request, or None.
        rdma_missing: Why it is None.
    """

    release: Release
    backend: Backend
    reach: Reach
    protocol: Protocol
    requested: bool
    image: ImageFacts
    accelerator: AcceleratorType
    pod_security: PodSecurity
    pods_ours: bool
    shared_memory: SharedMemoryPolicy
    rdma_policy: RdmaPolicy
    rdma: str | None
    rdma_missing: Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """Where the clients of a store find it, and what each of them gives it.

    Attributes:
        host: DNS name of its Service.
        rpc_port: Port of its master.
        http_port: Port of its metadata server.
        segment_bytes: Memory that each client adds to the store.
        localbuf_bytes: Buffer of each client for one payload.
    """

    host: str
    rpc_port: int
    http_port: int
    segment_bytes: int
    localbuf_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """What the plan has decided for an edge, for its entry in the stage configuration.

    Attributes:
        protocol: What carries the bytes.
        port: Base port of the producer's listener; 0 where the connector does not listen.
        pool_bytes: Pinned pool of each end; 0 where the connector pins none.
        rdma_device: transport.rdmaDevice, for RDMA.
        store: The store; None where no edge uses one.
    """

    protocol: Protocol
    port: int
    pool_bytes: int
    rdma_device: str | None
    store: StoreAddress | None


class ConnectorModule(ABC):
    """One connector.

    Attributes:
        kind: Its name in the API.
        protocols: What can carry its bytes.
        listens: Whether the producer binds a port, by the release's formula.
        needs_store: Whether all its edges share a store, which has one protocol and a master of its
            own.
        times: Measured times by protocol; none for RDMA, of which nothing is claimed but its rank.
        rdma_fallback_note: What happens without an error when it finds no RDMA device, for a note
            of the plan.
    """

    __slots__ = ()

    kind: ClassVar[Connector]
    protocols: ClassVar[tuple[Protocol, ...]]
    listens: ClassVar[bool] = False
    needs_store: ClassVar[bool] = False
    times: ClassVar[Mapping[Protocol, Times]] = MappingProxyType({})
    rdma_fallback_note: ClassVar[str] = ""

    def reject_backend(self, backend: Backend, *, release: Release) -> Fact | None:
        """Why it cannot be used with a backend, wherever the ends are."""
        del backend, release
        return None

    def reject_image(self, site: Site) -> Fact | None:
        """Why the image or its accelerators cannot run it."""
        del site
        return None

    @abstractmethod
    def reject_place(self, site: Site) -> Fact | None:
        """Why it cannot be used between two ends: reach, pod security, RDMA, the user's rules."""

    @abstractmethod
    def settings(self, edge: EdgeSettings) -> dict[str, Any]:
        """Its `extra` in the stage configuration.

        The caller leaves out keys that a release does not read.
        """

    def environment(self, protocols: Collection[Protocol], *, rdma_device: str | None) -> dict[str, str]:
        """Environment of pods whose edges use it with these protocols."""
        del protocols, rdma_device
        return {}

    def image_check(self, image: ImageFacts) -> tuple[str, ...]:
        """Options of the image check (launcher/check_image.py).

        With them pods start only with the library that the plan relies on.
        """
        del image
        return ()

    def pool_bytes(self, max_payload_bytes: int) -> int:
        """Memory that each end of an edge pins."""
        del max_payload_bytes
        return 0

    def torn_note(self, image: ImageFacts) -> str:
        """What happens to payloads over TCP with the image's library, after a fallback from RDMA.

        Empty when nothing does.
        """
        del image
        return ""

    def notes(self, protocols: Collection[Protocol], *, image: ImageFacts) -> tuple[str, ...]:
        """What the user should know of a plan whose edges use it with these protocols."""
        del protocols, image
        return ()

    def rdma_fallback(self, release: Release) -> re.Pattern[str] | None:
        """What it logs when it uses TCP although RDMA was requested; None when it logs nothing."""
        del release
        return None
