"""The next actions of the operator for an OmniDeployment, and what it waits for."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from omni_operator import __version__
from omni_operator.api.conditions import Reason
from omni_operator.children.describe import summary
from omni_operator.cli.plan_source import INVALID, MUST_WAIT, OK, POLICY
from omni_operator.controller.rollout.actions import Action, ActionPlan, ApplyChild, DeleteChild, DeletePod
from omni_operator.controller.rollout.decide import Decision, Mode
from omni_operator.controller.rollout.diff import first_difference
from omni_operator.controller.state.snapshot import ChildKey, Snapshot

NOT_KNOWN = (
    "only the operator's process has its history of restarts, answers to dry runs, and warm-up requests that status "
    f"does not have; this is what an operator of version {__version__} does without them"
)
# Reasons in status of results that no object in the cluster shows.
_ONLY_IN_STATUS = frozenset({Reason.CHILD_REFUSED, Reason.RESTART_BACK_OFF})


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionReport:
    """The next actions for one OmniDeployment.

    Attributes:
        snapshot: What is known of it.
        decision: Which revision is to run.
        plan: What a reconcile would do.
        unreadable_reasons: Why records of revisions are unreadable, by name of the revision.
    """

    snapshot: Snapshot
    decision: Decision
    plan: ActionPlan
    unreadable_reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """Exit code of the command."""
        decision = self.decision
        if self.snapshot.unreadable or decision.rejected is not None:
            return INVALID
        if decision.unplanned is not None and decision.unplanned.reason is not Reason.HELD:
            return POLICY
        return MUST_WAIT if self.waits else OK

    @property
    def heading(self) -> str:
        """The OmniDeployment with the revision that the actions are for."""
        omni, target = self.snapshot.omni, self.decision.target
        name = f"{omni.namespace}/{omni.name}"
        if self.decision.mode is Mode.DELETE:
            return f"{name} is being deleted since {omni.deleted_at}"
        if target is None:
            return f"{name}: no revision"
        return f"{name}: revision {target.name} ({self.revision_state}), {summary(target.revision.plan)}"

    @property
    def revision_state(self) -> str:
        """Whether the revision is new, has a ConfigMap, or is the active one by status."""
        target = self.decision.target
        if target is None:
            return ""
        if target.name not in self.snapshot.revisions:
            return "new"
        return "active" if self.snapshot.omni.status.get("revision") == target.name else "stored"

    @property
    def problem(self) -> str:
        """Why the spec is not what runs, or why nothing is changed; empty when it is."""
        snapshot, decision = self.snapshot, self.decision
        if snapshot.unreadable:
            why = "; ".join(self.unreadable_reasons.get(name, name) for name in snapshot.unreadable)
            return (
                f"the operator changes nothing, since the record of revision {', '.join(snapshot.unreadable)} is "
                f"unreadable ({why}); run the operator that wrote it, or delete and create the OmniDeployment"
            )
        found = decision.rejected or decision.unplanned
        if found is None or found.reason is Reason.HELD:
            return ""
        what = "is not accepted" if decision.rejected else "cannot be planned"
        return f"the spec {what}: {found.reason}: {found.message}"

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """Actions in words, step by step."""
        found = tuple(tuple(map(self._sentence, step)) for step in self.plan.steps)
        if (asked := self.dry_run) is None:
            return found
        revision, objects = asked
        assert self.decision.target is not None
        text = (
            f"ask the API server by a dry run about {len(objects)} objects of revision {revision}, which replaces "
            f"{self.decision.target.name} once none of them is refused"
        )
        return (*found, (text,))

    @property
    def dry_run(self) -> tuple[str, tuple[str, ...]] | None:
        """A new revision and its objects, about which the API server would be asked first."""
        if self.plan.dry_run is None:
            return None
        revision, objects = self.plan.dry_run
        return revision, tuple(" ".join(_key(each)) for each in objects)

    @property
    def waits(self) -> tuple[str, ...]:
        """What the operator waits for, in words."""
        return tuple(self._waits())

    @property
    def nothing_to_do(self) -> str:
        """That nothing is written, and why a revision is not Ready yet."""
        status = self.snapshot.omni.status
        ready = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), None)
        if self.decision.mode is not Mode.RUN or ready is None or ready["status"] == "True":
            return "nothing to do"
        return f"nothing to do; status has Ready {ready['status']}: {ready['reason']}: {ready['message']}"

    def data(self) -> dict[str, Any]:
        """JSON for -o json; the names are those of the ActionPlan."""
        snapshot, decision, plan = self.snapshot, self.decision, self.plan
        target, problem = decision.target, decision.rejected or decision.unplanned
        asked = self.dry_run
        return {
            "namespace": snapshot.omni.namespace,
            "name": snapshot.omni.name,
            "generation": snapshot.omni.generation,
            "mode": decision.mode.value,
            "revision": {"name": target.name, "state": self.revision_state} if target else None,
            "problem": {"reason": problem.reason.value, "message": problem.message} if problem else None,
            "actions": [self._data(n, action) for n, step in enumerate(plan.steps, 1) for action in step],
            "dryRun": {"revision": asked[0], "objects": list(asked[1])} if asked else None,
            "draining": list(plan.draining),
            "waits": list(plan.waits),
            "waitsForChild": list(plan.waits_for_child),
            "waitsForCapacity": decision.waits_for,
            "backoffReason": plan.backoff_reason,
            "notOwned": list(plan.not_owned),
            "unreadable": list(snapshot.unreadable),
            "refusedOrDelayed": list(self._only_in_status()),
            "requeueAfterSeconds": plan.requeue_after,
            "notKnown": NOT_KNOWN,
        }

    def _data(self, step: int, action: Action) -> dict[str, Any]:
        found: dict[str, Any] = {"step": step, "action": type(action).__name__, "text": str(action)}
        if isinstance(action, ApplyChild):
            found["action"] = "ApplyChild" if action.exists else "CreateChild"
            found["object"] = " ".join(action.key)
            if (path := self._path(action)) is not None:
                found["path"] = path
        if why := _cause(action):
            found["cause"] = why
        return found

    def _sentence(self, action: Action) -> str:
        if isinstance(action, ApplyChild) and (path := self._path(action)) is not None:
            return f"{action}, since {path} differs"
        why = _cause(action)
        return f"{action} ({why})" if why else str(action)

    def _path(self, action: ApplyChild) -> str | None:
        """The first field of a child that differs from what the operator wants."""
        live = self.snapshot.children.get(action.key)
        return first_difference(live.body, action.intent) if live is not None and action.exists else None

    def _waits(self) -> Iterator[str]:
        plan, decision = self.plan, self.decision
        things = ", ".join(plan.waits)
        if plan.draining:
            yield f"revision {', '.join(plan.draining)} is being removed" + (
                f"; it waits for {things}" if things else ""
            )
        elif things:
            yield things
        yield from plan.waits_for_child
        if plan.backoff_reason:
            yield plan.backoff_reason
        for each in plan.not_owned:
            yield f"{each} exists and belongs to somebody else; delete or rename it, or rename this OmniDeployment"
        if decision.waits_for:
            yield decision.waits_for
        if decision.unplanned is not None and decision.unplanned.reason is Reason.HELD:
            yield decision.unplanned.message
        if self.snapshot.namespace_terminating:
            yield f"namespace {self.snapshot.omni.namespace} is being deleted, so nothing can be made in it"
        yield from self._only_in_status()

    def _only_in_status(self) -> Iterator[str]:
        """Refused children and delayed restarts as the last reconcile reported them."""
        omni, seen = self.snapshot.omni, set[str]()
        reasons = {Reason.DELETING} if self.decision.mode is Mode.DELETE else _ONLY_IN_STATUS
        for condition in omni.status.get("conditions") or ():
            current = condition.get("observedGeneration", omni.generation) == omni.generation
            if current and condition["reason"] in reasons and condition["message"] not in seen:
                seen.add(condition["message"])
                yield f"status has {condition['type']}: {condition['reason']}: {condition['message']}"


def without(plan: ActionPlan, not_owned: Collection[ChildKey]) -> ActionPlan:
    """The plan without children that cannot be created, and without those that require them."""
    absent = set(not_owned)

    def is_possible(action: Action) -> bool:
        if not isinstance(action, ApplyChild) or action.exists:
            return True
        if action.key in absent or action.requires & absent:
            absent.add(action.key)
            return False
        return True

    steps = (tuple(filter(is_possible, step)) for step in plan.steps)
    names = {*plan.not_owned, *(" ".join(key) for key in not_owned)}
    return replace(plan, steps=tuple(step for step in steps if step), not_owned=tuple(sorted(names)))


def seconds(requeue_after: float) -> str:
    """A time in whole seconds, of which a started one counts."""
    return f"{math.ceil(requeue_after)} s"


def _cause(action: Action) -> str:
    return action.event.message if isinstance(action, DeleteChild | DeletePod) and action.event is not None else ""


def _key(intent: Mapping[str, Any]) -> ChildKey:
    return intent["kind"], intent["metadata"]["name"]
