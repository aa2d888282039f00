"""What one look did, as it does it: material for status and events."""

from __future__ import annotations

from dataclasses import dataclass, field

from omni_operator.controller.events import Story


@dataclass(slots=True)
class Act:
    """The notes of one look.

    Attributes:
        foreign: Objects in the way that are not ours.
        refused: What the API server refused, in its words.
        blockers: What the removal of a revision waits for.
        in_the_way: Revisions that hold something where a new one could run, so that it must wait.
        held_back: Why a server is not made yet.
        lately: Which server was ended last, and why.
        stories: What was done and is worth telling.
        remembered: Whether status names every node whose memory is used; nothing may be deleted before.
        namespace_ends: Whether the namespace is being deleted, so that nothing can be made in it.
        again: Seconds after which to look again by time alone.
    """

    foreign: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    blockers: list[str] = field(default_factory=list)
    in_the_way: set[str] = field(default_factory=set)
    held_back: str = ""
    lately: str = ""
    stories: list[Story] = field(default_factory=list)
    remembered: bool = False
    namespace_ends: bool = False
    again: float | None = None

    def look_again(self, seconds: float) -> None:
        """Asks for another look by time alone."""
        self.again = min(seconds, self.again or seconds)
