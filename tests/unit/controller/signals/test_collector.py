"""Background work begins after a reconcile and ends with what it was about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from omni_operator.controller.state.signals import NOT_OBSERVED, TransferObservation
from tests.unit import make
from tests.unit.controller.harness import Harness


@pytest.fixture
async def counted() -> Harness:
    """A pipeline whose transfers have been counted."""
    harness = Harness()
    await harness.bring_up()
    (omni,) = harness.store.omnis.values()
    monitor: Any = SimpleNamespace(task=None, pods=frozenset(), found=TransferObservation(counted=frozenset({(0, 1)})))
    harness.reconciler.collector.transfers._monitors[omni.uid] = monitor
    return harness


async def test_what_was_counted_of_a_revision_is_not_said_of_the_next(counted: Harness) -> None:
    (omni,) = counted.store.omnis.values()
    assert counted.reconciler.collector.signals(omni.uid).transfers != NOT_OBSERVED
    counted.edit(model={"name": make.TWO_STAGES})
    await counted.reconcile()
    assert counted.condition("Progressing")["reason"] == "Draining"
    assert {edge["observed"] for edge in counted.status["plan"]["edges"]} == {"Unknown"}
    assert counted.reconciler.collector.signals(omni.uid).transfers == NOT_OBSERVED
