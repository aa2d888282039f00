"""A condition before it has a time."""

from __future__ import annotations

from dataclasses import dataclass

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason


@dataclass(frozen=True, slots=True)
class ConditionUpdate:
    """What a condition should say."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str

    @property
    def is_true(self) -> bool:
        """Whether its status is True."""
        return self.status is ConditionStatus.TRUE
