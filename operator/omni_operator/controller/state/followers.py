"""Pods that the scheduler cannot place before another one that the plan keeps near them."""

from __future__ import annotations

from omni_operator.api.spec import Backend, Strategy
from omni_operator.children.names import COMPONENT, Component
from omni_operator.controller.state.objects import Pod
from omni_operator.controller.state.snapshot import Snapshot, StoredRevision


def waits_for_leader(snapshot: Snapshot, active: StoredRevision, pod: Pod) -> bool:
    """Whether a pod waits for the pod that it must be near to.

    So that its own words are no cause of anything.

    On one node the server follows its worker; in a topology domain all pods of a replica follow the
    workers.
    """
    leader = leader_of(active, pod)
    if leader is None:
        return False
    placed = (p for p in snapshot.pods_of(active.name) if p.labels.get(COMPONENT) == leader and p.node)
    return not any(p.replica == pod.replica for p in placed)


def leader_of(active: StoredRevision, pod: Pod) -> Component | None:
    """The component whose pods the plan keeps a pod near to; None for a pod that follows none."""
    plan = active.revision.plan
    component = pod.labels.get(COMPONENT, "")
    one_node = plan.backend is Backend.RAY and plan.strategy is Strategy.ONE_NODE and plan.cluster_ref is None
    if one_node and component == Component.SERVING:
        return Component.WORKER
    if plan.topology_key and component != Component.STORE:
        leader = Component.WORKER if plan.groups else Component.SERVING
        return None if component == leader else leader
    return None
