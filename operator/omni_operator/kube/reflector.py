"""Keeps a store equal to a collection of the API server: list, watch with bookmarks, and a sweep after every relist.

It never ends on a bad line, a 410 or an outage; kopf 1.45 does on some of these, and keeps ghosts of objects that vanished
while a watch was broken. Objects are decoded into narrow values at once, so memory holds only what is read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import Resource

_log = logging.getLogger(__name__)
_SILENCE = 150.0  # the API server sends a bookmark about once a minute, but leaves the first one out at times
_SERVER_TIMEOUT = 290
_PAGE = 500


class Named(Protocol):
    """What a store needs to know of an object."""

    @property
    def namespace(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def resource_version(self) -> str: ...  # noqa: D102


T = TypeVar("T", bound=Named)
Key = tuple[str, str]


@dataclass(slots=True)
class Reflector(Generic[T]):
    """One collection.

    Attributes:
        kube: The API server.
        resource: Kind of the collection, in all namespaces.
        decode: From the JSON of an object to the value that is kept.
        changed: Called with (old, new) after every change; None stands for absent.
        label_selector: Server-side filter.
        field_selector: Server-side filter.
    """

    kube: Kube
    resource: Resource
    decode: Callable[[dict[str, Any]], T]
    changed: Callable[[T | None, T | None], None]
    label_selector: str = ""
    field_selector: str = ""
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    missing: bool = False  # the kind is not installed
    _objects: dict[Key, T] = field(default_factory=dict)
    _version: str = ""
    _failures: int = 0  # since the last event

    def get(self, namespace: str, name: str) -> T | None:
        """One object."""
        return self._objects.get((namespace, name))

    def __iter__(self) -> Iterator[T]:
        """All objects."""
        return iter(self._objects.values())

    def __len__(self) -> int:
        """Number of objects."""
        return len(self._objects)

    def learn(self, raw: dict[str, Any]) -> None:
        """Takes the answer to an own write, so that the next look does not wait for the watch."""
        self._put(self.decode(raw))

    def drop(self, namespace: str, name: str) -> None:
        """Forgets an object that the server says does not exist."""
        self._remove((namespace, name))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._relist()
                await self._watch()
                self._failures = 0
            except ApiError as exc:
                self._failures += 1
                if exc.gone:
                    _log.info("watch of %s is too old; listing anew", self.resource.plural)
                elif exc.not_found:
                    if not self.missing:
                        _log.warning(
                            "the API server does not know %s.%s", self.resource.plural, self.resource.api_version
                        )
                    self.missing = True
                    self.synced.set()
                else:
                    _log.warning("watch of %s refused: %s", self.resource.plural, exc)
                self._version = ""
            except (OSError, aiohttp.ClientError, TimeoutError) as exc:
                self._failures += 1
                _log.info("watch of %s broke (%s); again", self.resource.plural, str(exc) or type(exc).__name__)
            except Exception:  # whatever a server or a proxy may send, this must not end
                self._failures += 1
                _log.exception("watch of %s sent what cannot be read; listing anew", self.resource.plural)
                self._version = ""
            if self._failures:
                pause = min(30.0, 0.1 * 2.0 ** min(self._failures, 9))
                await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311

    def _query(self) -> dict[str, str]:
        out = {}
        if self.label_selector:
            out["labelSelector"] = self.label_selector
        if self.field_selector:
            out["fieldSelector"] = self.field_selector
        return out

    async def _relist(self) -> None:
        """Replaces the store; what the list lacks is removed, which is the only trace of a deletion that was missed.

        All pages at one time: between two of them a look would see a server of now with the workers of before.
        """
        found: dict[Key, T] = {}
        query = {**self._query(), "limit": str(_PAGE)}
        while True:
            page = json.loads(await self.kube.list_page(self.resource, query=query))
            for raw in page.get("items") or []:
                made = self.decode(raw)
                found[made.namespace, made.name] = made
            if not (more := page["metadata"].get("continue")):
                break
            query["continue"] = more
        for made in found.values():
            self._put(made)
        for key in [key for key in self._objects if key not in found]:
            self._remove(key)
        self._version = page["metadata"]["resourceVersion"]
        self.missing = False
        self.synced.set()

    async def _watch(self) -> None:
        query = {
            **self._query(),
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(_SERVER_TIMEOUT // 2, _SERVER_TIMEOUT)),  # noqa: S311
        }
        async for line in self.kube.watch(self.resource, query=query, silence=_SILENCE):
            event = json.loads(line)
            kind, raw = event["type"], event["object"]
            if kind == "ERROR":
                raise ApiError(int(raw.get("code", 500)), str(raw.get("reason", "")), str(raw.get("message", "")))
            if kind != "BOOKMARK":
                made = self.decode(raw)
                if kind == "DELETED":
                    self._remove((made.namespace, made.name))
                else:
                    self._put(made)
            self._version = raw["metadata"]["resourceVersion"]
            self._failures = 0  # a stream that is cut now and then is no reason to wait longer and longer

    def _put(self, made: T) -> None:
        key = (made.namespace, made.name)
        old = self._objects.get(key)
        if old is not None and old.resource_version == made.resource_version:
            return
        if old is not None and _older(made.resource_version, old.resource_version):
            return
        self._objects[key] = made
        self.changed(old, made)

    def _remove(self, key: Key) -> None:
        old = self._objects.pop(key, None)
        if old is not None:
            self.changed(old, None)


def _older(one: str, other: str) -> bool:
    """Whether a resourceVersion is older; they are comparable numbers since Kubernetes 1.35 (KEP-5504)."""
    return one.isdigit() and other.isdigit() and int(one) < int(other)
