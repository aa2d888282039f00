"""Routes the arrows of a picture beside the boxes.

Every arrow turns in a vertical track. Two arrows whose rows overlap get different tracks, and
shorter arrows get the inner ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.connectors.transport import Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The rows where an arrow starts and ends, and the box that it must leave to turn."""

    reach: Reach
    start: int
    end: int

    @property
    def rows(self) -> range:
        """All rows from one end to the other, both included."""
        return range(min(self.start, self.end), max(self.start, self.end) + 1)


def assign_tracks(spans: Sequence[Span]) -> list[int]:
    """The track of every span, counted outward from 0 for each reach."""
    found: dict[int, int] = {}
    for index in sorted(range(len(spans)), key=lambda i: (len(spans[i].rows), i)):
        span = spans[index]
        taken = {t for i, t in found.items() if spans[i].reach is span.reach and _overlap(spans[i].rows, span.rows)}
        found[index] = next(track for track in range(len(spans)) if track not in taken)
    return [found[index] for index in range(len(spans))]


def port_order(position: int, others: Sequence[int]) -> list[int]:
    """The order from above in which arrows meet a box, with as few crossings as possible.

    Args:
        position: Position of the box from above.
        others: Position of the box at the other end of every arrow.

    Returns:
        Indices into `others`.
    """

    def key(index: int) -> tuple[bool, int, int]:
        distance = others[index] - position
        return (distance > 0, -distance, index)  # arrows from above: nearest first; to below: farthest first

    return sorted(range(len(others)), key=key)


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop
