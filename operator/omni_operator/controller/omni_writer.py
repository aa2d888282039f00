"""Writes to the OmniDeployment itself: status, the finalizer, events about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from omni_operator.api.base import API_VERSION, KIND, PLURAL
from omni_operator.children.names import FINALIZER
from omni_operator.controller import objects
from omni_operator.controller.cache import Cache
from omni_operator.controller.events import Story, event_object, from_conditions
from omni_operator.controller.objects import Omni
from omni_operator.controller.observed import Observed, Verdict
from omni_operator.controller.status import amended
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import EVENT, Resource

_log = logging.getLogger(__name__)
OMNI = Resource(KIND, API_VERSION, PLURAL)


@dataclass(slots=True)
class OmniWriter:
    """The only writer of OmniDeployments."""

    kube: Kube
    cache: Cache
    instance: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def status(self, omni: Omni, status: dict[str, Any]) -> bool:
        """Applies the whole status; False when the object is gone."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": omni.name, "namespace": omni.namespace, "uid": omni.uid},
            "status": status,
        }
        return await self._write(omni, body, subresource="status")

    async def finalizer(self, observed: Observed, *, present: bool) -> bool:
        """Sets or removes our finalizer; False when the object is gone."""
        omni = observed.omni
        meta: dict[str, Any] = {"name": omni.name, "namespace": omni.namespace, "uid": omni.uid}
        if present:
            meta["finalizers"] = [FINALIZER]
        return await self._write(omni, {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta}, subresource=None)

    async def remember_folders(self, observed: Observed) -> None:
        """Records in status which nodes hold shared memory, before the pods that tell it go."""
        recorded = {(str(m["node"]), str(m["revision"])) for m in observed.omni.status.get("nodeMemory") or ()}
        if new := observed.folders() - recorded:
            entries = [{"node": node, "revision": folder} for node, folder in sorted(recorded | new)]
            await self.status(observed.omni, {**observed.omni.status, "nodeMemory": entries})

    async def tell(self, omni: Omni, story: Story) -> None:
        """Posts an Event; one that is refused is only logged."""
        _log.log(
            logging.WARNING if story.warning else logging.INFO, "%s: %s: %s", omni.key, story.reason, story.message
        )
        try:
            await self.kube.create(EVENT, event_object(omni, story, now=self.now(), instance=self.instance))
        except ApiError as exc:
            if not exc.conflict:
                _log.warning("event %s of %s was refused: %s", story.reason, omni.key, exc)

    async def amend(self, omni: Omni, verdict: Verdict) -> None:
        """Replaces one condition, when it says something new."""
        status = amended(omni, verdict, now=self.now())
        if {str(c) for c in status["conditions"]} != {str(c) for c in omni.status.get("conditions") or ()}:
            await self.status(omni, status)
            for story in from_conditions(omni.status, status, summary=None):
                await self.tell(omni, story)

    async def _write(self, omni: Omni, body: dict[str, Any], *, subresource: str | None) -> bool:
        """Writes to the OmniDeployment that was looked at; False (and forgets it) when it is gone or another has its name."""
        try:
            answer = objects.omni(await self.kube.apply(OMNI, body, force=True, subresource=subresource))
        except ApiError as exc:
            if exc.not_found or (exc.conflict and await self._replaced(omni)):
                known = self.cache.omnis.get(omni.key)
                if known is not None and known.uid == omni.uid:
                    del self.cache.omnis[omni.key]
                return False
            raise
        self.cache.learn(answer)
        if (answer.generation, answer.deleting) != (omni.generation, omni.deleting):
            # The answer brought a user's edit along; its own event will not be newer than what is known now.
            self.cache.look(omni.key)
        return True

    async def _replaced(self, omni: Omni) -> bool:
        found = await self.kube.get(OMNI, omni.namespace, omni.name)
        return found is None or objects.omni(found).uid != omni.uid
