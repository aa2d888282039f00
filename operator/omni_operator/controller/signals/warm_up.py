"""Asks every new server its first request.

So that Ready says "a request passed every stage" and not only "/health says 200".

A request may take minutes: it runs in the background, and its end is a reason to reconcile. What
has passed is kept in status, so that another process of the operator does not ask again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from omni_operator.controller.signals import http
from omni_operator.controller.state.signals import Server, WarmUpResult
from omni_operator.engine.warm_up import FirstRequest, error_of

_log = logging.getLogger(__name__)
_PAUSE, _LONGEST_PAUSE = 30.0, 300.0
_JUDGED_BYTES = 1 << 20


@dataclass(slots=True)
class _Asked:
    """One server: the task that asks it until an answer passes, and what came of the last try."""

    request: FirstRequest
    task: asyncio.Task[None] | None = None
    result: WarmUpResult = field(default_factory=WarmUpResult)

    def cancel(self) -> None:
        """Ends what is on its way."""
        if self.task is not None:
            self.task.cancel()


@dataclass(slots=True)
class WarmUps:
    """The first requests of this process.

    Attributes:
        wake: Called with the key of an OmniDeployment one of whose servers has answered, or failed
            to.
    """

    wake: Callable[[str], None]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _asked: dict[str, dict[Server, _Asked]] = field(default_factory=dict)

    def results(self, uid: str) -> Mapping[Server, WarmUpResult]:
        """What is known of each server that was asked."""
        return {server: asked.result for server, asked in self._asked.get(uid, {}).items()}

    def refresh(
        self, uid: str, *, key: str, request: FirstRequest | None, servers: Mapping[Server, str], port: int
    ) -> None:
        """Asks servers that are new, and forgets those that are gone.

        Args:
            uid: The OmniDeployment.
            key: Its key in the queue.
            request: What to ask; None when servers are not asked.
            servers: Servers that are ready and have not answered a request yet, with the address of
                their pod.
            port: The port that they listen on.
        """
        if request is None:
            self.forget(uid)
            return
        known = self._asked.setdefault(uid, {})
        for server in known.keys() - servers.keys():
            known.pop(server).cancel()
        for server, address in servers.items():
            asked = known.get(server)
            # the user has corrected it
            if asked is not None and asked.request != request and not asked.result.passed:
                asked.cancel()
                asked = None
            if asked is None:
                asked = known[server] = _Asked(request)
                work = self._ask(key, asked, address, port)
                asked.task = asyncio.create_task(work, name=f"warm-up of {server[0]}")

    def forget(self, uid: str) -> None:
        """Ends the requests of an OmniDeployment that is gone, or whose servers are."""
        for asked in self._asked.pop(uid, {}).values():
            asked.cancel()

    async def close(self) -> None:
        """Ends all requests."""
        tasks = [asked.task for each in self._asked.values() for asked in each.values() if asked.task is not None]
        for uid in list(self._asked):
            self.forget(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: str, asked: _Asked, address: str, port: int) -> None:
        """Asks until a request has passed, later each time."""
        tries = 0
        while not asked.result.passed:
            try:
                error = await _post(asked.request, address, port)
            except Exception as exc:  # whatever an answer may hold: a task that ended would never ask again
                _log.exception("warm-up of %s", key)
                error = f"{type(exc).__name__}: {exc}"
            asked.result = WarmUpResult(passed=not error, error=error)
            self.wake(key)
            tries += 1
            if error:
                await self.sleep(pause_after(tries))


def pause_after(tries: int) -> float:
    """Seconds from the last try to the next."""
    return float(min(_PAUSE * 2 ** min(tries - 1, 10), _LONGEST_PAUSE))


async def _post(request: FirstRequest, address: str, port: int) -> str:
    """What was wrong; empty when the request passed."""
    patience = aiohttp.ClientTimeout(total=request.timeout_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=patience, headers={"Content-Type": "application/json"}) as session,
            session.post(http.url(address, port, request.path), data=request.body, allow_redirects=False) as answer,
        ):
            begin = await http.beginning(answer, limit=_JUDGED_BYTES)
            return error_of(answer.status, begin)
    except TimeoutError:
        return f"no answer within {request.timeout_seconds} s (serving.warmUp.timeoutSeconds)"
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"
