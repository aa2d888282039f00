"""The next thing to do, for every state that an OmniDeployment can be in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omni_operator.cli.standing import PodNow, troubled

_SAY_WHAT_TO_SET = frozenset({"EngineImageMismatch", "RayVersionMismatch", "RayClusterMissing", "KubeRayMissing"})


def next_step(omni: dict[str, Any], pods: Sequence[PodNow] = ()) -> str:
    """What a person should do now."""
    status = omni.get("status") or {}
    name, namespace = omni["metadata"]["name"], omni["metadata"]["namespace"]
    by_type = {c["type"]: c for c in status.get("conditions") or ()}
    ready = by_type.get("Ready")
    if ready is None and by_type:
        return str(next(reversed(by_type.values()))["message"])
    if ready is None:
        return "the operator has not looked at it; check that it runs: kubectl get pods -n omni-system"
    if ready["status"] == "True":
        return _when_ready(omni, by_type)
    logs_of = f"kubectl logs -n {namespace} -l omni.vllm.ai/name={name},omni.vllm.ai/component="
    again = f"kubectl omni status {name} -n {namespace} --wait"
    hints = {
        "RayStarting": f"wait ({again}), or look at {logs_of}worker",
        "ServerStarting": f"wait ({again}), or look at {logs_of}serving --tail 20",
        "ServerNotAnswering": f"wait ({again}), or look at {logs_of}serving --tail 50",
        "WarmingUp": f"wait for the answer to the first request ({again}), or look at {logs_of}serving --tail 20",
        "WarmUpFailed": f"{logs_of}serving --tail 50; correct serving.warmUp if the request does not suit the model",
        "StageLost": f"wait, all stages start anew ({again}); why it ended: {logs_of}serving --previous --tail 50",
        "RestartBackOff": f"look at the pod that the message names, or wait ({again})",
        "ServerFailing": f"{logs_of}serving --previous --tail 50",
        "StoreNotReady": f"{logs_of}store --tail 50",
        "TransportDegraded": f"kubectl omni explain {name} -n {namespace}",
        "Unschedulable": "kubectl omni inventory",
        "Suspended": f'kubectl patch omni {name} -n {namespace} --type merge -p \'{{"spec":{{"suspend":false}}}}\'',
    }
    if (lost := next((p for p in pods if p.state == "its node is not Ready"), None)) is not None:
        return f"bring node {lost.node} back, or delete it if it is gone for good: kubectl describe node {lost.node}"
    for kind in ("RayClusterReady", "ServingReady"):
        if by_type.get(kind, {}).get("reason") in _SAY_WHAT_TO_SET:
            return str(by_type[kind]["message"])
    if (bad := next(troubled(pods, str(status.get("revision"))), None)) is not None and bad.container:
        if not bad.restarts:  # it has not run
            return f"kubectl describe pod -n {namespace} {bad.name}"
        return f"kubectl logs -n {namespace} {bad.name} -c {bad.container} --previous --tail 50"
    for kind in ("Ready", "ServingReady", "RayClusterReady", "TransportAsPlanned"):
        found = by_type.get(kind, {})
        if found.get("reason") in hints and found.get("status") != "True":
            return hints[found["reason"]]
    return str(ready["message"])


def _when_ready(omni: dict[str, Any], by_type: dict[str, Any]) -> str:
    name, namespace = omni["metadata"]["name"], omni["metadata"]["namespace"]
    if by_type.get("TransportAsPlanned", {}).get("reason") == "TransportDegraded":
        return f"it serves, but slower than planned; the edge and the pod are named above: kubectl omni explain {name} -n {namespace}"
    edit = f"kubectl edit omni {name} -n {namespace}"
    if by_type.get("Planned", {}).get("reason") == "Held":
        return f"the edit is held; to let it go, set rollout.strategy to Recreate: {edit}"
    for kind, what in (("Accepted", "is refused"), ("Planned", "cannot be planned")):
        if by_type.get(kind, {}).get("status") == "False":
            return f"what ran before goes on; the spec as it is now {what} (above); correct it: {edit}"
    return (
        f"omni chat {name} -n {namespace} 'Hello'   (inside the cluster: {(omni.get('status') or {}).get('endpoint')})"
    )
