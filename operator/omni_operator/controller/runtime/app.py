"""kopf as the shell: process, signals, login, and the watch of OmniDeployments.

Everything else is the Manager's.

kopf writes nothing here: only `on.event` handlers exist, with null storages, no posting and no
peering (its change handlers would write annotations and keep state that a level-triggered
controller has no use for).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Any

import kopf

from omni_operator.api.base import GROUP, PLURAL, VERSION
from omni_operator.controller.runtime.manager import Manager
from omni_operator.controller.runtime.settings import Settings
from omni_operator.kube import credentials


class _NoDiffBase(kopf.DiffBaseStorage):
    """Remembers nothing: no handler asks for a difference."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> Any:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Remembers nothing: no handler is retried by kopf."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        return None

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        return None

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def registry(settings: Settings) -> kopf.OperatorRegistry:
    """The handlers of one operator process."""
    handlers = kopf.OperatorRegistry()
    manager = Manager(settings, credentials.find())

    @kopf.on.startup(registry=handlers)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)
        try:
            await manager.start()
        except asyncio.CancelledError:  # a signal; kopf runs no cleanup of what has not started
            await manager.stop()
            raise

    @kopf.on.cleanup(registry=handlers)
    async def stop(**_: Any) -> None:
        await manager.stop()

    @kopf.on.login(registry=handlers)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)
    async def event(event: Mapping[str, Any], **_: Any) -> None:
        manager.on_event(event["type"], dict(event["object"]))

    return handlers


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    settings.watching.server_timeout = 290
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 150
    settings.networking.request_timeout = 30
    settings.queueing.idle_timeout = 1.0
    settings.process.ultimate_exiting_timeout = 20


def run(settings: Settings) -> None:
    """Runs until a signal comes."""
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # The identity is for peering, which is off; kopf would ask for the user's name, which a
    # container may not have.
    identity: Any = socket.gethostname()
    kopf.run(registry=registry(settings), standalone=True, clusterwide=True, identity=identity)
