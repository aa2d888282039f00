"""An asyncio client for the few verbs of this operator.

Server-side apply, create, delete, list and watch. About a quarter of the CPU of a generated client
per call, and full control of conflicts, retries and deadlines. Every request is counted, so tests
and benches can say what a reconcile costs.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from omni_operator.kube.credentials import Credentials
from omni_operator.kube.kinds import POD, Resource

_RETRIED = frozenset({429, 500, 502, 503, 504})
# Few and short: a worker waits meanwhile, and the queue retries a reconcile that failed, later each
# time.
_ATTEMPTS = 2
_LONGEST_PAUSE = 5.0
_LONGEST_ASKED = 60.0
_TOTAL_SECONDS = 20.0


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: HTTP status.
        reason: Reason of the Status object, such as Conflict or NotFound.
        message: Its message.
        retry_after: Seconds that the server asks to wait before the next try; 0 when it does not
            say.
    """

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.retry_after = retry_after
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def conflict(self) -> bool:
        """Whether another manager owns a field, or the object exists or changed."""
        return self.status == 409

    @property
    def not_found(self) -> bool:
        """Whether the object (or its kind) does not exist."""
        return self.status == 404

    @property
    def namespace_ends(self) -> bool:
        """Whether nothing can be created because the namespace is being deleted."""
        return self.status == 403 and "because it is being terminated" in self.message

    @property
    def gone(self) -> bool:
        """Whether a watch must be begun anew by a list."""
        return self.status == 410


@dataclass(slots=True)
class Kube:
    """The API server, for one field manager."""

    credentials: Credentials
    manager: str
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Kube:
        """Opens the connection pool."""
        connector = aiohttp.TCPConnector(ssl=self.credentials.ssl, limit=32, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=_TOTAL_SECONDS))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Closes it."""
        if self._session is not None:
            await self._session.close()

    async def apply(
        self, resource: Resource, obj: dict[str, Any], *, force: bool, subresource: str | None = None
    ) -> dict[str, Any]:
        """Server-side apply of the fields in `obj`, and only of these.

        Args:
            resource: Kind of the object.
            obj: Fields to own, with metadata.name and metadata.namespace.
            force: Take fields that other managers own; without it a foreign value is a 409.
            subresource: Such as status.

        Raises:
            ApiError: The server refused, for example 409 on a foreign field or 400 on an unknown
                one.
        """
        meta = obj["metadata"]
        query = {"fieldManager": self.manager, "fieldValidation": "Strict"}
        if force:
            query["force"] = "true"
        path = resource.path(meta.get("namespace"), meta["name"], subresource)
        done: dict[str, Any] = await self._call(
            "PATCH", resource, path, query=query, body=obj, content="application/apply-patch+yaml"
        )
        return done

    async def merge(self, resource: Resource, namespace: str | None, name: str, patch: dict[str, Any]) -> None:
        """JSON merge patch (RFC 7386); a resourceVersion in it makes it conditional.

        Raises:
            ApiError: The server refused, for example 409 when the object has changed.
        """
        path, query = resource.path(namespace, name), {"fieldManager": self.manager}
        await self._call("PATCH", resource, path, query=query, body=patch, content="application/merge-patch+json")

    async def create(self, resource: Resource, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Creates an object, or only tests whether it could be created.

        The status is 409 when an object of its name exists.
        """
        path = resource.path(obj["metadata"].get("namespace"))
        query = {"fieldManager": self.manager, **({"dryRun": "All", "fieldValidation": "Strict"} if dry_run else {})}
        made: dict[str, Any] = await self._call("POST", resource, path, query=query, body=obj)
        return made

    async def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
        """One object, or None when it does not exist."""
        try:
            found: dict[str, Any] = await self._call("GET", resource, resource.path(namespace, name))
        except ApiError as exc:
            if exc.not_found:
                return None
            raise
        return found

    async def log(self, namespace: str, name: str, *, container: str, limit_bytes: int) -> str:
        """The beginning of a container's log, at most so many bytes."""
        path = f"{POD.path(namespace, name)}/log"
        query = {"container": container, "limitBytes": str(limit_bytes)}
        text: bytes = await self._call("GET", POD, path, query=query, raw=True)
        return text.decode(errors="replace")

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str | None = None, grace_seconds: int | None = None
    ) -> bool:
        """Deletes an object if its uid is still `uid`; False when it is not there.

        `grace_seconds` is what a pod gets to end in, instead of its own
        terminationGracePeriodSeconds.
        """
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", resource, resource.path(namespace, name), body=body)
        except ApiError as exc:
            if exc.not_found or exc.conflict:
                return False
            raise
        return True

    async def list_page(self, resource: Resource, *, query: dict[str, str]) -> bytes:
        """One page of a collection in all namespaces, as raw bytes for the caller's decoder."""
        raw: bytes = await self._call("LIST", resource, resource.path(), query=query, raw=True)
        return raw

    async def discovers(self, resource: Resource) -> bool:
        """Whether the API server's lists of groups and of their kinds name a kind.

        The lists follow a new CRD after a moment.

        Raises:
            ApiError: The server refused, for example 404 when the group's version has gone between
                the two answers.
        """
        group, _, version = resource.api_version.partition("/")
        found = await self._call("GET", resource, "/apis")
        if not any(g["name"] == group and version in {v["version"] for v in g["versions"]} for g in found["groups"]):
            return False
        kinds = await self._call("GET", resource, resource.prefix)
        return any(kind["name"] == resource.plural for kind in kinds["resources"])

    async def watch(self, resource: Resource, *, query: dict[str, str], silence: float) -> AsyncIterator[bytes]:
        """Lines of a watch in all namespaces.

        Args:
            resource: Kind to watch.
            query: Selectors and resourceVersion.
            silence: Seconds without a byte (bookmarks come once a minute) after which the stream
                counts as dead.

        Raises:
            ApiError: The server refused the watch, for example 410.
            OSError, asyncio.TimeoutError, aiohttp.ClientError: The stream broke.
        """
        assert self._session is not None
        self.requests["WATCH", resource.kind] += 1
        url = f"{self.credentials.server}{resource.path()}?{urlencode({**query, 'watch': 'true'})}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence)
        async with self._session.get(url, headers=await self.credentials.headers(), timeout=timeout) as answer:
            if answer.status >= 400:
                raise _error(answer.status, await answer.read())
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        yield line

    async def _call(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        content: str = "application/json",
        raw: bool = False,
    ) -> Any:
        assert self._session is not None
        url = f"{self.credentials.server}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else msgspec.json.encode(body)
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            headers = {**await self.credentials.headers(), "Accept": "application/json"}
            if data is not None:
                headers["Content-Type"] = content
            self.requests[verb, resource.kind] += 1
            try:
                method = "GET" if verb == "LIST" else verb
                async with self._session.request(method, url, data=data, headers=headers) as answer:
                    text = await answer.read()
                    if answer.status < 400:
                        return text if raw else msgspec.json.decode(text)
                    # A POST that met a 500 may have been done; the caller's next reconcile finds
                    # out.
                    asked = _asked_pause(answer.headers.get("Retry-After", ""))
                    once = answer.status not in _RETRIED or (verb == "POST" and answer.status != 429)
                    if last or once or asked > _LONGEST_PAUSE:
                        raise _error(answer.status, text, retry_after=asked)
                    pause = asked or _backoff(attempt)
            except (aiohttp.ClientConnectionError, TimeoutError) as exc:
                # Who waited so long once must not hold a worker for as long again.
                if last or verb == "POST" or isinstance(exc, TimeoutError):
                    raise
                pause = _backoff(attempt)
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")


def _asked_pause(retry_after: str) -> float:
    """Seconds of a Retry-After header; 0 without one and for a date, as a proxy may send."""
    return min(_LONGEST_ASKED, float(retry_after)) if retry_after.isdecimal() else 0.0


def _backoff(attempt: int) -> float:
    return min(8.0, 0.2 * 2.0**attempt) * (0.5 + random.random())  # noqa: S311  jitter, not a secret


def _error(status: int, body: bytes, *, retry_after: float = 0.0) -> ApiError:
    try:
        parsed = msgspec.json.decode(body)
        reason, message = str(parsed.get("reason", "")), str(parsed.get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        reason, message = "", body[:500].decode(errors="replace")
    return ApiError(status, reason, message, retry_after=retry_after)
