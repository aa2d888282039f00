"""HTTP for the kubelet and for Prometheus: /livez, /readyz, /metrics.

/livez answers while the event loop runs and all of its permanent tasks do. /readyz is 200 when the
caches are complete, so that a rollout of the operator waits for a process that can reconcile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from omni_operator.controller.runtime.metrics import Metrics


class HealthServer:
    """The server."""

    def __init__(
        self, *, port: int, metrics: Metrics, dead: Callable[[], list[str]], waits_for: Callable[[], str]
    ) -> None:
        self._port = port
        self._metrics = metrics
        self._dead = dead
        self._waits_for = waits_for
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Opens the port."""
        app = web.Application()
        app.add_routes(
            [web.get("/livez", self._livez), web.get("/readyz", self._readyz), web.get("/metrics", self._show_metrics)]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "0.0.0.0", self._port).start()  # noqa: S104  the kubelet asks from outside the pod

    async def stop(self) -> None:
        """Closes it."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        await asyncio.sleep(0)
        dead = self._dead()
        return web.Response(text="ended: " + ", ".join(dead), status=500) if dead else web.Response(text="ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        what = self._waits_for()
        return web.Response(text=f"waiting for {what}", status=503) if what else web.Response(text="ok")

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
