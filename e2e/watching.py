"""Follows a collection of the API server in a thread: what there is, then every change."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

_PAUSE = 0.2
_UNVERIFIED = ssl._create_unverified_context()


class Watch:
    """Calls `each(event type, object)` until it is stopped.

    After a broken connection what there is comes again as ADDED.
    """

    def __init__(self, *, port: int, token: str, path: str, each: Callable[[str, dict[str, Any]], None]) -> None:
        self._port, self._token, self._each = port, token, each
        self._path = path + ("&" if "?" in path else "?") + "watch=true"
        self._stop = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, also in the middle of a silent stream."""
        self._stop.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                self._follow()
            self._stop.wait(_PAUSE)

    def _follow(self) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, context=_UNVERIFIED)
        try:
            connection.connect()
            self._socket = connection.sock
            connection.request("GET", self._path, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            rest = b""
            while answer.status == http.client.OK and not self._stop.is_set() and (part := answer.read1(1 << 18)):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    self._each(event["type"], event["object"])
        finally:
            self._socket = None
            connection.close()
