"""Planned: whether there is a plan for the spec, and whether it fits what is free now."""

from __future__ import annotations

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.children.describe import summary
from omni_operator.controller.conditions.update import ConditionUpdate
from omni_operator.controller.rollout.decide import Decision

_KIND = ConditionType.PLANNED


def planned(decision: Decision) -> ConditionUpdate:
    """The condition."""
    target = decision.target
    if decision.rejected is not None:
        if target is None:
            text = "nothing is created for a spec that is not accepted"
            return ConditionUpdate(_KIND, ConditionStatus.FALSE, decision.rejected.reason, text)
        text = f"revision {target.name} is kept as it is"
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.PLAN_FITS, text)
    if decision.unplanned is not None:
        return ConditionUpdate(_KIND, ConditionStatus.FALSE, decision.unplanned.reason, decision.unplanned.message)
    assert target is not None
    if decision.waits_for:
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.WAITING_FOR_CAPACITY, decision.waits_for)
    return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.PLAN_FITS, summary(target.revision.plan))
