"""The real operator as a process of its own, with the rights of its manifests and nothing else."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import urllib.request
from collections import Counter
from subprocess import Popen

from e2e.control_plane import ROOT, ControlPlane, free_port

_SAMPLE = re.compile(r'^omni_operator_api_requests_total\{kind="(\w+)",verb="(\w+)"\} (\S+)$', re.MULTILINE)
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Operator:
    """One process of the operator; `name` tells processes and their logs apart."""

    def __init__(self, control_plane: ControlPlane, name: str = "operator") -> None:
        self.control_plane = control_plane
        self.name = name
        self.port = free_port()
        self.process: Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.control_plane.work),
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(self.control_plane.kubeconfig("operator")),
            "OMNI_HTTP_PORT": str(self.port),
            "OMNI_STATUS_PAUSE_SECONDS": "2",  # so that tests wait less for steps that are no news
        }
        self.process = self.control_plane.spawn(self.name, [sys.executable, "-m", "omni_operator"], env)
        if wait:
            self.control_plane.wait(f"{self.name} ready", lambda: self._get("/readyz") == "ok", every=0.05)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no hook, no goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.control_plane.processes.pop(self.name)
        self.process.terminate()
        return self.process.wait(20)

    def log(self) -> str:
        return (self.control_plane.work / f"{self.name}.log").read_text()

    def requests(self) -> Counter[tuple[str, str]]:
        """(verb, kind) -> requests to the API server since the start, as /metrics reports them."""
        return Counter({(verb, kind): int(float(n)) for kind, verb, n in _SAMPLE.findall(self._get("/metrics"))})

    def writes(self) -> int:
        return sum(count for (verb, _), count in self.requests().items() if verb in WRITES)

    def settle(self, *, calm: float = 2.5, seconds: float = 60) -> None:
        """Until no write was made for `calm` seconds (a progress-only status may wait 2 s)."""
        end, since, last = time.monotonic() + seconds, time.monotonic(), self.writes()
        while time.monotonic() - since < calm:
            assert time.monotonic() < end, f"the operator never came to rest: {self.requests()}"
            time.sleep(0.1)
            if (now := self.writes()) != last:
                since, last = time.monotonic(), now

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()
