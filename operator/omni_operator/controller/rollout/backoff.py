"""When the next server may be made.

A stage that fails again and again must not make its server start at once every time.

A server that lost what it had joined is ended at once, since it cannot answer. If it had served for
a while, the next one starts at once; if it had not, the next one starts after a pause that doubles
each time, like a container's in CrashLoopBackOff. The history is kept in memory: a new process of
the operator begins anew.
"""

from __future__ import annotations

import math
from datetime import datetime

from omni_operator.controller.state.signals import RestartRecord

FIRST_PAUSE, LONGEST_PAUSE = 20.0, 600.0
# Seconds that a server must have been ready for its end to have nothing to do with the one before.
STABLE_AFTER = 60.0
# Seconds after which an end is no longer the cause of the next: longer than a pause and an engine
# that starts.
RESET_AFTER = 3600.0


def wait_left(record: RestartRecord | None, *, now: datetime) -> float:
    """Seconds until the next server may be made; 0 when it may be now."""
    if record is None or not (pause := pause_of(record)):
        return 0.0
    return max(0.0, pause - (now - record.at).total_seconds())


def pause_of(record: RestartRecord) -> float:
    """Seconds between the end of a server and the next one."""
    return float(min(FIRST_PAUSE * 2 ** min(record.count - 2, 10), LONGEST_PAUSE)) if record.count > 1 else 0.0


def is_repeated(record: RestartRecord | None, *, lasted: float, now: datetime) -> bool:
    """Whether a server that lasted so many seconds is lost soon after the one before it."""
    return record is not None and lasted < STABLE_AFTER and (now - record.at).total_seconds() < RESET_AFTER


def next_record(record: RestartRecord | None, *, pod: str, why: str, lasted: float, now: datetime) -> RestartRecord:
    """The record after a server was ended that had been ready for so many seconds."""
    before = record.count if record is not None and is_repeated(record, lasted=lasted, now=now) else 0
    return RestartRecord(count=before + 1, at=now, pod=pod, why=why)


def last_restart(record: RestartRecord) -> str:
    """Which server was ended last, and why."""
    return f"pod {record.pod} was ended, since {record.why}"


def backoff_reason(record: RestartRecord) -> str:
    """What is waited for, in words that do not change meanwhile."""
    pause = math.ceil(pause_of(record))
    return f"{last_restart(record)}; that makes {record.count} in a row, so the next is made {pause} s after it"
