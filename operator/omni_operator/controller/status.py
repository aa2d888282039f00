"""From one look to `status`: pure, with the time as an argument, so that an unchanged cluster gives an unchanged status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from omni_operator.api.conditions import ConditionType, Reason, Truth
from omni_operator.api.spec import RdmaPolicy
from omni_operator.api.status import AnsweredServer, Condition, NodeMemory, OmniDeploymentStatus, PlanStatus
from omni_operator.children import names, services
from omni_operator.children.describe import describe
from omni_operator.children.names import COMPONENT, REVISION, Component
from omni_operator.controller.evidence import EdgeVerdict
from omni_operator.controller.health import Health, judge
from omni_operator.controller.objects import Omni
from omni_operator.controller.observed import Known, Observed, Outcome, Verdict

_STARTING = frozenset({Reason.SERVER_STARTING, Reason.RAY_STARTING, Reason.WARMING_UP})
_MAX_NODES = 64  # the schema's bound of PodPlan.nodes; more are possible with many replicas


def make_status(observed: Observed, outcome: Outcome, *, now: datetime) -> tuple[dict[str, Any], float | None]:
    """The status, and the seconds after which it may change by time alone (the progress deadline)."""
    health = judge(observed, outcome)
    ready = _ready(outcome, health)
    progressing, again = _progressing(observed, outcome, ready=ready, now=now)
    verdicts = [outcome.accepted, outcome.planned, health.ray, health.serving, health.transport, progressing, ready]
    active = outcome.active
    model = OmniDeploymentStatus(
        conditions=_conditions(observed, verdicts, now=now),
        observed_generation=observed.omni.generation,
        revision=active.revision.name if active else None,
        backend=active.revision.plan.backend.value if active else None,
        transport=active.revision.plan.transport if active else None,
        endpoint=services.endpoint(observed.owner, active.revision) if active else None,
        replicas=_existing(observed, active) if active else 0,
        ready_replicas=health.ready_replicas,
        replicas_summary=f"{health.ready_replicas}/{outcome.replicas}",
        selector=f"{names.NAME}={observed.owner.name},{COMPONENT}={Component.SERVING.value}",
        plan=_plan(observed, active, health.edges) if active else None,
        answered=[
            AnsweredServer(pod=pod, since=since)
            for (pod, since), answer in sorted(outcome.answers.servers.items())
            if answer.passed
        ],
        node_memory=[NodeMemory(node=node, revision=folder) for node, folder in sorted(outcome.folders)],
    )
    return model.model_dump(by_alias=True, mode="json", exclude_none=True), again


def _existing(observed: Observed, active: Known) -> int:
    """Replicas that are there now: what an autoscaler takes for the current number."""
    return sum(
        child.kind == "Deployment"
        and child.labels.get(REVISION) == active.revision.name
        and child.labels.get(COMPONENT) == Component.SERVING
        and child.owner_uid == observed.owner.uid
        for child in observed.children.values()
    )


def _ready(outcome: Outcome, health: Health) -> Verdict:
    kind = ConditionType.READY
    if outcome.active is None:
        cause = outcome.accepted if outcome.accepted.truth is not Truth.TRUE else outcome.planned
        return Verdict(kind, Truth.FALSE, cause.reason, cause.message)
    if outcome.replicas == 0:
        return Verdict(kind, Truth.FALSE, Reason.SUSPENDED, "suspended: no accelerators are held, the plan is kept")
    if outcome.foreign:  # status.endpoint may be somebody else's
        text = f"{', '.join(outcome.foreign)} belongs to somebody else"
        return Verdict(kind, Truth.FALSE, Reason.FOREIGN_OBJECT, text)
    degraded = health.transport.reason is Reason.TRANSPORT_DEGRADED  # it serves, slower than it could
    required = outcome.active.revision.spec.transport.rdma is RdmaPolicy.REQUIRE
    if health.transport.truth is Truth.FALSE and (required or not degraded):
        return Verdict(kind, Truth.FALSE, Reason.DEGRADED, health.transport.message)
    parts = (health.ray, health.serving)
    if health.ready_replicas >= outcome.replicas and all(part.truth is Truth.TRUE for part in parts):
        text = f"{health.ready_replicas} of {outcome.replicas} replicas serve"
        if why := _not_taken_up(outcome):
            text = f"{text} an earlier spec; the spec as it is now is not taken up ({why})"
            return Verdict(kind, Truth.TRUE, Reason.SERVING_EARLIER_SPEC, text)
        return Verdict(kind, Truth.TRUE, Reason.SERVING, text)
    causes = [part for part in parts if part.truth is not Truth.TRUE]
    # A server that waits for Ray is no cause; Ray that waits for a server's pod neither.
    cause = next((c for c in causes if c.reason not in _STARTING), causes[0])
    starting = cause.reason in _STARTING
    if health.ready_replicas and not (starting and health.ready_replicas >= outcome.replicas):
        text = f"{health.ready_replicas} of {outcome.replicas} replicas serve; {cause.message}"
        return Verdict(kind, Truth.FALSE, Reason.DEGRADED, text)
    return Verdict(kind, Truth.FALSE, Reason.NOT_SERVING if not starting else cause.reason, cause.message)


def _not_taken_up(outcome: Outcome) -> str:
    """Which condition says that the spec as it is now is not what runs: it is refused, cannot be planned or is held."""
    against = (v for v in (outcome.accepted, outcome.planned) if v.truth is Truth.FALSE)
    return next((f"{v.type}: {v.reason}" for v in against), "")


def _progressing(
    observed: Observed, outcome: Outcome, *, ready: Verdict, now: datetime
) -> tuple[Verdict, float | None]:
    kind = ConditionType.PROGRESSING
    if outcome.foreign:
        text = f"{', '.join(outcome.foreign)}: exists and belongs to somebody else; delete or rename it, or rename this OmniDeployment"
        return Verdict(kind, Truth.FALSE, Reason.FOREIGN_OBJECT, text), None
    if outcome.refused:
        return Verdict(kind, Truth.FALSE, Reason.CHILD_REFUSED, "; ".join(outcome.refused)), None
    if outcome.retiring:
        waits = f"; it waits for {', '.join(outcome.blockers)}" if outcome.blockers else ""
        text = f"revision {', '.join(outcome.retiring)} is being removed{waits}"
        return Verdict(kind, Truth.TRUE, Reason.RETIRING, text), None
    if outcome.active is None:
        return Verdict(kind, Truth.FALSE, ready.reason, "there is no revision to bring up"), None
    if ready.truth is Truth.TRUE or outcome.replicas == 0:
        text = f"revision {outcome.active.revision.name} is as wanted"
        if why := _not_taken_up(outcome):
            text = f"revision {outcome.active.revision.name} stays, since the spec as it is now is not taken up ({why})"
        return Verdict(kind, Truth.FALSE, Reason.COMPLETE, text), None
    deadline = (observed.omni.spec.get("rollout") or {}).get("progressDeadlineSeconds", 1800)
    begun = max(_time(outcome.active.created, now), _taken_up(observed, now))
    left = (begun + timedelta(seconds=deadline) - now).total_seconds()
    name = outcome.active.revision.name
    if left <= 0:
        text = f"revision {name} is not Ready after {deadline} s (rollout.progressDeadlineSeconds); it is kept running: {ready.message}"
        return Verdict(kind, Truth.FALSE, Reason.DEADLINE_EXCEEDED, text), None
    return Verdict(kind, Truth.TRUE, Reason.NEW_REVISION, f"revision {name} is starting"), left + 1


def _time(text: str, otherwise: datetime) -> datetime:
    return datetime.fromisoformat(text) if text else otherwise


def _taken_up(observed: Observed, now: datetime) -> datetime:
    """When work on the revision began again after it had been complete or suspended; its own age says nothing then."""
    for condition in observed.omni.status.get("conditions") or ():
        if condition["type"] == ConditionType.PROGRESSING and condition["reason"] != Reason.DEADLINE_EXCEEDED:
            return _time(condition["lastTransitionTime"], now) if condition["status"] == Truth.TRUE else now
    return datetime.min.replace(tzinfo=UTC)


def _conditions(observed: Observed, verdicts: Sequence[Verdict], *, now: datetime) -> list[Condition]:
    before = {c["type"]: c for c in observed.omni.status.get("conditions") or ()}
    return [_condition(observed.omni, v, old=before.get(v.type, {}), now=now) for v in verdicts]


def _condition(omni: Omni, verdict: Verdict, *, old: Mapping[str, Any], now: datetime) -> Condition:
    same = old.get("status") == verdict.truth
    return Condition(
        type=verdict.type.value,
        status=verdict.truth.value,
        reason=verdict.reason.value,
        message=verdict.message[:32000],
        last_transition_time=old["lastTransitionTime"] if same else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        observed_generation=omni.generation,
    )


def amended(omni: Omni, verdict: Verdict, *, now: datetime) -> dict[str, Any]:
    """The status as it is, with one condition replaced: for looks that judge nothing else."""
    conditions = list(omni.status.get("conditions") or ())
    old: dict[str, Any] = next((c for c in conditions if c["type"] == verdict.type), {})
    new = _condition(omni, verdict, old=old, now=now).model_dump(by_alias=True, mode="json")
    return {**omni.status, "conditions": [*(c for c in conditions if c["type"] != verdict.type), new]}


def _plan(observed: Observed, active: Known, verdicts: Sequence[EdgeVerdict]) -> PlanStatus:
    nodes: dict[str, set[str]] = {}
    for pod in observed.live_pods():
        if pod.revision == active.revision.name and pod.node:
            nodes.setdefault(pod.labels.get(COMPONENT, ""), set()).add(pod.node)
    shown = {key: sorted(value)[:_MAX_NODES] for key, value in nodes.items()}
    out = describe(observed.owner, active.revision, nodes=shown)
    edges = [
        edge.model_copy(update={"observed": found.state.value, "observed_reason": found.why})
        for edge, found in zip(out.edges, verdicts, strict=True)
    ]
    return out.model_copy(update={"edges": edges})
