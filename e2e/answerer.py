"""Answers for servers that do not exist.

What the operator sends to fake pods stays on this machine and is counted.

Fake pods have addresses on loopback, all of 127.0.0.0/8 being this machine's. Each server gets a
listener at its own address, so nothing is open to others, and two control planes on one machine do
not meet.
"""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

_T = TypeVar("_T")
_CLAIM = 40404
_CHAT = {
    "id": "chatcmpl-fake",
    "object": "chat.completion",
    "created": 0,
    "model": "fake",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Loopback:
    """A part of loopback for one control plane.

    127.N.0.0/17 for KWOK to give away, 127.N.128.0/17 for servers that answer.
    """

    def __init__(self) -> None:
        for number in random.sample(range(64, 128), 64):
            self._claim = socket.socket()
            try:
                self._claim.bind((f"127.{number}.255.254", _CLAIM))
            except OSError:  # another control plane's
                self._claim.close()
                continue
            self.number = number
            self.cidr = f"127.{number}.0.0/17"
            self._given = 0
            return
        msg = "no part of 127.64.0.0/10 is free"
        raise RuntimeError(msg)

    def address(self) -> str:
        """One that was not given away for long."""
        self._given = self._given % 32_000 + 1
        return f"127.{self.number}.{128 + self._given // 256}.{self._given % 256}"

    def close(self) -> None:
        """Gives it back."""
        self._claim.close()


class Answerer:
    """Listeners in a thread of their own.

    Attributes:
        requests: Requests by method and path.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self._sites: dict[str, web.TCPSite] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="answerer", daemon=True)
        self._runner: web.AppRunner | None = None

    def start(self) -> None:
        """Begins, with no listener yet."""
        self._thread.start()
        self._call(self._start())

    def stop(self) -> None:
        """Closes all."""
        if self._runner is not None:
            self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self, address: str, port: int) -> None:
        """Answers at an address of loopback from now on."""
        assert address.startswith("127."), address
        self._call(self._listen(address, port))

    def close(self, address: str) -> None:
        """Answers there no more."""
        if (site := self._sites.pop(address, None)) is not None:
            self._call(site.stop())

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()

    async def _listen(self, address: str, port: int) -> None:
        assert self._runner is not None
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        self._sites[address] = site

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests[request.method, request.path] += 1
        await request.read()
        return web.json_response(_CHAT) if request.method == "POST" else web.Response(text="")
