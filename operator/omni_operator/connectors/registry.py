"""The connectors by kind.

The order is that of preference where nothing else decides (connectors/transport.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from omni_operator.api.spec import Connector, Protocol
from omni_operator.connectors.base import ConnectorModule
from omni_operator.connectors.mooncake_store import MooncakeStore
from omni_operator.connectors.mooncake_transfer_engine import MooncakeTransferEngine
from omni_operator.connectors.nixl import Nixl
from omni_operator.connectors.shared_memory import SharedMemory
from omni_operator.connectors.transport import TRANSPORTS
from omni_operator.engine.release import Release

_MODULES: Mapping[Connector, ConnectorModule] = {
    module.kind: module for module in (SharedMemory(), MooncakeTransferEngine(), Nixl(), MooncakeStore())
}
assert list(_MODULES) == list(dict.fromkeys(transport.connector for transport in TRANSPORTS))


def connector(kind: Connector) -> ConnectorModule:
    """The module of a connector."""
    return _MODULES[kind]


def connectors() -> tuple[ConnectorModule, ...]:
    """All modules, the preferred first."""
    return tuple(_MODULES.values())


def used(edges: Iterable[tuple[Connector | None, Protocol]]) -> dict[ConnectorModule, frozenset[Protocol]]:
    """The modules that edges use, the preferred first, with the protocols of each."""
    pairs = list(edges)
    found = {module: frozenset(p for kind, p in pairs if kind is module.kind) for module in connectors()}
    return {module: protocols for module, protocols in found.items() if protocols}


def rdma_fallbacks(kinds: Iterable[Connector | None], *, release: Release) -> tuple[re.Pattern[str], ...]:
    """Patterns of log lines that report TCP in the place of RDMA."""
    found = [_MODULES[kind].rdma_fallback(release) for kind in dict.fromkeys(kinds) if kind is not None]
    return tuple(dict.fromkeys(pattern for pattern in found if pattern is not None))
