"""What the conditions of the parts say when nothing runs."""

from __future__ import annotations

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.controller.conditions.facts import Facts
from omni_operator.controller.conditions.update import ConditionUpdate


def idle(facts: Facts, kind: ConditionType) -> ConditionUpdate | None:
    """The condition while no revision exists or it is suspended; None when something should run."""
    if facts.active is None:
        return ConditionUpdate(kind, ConditionStatus.UNKNOWN, Reason.NOT_APPLICABLE, "no revision exists")
    if facts.replicas == 0:
        return ConditionUpdate(kind, ConditionStatus.FALSE, Reason.SUSPENDED, "suspended")
    return None
