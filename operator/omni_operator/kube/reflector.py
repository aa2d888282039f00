"""Keeps a store equal to a collection of the API server.

It lists, watches with bookmarks, and lists again now and then. It never ends on a bad line, a 410
or an outage; kopf 1.45 does on some of these, and keeps ghosts of objects that vanished while a
watch was broken. Objects are decoded into narrow values at once, so memory holds only what is read.

The answer to an own write may arrive after the watch's DELETED of the same object. A tombstone with
the version of the deletion keeps such an answer out, and a periodic relist removes whatever a
broken watch or proxy left behind.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

import aiohttp

from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.decoder import Decoder, JsonDecoder, Key, NarrowDecoder, T
from omni_operator.kube.kinds import Resource

__all__ = ["Decoder", "JsonDecoder", "NarrowDecoder", "Reflector"]

_log = logging.getLogger(__name__)
_SILENCE = 150.0  # the API server sends a bookmark about once a minute, but leaves the first one out at times
_SERVER_TIMEOUT = 290
_SHORTEST_WATCH = 1.0  # seconds
_PAGE = 500
_RELIST_SECONDS = 3600.0  # checked when a watch ends, which happens every few minutes
_TOMBSTONES = 4096  # the oldest go first: no answer to a write is that late


@dataclass(slots=True)
class Reflector(Generic[T]):
    """One collection.

    Attributes:
        kube: The API server.
        resource: Kind of the collection, in all namespaces.
        decoder: From the JSON of an object to the value that is kept.
        changed: Called with (old, new) after every change; None stands for absent.
        label_selector: Server-side filter.
        field_selector: Server-side filter.
        relist_seconds: Age of a list after which the next watch begins with a new one.
        synced: Set once the collection has been listed.
        optional: What it lists is not needed for a first reconcile, which says what is missing.
        missing: The kind is not installed.
        error: Why the API server refuses the collection; empty when it does not.
    """

    kube: Kube
    resource: Resource
    decoder: Decoder[T]
    changed: Callable[[T | None, T | None], None]
    label_selector: str = ""
    field_selector: str = ""
    relist_seconds: float = _RELIST_SECONDS
    optional: bool = False
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    missing: bool = False
    error: str = ""
    clock: Callable[[], float] = time.monotonic
    _objects: dict[Key, T] = field(default_factory=dict)
    _tombstones: dict[Key, str] = field(default_factory=dict)
    _version: str = ""
    _listed_at: float = 0.0
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

    def upsert(self, raw: dict[str, Any]) -> None:
        """Stores the answer to an own write; the next reconcile need not wait for the watch."""
        made = self.decoder.value(raw)
        buried = self._tombstones.get((made.namespace, made.name))
        if buried is None or _older(buried, made.resource_version):
            self._put(made)

    def remove(self, namespace: str, name: str) -> None:
        """Forgets an object that the server says does not exist."""
        known = self._objects.get((namespace, name))
        if known is not None:
            self._bury((namespace, name), known.resource_version)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            begun = self.clock()
            try:
                if not self._version or self.clock() - self._listed_at >= self.relist_seconds:
                    await self._relist()
                brought = await self._watch()
                # A server that ends every watch at once must not be asked without a pause.
                useful = brought or self.clock() - begun >= _SHORTEST_WATCH
                self._failures = 0 if useful else self._failures + 1
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
                    self.error = str(exc)
                    _log.warning("watch of %s refused: %s", self.resource.plural, exc)
                    if exc.status == 403 and self.optional:
                        self.synced.set()
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
        """Replaces the store; an object that the list lacks is removed.

        The gap is the only trace of a deletion that was missed.

        All pages at one time: between two of them a reconcile would see a server of now with the
        workers of before.
        """
        found: dict[Key, T] = {}
        query = {**self._query(), "limit": str(_PAGE)}
        while True:
            page = self.decoder.page(await self.kube.list_page(self.resource, query=query))
            found.update({(made.namespace, made.name): made for made in page.items})
            if not page.more:
                break
            query["continue"] = page.more
        for made in found.values():
            self._put(made)
        for key in [key for key in self._objects if key not in found]:
            self._bury(key, page.version)
        self._version, self._listed_at = page.version, self.clock()
        self.missing, self.error = False, ""
        self.synced.set()

    async def _watch(self) -> bool:
        """Until the server ends it; whether it brought anything."""
        brought = False
        query = {
            **self._query(),
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(_SERVER_TIMEOUT // 2, _SERVER_TIMEOUT)),  # noqa: S311
        }
        async for line in self.kube.watch(self.resource, query=query, silence=_SILENCE):
            event = self.decoder.event(line)
            if event.error is not None:
                raise event.error
            if event.key is not None:
                if event.value is None:
                    self._bury(event.key, event.version)
                else:
                    self._put(event.value)
            self._version, brought = event.version, True
            self._failures = 0  # a stream that is cut now and then is no reason to wait longer and longer
        return brought

    def _put(self, made: T) -> None:
        key = (made.namespace, made.name)
        old = self._objects.get(key)
        if old is not None and old.resource_version == made.resource_version:
            return
        if old is not None and _older(made.resource_version, old.resource_version):
            return
        self._tombstones.pop(key, None)
        self._objects[key] = made
        self.changed(old, made)

    def _bury(self, key: Key, version: str) -> None:
        """Removes an object, and remembers at which version it was gone."""
        known = self._objects.get(key)
        if known is not None and _older(version, known.resource_version):
            return  # made after the list, or after the deletion of one of its name
        self._tombstones.pop(key, None)
        self._tombstones[key] = version
        while len(self._tombstones) > _TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]
        old = self._objects.pop(key, None)
        if old is not None:
            self.changed(old, None)


def _older(one: str, other: str) -> bool:
    """Whether a resourceVersion is older; they are comparable since Kubernetes 1.35 (KEP-5504)."""
    return one.isdigit() and other.isdigit() and int(one) < int(other)
