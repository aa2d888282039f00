"""MooncakeStore: a distributed store that all its edges share.

It works between any two pods, with a master per revision. It works between any two pods, with a
master per revision.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from omni_operator.api.spec import Connector, Protocol
from omni_operator.connectors import mooncake, network
from omni_operator.connectors.base import ConnectorModule, EdgeSettings, ImageFacts, Site, Times
from omni_operator.connectors.transport import Fact, Rejection
from omni_operator.engine.release import Release
from omni_operator.topology.quantity import MIB, round_up

# Nobody deletes what is in the store: it stays leased for 5 s after a read (mooncake_master's
# default_kv_lease_ttl) and is evicted then. Two clients at least give room for the payloads of 4
# requests and as many that were read. It bounds no rate: 25 payloads of 64 MiB that followed each
# other at once were too many (run; 15 passed, 0.16 said of the others that they were put, 0.30
# refused them).
IN_SEGMENT = 4


@dataclass(frozen=True, slots=True)
class MooncakeStore(ConnectorModule):
    """The connector that every release has and that reaches everywhere."""

    kind = Connector.MOONCAKE_STORE
    protocols = (Protocol.RDMA, Protocol.TCP)
    needs_store = True
    times = {
        Protocol.TCP: Times(
            in_one_pod=(2.6, 6.7, 22.7, 79.0, 470.3),
            between_pods=(3.4, 11.4, 23.8, 92.4, 455.5),
        )
    }
    rdma_fallback_note = mooncake.FALLBACK_NOTE

    def reject_image(self, site: Site) -> Fact | None:
        """It needs a Mooncake that still has with_soft_pin."""
        if mooncake.mooncake_has_store(site.image.mooncake):
            return None
        return (
            Rejection.LIBRARY_VERSION,
            f"the image has Mooncake {site.image.mooncake}, and this connector needs one before 0.3.13 (with_soft_pin)",
        )

    def reject_place(self, site: Site) -> Fact | None:
        """As every connector of a network."""
        return network.reject_place(site)

    def settings(self, edge: EdgeSettings) -> dict[str, Any]:
        """All edges name the same master and metadata server."""
        store = edge.store
        assert store is not None
        found: dict[str, Any] = {
            "host": "127.0.0.1",  # a label only: Mooncake finds the pod's own address (run with 0.3.8 and 0.3.11)
            "metadata_server": f"http://{store.host}:{store.http_port}/metadata",
            "master": f"{store.host}:{store.rpc_port}",
            "segment": store.segment_bytes,
            "localbuf": store.localbuf_bytes,
            "proto": edge.protocol.value,
        }
        if edge.protocol is Protocol.RDMA and edge.rdma_device:
            found["rdma"] = edge.rdma_device
        return found

    def image_check(self, image: ImageFacts) -> tuple[str, ...]:
        """As every Mooncake connector, and the upper bound of its own."""
        below = mooncake.dotted(mooncake.MOONCAKE_STORE_BELOW)
        return *mooncake.image_check(image), f"--mooncake-below={below}"

    def torn_note(self, image: ImageFacts) -> str:
        """As every Mooncake connector."""
        return mooncake.torn_note(image)

    def notes(self, protocols: Collection[Protocol], *, image: ImageFacts) -> tuple[str, ...]:
        """A note for Mooncake before 0.3.12: its payloads over TCP may be torn.

        It is used nevertheless, because old releases have no other connector.
        """
        if Protocol.TCP not in protocols or mooncake.mooncake_acknowledges(image.mooncake):
            return ()
        return (
            f"Mooncake {image.mooncake} says that a TCP write is done before it has arrived, so a payload that is read "
            "at once may be torn (TcpWritesUnacknowledged); use an image with Mooncake 0.3.12 and say so in "
            "engine.mooncakeVersion",
        )

    def rdma_fallback(self, release: Release) -> re.Pattern[str] | None:
        """Only Mooncake's log says that it uses TCP."""
        return release.rdma_fallback


def segment_bytes(largest: int) -> int:
    """What each client adds to a store whose largest payload is so large."""
    return max(64 * MIB, round_up(IN_SEGMENT * largest, to=64 * MIB))


def localbuf_bytes(largest: int) -> int:
    """A client's buffer.

    A larger payload is lost without an error on 0.14-0.18, which ignore the return code.
    """
    return max(16 * MIB, round_up(largest + largest // 4, to=16 * MIB))
