"""The termination message: what a program of this package reports when it ends, as a line of JSON.

It is data, so that the controller decides by a code and not by words, and so that the text for
people is written where the spec, the other pods and the remedies are known. A field is a number, a
version, an address, a name, or the raw output of another program (`detail`).

A pod keeps the programs of the operator that made its revision, while the operator is upgraded. So
a field or a code may be added within a version; a change of what one means needs the next version.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

VERSION = 1
# Every code and its fields.
CODES: dict[str, tuple[str, ...]] = {
    "EngineReleaseMismatch": ("found", "expected"),
    "MooncakeMissing": (),
    "MooncakeVersionMismatch": ("found", "least", "below"),
    "CannotStart": ("process", "command", "detail"),
    "RayMissing": ("python",),
    "RayVersionUnexpected": ("found", "expected", "at_least"),
    "RayVersionMismatch": ("found", "found_python", "cluster", "cluster_python"),
    "RayUnreachable": ("what", "address", "seconds", "detail"),
    "RayTokenRefused": ("address", "status", "detail"),
    "RayStartFailed": ("exit_code", "seconds", "detail"),
    "RayHeadLost": ("address", "detail"),
    "RayResourcesMissing": ("needed", "found", "nodes", "seconds"),
    "StageLost": ("actor", "pid", "address", "detail"),
    "ProcessEnded": ("process", "exit_code", "signal"),
    "HeadRestarted": ("address",),
    "HeadGone": ("address",),
    "PeerLost": ("address",),
}
TERMINATION_LOG = os.environ.get("OMNI_TERMINATION_LOG", "/dev/termination-log")
MESSAGE_BYTES = 4000  # of a longer file the kubelet keeps the last 4096, which are no JSON


def report(code: str, **fields: Any) -> None:
    """Leaves the message where the kubelet reads it, and in the container's log.

    It never raises, which would hide what is reported.
    """
    text, failure = encode(code, fields), ""
    try:
        Path(TERMINATION_LOG).write_text(text, encoding="utf-8")
    except OSError as exc:  # the kubelet takes the end of the log then
        failure = f"omni: {TERMINATION_LOG} cannot be written: {exc}\n"
    with contextlib.suppress(OSError, ValueError):  # a log that is closed, or that is not written in UTF-8
        print(f"{failure}omni: {text}", flush=True)


def encode(code: str, fields: dict[str, Any]) -> str:
    """The message as JSON of at most MESSAGE_BYTES bytes.

    Long texts are shortened in their middle, as little as is needed.
    """
    known = {name: _value(value) for name, value in fields.items() if name not in {"omni", "code"}}
    text = _json(code, known)
    if len(text.encode()) <= MESSAGE_BYTES:
        return text
    fits, shortest = _json(code, {}), 0
    longest = max((len(value) for value in known.values() if isinstance(value, str)), default=0)
    while shortest <= longest:
        limit = (shortest + longest) // 2
        text = _json(code, {name: _shortened(value, limit) for name, value in known.items()})
        if len(text.encode()) <= MESSAGE_BYTES:
            fits, shortest = text, limit + 1
        else:
            longest = limit - 1
    return fits


def _json(code: str, fields: dict[str, Any]) -> str:
    return json.dumps({"omni": VERSION, "code": code, **fields}, ensure_ascii=False)


def _value(value: Any) -> Any:
    """A value that JSON has; anything else as text that UTF-8 can write."""
    if value is None or isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) < 1e15):
        return value
    try:
        text = str(value)
    except ValueError:  # a number of thousands of digits
        text = ""
    return text.encode(errors="replace").decode()


def _shortened(value: Any, limit: int) -> Any:
    """The beginning and the end of a text: a traceback says most at its end."""
    if not isinstance(value, str) or len(value) <= limit:
        return value
    kept = max(0, limit - len(" ... "))
    begin, end = value[: kept // 4], value[len(value) - (kept - kept // 4) :]
    return f"{begin} ... {end}"[:limit]
