"""A Kubernetes Event before it has a time and an object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event to emit."""

    warning: bool
    reason: str
    message: str
