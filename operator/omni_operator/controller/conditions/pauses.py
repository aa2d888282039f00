"""When a changed status is worth a write: news at once, mere progress with growing pauses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omni_operator.api.conditions import ConditionType, Reason

_GROWTH = 3.0
_LONGEST = 60.0
_AT_ONCE = frozenset({ConditionType.ACCEPTED, ConditionType.PLANNED, ConditionType.READY})
_AT_ONCE_FIELDS = ("observedGeneration", "revision", "nodeMemory")


@dataclass(slots=True)
class StatusPauses:
    """How long progress of each OmniDeployment waits.

    The pause is three times as long after each write, at most a minute, until there is news: a
    start of a minute costs two writes of progress, one that waits all night for capacity one in a
    minute.

    Attributes:
        first: Seconds of the first pause.
    """

    first: float
    clock: Callable[[], float] = time.monotonic
    _pending_since: dict[str, float] = field(default_factory=dict)
    _pause: dict[str, float] = field(default_factory=dict)

    def left(self, uid: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
        """Seconds until `after` should be written in the place of `before`.

        0 for now, or when they are equal.
        """
        if before == after:
            self._pending_since.pop(uid, None)
            return 0.0
        if _is_urgent(before, after):
            self.forget(uid)
            return 0.0
        now, pause = self.clock(), self._pause.get(uid, self.first)
        left = self._pending_since.setdefault(uid, now) + pause - now
        if left > 0:
            return left
        del self._pending_since[uid]
        self._pause[uid] = min(_LONGEST, pause * _GROWTH)
        return 0.0

    def forget(self, uid: str) -> None:
        """Drops what is kept of an OmniDeployment."""
        self._pending_since.pop(uid, None)
        self._pause.pop(uid, None)


def _is_urgent(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a status is worth a write at once; steps on the way wait a moment for each other."""
    if any(before.get(field) != after.get(field) for field in _AT_ONCE_FIELDS):
        return True
    old = {c["type"]: c for c in before.get("conditions") or ()}
    for condition in after["conditions"]:
        was = old.get(condition["type"], {})
        is_true, reason_changed = condition["status"] == "True", was.get("reason") != condition["reason"]
        if condition["type"] in _AT_ONCE and (was.get("status") != condition["status"] or (is_true and reason_changed)):
            return True
        if condition != was and reason_changed and Reason.of(condition["reason"]).event:
            return True
    return False
