"""Lanes for arrows that turn beside their boxes: none shares a lane with one that it passes, short ones are inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.planning.model import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The rows that an arrow passes, and how far out it must turn."""

    reach: Reach
    one: int
    other: int

    @property
    def rows(self) -> range:
        """All rows between its ends, and both."""
        return range(min(self.one, self.other), max(self.one, self.other) + 1)


def lanes(spans: Sequence[Span]) -> list[int]:
    """The lane of every span, counted outward from 0 for each reach."""
    found: dict[int, int] = {}
    for index in sorted(range(len(spans)), key=lambda i: (len(spans[i].rows), i)):
        mine = spans[index]
        taken = {lane for i, lane in found.items() if spans[i].reach is mine.reach and _meet(spans[i].rows, mine.rows)}
        found[index] = next(lane for lane in range(len(spans)) if lane not in taken)
    return [found[index] for index in range(len(spans))]


def ports(position: int, others: Sequence[int]) -> list[int]:
    """The order, from above, in which arrows meet a box so that they cross least: the indices of their other ends."""

    def key(index: int) -> tuple[bool, int, int]:
        distance = others[index] - position
        return (distance > 0, -distance, index)  # from above the nearest first, to below the farthest first

    return sorted(range(len(others)), key=key)


def _meet(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
