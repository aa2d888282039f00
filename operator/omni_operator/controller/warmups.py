"""Asks every new server its first request, so that Ready says "a request passed every stage" and not only "/health says 200".

A request may take minutes, so no look waits for it: it runs beside, and its end is a reason to look again. What has passed is kept
in status, so that another process of the operator does not ask again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from omni_operator.api.serving_spec import WarmUpSpec
from omni_operator.children.names import COMPONENT, Component
from omni_operator.controller import servers
from omni_operator.controller.answers import Answer, Answers, Server
from omni_operator.controller.objects import Pod
from omni_operator.controller.observed import Known, Observed
from omni_operator.engine.warm_up import FirstRequest, Unasked, first_request, wrong_with

_log = logging.getLogger(__name__)
_PAUSE, _LONGEST_PAUSE = 30.0, 300.0
_JUDGED_BYTES = 1 << 20


@dataclass(slots=True)
class _Asked:
    """One server: a request on its way, or what came of the last one."""

    request: FirstRequest
    task: asyncio.Task[None] | None = None
    tries: int = 0
    ended: float = float("-inf")
    answer: Answer = field(default_factory=Answer)

    def cancel(self) -> None:
        """Ends what is on its way."""
        if self.task is not None:
            self.task.cancel()

    def pause(self) -> float:
        """Seconds from the last try to the next."""
        return float(min(_PAUSE * 2 ** min(self.tries - 1, 10), _LONGEST_PAUSE)) if self.tries else 0.0


@dataclass(slots=True)
class WarmUps:
    """The requests of this process.

    Attributes:
        wake: Called with the key of an OmniDeployment one of whose servers has answered, or failed to.
    """

    wake: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _asked: dict[str, dict[Server, _Asked]] = field(default_factory=dict)

    def forget(self, key: str) -> None:
        """Ends the requests of an OmniDeployment that is gone, or whose servers are."""
        for asked in self._asked.pop(key, {}).values():
            asked.cancel()

    async def close(self) -> None:
        """Ends all requests."""
        tasks = [asked.task for each in self._asked.values() for asked in each.values() if asked.task is not None]
        for key in list(self._asked):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)

    def ask(self, observed: Observed, active: Known, wanted: WarmUpSpec) -> tuple[Answers, float | None]:
        """Asks servers that are new; what is known of all, and the seconds after which one is to be asked again."""
        key = observed.omni.key
        request = first_request(active.revision.spec, wanted, pipeline=active.revision.plan.pipeline)
        if isinstance(request, Unasked):
            self.forget(key)
            return Answers(unasked=request.why), None
        ready = {(pod.name, pod.ready_since): pod for pod in _servers(observed, active)}
        known = self._asked.setdefault(key, {})
        for server in known.keys() - ready.keys():
            known.pop(server).cancel()
        recorded = {(each["pod"], each["since"]) for each in observed.omni.status.get("answered") or ()}
        waits = []
        for server, pod in ready.items():
            asked = known.get(server)
            if asked is None:
                asked = known[server] = _Asked(request, answer=Answer(passed=server in recorded))
            elif asked.request != request and not asked.answer.passed:  # the user has corrected it
                asked.cancel()
                asked = known[server] = _Asked(request)
            if asked.answer.passed or asked.task is not None:
                continue
            if (left := asked.ended + asked.pause() - self.clock()) > 0:
                waits.append(left)
            else:
                work = self._ask(key, asked, pod.address, active.revision.spec.serving.port)
                asked.task = asyncio.create_task(work, name=f"warm-up of {pod.name}")
        return Answers(servers={server: asked.answer for server, asked in known.items()}), min(waits, default=None)

    async def _ask(self, key: str, asked: _Asked, address: str, port: int) -> None:
        try:
            wrong = await _post(asked.request, address, port)
        except Exception as exc:  # whatever an answer may hold: a request that is never over would never be asked again
            _log.exception("warm-up of %s", key)
            wrong = f"{type(exc).__name__}: {exc}"
        asked.task, asked.ended, asked.tries = None, self.clock(), asked.tries + 1
        asked.answer = Answer(passed=not wrong, wrong=wrong)
        self.wake(key)


def _servers(observed: Observed, active: Known) -> list[Pod]:
    return [
        pod
        for pod in observed.live_pods()
        if pod.revision == active.revision.name
        and pod.labels.get(COMPONENT) == Component.SERVING
        and pod.ready_since
        and pod.address
        and not pod.deleting
    ]


async def _post(request: FirstRequest, address: str, port: int) -> str:
    """What was wrong; empty when the request passed."""
    patience = aiohttp.ClientTimeout(total=request.timeout_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=patience, headers={"Content-Type": "application/json"}) as session,
            session.post(servers.url(address, port, request.path), data=request.body, allow_redirects=False) as answer,
        ):
            begin = await servers.beginning(answer, limit=_JUDGED_BYTES)
            return wrong_with(answer.status, begin)
    except TimeoutError:
        return f"no answer within {request.timeout_seconds} s (serving.warmUp.timeoutSeconds)"
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"
