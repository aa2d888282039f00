"""A queue of keys: never two workers on one key, no key twice, and a user's edit before a resync.

The algorithm is client-go's workqueue with priorities; see also dask-gateway's workqueue.py, whose
tests inspired ours.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from dataclasses import dataclass, field
from enum import IntEnum


class Priority(IntEnum):
    """Lower goes first."""

    EDIT = 0
    EVENT = 1
    RESYNC = 2


_FIRST_DELAY, _LAST_DELAY = 0.25, 60.0


@dataclass(slots=True)
class KeyedQueue:
    """Keys to reconcile.

    `get` hands out a key and `done` gives it back; a key added meanwhile is handed out again.
    """

    _heap: list[tuple[int, int, str]] = field(default_factory=list)
    _waiting: dict[str, int] = field(default_factory=dict)
    _active: set[str] = field(default_factory=set)
    _again: dict[str, int] = field(default_factory=dict)
    _timers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    _counter: itertools.count[int] = field(default_factory=itertools.count)
    _signal: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: str, *, priority: Priority = Priority.EVENT) -> None:
        """Asks for a reconcile of a key."""
        if key in self._active:
            self._again[key] = min(priority, self._again.get(key, priority))
            return
        if priority >= self._waiting.get(key, priority + 1):
            return
        self._waiting[key] = priority
        heapq.heappush(self._heap, (priority, next(self._counter), key))
        self._signal.set()

    def add_after(self, key: str, seconds: float) -> None:
        """Asks for a reconcile later; an earlier timer of the key stays."""
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= when:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._fire, key)

    def retry(self, key: str, *, at_least: float = 0.0) -> float:
        """Requeues a key after a failure; returns the delay in seconds.

        The delay is exponential with jitter, at most a minute.

        Args:
            key: The key.
            at_least: Seconds that the API server asked to wait.
        """
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        # Bounded before it is raised: 2.0**1024 is an OverflowError, and this runs where a failure
        # is already being handled.
        delay = min(_LAST_DELAY, _FIRST_DELAY * 2.0 ** min(count, 16)) * (0.5 + random.random() / 2)  # noqa: S311
        delay = max(delay, at_least)
        self.add_after(key, delay)
        return delay

    def forget(self, key: str) -> None:
        """A reconcile succeeded: the next failure starts with a short delay again."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """The next key; the caller must call `done` with it."""
        while True:
            while self._heap:
                priority, _, key = heapq.heappop(self._heap)
                if self._waiting.get(key) == priority:  # an entry of a raised priority leaves its old one behind
                    del self._waiting[key]
                    self._active.add(key)
                    return key
            self._signal.clear()
            await self._signal.wait()

    def done(self, key: str) -> None:
        """The reconcile of a key has ended."""
        self._active.discard(key)
        if (priority := self._again.pop(key, None)) is not None:
            self.add(key, priority=Priority(priority))

    def __len__(self) -> int:
        """Keys that wait."""
        return len(self._waiting)

    def idle(self) -> bool:
        """Whether nothing waits and nothing is reconciled (timers aside)."""
        return not self._waiting and not self._active

    def close(self) -> None:
        """Cancels all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)
