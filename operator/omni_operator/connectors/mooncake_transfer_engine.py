"""MooncakeTransferEngine: the consumer pulls from a pinned pool of the listening producer."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from omni_operator.api.spec import AcceleratorType, Backend, Connector, Protocol
from omni_operator.connectors import mooncake, network
from omni_operator.connectors.base import ConnectorModule, EdgeSettings, ImageFacts, Site, Times
from omni_operator.connectors.transport import Fact, Rejection
from omni_operator.engine.release import Release
from omni_operator.topology.quantity import MIB, round_up

IN_POOL = 2  # payloads that fit into a pool, as upstream ships them: 4 GiB for a KV cache of 2
_LEAST_POOL = 256 * MIB


@dataclass(frozen=True, slots=True)
class MooncakeTransferEngine(ConnectorModule):
    """The connector that is fastest with RDMA."""

    kind = Connector.MOONCAKE_TRANSFER_ENGINE
    protocols = (Protocol.RDMA, Protocol.TCP)
    listens = True
    times = {
        Protocol.TCP: Times(
            in_one_pod=(1.8, 4.7, 14.2, 42.2, 482.9),
            between_pods=(2.7, 7.8, 21.5, 64.6, 464.6),
        )
    }
    rdma_fallback_note = mooncake.FALLBACK_NOTE

    def reject_backend(self, backend: Backend, *, release: Release) -> Fact | None:
        """With Ray the server is an end of every edge, and it has no accelerator."""
        if backend is not Backend.RAY:
            return None
        return (
            Rejection.NEEDS_ACCELERATOR_IN_SERVING_POD,
            f"on vllm-omni {release.series} with Ray the server opens every edge's connector, this one pins memory by "
            "CUDA, and the serving pod has no accelerator",
        )

    def reject_image(self, site: Site) -> Fact | None:
        """Why the image or the accelerator excludes it.

        It reads at once what Mooncake reports as arrived, and pins memory by an accelerator's
        runtime.
        """
        if site.protocol is Protocol.TCP and not mooncake.mooncake_acknowledges(site.image.mooncake):
            return (
                Rejection.LIBRARY_VERSION,
                f"the image has Mooncake {site.image.mooncake}; one before 0.3.12 says that a TCP write is done before "
                "it has arrived (TcpWritesUnacknowledged), and this connector reads at once",
            )
        # An image for CPUs that can do it anyway is the user's to know.
        if site.accelerator is AcceleratorType.CPU and site.backend is not Backend.RAY and not site.requested:
            return (
                Rejection.NEEDS_ACCELERATOR,
                "this connector pins memory by an accelerator's runtime, and a CPU has none",
            )
        return None

    def reject_place(self, site: Site) -> Fact | None:
        """As every connector of a network."""
        return network.reject_place(site)

    def settings(self, edge: EdgeSettings) -> dict[str, Any]:
        """Its `extra`.

        The engine finds the host: since 0.26 the head sends each receiver the address of its
        sender.
        """
        found: dict[str, Any] = {
            "host": "auto",
            "zmq_port": edge.port,
            "protocol": edge.protocol.value,
            "memory_pool_size": edge.pool_bytes,
            "memory_pool_device": "cpu",
        }
        if edge.protocol is Protocol.RDMA and edge.rdma_device:
            found["device_name"] = edge.rdma_device
        return found

    def image_check(self, image: ImageFacts) -> tuple[str, ...]:
        """As every Mooncake connector."""
        return mooncake.image_check(image)

    def pool_bytes(self, max_payload_bytes: int) -> int:
        """Bytes of its pool.

        A put into a full pool fails ("Pool exhausted"), and a buffer stays until it is pulled.
        """
        return max(_LEAST_POOL, round_up(IN_POOL * max_payload_bytes, to=64 * MIB))

    def torn_note(self, image: ImageFacts) -> str:
        """As every Mooncake connector."""
        return mooncake.torn_note(image)

    def notes(self, protocols: Collection[Protocol], *, image: ImageFacts) -> tuple[str, ...]:
        """Its pools are locked memory."""
        del protocols, image
        return (
            "MooncakeTransferEngine pins its pools: the container runtime must allow locked memory of that size "
            "(ulimit memlock)",
        )

    def rdma_fallback(self, release: Release) -> re.Pattern[str] | None:
        """Only Mooncake's log says that it uses TCP."""
        return release.rdma_fallback
