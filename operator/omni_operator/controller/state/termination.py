"""Reads what a launcher reported in its termination message (launcher/README.md).

A pod keeps the launcher that its revision was made with, also while the operator is older or newer.
So a version that is not known here is a report too, of which nothing is used but its text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

VERSION = 1
_FOLLOWS = frozenset({"HeadRestarted", "HeadGone", "PeerLost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminationReport:
    """What a launcher reported when it gave up.

    Attributes:
        version: Version of the contract that the message was written by.
        code: What happened.
        fields: The facts that belong to the code.
        raw: The message as it was written.
    """

    version: int
    code: str
    fields: Mapping[str, Any]
    raw: str

    @property
    def is_readable(self) -> bool:
        """Whether code and fields mean what this operator takes them for."""
        return self.version == VERSION


def parse(message: str) -> TerminationReport | None:
    """The report in a termination message; None for a message that no launcher has written."""
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    version, code = found.pop("omni", None), found.pop("code", None)
    if type(version) is not int or not isinstance(code, str):
        return None
    return TerminationReport(version=version, code=code, fields=MappingProxyType(found), raw=message)


def follows(report: TerminationReport) -> bool:
    """Whether the end only followed that of another pod, and so is no cause."""
    return report.is_readable and report.code in _FOLLOWS
