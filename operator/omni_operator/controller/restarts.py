"""How often the operator may end servers: a stage that fails again and again must not take its server along every time.

Containers have the kubelet's own back-off; this is the same for what the operator does. It is kept in memory: a new process of the
operator begins anew, which costs one restart at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

FIRST_PAUSE, LONGEST_PAUSE = 20.0, 600.0
FORGOTTEN_AFTER = 1200.0  # seconds without a restart; longer than the longest pause and a start together


@dataclass(slots=True)
class _Past:
    count: int = 0
    last: float = float("-inf")


@dataclass(slots=True)
class Restarts:
    """Ended servers by OmniDeployment and replica."""

    clock: Callable[[], float] = time.monotonic
    _past: dict[str, dict[str, _Past]] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        """Drops what is known of an OmniDeployment that is gone, or was changed."""
        self._past.pop(key, None)

    def count(self, key: str, replica: str) -> int:
        """Servers of a replica that were ended in a row."""
        past = self._past.get(key, {}).get(replica)
        return past.count if past is not None and self.clock() - past.last < FORGOTTEN_AFTER else 0

    def wait(self, key: str, replica: str) -> float:
        """Seconds until its server may be ended; 0 when it may be now. The first is ended at once."""
        past = self._past.get(key, {}).get(replica, _Past())
        return max(0.0, past.last + self.pause(key, replica) - self.clock())

    def pause(self, key: str, replica: str) -> float:
        """Seconds from the last end to the next."""
        count = self.count(key, replica)
        return float(min(FIRST_PAUSE * 2 ** (count - 1), LONGEST_PAUSE)) if count else 0.0

    def note(self, key: str, replica: str) -> None:
        """A server of a replica was ended."""
        count = self.count(key, replica)
        self._past.setdefault(key, {})[replica] = _Past(count + 1, self.clock())
