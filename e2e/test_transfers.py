"""Payloads over every connector that runs without an accelerator pass, or fail, as planned."""

from __future__ import annotations

import pytest

from e2e.transfers import edges, pods
from e2e.transfers.edges import ONE, TWO, Laid, Scenario
from e2e.transfers.pods import Transfer
from omni_operator.api.spec import Connector
from omni_operator.children.names import Owner
from omni_operator.engine.releases import release_of
from omni_operator.planning.model import PlanError
from omni_operator.topology.quantity import MIB, round_up

SIZES = (1 << 10, MIB, 64 * MIB)
CASES = {
    "0.16-node-memory": (Scenario("0.16", "glm_image", ONE), "SharedMemory/shm"),
    "0.16-store": (Scenario("0.16", "glm_image", TWO), "MooncakeStore/tcp"),
    "0.30-pod-memory": (Scenario("0.30", "indextts2", ONE), "SharedMemory/shm"),
    "0.30-store": (Scenario("0.30", "indextts2", TWO).forcing("MooncakeStore"), "MooncakeStore/tcp"),
    "0.30-nixl": (Scenario("0.30", "indextts2", TWO).forcing("Nixl"), "Nixl/tcp"),
    "0.30-transfer-engine": (Scenario("0.30", "indextts2", TWO), "MooncakeTransferEngine/tcp"),
}

LONG = {"0.16-node-memory"}  # it is what the real engine's tests use


def laid_out(scenario: Scenario, space: str) -> Laid:
    """The scenario's plan in a namespace."""
    found = edges.plan(scenario, Owner(namespace=space, name="edge", uid="0"))
    assert not isinstance(found, PlanError), found.message
    return found


def capacity(laid: Laid) -> int:
    """Bytes of the largest payload that fits the plan; 0 without a bound (Nixl: only memory)."""
    plan = laid.revision.plan
    if laid.edge.connector is Connector.MOONCAKE_STORE:
        assert plan.store is not None
        return plan.store.localbuf_bytes
    if laid.edge.connector is Connector.SHARED_MEMORY:
        return 0 if plan.node_shared_memory else plan.serving.sizes.shm_bytes  # a node's memory is not the plan's
    return laid.edge.pool_bytes


@pytest.mark.usefixtures("real_engine", "modern_engine")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.full) if case in LONG else case for case in CASES]
)
def test_payloads_pass_as_planned(case: str, space: str) -> None:
    """1 KiB, 1 MiB and 64 MiB (the bound of the pipelines) pass; one that does not fit fails."""
    scenario, transport = CASES[case]
    laid = laid_out(scenario, space)
    assert laid.transport == transport
    assert laid.producer.connector == laid.consumer.connector == laid.edge.connector_class
    most = capacity(laid)
    assert not most or most > laid.edge.max_payload_bytes >= max(SIZES)
    over = [round_up(most + MIB, to=MIB)] if most else []
    found = pods.move(laid, [*SIZES, *over])
    assert [(t.size, t.put, t.got, t.error) for t in found[: len(SIZES)]] == [(size, True, True, "") for size in SIZES]
    for transfer in found[len(SIZES) :]:
        assert not transfer.got
        assert _as_recorded(laid, transfer)


def _as_recorded(laid: Laid, transfer: Transfer) -> bool:
    """How a payload that is too large fails, by what is known of the release."""
    if laid.edge.connector is Connector.SHARED_MEMORY:  # SIGBUS
        return transfer.error == "the producer died"
    lost = "StorePutErrorsLost" in {defect.code for defect in release_of(laid.revision.plan.series).defects}
    return transfer.put is (lost and laid.edge.connector is Connector.MOONCAKE_STORE)


@pytest.mark.usefixtures("real_engine")
def test_memory_that_is_not_shared_carries_nothing(space: str) -> None:
    """SharedMemoryConnector fails between pods on two nodes, as rejected with NoSharedMemory."""
    laid = laid_out(Scenario("0.16", "glm_image", ONE), space)
    assert [(t.put, t.got) for t in pods.move(laid, [MIB], apart=True)] == [(True, False)]
