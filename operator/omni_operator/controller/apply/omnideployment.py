"""Writes to the OmniDeployment itself: status, the finalizer, events about it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from omni_operator.api.base import API_VERSION, KIND, PLURAL
from omni_operator.children.names import FINALIZER
from omni_operator.controller.state import decode
from omni_operator.controller.state.event import EventRecord
from omni_operator.controller.state.objects import Omni
from omni_operator.controller.state.snapshot import NodeFolder
from omni_operator.controller.state.store import Store
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import EVENT, Resource

_log = logging.getLogger(__name__)
OMNI = Resource(KIND, API_VERSION, PLURAL)


@dataclass(slots=True)
class OmniWriter:
    """The only writer of OmniDeployments."""

    kube: Kube
    store: Store
    instance: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def status(self, omni: Omni, status: dict[str, Any]) -> bool:
        """Applies the whole status; False when the object is gone."""
        meta = {"name": omni.name, "namespace": omni.namespace, "uid": omni.uid}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "status": status}
        return await self._write(omni, body, subresource="status")

    async def finalizer(self, omni: Omni, *, present: bool) -> bool:
        """Sets or removes our finalizer; False when the object is gone."""
        meta: dict[str, Any] = {"name": omni.name, "namespace": omni.namespace, "uid": omni.uid}
        if present:
            meta["finalizers"] = [FINALIZER]
        done = await self._write(omni, {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta}, subresource=None)
        known = self.store.omnis.get(omni.key)
        if done and not present and known is not None and known.uid == omni.uid and FINALIZER in known.finalizers:
            # Somebody else owns it too (a restored object, GitOps), so an apply alone leaves it.
            left = [finalizer for finalizer in known.finalizers if finalizer != FINALIZER]
            patch = {"uid": omni.uid, "resourceVersion": known.resource_version, "finalizers": left}
            await self.kube.merge(OMNI, omni.namespace, omni.name, {"metadata": patch})
        return done

    async def record_folders(self, omni: Omni, folders: Collection[NodeFolder]) -> bool:
        """Records in status which nodes hold shared memory; False when the object is gone."""
        entries = [{"node": node, "revision": folder} for node, folder in sorted(folders)]
        return await self.status(omni, {**omni.status, "nodeMemory": entries})

    async def emit(self, omni: Omni, event: EventRecord) -> None:
        """Posts an Event; one that is refused is only logged."""
        level = logging.WARNING if event.warning else logging.INFO
        _log.log(level, "%s: %s: %s", omni.key, event.reason, event.message)
        try:
            await self.kube.create(EVENT, event_object(omni, event, now=self.now(), instance=self.instance))
        except ApiError as exc:
            if not exc.conflict:
                _log.warning("event %s of %s was refused: %s", event.reason, omni.key, exc)
        except (TimeoutError, aiohttp.ClientError) as exc:
            _log.warning("event %s of %s was not answered: %s", event.reason, omni.key, type(exc).__name__)

    async def _write(self, omni: Omni, body: dict[str, Any], *, subresource: str | None) -> bool:
        """Writes to the very OmniDeployment of the snapshot.

        False (and forgets it) when it is gone or another has its name.
        """
        try:
            answer = decode.omni(await self.kube.apply(OMNI, body, force=True, subresource=subresource))
        except ApiError as exc:
            if exc.not_found or (exc.conflict and await self._is_replaced(omni)):
                self.store.remove(omni.key, omni.uid)
                return False
            raise
        self.store.upsert(answer)
        if (answer.generation, answer.deleting) != (omni.generation, omni.deleting):
            # The answer brought a user's edit along; its own event will not be newer than what is
            # known now.
            self.store.enqueue(omni.key)
        return True

    async def _is_replaced(self, omni: Omni) -> bool:
        found = await self.kube.get(OMNI, omni.namespace, omni.name)
        return found is None or decode.omni(found).uid != omni.uid


def event_object(omni: Omni, event: EventRecord, *, now: datetime, instance: str) -> dict[str, Any]:
    """The Event object.

    Its name is a digest, so a repetition in the same second is refused by the API server, not
    doubled.
    """
    text = f"{omni.uid}{event.reason}{event.message}{now.isoformat(timespec='seconds')}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{omni.name}.{digest}", "namespace": omni.namespace},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "omni-operator",
        "reportingInstance": instance,
        "action": "Reconcile",
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "note": event.message[:1024],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": omni.name,
            "namespace": omni.namespace,
            "uid": omni.uid,
        },
    }
