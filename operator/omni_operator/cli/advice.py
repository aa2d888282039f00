"""The next command for a person to run, for every state of an OmniDeployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omni_operator.api.conditions import MESSAGE_HAS_REMEDY, Reason
from omni_operator.cli.pod_report import NODE_NOT_READY, PodReport, failing_pods


def next_step(omni: dict[str, Any], pods: Sequence[PodReport] = ()) -> str:
    """One command or one instruction, from the conditions and the pods."""
    status = omni.get("status") or {}
    namespace = omni["metadata"]["namespace"]
    by_type = {c["type"]: c for c in status.get("conditions") or ()}
    ready = by_type.get("Ready")
    if ready is None and by_type:
        return str(next(reversed(by_type.values()))["message"])
    if ready is None:
        return "the operator has not reconciled it yet; check that it runs: kubectl get pods -n omni-system"
    if ready["status"] == "True":
        return _when_ready(omni, by_type)
    if (lost := next((p for p in pods if p.state == NODE_NOT_READY), None)) is not None:
        return f"bring node {lost.node} back, or delete it if it is gone for good: kubectl describe node {lost.node}"
    for kind in ("RayClusterReady", "ServingReady"):
        if _template(found := by_type.get(kind, {})) == MESSAGE_HAS_REMEDY:
            return str(found["message"])
    if (failing := next(failing_pods(pods, str(status.get("revision"))), None)) is not None and failing.container:
        if not failing.restarts:  # no container has run, so there is no log
            return f"kubectl describe pod -n {namespace} {failing.name}"
        return f"kubectl logs -n {namespace} {failing.name} -c {failing.container} --previous --tail 50"
    for kind in ("Ready", "ServingReady", "RayClusterReady", "TransportAsPlanned"):
        found = by_type.get(kind, {})
        if found.get("status") != "True" and (step := _step(omni, found)):
            return step
    return str(ready["message"])


def _template(condition: Mapping[str, Any]) -> str:
    """The next step of the reason of a condition; empty for a reason of a newer operator."""
    try:
        return Reason.of(condition.get("reason", "")).next_step
    except KeyError:
        return ""


def _step(omni: dict[str, Any], condition: Mapping[str, Any]) -> str:
    """The next step of a condition with the names of an OmniDeployment; empty without one."""
    meta = omni["metadata"]
    return _template(condition).format(
        name=meta["name"], namespace=meta["namespace"], message=condition.get("message", "")
    )


def _when_ready(omni: dict[str, Any], by_type: dict[str, Any]) -> str:
    name, namespace = omni["metadata"]["name"], omni["metadata"]["namespace"]
    transport = by_type.get("TransportAsPlanned", {})
    if transport.get("reason") == Reason.TRANSPORT_DEGRADED:
        return f"it serves, but slower than planned; the edge and the pod are named above: {_step(omni, transport)}"
    planned = by_type.get("Planned", {})
    if planned.get("reason") == Reason.HELD:
        return _step(omni, planned)
    for kind, what in (("Accepted", "is not accepted"), ("Planned", "cannot be planned")):
        if by_type.get(kind, {}).get("status") == "False":
            edit = f"kubectl edit omni {name} -n {namespace}"
            return f"the earlier revision keeps serving; the current spec {what} (above); correct it: {edit}"
    endpoint = (omni.get("status") or {}).get("endpoint")
    return f"omni chat {name} -n {namespace} 'Hello'   (inside the cluster: {endpoint})"
