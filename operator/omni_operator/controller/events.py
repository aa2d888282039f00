"""Kubernetes Events: the story that `kubectl describe` tells. Made from changes of status, so each is told once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from omni_operator.api.base import API_VERSION, KIND
from omni_operator.api.conditions import ConditionType, Reason, Truth
from omni_operator.controller.objects import Omni

# Steps on the way are told by what follows them; what is told: decisions, arrivals, troubles.
_TOLD = {
    ConditionType.ACCEPTED: (Truth.FALSE,),
    ConditionType.PLANNED: (Truth.TRUE, Truth.FALSE),
    ConditionType.RAY_CLUSTER_READY: (Truth.TRUE,),
    ConditionType.READY: (Truth.TRUE,),
    ConditionType.TRANSPORT_AS_PLANNED: (Truth.FALSE,),
    ConditionType.PROGRESSING: (Truth.FALSE,),
}
_TROUBLES = frozenset(
    {
        Reason.UNSCHEDULABLE,
        Reason.RAY_PODS_FAILING,
        Reason.SERVER_FAILING,
        Reason.STORE_NOT_READY,
        Reason.WARM_UP_FAILED,
        Reason.NODE_LOST,
        Reason.STAGE_LOST,
        Reason.RESTART_BACK_OFF,
        Reason.ENGINE_IMAGE_MISMATCH,
        Reason.RAY_VERSION_MISMATCH,
        Reason.RAY_UNREACHABLE,
        Reason.RAY_RESOURCES_MISSING,
        Reason.RAY_CLUSTER_MISSING,
        Reason.KUBERAY_MISSING,
    }
)
_QUIET = frozenset({Reason.COMPLETE, Reason.NOT_APPLICABLE})


@dataclass(frozen=True, slots=True)
class Story:
    """One event to tell."""

    warning: bool
    reason: str
    message: str


def from_conditions(before: dict[str, Any], after: dict[str, Any], *, summary: str | None) -> Iterator[Story]:
    """What changed between two statuses and is worth telling."""
    old = {c["type"]: c for c in before.get("conditions") or ()}
    planned_for = before.get("revision") != after.get("revision")
    for condition in after["conditions"]:
        kind, truth, reason = condition["type"], condition["status"], condition["reason"]
        was = old.get(kind, {})
        same = was.get("status") == truth and was.get("reason") == reason
        if kind == ConditionType.PLANNED and planned_for and truth == Truth.TRUE:
            yield Story(False, "Planned", summary or condition["message"])
            continue
        if same or reason in _QUIET or (reason == Reason.SUSPENDED and kind != ConditionType.READY):
            continue
        if kind == ConditionType.READY and truth == was.get("status") == Truth.TRUE:
            continue  # another reason to be ready; why is told of the condition behind it
        told = truth in _TOLD.get(ConditionType(kind), ())
        if kind == ConditionType.PLANNED and truth == Truth.TRUE and not planned_for:
            told = was.get("status") not in {None, Truth.TRUE}
        if kind == ConditionType.PROGRESSING and reason in {Reason.RETIRING, Reason.DELETING}:
            told = True
        trouble = reason in _TROUBLES and kind in {ConditionType.RAY_CLUSTER_READY, ConditionType.SERVING_READY}
        if kind == ConditionType.READY and reason == Reason.SUSPENDED:
            yield Story(False, "Suspended", condition["message"])
        elif told or trouble:
            bad = trouble or (truth == Truth.FALSE)
            name = reason if bad or kind == ConditionType.PROGRESSING else kind
            yield Story(bad, str(name), condition["message"])


def event_object(omni: Omni, story: Story, *, now: datetime, instance: str) -> dict[str, Any]:
    """The Event object; its name is a digest, so a repetition in the same second is refused by the API server, not doubled."""
    digest = hashlib.sha256(
        f"{omni.uid}{story.reason}{story.message}{now.isoformat(timespec='seconds')}".encode()
    ).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{omni.name}.{digest}", "namespace": omni.namespace},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "omni-operator",
        "reportingInstance": instance,
        "action": "Reconcile",
        "type": "Warning" if story.warning else "Normal",
        "reason": story.reason,
        "note": story.message[:1024],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": omni.name,
            "namespace": omni.namespace,
            "uid": omni.uid,
        },
    }
