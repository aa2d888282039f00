"""Why pods do not run, in words.

The scheduler's, the kubelet's, or what a program of ours reported when it gave up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from omni_operator.api.conditions import Reason
from omni_operator.controller.conditions.facts import Facts
from omni_operator.controller.conditions.launcher_report import explain, readable
from omni_operator.controller.rollout.lost_peers import described
from omni_operator.controller.state.followers import waits_for_leader
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.termination import follows, parse

_RESTARTING = "CrashLoopBackOff"
_RESTARTS = 2  # one restart is no failure


def failure_of(facts: Facts, pods: Sequence[Pod]) -> tuple[Reason, str] | None:
    """The first pod that fails and why.

    A cause comes before what only followed it, and one restart is no failure.
    """
    active = facts.current
    for pod in sorted(pods, key=only_follows):
        if pod.deleting:
            continue
        if not pod.ready and (said := reported(pod)) is not None:  # the same between its starts
            return said
        if pod.unschedulable and not waits_for_leader(facts.snapshot, active, pod):
            return Reason.UNSCHEDULABLE, f"{described(pod, active)}: {pod.unschedulable}"
        if why := _why_it_fails(pod):
            words = f" ({readable(pod.termination_message)})" if pod.termination_message else ""
            return Reason.RAY_PODS_FAILING, f"{described(pod, active)}: {why}{words}"
    return None


def _why_it_fails(pod: Pod) -> str:
    """Why a pod counts as failing; empty when it does not.

    From the second restart on it fails until it is ready, also while its container runs once more.
    """
    if pod.restarts < _RESTARTS:
        return "" if _RESTARTING in pod.waiting_reason else pod.waiting_reason
    running = "" if pod.ready or pod.unresponsive else "not ready since then"
    return pod.waiting_reason or running


def reported(pod: Pod) -> tuple[Reason, str] | None:
    """The reason that a program of ours left when it gave up, and the sentence for it.

    None for any other end.
    """
    report = parse(pod.termination_message)
    if report is None:
        return None
    reason, text = explain(report)
    return (reason, text) if reason is not Reason.SERVER_FAILING else None


def on_lost_node(facts: Facts, pods: Sequence[Pod]) -> str | None:
    """The first pod that is not ready on a node that is not Ready."""
    for pod in pods:
        if pod.node in facts.snapshot.lost_nodes and not pod.ready:
            what = f"{described(pod, facts.current)} is on node {pod.node}, which is not Ready"
            return f"{what}; bring the node back, or delete it if it is gone for good, since KubeRay waits for its pods"
    return None


def with_names(words: str, pods: Sequence[Pod]) -> str:
    """The launcher knows pods by their addresses only."""
    for pod in pods:
        if pod.address:
            address = rf"(?<![\d.]){re.escape(pod.address)}(?![\d.])"
            words = re.sub(address, f"{pod.address} (pod {pod.name})", words, count=1)
    return words


def only_follows(pod: Pod) -> bool:
    """Whether the end of a pod only followed that of another, so that it is no cause."""
    report = parse(pod.termination_message)
    return report is not None and follows(report)
