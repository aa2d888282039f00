"""The registry: one module per connector, in the order in which transports are preferred."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from omni_operator.api.spec import Connector, Protocol
from omni_operator.connectors.base import SIZES, ConnectorModule
from omni_operator.connectors.registry import connector, connectors, rdma_fallbacks, used
from omni_operator.connectors.transport import TRANSPORTS, Transport
from omni_operator.engine.releases import releases

every_module = pytest.mark.parametrize("module", connectors(), ids=lambda module: module.kind.value)


def test_every_connector_of_the_api_has_a_module() -> None:
    assert {module.kind for module in connectors()} == set(Connector)
    assert all(connector(module.kind) is module for module in connectors())


def test_transports_are_those_of_the_modules() -> None:
    assert set(TRANSPORTS) == {Transport(m.kind, protocol) for m in connectors() for protocol in m.protocols}
    assert [m.kind for m in connectors()] == list(dict.fromkeys(t.connector for t in TRANSPORTS))


@every_module
def test_what_a_module_claims_was_measured_at_every_size(module: ConnectorModule) -> None:
    assert set(module.times) == set(module.protocols) - {Protocol.RDMA}
    for times in module.times.values():
        assert len(times.in_one_pod) == len(SIZES)
        assert len(times.between_pods) in {0, len(SIZES)}


@every_module
def test_modules_are_frozen_and_equal_to_themselves(module: ConnectorModule) -> None:
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        module.listens = True  # type: ignore[misc]
    assert len({*connectors()}) == len(Connector)


def test_used_gives_each_module_once_with_its_protocols() -> None:
    edges = [
        (Connector.MOONCAKE_STORE, Protocol.TCP),
        (None, Protocol.TCP),
        (Connector.SHARED_MEMORY, Protocol.SHM),
        (Connector.MOONCAKE_STORE, Protocol.RDMA),
    ]
    found = used(edges)
    assert [module.kind for module in found] == [Connector.SHARED_MEMORY, Connector.MOONCAKE_STORE]
    assert found[connector(Connector.MOONCAKE_STORE)] == {Protocol.TCP, Protocol.RDMA}


@pytest.mark.parametrize("release", releases(), ids=lambda release: release.series)
def test_only_mooncake_falls_back_without_an_error(release) -> None:
    mooncake = [Connector.MOONCAKE_STORE, Connector.MOONCAKE_TRANSFER_ENGINE]
    assert rdma_fallbacks([*mooncake, None], release=release) == (release.rdma_fallback,)
    assert rdma_fallbacks([Connector.NIXL, Connector.SHARED_MEMORY], release=release) == ()
    assert release.rdma_fallback.search("W0101 No RDMA devices found, falls back")
