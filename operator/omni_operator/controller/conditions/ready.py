"""Ready: whether requests are served at status.endpoint, by this spec or an earlier one."""

from __future__ import annotations

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.api.spec import RdmaPolicy
from omni_operator.controller.conditions.facts import Facts
from omni_operator.controller.conditions.update import ConditionUpdate

_KIND = ConditionType.READY
_STARTING = frozenset({Reason.SERVER_STARTING, Reason.RAY_STARTING, Reason.WARMING_UP})


def ready(
    facts: Facts,
    *,
    accepted: ConditionUpdate,
    planned: ConditionUpdate,
    ray: ConditionUpdate,
    serving: ConditionUpdate,
    transport: ConditionUpdate,
) -> ConditionUpdate:
    """The condition, from those of the parts."""
    if facts.active is None:
        cause = planned if accepted.is_true else accepted
        return _false(cause.reason, cause.message)
    if facts.replicas == 0:
        return _false(Reason.SUSPENDED, "suspended: no accelerators are held, the plan is kept")
    if facts.not_owned:  # status.endpoint may be somebody else's
        return _false(Reason.FOREIGN_OBJECT, f"{', '.join(facts.not_owned)} belongs to somebody else")
    degraded = transport.reason is Reason.TRANSPORT_DEGRADED  # it serves, slower than it could
    required = facts.active.revision.spec.transport.rdma is RdmaPolicy.REQUIRE
    if transport.status is ConditionStatus.FALSE and (required or not degraded):
        return _false(Reason.DEGRADED, transport.message)
    count = f"{len(facts.serving)} of {facts.replicas} replicas serve"
    parts = (ray, serving)
    if len(facts.serving) >= facts.replicas and all(part.is_true for part in parts):
        if why := not_taken_up(accepted, planned):
            text = f"{count} an earlier spec; the spec as it is now is not taken up ({why})"
            return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.SERVING_EARLIER_SPEC, text)
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.SERVING, count)
    if facts.actions.draining and not facts.pods:
        waits = f"; it waits for {', '.join(facts.actions.waits)}" if facts.actions.waits else ""
        text = f"revision {', '.join(facts.actions.draining)} is removed before {facts.active.name} starts{waits}"
        return _false(Reason.DRAINING, text)
    causes = [part for part in parts if not part.is_true]
    # A server that waits for Ray is no cause; Ray that waits for a server's pod neither.
    cause = next((c for c in causes if c.reason not in _STARTING), causes[0])
    starting = cause.reason in _STARTING
    if facts.serving and not (starting and len(facts.serving) >= facts.replicas):
        return _false(Reason.DEGRADED, f"{count}; {cause.message}")
    return _false(cause.reason if starting else Reason.NOT_SERVING, cause.message)


def not_taken_up(accepted: ConditionUpdate, planned: ConditionUpdate) -> str:
    """Which condition says that the spec as it is now is not what runs.

    It is refused, cannot be planned or is held.
    """
    against = (update for update in (accepted, planned) if update.status is ConditionStatus.FALSE)
    return next((f"{update.type}: {update.reason}" for update in against), "")


def _false(reason: Reason, message: str) -> ConditionUpdate:
    return ConditionUpdate(_KIND, ConditionStatus.FALSE, reason, message)
