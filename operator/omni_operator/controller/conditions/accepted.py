"""Accepted: whether the spec can be used."""

from __future__ import annotations

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.controller.conditions.update import ConditionUpdate
from omni_operator.controller.rollout.decide import Decision
from omni_operator.controller.state.snapshot import Snapshot

_KIND = ConditionType.ACCEPTED


def accepted(snapshot: Snapshot, decision: Decision) -> ConditionUpdate:
    """The condition."""
    if decision.rejected is not None:
        return ConditionUpdate(_KIND, ConditionStatus.FALSE, decision.rejected.reason, decision.rejected.message)
    text = "the spec is valid"
    if snapshot.parsed.ignored:
        text += (
            "; fields that this version of the operator does not know are ignored: "
            f"{', '.join(snapshot.parsed.ignored)}"
        )
    return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.VALID, text)
