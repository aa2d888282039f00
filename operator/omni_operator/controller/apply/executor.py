"""The only writer: carries out an ActionPlan step by step and returns what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from omni_operator.controller.apply.children import ChildState, ChildWriter, steady
from omni_operator.controller.apply.omnideployment import OmniWriter
from omni_operator.controller.rollout.actions import (
    Action,
    ActionPlan,
    ApplyChild,
    CreateCleanupPod,
    DeleteChild,
    DeletePod,
    Failure,
    RecordFolders,
    Restart,
    Results,
    SetFinalizer,
)
from omni_operator.controller.state.event import EventRecord
from omni_operator.controller.state.snapshot import ChildKey, Snapshot
from omni_operator.controller.state.store import Store
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND, POD

_AT_ONE_TIME = 8  # actions of one OmniDeployment; the connections are for all
_NO_ANSWER = (TimeoutError, aiohttp.ClientError)
_NOT_ANSWERED = (
    "the API server did not answer in time; if this stays, an admission webhook may not answer "
    "(kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations)"
)


@dataclass(slots=True)
class Executor:
    """Carries out plans."""

    kube: Kube
    store: Store
    omni: OmniWriter
    children: ChildWriter

    async def execute(self, snapshot: Snapshot, plan: ActionPlan) -> Results:
        """Does everything that a plan says; later steps wait for earlier ones.

        All actions of a step end before this returns. One that fails ends the plan after its step:
        what was done by then is in the results, and `failed` says what was not.
        """
        run = _Run(self, snapshot)
        for step in plan.steps:
            slots = asyncio.Semaphore(_AT_ONE_TIME)
            ended = await asyncio.gather(*(run.bounded(action, slots) for action in step), return_exceptions=True)
            run.failed += [_failure(action, exc) for action, exc in zip(step, ended, strict=True) if exc is not None]
            if run.gone or run.failed:
                break
        return Results(
            gone=run.gone,
            failed=tuple(run.failed),
            refused=tuple(sorted(run.refused)),
            not_owned=tuple(sorted(run.not_owned)),
            restarts=tuple(run.restarts),
            events=tuple(run.events),
        )


@dataclass(slots=True)
class _Run:
    """One execution."""

    executor: Executor
    snapshot: Snapshot
    gone: bool = False
    failed: list[Failure] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    not_owned: list[str] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    events: list[EventRecord] = field(default_factory=list)
    _made: set[ChildKey] = field(default_factory=set)

    async def bounded(self, action: Action, slots: asyncio.Semaphore) -> None:
        """One action, when one of the slots is free."""
        async with slots:
            await self.do(action)

    async def do(self, action: Action) -> None:
        """One action."""
        match action:
            case RecordFolders():
                self.gone |= not await self.executor.omni.record_folders(self.snapshot.omni, action.folders)
            case SetFinalizer():
                self.gone |= not await self.executor.omni.finalizer(self.snapshot.omni, present=action.present)
            case ApplyChild():
                await self._apply(action)
            case DeleteChild():
                await self._delete_child(action)
            case DeletePod():
                await self._delete_pod(action)
            case CreateCleanupPod():
                await self._create_cleanup_pod(action)

    async def _apply(self, action: ApplyChild) -> None:
        if action.requires - self._made:
            return  # what it needs was refused or is somebody else's, which status says
        where = " ".join(action.key)
        try:
            state = await self.executor.children.ensure(self.snapshot, dict(action.intent), exists=action.exists)
        except _NO_ANSWER:
            self.refused.append(f"{where}: {_NOT_ANSWERED}")
            return
        except ApiError as exc:
            if exc.status == 429:
                raise  # no refusal: it asks to wait
            if not exc.namespace_ends:
                self.refused.append(f"{where}: {steady(exc.message or str(exc))}")
            return
        if state is ChildState.NOT_OURS:
            self.not_owned.append(where)
        elif state in {ChildState.DONE, ChildState.FOUND}:
            self._made.add(action.key)
            self._emit(action.event if state is ChildState.DONE else None)

    async def _delete_child(self, action: DeleteChild) -> None:
        resource = BY_KIND[action.kind]
        if await self.executor.kube.delete(resource, action.namespace, action.name, uid=action.uid):
            self._emit(action.event)
        else:
            children = self.executor.store.children[action.kind]
            known = children.get(action.namespace, action.name)
            if known is not None and known.uid == action.uid:  # not another that has its name by now
                children.remove(action.namespace, action.name)
        if action.restart is not None:
            self.restarts.append(action.restart)

    async def _delete_pod(self, action: DeletePod) -> None:
        options: Mapping[str, Any] = {} if action.grace_seconds is None else {"grace_seconds": action.grace_seconds}
        await self.executor.kube.delete(POD, action.namespace, action.name, uid=action.uid, **options)
        self._emit(action.event)
        if action.restart is not None:
            self.restarts.append(action.restart)

    async def _create_cleanup_pod(self, action: CreateCleanupPod) -> None:
        try:
            await self.executor.kube.create(POD, dict(action.pod))
        except _NO_ANSWER:
            self.refused.append(f"cleanup of {action.folder} on {action.node}: {_NOT_ANSWERED}")
        except ApiError as exc:
            if not exc.conflict and not exc.namespace_ends:
                self.refused.append(f"cleanup of {action.folder} on {action.node}: {exc.message}")

    def _emit(self, event: EventRecord | None) -> None:
        if event is not None:
            self.events.append(event)


def _failure(action: Action, exc: BaseException) -> Failure:
    """What to say of an action that failed, and when to try again.

    Raises:
        BaseException: The exception itself when the reconcile was cancelled or the action has a
            fault.
    """
    if isinstance(exc, ApiError):
        return Failure(what=f"{action}: {exc}", retry_after=exc.retry_after)
    if isinstance(exc, _NO_ANSWER):
        return Failure(what=f"{action}: {_NOT_ANSWERED}")
    raise exc
