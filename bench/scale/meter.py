"""CPU and memory of processes from /proc, and requests from the API server's audit log."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from e2e.control_plane import ControlPlane

TICK = os.sysconf("SC_CLK_TCK")
USERS = {"omni-operator": "operator", "kuberay-operator": "kuberay", "lws-controller-manager": "lws"}
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: `kind` is the resource as in a URL, with its subresource."""

    user: str
    verb: str
    kind: str
    group: str
    version: str
    name: str
    failed: bool
    dry: bool

    @property
    def writes(self) -> bool:
        """Whether it asked for a change."""
        return self.verb in WRITES

    @property
    def what(self) -> str:
        """Verb and kind, and what is particular about it."""
        return f"{self.verb} {self.kind}{' (dry run)' if self.dry else ''}{' (refused)' if self.failed else ''}"


class Audit:
    """The audit log as far as it was read."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._path = control_plane.work / "audit.log"
        self._offset, self._rest = 0, b""
        self.calls: list[Call] = []

    def read(self) -> int:
        """Reads on; how many calls there are now. Watches are none."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            *lines, self._rest = (self._rest + log.read()).split(b"\n")
            self._offset = log.tell()
        for line in lines:
            entry = json.loads(line)
            if entry["stage"] == "ResponseComplete" and entry["verb"] != "watch":
                self.calls.append(_call(entry))
        return len(self.calls)

    def since(self, index: int, user: str) -> list[Call]:
        """One user's calls from an index on."""
        self.read()
        return [call for call in self.calls[index:] if call.user == user]


def _call(entry: dict) -> Call:  # type: ignore[type-arg]
    about = entry.get("objectRef") or {}
    uri = entry["requestURI"].partition("?")
    kind = about.get("resource") or uri[0]
    if about.get("subresource"):
        kind += "/" + about["subresource"]
    return Call(
        user=USERS.get(entry["user"]["username"].rpartition(":")[2], "other"),
        verb=entry["verb"],
        kind=kind,
        group=about.get("apiGroup", ""),
        version=about.get("apiVersion", ""),
        name=about.get("name", ""),
        failed=entry["responseStatus"]["code"] >= 400,
        dry="dryRun=" in uri[2],
    )


def count(calls: list[Call], *, writes: bool) -> Counter[str]:
    """Writes, or reads, by verb and kind."""
    return Counter(call.what for call in calls if call.writes is writes)


@dataclass(frozen=True, slots=True)
class Cores:
    """CPU seconds since some moment: by process of the control plane, and of the whole machine."""

    by_process: dict[str, float]
    busy: float
    available: float

    @classmethod
    def now(cls, control_plane: ControlPlane) -> Cores:
        """What was used up to now."""
        times = os.times()
        used = {name: _cpu(process) for name, process in control_plane.processes.items()}
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        ticks = [int(field) / TICK for field in fields]
        idle = ticks[3] + ticks[4]
        return cls({**used, "bench": times.user + times.system}, sum(ticks) - idle, sum(ticks))

    def since(self, before: Cores) -> Cores:
        """What was used between two moments; the rest of the machine's is `others`."""
        used = {name: now - before.by_process.get(name, 0.0) for name, now in self.by_process.items()}
        busy = self.busy - before.busy
        used["others"] = max(0.0, busy - sum(used.values()))
        return Cores(used, busy, self.available - before.available)

    @property
    def share(self) -> float:
        """Part of the cores that was in use."""
        return self.busy / self.available if self.available else 0.0

    def words(self) -> str:
        """Who used how much of what was used."""
        shares = sorted(((used / self.busy, name) for name, used in self.by_process.items()), reverse=True)
        return ", ".join(f"{name} {share * 100:.0f} %" for share, name in shares if share >= 0.02)


def cpu(process: Popen[bytes]) -> float:
    """CPU seconds of a process."""
    return _cpu(process)


def _cpu(process: Popen[bytes]) -> float:
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def forget_peak(process: Popen[bytes]) -> int:
    """Begins a new peak of a process's memory; returns what it has now, in bytes."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return _memory(process, "VmRSS")


def peak(process: Popen[bytes]) -> int:
    """The most memory a process had, in bytes."""
    return _memory(process, "VmHWM")


def _memory(process: Popen[bytes], field: str) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+)", status)
    assert found is not None
    return int(found.group(1)) * 1024
