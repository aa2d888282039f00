"""News of a status is written at once; mere progress with pauses that grow."""

from __future__ import annotations

from typing import Any

from omni_operator.controller.apply.pauses import StatusPauses


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def status(number: int, *, ready: str = "False", reason: str = "RayStarting") -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": f"{number} of 4 workers"}
    return {"observedGeneration": 1, "revision": "a", "nodeMemory": [], "conditions": [condition]}


def test_a_night_of_progress_costs_a_write_in_a_minute() -> None:
    clock, written = Clock(), status(0)
    pauses, writes = StatusPauses(5.0, clock=clock), []
    for second in range(3600):
        clock.now = float(second)
        new = status(second)
        if new != written and not pauses.left("u", written, new):
            written = new
            writes.append(second)
    assert writes[:4] == [16, 62, 123, 184]
    assert len(writes) == 59


def test_a_step_waits_for_the_first_pause_only_however_long_it_has_taken() -> None:
    clock = Clock()
    pauses, written = StatusPauses(5.0, clock=clock), status(0)
    for second in range(600):
        clock.now = float(second)
        if not pauses.left("u", written, status(second)):
            written = status(second)
    step = status(600, reason="ServerStarting")
    assert pauses.left("v", written, step) == 5
    clock.now += 5
    assert pauses.left("v", written, step) == 0


def test_news_is_written_at_once_and_begins_anew() -> None:
    clock = Clock()
    pauses = StatusPauses(5.0, clock=clock)
    for second in (0, 15, 16, 61, 62):
        clock.now = float(second)
        pauses.left("u", status(0), status(second + 1))
    assert pauses.left("u", status(1), status(1, ready="True", reason="Serving")) == 0
    assert pauses.left("u", status(1), status(2)) == 15


def test_progress_that_is_taken_back_is_not_written() -> None:
    clock = Clock()
    pauses = StatusPauses(5.0, clock=clock)
    assert pauses.left("u", status(0), status(1)) == 15
    clock.now = 14
    assert pauses.left("u", status(0), status(0)) == 0
    clock.now = 16
    assert pauses.left("u", status(0), status(2)) == 15
