"""From one reconcile to `status`.

Pure: the time is in the snapshot, so an unchanged cluster gives an unchanged status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from omni_operator import __version__
from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.children import names, services
from omni_operator.children.names import COMPONENT, REVISION, Component
from omni_operator.controller.conditions.accepted import accepted
from omni_operator.controller.conditions.facts import Facts
from omni_operator.controller.conditions.plan_status import PlanStatuses
from omni_operator.controller.conditions.planned import planned
from omni_operator.controller.conditions.progressing import progressing
from omni_operator.controller.conditions.ray_cluster_ready import ray_cluster_ready
from omni_operator.controller.conditions.ready import ready
from omni_operator.controller.conditions.serving_ready import serving_ready
from omni_operator.controller.conditions.transport_as_planned import transport_as_planned
from omni_operator.controller.conditions.update import ConditionUpdate
from omni_operator.controller.rollout.actions import ActionPlan, Results
from omni_operator.controller.rollout.decide import Decision, Mode
from omni_operator.controller.state.snapshot import Snapshot

_LONGEST_MESSAGE = 32000  # the schema's bound
_DELETION_SECONDS = 60.0  # a deletion that goes well is over by then and needs no words


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """The status as it should be, and the seconds after which it changes by time alone."""

    status: dict[str, Any]
    requeue_after: float | None = None


def build_status(
    snapshot: Snapshot,
    decision: Decision,
    actions: ActionPlan,
    results: Results,
    plans: PlanStatuses | None = None,
) -> StatusUpdate:
    """The status after a reconcile; `plans` only saves describing a plan again."""
    match decision.mode:
        case Mode.DELETE:
            return _deleting(snapshot, actions, results)
        case Mode.LEAVE:
            return _left_alone(snapshot)
    facts = Facts(snapshot=snapshot, decision=decision, actions=actions, results=results)
    updates, requeue_after = _updates(facts)
    generation = snapshot.omni.generation
    if decision.dry_run is not None and decision.rejected is None:
        # The new spec is judged when the API server has answered; until then status is about the
        # one before.
        generation = int(snapshot.omni.status.get("observedGeneration", 0))
        updates = [u for u in updates if u.type not in {ConditionType.ACCEPTED, ConditionType.PLANNED}]
    active = facts.active
    status: dict[str, Any] = {"conditions": _conditions(snapshot, updates, generation=generation)}
    status["observedGeneration"] = generation
    if active is not None:
        plan = active.revision.plan
        status |= {"revision": active.name, "backend": plan.backend.value, "transport": plan.transport}
        status |= {
            "endpoint": services.endpoint(snapshot.owner, active.revision),
            "plan": (plans or PlanStatuses()).of(facts),
        }
    status |= {
        "replicas": _existing(snapshot, active.name) if active else 0,
        "readyReplicas": len(facts.serving),
        "replicasSummary": f"{len(facts.serving)}/{facts.replicas}",
        "selector": f"{names.NAME}={snapshot.owner.name},{COMPONENT}={Component.SERVING.value}",
        "answered": _answered(facts),
        "nodeMemory": [{"node": node, "revision": folder} for node, folder in sorted(actions.folders)],
    }
    return StatusUpdate(status, requeue_after)


def _updates(facts: Facts) -> tuple[list[ConditionUpdate], float | None]:
    """The conditions in the order of status."""
    is_accepted, is_planned = accepted(facts.snapshot, facts.decision), planned(facts.decision)
    ray = ray_cluster_ready(facts)
    serving = serving_ready(facts, ray_is_up=ray.is_true)
    transport = transport_as_planned(facts)
    is_ready = ready(facts, accepted=is_accepted, planned=is_planned, ray=ray, serving=serving, transport=transport)
    going, requeue_after = progressing(facts, accepted=is_accepted, planned=is_planned, ready=is_ready)
    return [is_accepted, is_planned, ray, serving, transport, going, is_ready], requeue_after


def _deleting(snapshot: Snapshot, actions: ActionPlan, results: Results) -> StatusUpdate:
    """What a deletion waits for, once it takes longer than one that goes well."""
    status, requeue_after = snapshot.omni.status, actions.requeue_after
    if snapshot.has_finalizer and (actions.folders or actions.draining):
        since = datetime.fromisoformat(snapshot.omni.deleted_at)
        left = _DELETION_SECONDS - (snapshot.now - since).total_seconds()
        if left > 0:
            requeue_after = min(left + 1, requeue_after or left + 1)
        else:
            # A cleanup pod that the namespace does not admit may be all that a deletion waits for.
            failed = {failure.what for failure in results.failed}
            waits = ", ".join(sorted({*actions.waits, *results.refused, *failed})) or "its children"
            text = f"being deleted since {snapshot.omni.deleted_at}; it waits for {waits}"
            update = ConditionUpdate(ConditionType.PROGRESSING, ConditionStatus.TRUE, Reason.DELETING, text)
            status = _amended(snapshot, update)
    return StatusUpdate(status, requeue_after)


def _left_alone(snapshot: Snapshot) -> StatusUpdate:
    """Why nothing is touched."""
    if snapshot.unreadable:
        text = (
            f"revision {', '.join(snapshot.unreadable)} was written by an operator whose record this one "
            f"({__version__}) "
            "does not understand, so all is left as it is; run the newer operator again, or delete and create the "
            "OmniDeployment"
        )
        kind, reason = ConditionType.PROGRESSING, Reason.REVISION_UNREADABLE
        return StatusUpdate(_amended(snapshot, ConditionUpdate(kind, ConditionStatus.FALSE, reason, text)))
    if snapshot.namespace_error:
        text = (
            f"the operator cannot read namespace {snapshot.omni.namespace}, whose pod security level "
            "decides what may be "
            f"planned: {snapshot.namespace_error}; apply the ClusterRole and its binding of this release"
        )
        kind, reason = ConditionType.PLANNED, Reason.NAMESPACE_UNKNOWN
        return StatusUpdate(_amended(snapshot, ConditionUpdate(kind, ConditionStatus.UNKNOWN, reason, text)))
    return StatusUpdate(snapshot.omni.status)


def _existing(snapshot: Snapshot, revision: str) -> int:
    """Replicas that are there now: what an autoscaler takes for the current number."""
    return sum(
        child.kind == "Deployment"
        and child.labels.get(REVISION) == revision
        and child.labels.get(COMPONENT) == Component.SERVING
        and snapshot.is_owned(child)
        for child in snapshot.children.values()
    )


def _answered(facts: Facts) -> list[dict[str, str]]:
    """Servers whose first request has passed.

    So that another process of the operator does not ask them again.
    """
    if facts.active is None or facts.skipped_warm_up:
        return []
    servers = [p for p in facts.of(Component.SERVING) if p.ready_since and not p.deleting]
    passed = sorted((p.name, p.ready_since) for p in servers if facts.warm_up(p).passed)
    return [{"pod": pod, "since": since} for pod, since in passed]


def _conditions(snapshot: Snapshot, updates: Sequence[ConditionUpdate], *, generation: int) -> list[dict[str, Any]]:
    """In the order of the types; those without an update stay as they are."""
    found = {c["type"]: c for c in snapshot.omni.status.get("conditions") or ()}
    for update in updates:
        found[update.type.value] = _condition(
            update, old=found.get(update.type.value, {}), now=snapshot.now, generation=generation
        )
    return [found[kind.value] for kind in ConditionType if kind.value in found]


def _condition(update: ConditionUpdate, *, old: Mapping[str, Any], now: datetime, generation: int) -> dict[str, Any]:
    same = old.get("status") == update.status
    return {
        "type": update.type.value,
        "status": update.status.value,
        "reason": update.reason.value,
        "message": update.message[:_LONGEST_MESSAGE],
        "lastTransitionTime": old["lastTransitionTime"] if same else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": generation,
    }


def _amended(snapshot: Snapshot, update: ConditionUpdate) -> dict[str, Any]:
    """The status as it is, with one condition replaced: for reconciles that judge nothing else."""
    conditions = _conditions(snapshot, [update], generation=snapshot.omni.generation)
    if conditions == snapshot.omni.status.get("conditions"):
        return snapshot.omni.status
    return {**snapshot.omni.status, "conditions": conditions}
