"""A Ray head as the launcher sees it: a port, a dashboard, and a `ray` on PATH."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from omni_operator.children import names
from tests.unit.launcher.contract import FOLDER

LAUNCHER = FOLDER / names.LAUNCHER_FILE
# The launcher with shorter pauses; what it does is the file's own.
_FAST = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("serve_ray", sys.argv[1])
launcher = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launcher)
launcher.POLL_SECONDS = launcher.SAY_SECONDS = launcher.WATCH_SECONDS = 0.05
launcher.GRACE_SECONDS = 1.0
sys.exit(launcher.main(sys.argv[2:]))
"""
_RAY = """#!/bin/sh
echo "$@" >> "$FAKE/calls"
answer="$FAKE/answer.$(wc -l < "$FAKE/calls" | tr -d ' ')"
if [ -f "$answer" ]; then cat "$answer" >&2; exit 1; fi
"""
# It serves for FAKE_SECONDS; with FAKE_DEAF it ignores SIGTERM.
_ENGINE = """#!/bin/sh
[ -z "$FAKE_DEAF" ] && trap 'echo told >> "$FAKE/served"; exit 3' TERM || trap '' TERM
echo "$*" > "$FAKE/served"
end=$(( $(date +%s) + ${FAKE_SECONDS:-0} ))
while [ "$(date +%s)" -lt "$end" ]; do sleep 0.1; done
exit 7
"""

HttpAnswer = tuple[int, bytes]


def ray_node(gpus: int | None, *, state: str = "ALIVE") -> dict[str, Any]:
    """Like /api/v0/nodes of Ray 2.53.

    Without accelerators the key is absent, and dead nodes keep their resources.
    """
    total: dict[str, float] = {"CPU": 1.0, "memory": 23989051136.0, "object_store_memory": 100000000.0}
    return {
        "state": state,
        "node_id": "a992",
        "resources_total": total if gpus is None else {**total, "GPU": float(gpus)},
    }


def dead_actor(*, job: str = "01000000", **cause: Any) -> dict[str, Any]:
    """As in /api/v0/actors?detail=1 of Ray 2.60 after kill -9."""
    context = {
        "reason": "WORKER_DIED",
        "error_message": "The actor is dead because its worker process has died.",
        **cause,
    }
    return {
        "actor_id": "0753",
        "class_name": "OmniStage",
        "state": "DEAD",
        "job_id": job,
        "pid": 3533,
        "death_cause": {"actor_died_error_context": {"node_ip_address": "10.0.0.7", **context}},
    }


def job(*, name: str = "01000000", address: str = "127.0.0.1", status: str = "RUNNING") -> dict[str, Any]:
    """As in /api/jobs/ of Ray 2.60: a driver, and where it runs."""
    driver = {"id": name, "node_ip_address": address, "pid": "3491"}
    return {"type": "DRIVER", "job_id": name, "submission_id": None, "driver_info": driver, "status": status}


def listing(*rows: dict[str, Any]) -> HttpAnswer:
    result = {"total": len(rows), "num_after_truncation": len(rows), "result": list(rows), "warnings": None}
    return 200, json.dumps({"result": True, "msg": "", "data": {"result": result}}).encode()


@dataclass
class FakeRay:
    """Answers by path; a list is worked through, and its last entry stays."""

    folder: Path
    version: list[HttpAnswer] = field(default_factory=list)
    nodes: list[HttpAnswer] = field(default_factory=list)
    jobs: list[HttpAnswer] = field(default_factory=lambda: [(200, b"[]")])
    actors: list[HttpAnswer] = field(default_factory=lambda: [listing()])
    headers: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        ok = {"version": "4", "ray_version": "2.53.0", "ray_commit": "0de2", "session_name": "session_2026"}
        self.version = [(200, json.dumps(ok).encode())]
        self.nodes = [listing(ray_node(None), ray_node(2), ray_node(1))]
        self.gcs = socket.create_server(("127.0.0.1", 0))
        self.gcs_address = f"127.0.0.1:{self.gcs.getsockname()[1]}"
        self.dashboard = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.dashboard.serve_forever, args=(0.01,), daemon=True).start()
        for name, text in {"ray": _RAY, "engine": _ENGINE}.items():
            path = self.folder / name
            path.write_text(text)
            path.chmod(0o755)
        package = self.folder / "site" / "ray-2.53.0.dist-info"
        package.mkdir(parents=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: ray\nVersion: 2.53.0\n")

    def close(self) -> None:
        self.gcs.close()
        self.dashboard.shutdown()
        self.dashboard.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.headers.append(self.headers.get("Authorization"))
                fake.paths.append(self.path)
                tables = {"/api/version": fake.version, "/api/jobs/": fake.jobs, "/api/v0/actors": fake.actors}
                answers = tables.get(self.path.partition("?")[0], fake.nodes)
                code, body = answers.pop(0) if len(answers) > 1 else answers[0]
                if code == 0:  # a proxy gone mad
                    self.wfile.write(body)
                    return
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
                pass

        return Handler

    def refuse_start(self, *texts: str) -> None:
        """What `ray start` says, call by call, before it succeeds."""
        for number, text in enumerate(texts, 1):
            (self.folder / f"answer.{number}").write_text(text)

    def command(self, *, fast: bool = True, **options: Any) -> list[str]:
        given = {
            "ray-address": self.gcs_address,
            "dashboard": f"http://127.0.0.1:{self.dashboard.server_address[1]}",
            "accelerators": 3,
            "wait-seconds": 20,
            "object-store-bytes": 1000,
        } | {key.replace("_", "-"): value for key, value in options.items()}
        start = [sys.executable, "-c", _FAST, str(LAUNCHER)] if fast else [sys.executable, str(LAUNCHER)]
        return [*start, *(f"--{key}={value}" for key, value in given.items()), "--", "engine", "serve", "--omni"]

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "site"),
            "FAKE": str(self.folder),
            "OMNI_TERMINATION_LOG": str(self.folder / "termination-log"),
            **more,
        }

    def run(self, *, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        command = self.command(**options)
        return subprocess.run(
            command, env=self.environment(**(env or {})), capture_output=True, text=True, timeout=60, check=False
        )

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    @property
    def calls(self) -> list[str]:
        """Arguments of every `ray`."""
        return self.read("calls").splitlines()

    @property
    def reported(self) -> dict[str, Any]:
        """Code and fields of the termination message; empty when there is none."""
        text = self.read("termination-log")
        found: dict[str, Any] = json.loads(text) if text else {"omni": 1}
        assert found.pop("omni") == 1
        return found
