"""Events of a collection while a test runs, also of objects that exist for milliseconds only."""

from __future__ import annotations

import json
import ssl
import threading
import urllib.request
from types import TracebackType
from typing import Any

from e2e.control_plane import ControlPlane

_UNVERIFIED = ssl._create_unverified_context()


class Watch:
    """Collects the events of a collection in `events` during a `with` block."""

    def __init__(self, control_plane: ControlPlane, path: str) -> None:
        version = control_plane.get(path)["metadata"]["resourceVersion"]
        request = urllib.request.Request(f"{control_plane.server}{path}?watch=true&resourceVersion={version}")
        request.add_header("Authorization", f"Bearer {control_plane.tokens['admin']}")
        self.events: list[dict[str, Any]] = []
        self._answer = urllib.request.urlopen(request, context=_UNVERIFIED, timeout=120)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        try:
            for line in self._answer:
                self.events.append(json.loads(line))
        except (OSError, ValueError, AttributeError):
            return  # closed

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer.fp is not None:
            self._answer.fp.raw._sock.shutdown(2)
        self._thread.join(5)
        self._answer.close()
