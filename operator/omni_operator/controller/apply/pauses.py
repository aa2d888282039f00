"""When a changed status is worth a write: news at once, anything else after a pause (ADR 18)."""

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
    """How long changes of each OmniDeployment's status wait for others.

    News (_is_urgent) is written at once. Another status or reason of a condition waits for `first`
    seconds. What only changes a message or a count waits three times as long, and three times as
    long again after each write, at most a minute, until there is news: who waits all night for
    capacity costs one write in a minute.

    Attributes:
        first: Seconds.
    """

    first: float
    clock: Callable[[], float] = time.monotonic
    _pending_since: dict[str, float] = field(default_factory=dict)
    _pause: dict[str, float] = field(default_factory=dict)

    def left(self, uid: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
        """Seconds until `after` should be written in the place of `before`.

        0 for now, and when they are equal.
        """
        if before == after:
            self._pending_since.pop(uid, None)
            return 0.0
        if _is_urgent(before, after):
            self.forget(uid)
            return 0.0
        is_step, grown = _reasons(before) != _reasons(after), self._pause.get(uid, self.first * _GROWTH)
        now = self.clock()
        left = self._pending_since.setdefault(uid, now) + (self.first if is_step else grown) - now
        if left > 0:
            return left
        del self._pending_since[uid]
        if not is_step:
            self._pause[uid] = min(_LONGEST, grown * _GROWTH)
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
        if reason_changed and Reason.of(condition["reason"]).event:
            return True
    return False


def _reasons(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions") or ()}
