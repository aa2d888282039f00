"""Two watchers of a pipeline: one that asks it again and again, and one that reads its status."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster import shell
from e2e.cluster_under_test import Omni
from omni_operator.cli.access import AccessError

PATIENCE = 30.0  # seconds that a client waits for an answer


@dataclass(slots=True)
class Request:
    """One request: when it was sent and ended, and whether it was answered."""

    sent: float
    ended: float
    answered: bool


@dataclass(slots=True)
class Client(threading.Thread):
    """Sends one request after the other."""

    omni: Omni
    requests: list[Request] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread.__init__(self, daemon=True)

    __hash__ = object.__hash__

    def run(self) -> None:
        """Until it is stopped."""
        while not self.stopping.is_set():
            sent = time.monotonic()
            try:
                answered = bool(self.omni.ask("hello", seconds=PATIENCE).get("text"))
            except (AccessError, RuntimeError, shell.CommandError, KeyError):
                answered = False
            self.requests.append(Request(sent, time.monotonic(), answered))
            self.stopping.wait(0.5)

    def answered_since(self, moment: float) -> float | None:
        """When the first answer ended of a request that was sent after a moment."""
        return next((r.ended for r in self.requests if r.answered and r.sent >= moment), None)

    def lost_since(self, moment: float) -> int:
        """Requests that were under way at a moment, or sent later, and got no answer."""
        return sum(not r.answered for r in self.requests if r.ended >= moment)


@dataclass(frozen=True, slots=True)
class Said:
    """What status said from a moment on."""

    at: float
    ready: bool
    reason: str
    message: str


def said(omni: Omni) -> Said:
    """What status says now: the first condition that is False for a reason of its own, or Ready."""
    conditions: dict[str, Any] = {c["type"]: c for c in omni.status().get("conditions") or ()}
    ready = conditions.get("Ready", {})
    cause = ready
    if ready.get("status") != "True":
        false = [
            conditions[k] for k in ("RayClusterReady", "ServingReady") if conditions.get(k, {}).get("status") == "False"
        ]
        starting = {"ServerStarting", "RayStarting", "WarmingUp"}
        cause = next((c for c in false if c["reason"] not in starting), false[0] if false else ready)
    return Said(time.monotonic(), ready.get("status") == "True", str(cause.get("reason")), str(cause.get("message")))
