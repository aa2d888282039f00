"""What a reconcile is going to write, as data.

The ActionPlan, its actions and the builder that collects them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omni_operator.controller.state.event import EventRecord
from omni_operator.controller.state.signals import ReplicaKey, RestartRecord
from omni_operator.controller.state.snapshot import ChildKey, NodeFolder
from omni_operator.engine.warm_up import FirstRequest, SkippedWarmUp

Restart = tuple[ReplicaKey, RestartRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFolders:
    """Writes into status which nodes hold shared memory, before the pods that show it go."""

    folders: frozenset[NodeFolder]

    def __str__(self) -> str:
        return f"record {len(self.folders)} shared-memory folder(s) in status.nodeMemory"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFinalizer:
    """Sets or removes the finalizer that a deletion waits for."""

    present: bool

    def __str__(self) -> str:
        return f"{'set' if self.present else 'remove'} the finalizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyChild:
    """Makes a child, or sets the fields of one again.

    Attributes:
        intent: The object.
        exists: Whether it is there and only differs.
        event: What to emit when it was done.
        requires: Children that must exist when it is made; without them it waits.
    """

    intent: Mapping[str, Any]
    exists: bool
    event: EventRecord | None = None
    requires: frozenset[ChildKey] = frozenset()

    @property
    def key(self) -> ChildKey:
        """Kind and name."""
        return self.intent["kind"], self.intent["metadata"]["name"]

    def __str__(self) -> str:
        kind, name = self.key
        return f"{'apply' if self.exists else 'create'} {kind} {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteChild:
    """Deletes a child, if it still is the one that was seen.

    Attributes:
        restart: The replica whose server this ends, and its record from then on.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    event: EventRecord | None = None
    restart: Restart | None = None

    def __str__(self) -> str:
        return f"delete {self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePod:
    """Deletes a server that cannot answer any more, or a cleanup pod that is not needed.

    Only if it still is the one that was seen: cleanup pods have fixed names.
    """

    namespace: str
    name: str
    uid: str
    grace_seconds: int | None = None
    event: EventRecord | None = None
    restart: Restart | None = None

    def __str__(self) -> str:
        return f"delete Pod {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCleanupPod:
    """Makes the pod that removes a folder from a node's memory."""

    pod: Mapping[str, Any]
    node: str
    folder: str

    def __str__(self) -> str:
        return (
            f"create Pod {self.pod['metadata']['name']}, which removes {self.folder} from the memory of "
            f"node {self.node}"
        )


Action = RecordFolders | SetFinalizer | ApplyChild | DeleteChild | DeletePod | CreateCleanupPod


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRequest:
    """What is to be asked of the active revision's servers, in the background.

    Attributes:
        warm_up: The first request of a server, or why there is none.
    """

    warm_up: FirstRequest | SkippedWarmUp


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPlan:
    """Everything that one reconcile does, and what it waits for.

    Attributes:
        steps: Actions, step by step; those of one step may be done at one time.
        draining: Revisions that are not gone yet.
        waits: What the end of a revision or of the OmniDeployment waits for, sorted.
        waits_for_child: Children that are not made yet, each with what it waits for.
        not_owned: Objects in the way that belong to somebody else, sorted.
        folders: Folders in the memory of nodes that must stay recorded.
        backoff_reason: Why a server is not made yet; empty when none is held back.
        last_restart: Which server was ended last, and why.
        dry_run: Name and children of a revision that the API server is to be asked about before it
            takes over.
        signals: What to ask the servers; None when nothing runs.
        requeue_after: Seconds after which time alone may change something.
    """

    steps: tuple[tuple[Action, ...], ...] = ()
    draining: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    waits_for_child: tuple[str, ...] = ()
    not_owned: tuple[str, ...] = ()
    folders: frozenset[NodeFolder] = frozenset()
    backoff_reason: str = ""
    last_restart: str = ""
    dry_run: tuple[str, tuple[Mapping[str, Any], ...]] | None = None
    signals: SignalRequest | None = None
    requeue_after: float | None = None

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions in their order."""
        return tuple(action for step in self.steps for action in step)


@dataclass(slots=True)
class Builder:
    """Collects an ActionPlan; lives inside plan_actions only."""

    steps: list[list[Action]] = field(default_factory=list)
    waits: set[str] = field(default_factory=set)
    waits_for_child: list[str] = field(default_factory=list)
    blocking_revisions: set[str] = field(default_factory=set)
    not_owned: set[str] = field(default_factory=set)
    backoff_reason: str = ""
    last_restart: str = ""
    requeue_after: float | None = None

    def step(self, actions: Iterable[Action]) -> None:
        """Actions that may be done at one time, after all before."""
        if found := list(actions):
            self.steps.append(found)

    def requeue(self, seconds: float) -> None:
        """Asks for another reconcile by time alone."""
        self.requeue_after = seconds if self.requeue_after is None else min(seconds, self.requeue_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An action that must be tried again.

    Attributes:
        what: The action and the API server's words.
        retry_after: Seconds that the API server asked to wait.
    """

    what: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What came of an ActionPlan.

    Attributes:
        gone: The OmniDeployment does not exist any more, or another has its name; nothing was done
            after that was found.
        failed: Actions that failed for no fault of a child; later steps were not begun.
        refused: What the API server refused, in its words, sorted.
        not_owned: Objects in the way that the caches did not know, sorted.
        restarts: Records of servers that were ended.
        events: Events of actions that were done.
    """

    gone: bool = False
    failed: tuple[Failure, ...] = ()
    refused: tuple[str, ...] = ()
    not_owned: tuple[str, ...] = ()
    restarts: tuple[Restart, ...] = ()
    events: tuple[EventRecord, ...] = ()


NOTHING_DONE = Results()
