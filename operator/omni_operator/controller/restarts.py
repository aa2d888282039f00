"""How often the operator has ended servers: a stage that fails again and again must not make its server start every time.

A server that lost what it joined is ended at once, since it cannot answer. One that had served for a while gets its successor at
once; those that follow each other get theirs later each time, as containers do from the kubelet. It is kept in memory: a new process
of the operator begins anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_PAUSE, LONGEST_PAUSE = 20.0, 600.0
CALM = 60.0  # seconds that a server must have been ready for its end to be a story of its own
# Seconds after which an end is no longer the cause of the next: longer than a pause and an engine that starts, so that a row is not cut.
FORGOTTEN = 3600.0

Past = tuple[str, str, str]  # key of an OmniDeployment, revision, replica


@dataclass(slots=True)
class _Ended:
    count: int
    last: float
    pod: str
    why: str


@dataclass(slots=True)
class Restarts:
    """Ended servers of every replica of a revision."""

    clock: Callable[[], float] = time.monotonic
    _ended: dict[Past, _Ended] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        """Drops what is known of an OmniDeployment that is gone."""
        for past in [past for past in self._ended if past[0] == key]:
            del self._ended[past]

    def was_ended(self, past: Past, pod: str) -> bool:
        """Whether this very server has been ended."""
        found = self._ended.get(past)
        return found is not None and found.pod == pod

    def wait(self, past: Past) -> float:
        """Seconds until the next server may be made; 0 when it may be now."""
        pause = self._pause(past)
        return max(0.0, self._ended[past].last + pause - self.clock()) if pause else 0.0

    def told(self, past: Past) -> str:
        """Which server was ended last, and why; empty when none was."""
        found = self._ended.get(past)
        return f"pod {found.pod} was ended, since {found.why}" if found else ""

    def why(self, past: Past) -> str:
        """What is waited for, in words that do not change meanwhile."""
        count = self._ended[past].count
        return f"{self.told(past)}; that makes {count} in a row, so the next is made {math.ceil(self._pause(past))} s after it"

    def again(self, past: Past, *, lasted: float) -> bool:
        """Whether a server that was ready for so many seconds is lost so soon after the one before it."""
        found = self._ended.get(past)
        return found is not None and lasted < CALM and self.clock() - found.last < FORGOTTEN

    def note(self, past: Past, pod: str, why: str, *, lasted: float) -> float:
        """A server was ended that had been ready for so many seconds; the seconds until the next may be made."""
        before = self._ended[past].count if self.again(past, lasted=lasted) else 0
        self._ended[past] = _Ended(before + 1, self.clock(), pod, why)
        return self._pause(past)

    def _pause(self, past: Past) -> float:
        count = self._ended[past].count if past in self._ended else 0
        return float(min(FIRST_PAUSE * 2 ** min(count - 2, 10), LONGEST_PAUSE)) if count > 1 else 0.0
