"""Nixl: transfers by UCX, which chooses among the transports that its environment allows.

The producer listens on a port.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from omni_operator.api.spec import Connector, Protocol
from omni_operator.connectors import network
from omni_operator.connectors.base import ConnectorModule, EdgeSettings, Site, Times
from omni_operator.connectors.transport import Fact, Rejection


@dataclass(frozen=True, slots=True)
class Nixl(ConnectorModule):
    """The connector that needs a package which official images do not have."""

    kind = Connector.NIXL
    protocols = (Protocol.RDMA, Protocol.TCP)
    listens = True
    times = {
        Protocol.TCP: Times(
            in_one_pod=(12.4, 18.8, 16.4, 35.7, 152.2),
            between_pods=(22.8, 38.6, 47.8, 87.1, 296.3),
        )
    }

    def reject_image(self, site: Site) -> Fact | None:
        """Only the user knows whether the image has it."""
        if site.image.nixl:
            return None
        return Rejection.LIBRARY_MISSING, "the image is not known to have the nixl package (engine.nixl)"

    def reject_place(self, site: Site) -> Fact | None:
        """As every connector of a network."""
        return network.reject_place(site)

    def settings(self, edge: EdgeSettings) -> dict[str, Any]:
        """UCX chooses the transport by its environment."""
        return {"host": "auto", "zmq_port": edge.port, "backends": ["UCX"]}

    def environment(self, protocols: Collection[Protocol], *, rdma_device: str | None) -> dict[str, str]:
        """What UCX may use.

        Without RDMA transports in the list it never tries one; without tcp in it, it cannot fall
        back without an error.
        """
        if Protocol.RDMA not in protocols:
            return {"UCX_TLS": "tcp,self,sm"}
        found = {"UCX_TLS": "rc,ud,self,sm"}
        if rdma_device:
            named = [
                device if ":" in device else f"{device}:1" for device in rdma_device.split(",")
            ]  # UCX names a port
            found["UCX_NET_DEVICES"] = ",".join(named)
        return found
