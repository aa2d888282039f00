"""Progressing: whether the operator is on its way to the spec, and what it waits for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.controller.conditions.facts import Facts
from omni_operator.controller.conditions.ready import not_taken_up
from omni_operator.controller.conditions.update import ConditionUpdate
from omni_operator.controller.state.snapshot import Snapshot

_KIND = ConditionType.PROGRESSING
_DEADLINE_SECONDS = 1800


def progressing(
    facts: Facts, *, accepted: ConditionUpdate, planned: ConditionUpdate, ready: ConditionUpdate
) -> tuple[ConditionUpdate, float | None]:
    """The condition, and the seconds after which time alone changes it (the progress deadline)."""
    if facts.not_owned:
        names = ", ".join(facts.not_owned)
        text = f"{names}: exists and belongs to somebody else; delete or rename it, or rename this OmniDeployment"
        return _false(Reason.FOREIGN_OBJECT, text), None
    if facts.results.refused:
        return _false(Reason.CHILD_REFUSED, "; ".join(facts.results.refused)), None
    if facts.actions.draining:
        found = (*facts.actions.waits, *(failure.what for failure in facts.results.failed))
        waits = f"; it waits for {', '.join(found)}" if found else ""
        text = f"revision {', '.join(facts.actions.draining)} is being removed{waits}"
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.DRAINING, text), None
    if facts.active is None:
        return _false(ready.reason, "there is no revision to bring up"), None
    name = facts.active.name
    if ready.is_true or facts.replicas == 0:
        text = f"revision {name} is as wanted"
        if why := not_taken_up(accepted, planned):
            text = f"revision {name} stays, since the spec as it is now is not taken up ({why})"
        return _false(Reason.COMPLETE, text), None
    return _until_deadline(facts, name, ready=ready)


def _until_deadline(facts: Facts, name: str, *, ready: ConditionUpdate) -> tuple[ConditionUpdate, float | None]:
    now = facts.snapshot.now
    deadline = (facts.snapshot.omni.spec.get("rollout") or {}).get("progressDeadlineSeconds", _DEADLINE_SECONDS)
    begun = max(_time(facts.current.created, now), _taken_up(facts.snapshot))
    left = (begun + timedelta(seconds=deadline) - now).total_seconds()
    if left <= 0:
        text = (
            f"revision {name} is not Ready after {deadline} s (rollout.progressDeadlineSeconds); it is kept running: "
            f"{ready.message}"
        )
        return _false(Reason.DEADLINE_EXCEEDED, text), None
    text = f"revision {name} is starting"
    return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.NEW_REVISION, text), left + 1


def _taken_up(snapshot: Snapshot) -> datetime:
    """When work on the revision began again after it had been complete or suspended.

    Its own age says nothing then.
    """
    for condition in snapshot.omni.status.get("conditions") or ():
        if condition["type"] == ConditionType.PROGRESSING and condition["reason"] != Reason.DEADLINE_EXCEEDED:
            ongoing = condition["status"] == ConditionStatus.TRUE
            return _time(condition["lastTransitionTime"], snapshot.now) if ongoing else snapshot.now
    return datetime.min.replace(tzinfo=UTC)


def _time(text: str, otherwise: datetime) -> datetime:
    return datetime.fromisoformat(text) if text else otherwise


def _false(reason: Reason, message: str) -> ConditionUpdate:
    return ConditionUpdate(_KIND, ConditionStatus.FALSE, reason, message)
