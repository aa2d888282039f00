"""Which revision should run: the one that exists for this spec, or a new one from a plan made now.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.serving_spec import RolloutStrategy
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.describe import summary
from omni_operator.children.revision import (
    LIVE_FIELDS,
    LIVE_SERVING_FIELDS,
    canonical,
    new_revision,
    spec_json,
)
from omni_operator.controller.state.followers import leader_of, waits_for_leader
from omni_operator.controller.state.signals import DRY_RUN_REPEAT_SECONDS
from omni_operator.controller.state.snapshot import Snapshot, StoredRevision
from omni_operator.planning.feasibility import is_still_feasible, waits_now
from omni_operator.planning.model import PlanError, Planned
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity

MakePlan = Callable[[OmniDeploymentSpec], Planned | PlanError]


class Mode(StrEnum):
    """What kind of reconcile this is."""

    RUN = "Run"
    DELETE = "Delete"
    LEAVE = "Leave"  # nothing is touched: a record or the namespace cannot be read


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a spec is not accepted, or not planned as it is now."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What should run.

    Attributes:
        mode: What kind of reconcile this is.
        target: The revision to run; None when there is none and none can be made.
        spec: The spec for what may change without a revision; None when nothing runs and nothing
            can.
        rejected: Why the spec is not accepted; None when it is.
        unplanned: Why there is no plan for the spec as it is now, or why its plan is held; None
            when there is one.
        waits_for: What the plan needs and is not free now; empty when it fits.
        dry_run: A revision about which the API server is to be asked before it takes the place of
            `target`.
    """

    mode: Mode = Mode.RUN
    target: StoredRevision | None = None
    spec: OmniDeploymentSpec | None = None
    rejected: Problem | None = None
    unplanned: Problem | None = None
    waits_for: str = ""
    dry_run: StoredRevision | None = None

    @property
    def replicas(self) -> int:
        """Replicas to run; a suspended pipeline has none."""
        return 0 if self.spec is None or self.spec.suspend else self.spec.replicas


def decide(snapshot: Snapshot, *, make_plan: MakePlan, inventory: Callable[[], Inventory]) -> Decision:
    """The decision. `make_plan` and `inventory` are called only when they are needed."""
    if snapshot.omni.deleting:
        return Decision(mode=Mode.DELETE)
    if snapshot.unreadable or snapshot.pod_security is None:
        return Decision(mode=Mode.LEAVE)
    current = _current(snapshot)
    spec = snapshot.parsed.spec
    if spec is None:
        problem = Problem(Reason.INVALID_SPEC, snapshot.parsed.error)
        return Decision(target=current, spec=_readable(snapshot, current), rejected=problem)
    same = _of_this_spec(snapshot, spec)
    if same:
        target = current if current in same else max(same, key=lambda k: (k.created, k.name))
        assert target is not None
        lost = _cannot_be_scheduled(snapshot, target, inventory) or _is_forbidden_now(snapshot, target)
        if not lost:
            return Decision(target=target, spec=spec, waits_for=_waits_for(snapshot, target, spec, inventory))
    return _newly_planned(snapshot, spec, make_plan(spec), current=current, respawn=bool(same))


def _newly_planned(
    snapshot: Snapshot,
    spec: OmniDeploymentSpec,
    result: Planned | PlanError,
    *,
    current: StoredRevision | None,
    respawn: bool,
) -> Decision:
    if isinstance(result, PlanError):
        problem = Problem(result.reason, result.message)
        # A spec whose plan was refused may still suspend or scale what runs.
        live = spec if current is not None else None
        if result.condition is ConditionType.ACCEPTED:
            return Decision(target=current, spec=live, rejected=problem)
        return Decision(target=current, spec=live, unplanned=problem)
    made = StoredRevision(revision=new_revision(spec=spec, plan=result.plan), created="")
    made = snapshot.revisions.get(made.name, made)
    # Hold is about edits; a revision of this very spec that can no longer run holds nothing.
    if spec.rollout.strategy is RolloutStrategy.HOLD and current is not None and made != current and not respawn:
        text = (
            f"the spec changed, but rollout.strategy is Hold: revision {current.name} stays; set Recreate to go to "
            f"{made.name} ({summary(result.plan)})"
        )
        return Decision(target=current, spec=spec, unplanned=Problem(Reason.HELD, text))
    if made.name not in snapshot.revisions and current is not None and not _is_under_way(snapshot):
        return _after_dry_run(snapshot, spec, made, current=current, waits_for=result.waits_for or "")
    return Decision(target=made, spec=spec, waits_for=result.waits_for or "")


def _after_dry_run(
    snapshot: Snapshot, spec: OmniDeploymentSpec, made: StoredRevision, *, current: StoredRevision, waits_for: str
) -> Decision:
    """A new revision takes over only when the API server would take its children.

    Found out later, it would be an outage.
    """
    answer = snapshot.signals.dry_run
    if answer is None or answer.revision != made.name:
        return Decision(target=current, spec=spec, dry_run=made)
    if not answer.errors:
        return Decision(target=made, spec=spec, waits_for=waits_for)
    text = (
        "the API server does not take what this spec asks for; correct the spec, or what stands against it: "
        f"{'; '.join(answer.errors)}"
    )
    # The answer holds while it is asked again, since what makes the API server refuse is not
    # watched.
    expired = (snapshot.now - answer.at).total_seconds() >= DRY_RUN_REPEAT_SECONDS
    problem = Problem(Reason.CHILD_REFUSED, text)
    return Decision(target=current, spec=spec, rejected=problem, dry_run=made if expired else None)


def _is_under_way(snapshot: Snapshot) -> bool:
    """Whether the way to another revision has begun: status names one that has no record yet.

    What exists is being removed then, so there is nothing that a dry run would protect.
    """
    named = snapshot.omni.status.get("revision")
    return bool(named) and named not in snapshot.revisions


def _current(snapshot: Snapshot) -> StoredRevision | None:
    """The revision that status calls active, or else the newest that exists."""
    named = snapshot.revisions.get(str(snapshot.omni.status.get("revision")))
    return named or max(snapshot.revisions.values(), key=lambda k: (k.created, k.name), default=None)


def _of_this_spec(snapshot: Snapshot, spec: OmniDeploymentSpec) -> list[StoredRevision]:
    """Revisions made from this spec.

    By digest, or, where another version of the operator wrote the record, by the fields that both
    versions know.
    """
    form, found = None, []
    for stored in snapshot.revisions.values():
        if stored.revision.spec_digest == snapshot.parsed.digest:
            found.append(stored)
            continue
        # As JSON: in Python 1 equals True
        form = json.dumps(canonical(spec), sort_keys=True) if form is None else form
        if json.dumps(canonical(stored.revision.spec), sort_keys=True) == form:
            found.append(stored)
    return found


def _readable(snapshot: Snapshot, current: StoredRevision | None) -> OmniDeploymentSpec | None:
    """The running revision's spec, with the live fields of a spec that is invalid elsewhere.

    A revision's own record has none of that, so without this an invalid edit would scale the
    pipeline and change its Service.
    """
    if current is None:
        return None
    raw, kept = snapshot.omni.spec, spec_json(current.revision.spec)
    # "ready/wanted", as the last reconcile wrote it
    _, _, last = str(snapshot.omni.status.get("replicasSummary", "")).partition("/")
    parts: list[dict[str, Any]] = [{"replicas": int(last)}] if last.isdecimal() else []
    parts += [{field: raw[field]} for field in LIVE_FIELDS if field in raw]
    serving = raw.get("serving")
    if isinstance(serving, dict):
        parts += [{"serving": {field: serving[field]}} for field in LIVE_SERVING_FIELDS if field in serving]
    spec = current.revision.spec
    for part in parts:
        merged = {**kept, **part, "serving": {**kept["serving"], **part.get("serving", {})}}
        try:
            spec = OmniDeploymentSpec.model_validate(merged)
        except ValidationError:
            continue
        kept = merged
    return spec


def _waits_for(
    snapshot: Snapshot, target: StoredRevision, spec: OmniDeploymentSpec, inventory: Callable[[], Inventory]
) -> str:
    """What the plan is short of, and the first pod that the scheduler finds no node for.

    A pod that only follows another is no cause: not before that has a node, nor for the moment
    until the scheduler tries again.
    """
    stuck = [p for p in snapshot.pods_of(target.name) if p.unschedulable and not waits_for_leader(snapshot, target, p)]
    if not stuck:
        return ""
    short = waits_now(target.revision.plan, spec=spec, inventory=inventory())
    if not short and all(leader_of(target, p) for p in stuck):
        return ""
    return f"{short or 'pods wait for free capacity'}; {stuck[0].name}: {stuck[0].unschedulable}"


def _is_forbidden_now(snapshot: Snapshot, target: StoredRevision) -> bool:
    """Whether the namespace became stricter than the plan and no pod of it is left to disturb."""
    assert snapshot.pod_security is not None
    levels = list(PodSecurity)
    stricter = levels.index(snapshot.pod_security) > levels.index(target.revision.plan.pod_security)
    return stricter and not snapshot.pods_of(target.name)


def _cannot_be_scheduled(snapshot: Snapshot, target: StoredRevision, inventory: Callable[[], Inventory]) -> bool:
    """Whether a pod cannot be scheduled, and the nodes could not hold the plan if empty.

    Both are asked, so that a node that is away for a moment never moves a running pipeline.
    """
    stuck = any(p.unschedulable for p in snapshot.pods_of(target.name))
    plan, spec = target.revision.plan, target.revision.spec
    return stuck and not is_still_feasible(plan, spec=spec, inventory=inventory())
