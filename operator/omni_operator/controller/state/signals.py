"""Results of background work as a Snapshot holds them.

First requests, transfers, dry runs, and the history of restarts.

Values only. `controller/signals/` and `controller/apply/dry_run.py` produce them, `rollout/` and
`conditions/` read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from omni_operator.planning.model import EdgePlan

DRY_RUN_REPEAT_SECONDS = 60.0  # between two dry runs of a revision that was refused

Server = tuple[str, str]  # name of a pod, and since when it has been ready
EdgeKey = tuple[int, int]  # ids of the producer and the consumer


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpResult:
    """What is known of one server's first request.

    It is on its way when it neither passed nor failed.

    Attributes:
        passed: A request has passed.
        error: What was wrong with the last one.
    """

    passed: bool = False
    error: str = ""


PENDING = WarmUpResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """A pod whose log says that RDMA is not used, with the line."""

    pod: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferObservation:
    """What the engine itself said of the edges of the active revision.

    Attributes:
        counted: Edges over which every server has counted a payload.
        fallbacks: Pods that fell back to TCP.
        counters_error: Why the engine's counters could not be read; empty when they were.
        unreadable_logs: Pods of RDMA edges whose log could not be read; without it no such edge is
            verified.
    """

    counted: frozenset[EdgeKey] = frozenset()
    fallbacks: tuple[Fallback, ...] = ()
    counters_error: str = ""
    unreadable_logs: tuple[str, ...] = ()

    def has_counted(self, edge: EdgePlan) -> bool:
        """Whether a payload was counted on an edge."""
        return (edge.producer, edge.consumer) in self.counted


NOT_OBSERVED = TransferObservation()


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunResult:
    """What the API server said of a revision that it was asked about.

    Attributes:
        revision: Name of the revision.
        errors: What it would refuse of the children and their pods, in its words, sorted; empty
            when nothing.
        at: When it answered.
    """

    revision: str
    errors: tuple[str, ...]
    at: datetime


class ReplicaKey(NamedTuple):
    """One replica of a revision."""

    revision: str
    replica: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRecord:
    """The last time that the operator ended a server of a replica.

    Attributes:
        count: How many in a row were lost soon after they were ready.
        at: When the last one was ended.
        pod: Its name.
        why: What it had lost.
    """

    count: int
    at: datetime
    pod: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """All results of one OmniDeployment; empty for a new one."""

    warm_up: Mapping[Server, WarmUpResult] = field(default_factory=dict)
    transfers: TransferObservation = NOT_OBSERVED
    dry_run: DryRunResult | None = None
    restarts: Mapping[ReplicaKey, RestartRecord] = field(default_factory=dict)


NO_SIGNALS = Signals()
