"""What a namespace permits its pods."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class PodSecurity(StrEnum):
    """Pod security level that a namespace enforces (label pod-security.kubernetes.io/enforce)."""

    PRIVILEGED = "privileged"
    BASELINE = "baseline"
    RESTRICTED = "restricted"

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> PodSecurity:
        """The level of a namespace with these labels; without the label everything is permitted."""
        level = labels.get("pod-security.kubernetes.io/enforce", cls.PRIVILEGED.value)
        return cls(level) if level in set(cls) else cls.PRIVILEGED
