"""RayClusterReady: whether the Ray clusters of the replicas, or the one that they join, are up."""

from __future__ import annotations

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.children.names import Component
from omni_operator.controller.conditions.facts import Facts, cluster_state
from omni_operator.controller.conditions.idle import idle
from omni_operator.controller.conditions.launcher_report import readable
from omni_operator.controller.conditions.pods import failure_of, on_lost_node, only_follows
from omni_operator.controller.conditions.update import ConditionUpdate
from omni_operator.controller.rollout.lost_peers import described
from omni_operator.controller.state.objects import Child

_KIND = ConditionType.RAY_CLUSTER_READY


def ray_cluster_ready(facts: Facts) -> ConditionUpdate:
    """The condition."""
    if (nothing := idle(facts, _KIND)) is not None:
        return nothing
    plan = facts.current.revision.plan
    if not plan.has_ray:
        text = f"backend {plan.backend} has no Ray cluster"
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.NOT_APPLICABLE, text)
    if facts.snapshot.kuberay_missing:
        text = "the API server does not know RayClusters (ray.io/v1); install KubeRay 1.6 and its CRDs"
        return _false(Reason.KUBERAY_MISSING, text)
    if plan.cluster_ref:
        return _referenced(facts, plan.cluster_ref)
    return _own(facts)


def _own(facts: Facts) -> ConditionUpdate:
    states = facts.clusters
    if all(state.up for state in states):
        text = "; ".join(state.text for state in states)
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.RAY_READY, text)
    pods = facts.of(Component.HEAD, Component.WORKER)
    if (found := failure_of(facts, pods)) is not None:
        return _false(*found)
    if (lost := on_lost_node(facts, pods)) is not None:
        return _false(Reason.NODE_LOST, lost)
    if (refused := next((state.text for state in states if state.failed), None)) is not None:
        return _false(Reason.RAY_PODS_FAILING, refused)
    text = next(state.text for state in states if not state.up)
    ended = (p for p in pods if p.termination_message and not p.ready and not p.deleting)
    if (restarted := min(ended, key=only_follows, default=None)) is not None:
        text = (
            f"{text}; {described(restarted, facts.current)} starts again after: "
            f"{readable(restarted.termination_message)}"
        )
    return _false(Reason.RAY_STARTING, text)


def _referenced(facts: Facts, name: str) -> ConditionUpdate:
    """The RayCluster of ray.clusterRef."""
    cluster = facts.snapshot.referenced
    if cluster is None:
        text = f"RayCluster {name} of ray.clusterRef does not exist in this namespace; create it or change the name"
        return _false(Reason.RAY_CLUSTER_MISSING, text)
    port = facts.current.revision.spec.ray.port
    if (theirs := _gcs_port(cluster)) != str(port):
        remedy = f"set ray.port to {theirs}" if theirs.isdecimal() else "correct rayStartParams.port of its head"
        text = (
            f"RayCluster {name} has its GCS on port {theirs}, ray.port is {port}, so the server cannot "
            f"reach it; {remedy}"
        )
        return _false(Reason.RAY_UNREACHABLE, text)
    state = cluster_state(cluster, least=0)  # a head may have accelerators itself
    if state.up:
        return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.RAY_READY, state.text)
    return _false(Reason.RAY_STARTING, state.text)


def _gcs_port(cluster: Child) -> str:
    """What a RayCluster says is its GCS port, which may be anything.

    6379 when it does not say (KubeRay 1.6.2).
    """
    params = (cluster.body.get("spec", {}).get("headGroupSpec") or {}).get("rayStartParams") or {}
    return str(params.get("port", 6379))


def _false(reason: Reason, message: str) -> ConditionUpdate:
    return ConditionUpdate(_KIND, ConditionStatus.FALSE, reason, message)
