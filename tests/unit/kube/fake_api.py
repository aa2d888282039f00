"""A small API server for one collection: pages, watches that a test controls, and failures."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from omni_operator.kube.client import Kube
from omni_operator.kube.credentials import Credentials

Object = dict[str, Any]


def thing(name: str, version: int, **extra: Any) -> Object:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}, **extra}


def event(kind: str, obj: Object) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def status(code: int, reason: str, message: str = "") -> Object:
    return {"kind": "Status", "code": code, "reason": reason, "message": message}


@dataclass
class Watch:
    """One open watch of the client under test."""

    query: dict[str, str]
    lines: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)

    def send(self, *events: bytes) -> None:
        for line in events:
            self.lines.put_nowait(line)

    def close(self) -> None:
        """The server's own end, as after timeoutSeconds."""
        self.lines.put_nowait(None)


@dataclass
class FakeApi:
    """The server.

    Attributes:
        objects: What a list shows, by name.
        version: resourceVersion of lists.
        fail: Answers (status, headers, body) that are given before any real one.
        seen: Method, path and query of every request.
    """

    objects: dict[str, Object] = field(default_factory=dict)
    version: int = 10
    page: int = 2
    fail: deque[tuple[int, dict[str, str], bytes]] = field(default_factory=deque)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    watches: asyncio.Queue[Watch] = field(default_factory=asyncio.Queue)
    _server: TestServer | None = None

    def refuse(self, *codes: int, reason: str = "", headers: dict[str, str] | None = None) -> None:
        for code in codes:
            self.fail.append((code, headers or {}, json.dumps(status(code, reason)).encode()))

    def lists(self) -> int:
        """How many lists were begun."""
        return sum(1 for _, _, query in self.seen if "watch" not in query and "continue" not in query)

    async def __aenter__(self) -> FakeApi:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._server = TestServer(app)
        await self._server.start_server()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        await self._server.close()

    def client(self) -> Kube:
        assert self._server is not None
        url = str(self._server.make_url("/")).rstrip("/")
        return Kube(credentials=Credentials(server=url, ssl=False, token="secret"), manager="test")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.seen.append((request.method, request.path, query))
        if request.can_read_body:
            self.bodies.append(await request.json())
        if self.fail:
            code, headers, body = self.fail.popleft()
            if code == 0:  # the connection breaks
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            return web.Response(status=code, headers=headers, body=body)
        if "watch" in query:
            return await self._watch(request, query)
        return web.json_response(self._list(query))

    def _list(self, query: dict[str, str]) -> Object:
        names = sorted(self.objects)
        start = int(query.get("continue", 0))
        meta: Object = {"resourceVersion": str(self.version)}
        if start + self.page < len(names):
            meta["continue"] = str(start + self.page)
        return {"metadata": meta, "items": [self.objects[name] for name in names[start : start + self.page]]}

    async def _watch(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        watch = Watch(query)
        self.watches.put_nowait(watch)
        while (line := await watch.lines.get()) is not None:
            await response.write(line)
        return response


async def eventually(check: Callable[[], bool], *, seconds: float = 10) -> None:
    """Until a condition holds; fails with a TimeoutError."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110  any condition, also of code that sets no event
            await asyncio.sleep(0.005)
