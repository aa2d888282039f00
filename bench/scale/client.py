"""Applies and deletes many objects quickly.

Connections that stay open, since direct apply must not pay for handshakes.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from e2e.control_plane import ApiCallError, ControlPlane, path_of
from e2e.watching import Watch

Object = dict[str, Any]
Ready = Callable[[Object], bool]
THREADS = 8
_UNVERIFIED = ssl._create_unverified_context()


class Client:
    """The bench as a client of the API server, with a connection per thread."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._port, self._token = control_plane.port, control_plane.tokens["admin"]
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(THREADS)

    def apply(self, sets: Iterable[list[Object]]) -> None:
        """Applies each set's objects in their order, several sets at a time."""
        list(self._pool.map(lambda objects: [self._apply(obj) for obj in objects], sets))

    def delete(self, collection: str) -> None:
        """Deletes a collection's objects; what they own goes in the background."""
        self.call("DELETE", collection + ("&" if "?" in collection else "?") + "propagationPolicy=Background")

    def items(self, collection: str) -> list[Object]:
        """Everything in a collection; nothing where the kind does not exist."""
        try:
            found: list[Object] = self.call("GET", collection)["items"]
        except ApiCallError as exc:
            if exc.status == 404:
                return []
            raise
        return found

    def _apply(self, obj: Object) -> None:
        query = "?fieldManager=kubectl&force=true&fieldValidation=Strict"
        self.call("PATCH", path_of(obj) + query, obj, content="application/apply-patch+yaml")

    def call(self, method: str, path: str, body: Object | None = None, *, content: str = "application/json") -> Any:
        """The answer of a request that must succeed."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content, "Accept": "application/json"}
        for last in (False, True):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = http.client.HTTPSConnection("127.0.0.1", self._port, context=_UNVERIFIED, timeout=60)
                self._local.connection = connection
            try:
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):  # the server closed a connection that rested
                connection.close()
                self._local.connection = None
                if last:
                    raise
                continue
            if answer.status >= 400:
                raise ApiCallError(answer.status, text.decode(errors="replace")[:500])
            return json.loads(text)
        raise AssertionError("unreachable")


class Arrivals:
    """When each object of some collections was first ready, as watches tell."""

    def __init__(self, control_plane: ControlPlane, wanted: Mapping[str, tuple[Ready, int]]) -> None:
        self._wanted = wanted
        self._seen: dict[str, dict[str, float]] = {path: {} for path in wanted}
        self._watches = [
            Watch(port=control_plane.port, token=control_plane.tokens["admin"], path=path, each=self._note(path))
            for path in wanted
        ]

    def _note(self, path: str) -> Callable[[str, Object], None]:
        ready, seen = self._wanted[path][0], self._seen[path]

        def note(event: str, obj: Object) -> None:
            if event != "DELETED" and obj["metadata"]["name"] not in seen and ready(obj):
                seen[obj["metadata"]["name"]] = time.monotonic()

        return note

    def __enter__(self) -> Arrivals:
        for watch in self._watches:
            watch.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for watch in self._watches:
            watch.stop()

    def complete(self) -> bool:
        """Whether all are ready."""
        return all(len(self._seen[path]) >= count for path, (_, count) in self._wanted.items())

    def last(self) -> float:
        """When the last one was."""
        return max(at for seen in self._seen.values() for at in seen.values())

    def missing(self) -> str:
        """What is not ready, in words."""
        return ", ".join(f"{len(self._seen[path])} of {n} in {path}" for path, (_, n) in self._wanted.items())
