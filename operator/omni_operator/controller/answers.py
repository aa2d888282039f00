"""What servers have answered to their first request; `controller/warmups.py` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Server = tuple[str, str]  # a pod, and since when it has been ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known of one server; it is on its way when it neither passed nor went wrong.

    Attributes:
        passed: A request has passed.
        wrong: What was wrong with the last one.
    """

    passed: bool = False
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Answers by server.

    Attributes:
        servers: What is known of each server that was asked.
        unasked: Why servers are not asked; empty when they are.
    """

    servers: Mapping[Server, Answer] = field(default_factory=dict)
    unasked: str = ""

    def of(self, server: Server) -> Answer:
        """What is known of a server; one that is not asked passes by its /health."""
        return Answer(passed=True) if self.unasked else self.servers.get(server, Answer())


NOT_ASKED = Answers(unasked="nothing has been asked")
