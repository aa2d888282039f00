"""Writes children, and never what is not ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from omni_operator.children.render import repairable
from omni_operator.controller.state import decode
from omni_operator.controller.state.snapshot import Snapshot
from omni_operator.controller.state.store import Store
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND

# No object has this version now, so an apply with it makes what is missing and is a 409 for what
# exists (ADR 5).
_NEVER_A_VERSION = "1"


class ChildState(Enum):
    """What came of one child."""

    DONE = auto()
    NOT_OURS = auto()
    FOUND = auto()  # it was there, though the caches did not know it, and is as intended now
    ENDING = auto()  # one of this name is being deleted
    CHANGED = auto()  # another of its name is there, or none, which the watch is about to say


@dataclass(slots=True)
class ChildWriter:
    """Creates and applies children."""

    kube: Kube
    store: Store

    async def ensure(self, snapshot: Snapshot, intent: dict[str, Any], *, exists: bool) -> ChildState:
        """One child as intended.

        Raises:
            ApiError: The API server refused it.
        """
        if exists:
            live = snapshot.children[intent["kind"], intent["metadata"]["name"]]
            try:
                await self._apply({**intent, "metadata": {**intent["metadata"], "uid": live.uid}}, force=True)
            except ApiError as exc:
                if exc.conflict:
                    return ChildState.CHANGED
                raise
            return ChildState.DONE
        return await self._make(snapshot, intent)

    async def _make(self, snapshot: Snapshot, intent: dict[str, Any]) -> ChildState:
        """A child that the caches do not know.

        Only if it does not exist, so that an object of somebody else's stays as it is.
        """
        resource = BY_KIND[intent["kind"]]
        try:
            # later applies have no data, and would remove what an earlier one owns
            if resource.kind == "ConfigMap":
                self.store.children["ConfigMap"].upsert(await self.kube.create(resource, intent))
            else:
                new = {**intent, "metadata": {**intent["metadata"], "resourceVersion": _NEVER_A_VERSION}}
                await self._apply(new, force=False)
        except ApiError as exc:
            if not exc.conflict:
                raise
            meta = intent["metadata"]
            found = await self.kube.get(resource, meta["namespace"], meta["name"])
            if found is None:
                raise
            theirs = decode.child(resource.kind, found)
            if not snapshot.is_owned(theirs):
                return ChildState.NOT_OURS
            if theirs.deleting:
                return ChildState.ENDING
            # Somebody changed the label by which it is watched.
            await self._apply(repairable(intent) if resource.kind == "ConfigMap" else intent, force=True)
            return ChildState.FOUND
        return ChildState.DONE

    async def _apply(self, intent: dict[str, Any], *, force: bool) -> None:
        resource = BY_KIND[intent["kind"]]
        self.store.children[resource.kind].upsert(await self.kube.apply(resource, intent, force=force))


def steady(message: str) -> str:
    """The lines of one refusal in one order.

    The API server's own changes from answer to answer, and status with it.
    """
    first, *rest = message.split("\n")
    return "\n".join([first, *sorted(rest)])
