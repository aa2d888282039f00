"""Kubernetes Events out of changes of status, so that each is emitted once.

Which reasons are events is in the table of reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason, Severity
from omni_operator.controller.state.event import EventRecord

_WARNINGS = frozenset(reason.value for reason in Reason if reason.severity is Severity.WARNING)


def condition_events(
    before: Mapping[str, Any], after: Mapping[str, Any], *, summary: str | None
) -> Iterator[EventRecord]:
    """What changed between two statuses and is an event.

    A reason that several conditions reach at once is one event.
    """
    old = {c["type"]: c for c in before.get("conditions") or ()}
    emitted: set[str] = set()
    for condition in after.get("conditions") or ():
        if condition == old.get(condition["type"]):
            continue  # as it was; an operator of another version may have written a reason that is not known here
        event = _event(condition, old.get(condition["type"], {}), before=before, after=after, summary=summary)
        if event is not None and event.reason not in emitted:
            emitted.add(event.reason)
            yield event


def _event(
    condition: Mapping[str, Any],
    was: Mapping[str, Any],
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    summary: str | None,
) -> EventRecord | None:
    kind, reason, message = ConditionType(condition["type"]), Reason.of(condition["reason"]), str(condition["message"])
    is_true, was_true = condition["status"] == ConditionStatus.TRUE, was.get("status") == ConditionStatus.TRUE
    if kind is ConditionType.PLANNED and is_true:
        if before.get("revision") != after.get("revision"):
            return EventRecord(False, "Planned", summary or message)
        # While one revision runs, its fitting and waiting are steps on the way; an edit that is
        # taken back is none.
        return EventRecord(False, "Planned", message) if was and not was_true else None
    if was.get("status") == condition["status"] and was.get("reason") == reason:
        return None
    if kind is ConditionType.READY:
        return _of_ready(reason, message, is_true=is_true, was_true=was_true)
    if reason.severity is Severity.WARNING:
        return EventRecord(True, reason.value, message) if reason.event else None
    if is_true and _was_warning(was):
        return EventRecord(False, kind.value, message)  # it has recovered
    if reason.event and reason is not Reason.SUSPENDED and kind is ConditionType.PROGRESSING:
        return EventRecord(False, reason.value, message)
    return None


def _of_ready(reason: Reason, message: str, *, is_true: bool, was_true: bool) -> EventRecord | None:
    """Ready repeats the causes of other conditions, whose events say why.

    Its own are that it serves, or is suspended.
    """
    if reason is Reason.SUSPENDED:
        return EventRecord(False, reason.value, message)
    # Another reason to be ready is no event: why is emitted for the condition behind it.
    return EventRecord(False, ConditionType.READY.value, message) if is_true and not was_true else None


def _was_warning(was: Mapping[str, Any]) -> bool:
    """Whether the reason before was a warning.

    One that an operator of another version wrote is none.
    """
    return was.get("reason") in _WARNINGS
