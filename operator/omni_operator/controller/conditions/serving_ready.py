"""ServingReady: whether every replica's server is up and has answered a request."""

from __future__ import annotations

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.children import names
from omni_operator.children.names import REVISION, Component
from omni_operator.controller.conditions.facts import Facts
from omni_operator.controller.conditions.idle import idle
from omni_operator.controller.conditions.launcher_report import readable
from omni_operator.controller.conditions.pods import failure_of, on_lost_node, reported, with_names
from omni_operator.controller.conditions.update import ConditionUpdate
from omni_operator.controller.rollout.lost_peers import described
from omni_operator.controller.state.objects import Pod

_KIND = ConditionType.SERVING_READY


def serving_ready(facts: Facts, *, ray_is_up: bool) -> ConditionUpdate:
    """The condition; until `ray_is_up` a server that cannot be placed waits for its Ray pods."""
    if (nothing := idle(facts, _KIND)) is not None:
        return nothing
    servers = facts.of(Component.SERVING)
    missing = len(facts.available) < facts.replicas
    if (refused := _refused_pods(facts)) is not None:
        return _false(Reason.CHILD_REFUSED, refused)
    if facts.actions.backoff_reason:
        return _false(Reason.RESTART_BACK_OFF, facts.actions.backoff_reason)
    lost = on_lost_node(facts, [p for p in servers if not p.deleting]) if missing else None
    if lost is not None:
        return _false(Reason.NODE_LOST, lost)
    if missing:
        return _starting(facts, servers, ray_is_up=ray_is_up)
    if (down := _store_is_down(facts)) is not None:
        return _false(Reason.STORE_NOT_READY, down)
    return _answering(facts, [p for p in servers if p.ready and not p.deleting])


def _starting(facts: Facts, servers: list[Pod], *, ray_is_up: bool) -> ConditionUpdate:
    for pod in servers:
        if pod.deleting or pod.ready:
            continue
        if (said := reported(pod)) is not None:
            return _false(said[0], with_names(said[1], facts.pods))
        # before that, on one node, the server waits for its worker to be placed
        if pod.unschedulable and ray_is_up:
            return _false(Reason.UNSCHEDULABLE, f"pod {pod.name}: {pod.unschedulable}")
        if pod.waiting_reason or pod.termination_message:
            words = with_names(readable(pod.termination_message), facts.pods)
            parts = (described(pod, facts.current), pod.waiting_reason, words)
            return _false(Reason.SERVER_FAILING, ": ".join(part for part in parts if part))
    # While servers start the store starts too, and is a cause only when it fails.
    if failure_of(facts, facts.of(Component.STORE)) and (down := _store_is_down(facts)) is not None:
        return _false(Reason.STORE_NOT_READY, down)
    count = f"{len(facts.available)} of {facts.replicas} servers answer /health"
    if (unresponsive := next((p for p in servers if p.unresponsive and not p.deleting), None)) is not None:
        text = f"{count}; pod {unresponsive.name} did and does not now, and is restarted if that lasts"
        return _false(Reason.SERVER_NOT_ANSWERING, text)
    text = f"{count}; the rest wait for Ray or initialise the engine (kubectl logs shows which)"
    if facts.actions.last_restart:
        text = f"{text}; {facts.actions.last_restart}"
    return _false(Reason.SERVER_STARTING, text)


def _refused_pods(facts: Facts) -> str | None:
    """Pods that the API server refuses to a Deployment (quota, admission).

    There is no pod that could say so.
    """
    for (kind, name), child in facts.snapshot.children.items():
        if kind != "Deployment" or child.labels.get(REVISION) != facts.current.name:
            continue
        for condition in child.status.get("conditions") or ():
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                return f"Deployment {name}: {condition.get('message')}"
    return None


def _store_is_down(facts: Facts) -> str | None:
    """What is wrong with the store; None when it is up or none is planned."""
    if facts.store_is_up:
        return None
    name = names.store(facts.snapshot.owner, facts.current.name)
    found = failure_of(facts, facts.of(Component.STORE))
    why = found[1] if found else "no pod of it is ready"
    return f"the Mooncake master (Deployment {name}) is not up, so stages cannot find each other's results: {why}"


def _answering(facts: Facts, servers: list[Pod]) -> ConditionUpdate:
    """Whether servers that answer /health have answered a request."""
    text = f"{len(facts.available)} of {facts.replicas} servers answer /health"
    if facts.skipped_warm_up:
        text = f"{text}; no request was tried: {facts.skipped_warm_up}"
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.SERVER_READY, text)
    for pod in servers:
        if error := facts.warm_up(pod).error:
            text = (
                f"pod {pod.name} answers /health, but not its warm-up request (serving.warmUp), and is "
                f"asked again: {error}"
            )
            return _false(Reason.WARM_UP_FAILED, text)
    if waiting := [pod.name for pod in servers if not facts.warm_up(pod).passed]:
        text = f"{text}; pod {waiting[0]} is asked its warm-up request (serving.warmUp)"
        return _false(Reason.WARMING_UP, text)
    return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.SERVER_READY, f"{text} and have answered a request")


def _false(reason: Reason, message: str) -> ConditionUpdate:
    return ConditionUpdate(_KIND, ConditionStatus.FALSE, reason, message)
