"""The HTTP server below all stand-in programs: routes, Ray's token check, and faults that can be switched on and off."""

import contextlib
import json
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Reply = tuple[int, str | dict[str, Any]]
Route = Callable[[dict[str, Any]], Reply]
MOODS = ("ok", "slow", "hang", "unhealthy", "crash")
_mood = "ok"  # of this process; POST /standin/<mood> changes it on every port it listens on


def token() -> str:
    """Return the token that Ray's own variables ask for, or nothing when authentication is off."""
    return os.environ.get("RAY_AUTH_TOKEN", "") if os.environ.get("RAY_AUTH_MODE") == "token" else ""


def listen(port: int, routes: Mapping[str, Route], *, protect: bool = False) -> None:
    """Answer `routes` ("GET /path") on all addresses in the background; `protect` wants Ray's token, except for health."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.split("?")[0]
            status, answer = self._answer(path, body)
            data = (json.dumps(answer) if isinstance(answer, dict) else answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if isinstance(answer, dict) else "text/plain")
            self.send_header("Content-Length", str(len(data)))
            with contextlib.suppress(ConnectionError):  # a prober may have given up waiting
                self.end_headers()
                self.wfile.write(data)

        do_POST = do_GET  # noqa: N815

        def _answer(self, path: str, body: bytes) -> Reply:
            global _mood
            if path.startswith("/standin/") and path.split("/")[2] in MOODS:
                _mood = path.split("/")[2]
                if _mood == "crash":
                    os._exit(1)
                return 200, f"{_mood}\n"
            health = "health" in path
            if health and _mood == "unhealthy":
                return 503, {"status": "unhealthy"}
            if not health and not path.startswith("/standin/") and _mood in {"slow", "hang"}:
                time.sleep(float(os.environ.get("STANDIN_SLOW_SECONDS", "5")) if _mood == "slow" else 3600)
            if protect and not health and token():
                given = self.headers.get("Authorization") or self.headers.get("X-Ray-Authorization")
                if not given:
                    return 401, "Unauthorized: Missing authentication token"
                if given != f"Bearer {token()}":
                    return 403, "Forbidden: Invalid authentication token"
            route = routes.get(f"{self.command} {path}")
            return route(json.loads(body or b"{}")) if route else (404, "404: Not Found")

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    Thread(target=Server(("0.0.0.0", port), Handler).serve_forever, daemon=True).start()


def call(url: str, body: dict[str, Any] | None = None, timeout: float = 5) -> Any:
    """GET `url`, or POST `body` to it; returns the decoded JSON.

    Raises:
        OSError: nobody answered, or the answer was no 2xx (urllib.error.HTTPError).
    """
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    if token():
        request.add_header("Authorization", f"Bearer {token()}")
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)
