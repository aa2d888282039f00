"""Judges the parts of the active revision: Ray, the server, and whether pods are where the plan relies on them to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omni_operator.api.conditions import ConditionType, Reason, Truth
from omni_operator.api.spec import Protocol, Strategy
from omni_operator.children import names
from omni_operator.children.names import COMPONENT, REVISION, Component
from omni_operator.children.scripts.run_stages import FOLLOWED
from omni_operator.controller.evidence import NOTHING_SEEN, EdgeState, EdgeVerdict, told
from omni_operator.controller.evidence import judge as judge_edges
from omni_operator.controller.objects import Child, Pod
from omni_operator.controller.observed import Known, Observed, Outcome, Verdict, who
from omni_operator.engine.records import release_of
from omni_operator.planning.model import Plan

_LAUNCHER_CODES = {
    "EngineImageMismatch": Reason.ENGINE_IMAGE_MISMATCH,
    "RayVersionMismatch": Reason.RAY_VERSION_MISMATCH,
    "RayUnreachable": Reason.RAY_UNREACHABLE,
    "RayResourcesMissing": Reason.RAY_RESOURCES_MISSING,
    "StageLost": Reason.STAGE_LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Verdicts on the parts and the edges, and how many replicas serve."""

    ray: Verdict
    serving: Verdict
    transport: Verdict
    ready_replicas: int
    edges: tuple[EdgeVerdict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClusterState:
    """Whether a RayCluster is up, whether KubeRay failed to make its pods, and both in words."""

    up: bool
    failed: bool
    text: str


def judge(observed: Observed, outcome: Outcome) -> Health:
    """Health of the active revision."""
    active = outcome.active
    if active is None or outcome.replicas == 0:
        what = "suspended" if active is not None else "no revision exists"
        reason = Reason.SUSPENDED if active is not None else Reason.NOT_APPLICABLE
        truth = Truth.FALSE if active is not None else Truth.UNKNOWN
        nothing = [
            Verdict(kind, truth, reason, what)
            for kind in (
                ConditionType.RAY_CLUSTER_READY,
                ConditionType.SERVING_READY,
                ConditionType.TRANSPORT_AS_PLANNED,
            )
        ]
        edges = judge_edges(active.revision.plan, NOTHING_SEEN) if active is not None else ()
        return Health(ray=nothing[0], serving=nothing[1], transport=nothing[2], ready_replicas=0, edges=edges)
    edges = judge_edges(active.revision.plan, outcome.evidence)
    # An evicted pod stays as Failed with its old node; it is no end of any edge.
    pods = [p for p in observed.live_pods() if p.revision == active.revision.name]
    available = _available(observed, active, pods, outcome.replicas)
    clusters = _clusters(observed, active, outcome.replicas)
    ray = _ray(observed, active, clusters, pods)
    servers = [p for p in pods if p.labels.get(COMPONENT) == Component.SERVING]
    stores = [p for p in pods if p.labels.get(COMPONENT) == Component.STORE]
    down = _store_down(observed, active, stores)
    # While servers start the store starts too, and is a cause only when it fails.
    store = down if len(available) >= outcome.replicas or _failing(stores, active) else None
    answered = {p.replica for p in servers if p.ready and outcome.answers.of((p.name, p.ready_since)).passed}
    serve = [
        replica
        for replica in available
        if down is None and str(replica) in answered and (not clusters or clusters[replica].up)
    ]
    held = outcome.held_back
    gone = [p for p in servers if not p.deleting] if len(available) < outcome.replicas else []
    lost = _on_lost_node(observed, active, gone)
    return Health(
        ray=ray,
        serving=_refused_pods(observed, active)
        or (Verdict(ConditionType.SERVING_READY, Truth.FALSE, Reason.RESTART_BACK_OFF, held) if held else None)
        or (Verdict(ConditionType.SERVING_READY, Truth.FALSE, Reason.NODE_LOST, lost) if lost else None)
        or _serving(len(available), outcome, pods, store=store, ray_up=ray.truth is Truth.TRUE),
        transport=_transport(active.revision.plan, pods, outcome, edges),
        ready_replicas=len(serve),
        edges=edges,
    )


def _clusters(observed: Observed, active: Known, replicas: int) -> list[_ClusterState]:
    """State of each replica's own RayCluster; empty when the replicas have none."""
    states = []
    for replica in range(replicas if active.ray_pods else 0):
        name = names.ray_cluster(observed.owner, active.revision.name, replica)
        cluster = observed.children.get(("RayCluster", name))
        if cluster is None or observed.kuberay_missing:
            states.append(_ClusterState(up=False, failed=False, text=f"RayCluster {name} is being made"))
        else:
            states.append(_cluster_state(cluster, least=active.ray_pods - 1))
    return states


def _ray(observed: Observed, active: Known, states: Sequence[_ClusterState], pods: Sequence[Pod]) -> Verdict:
    kind = ConditionType.RAY_CLUSTER_READY
    plan = active.revision.plan
    if not plan.has_ray:
        return Verdict(kind, Truth.TRUE, Reason.NOT_APPLICABLE, f"backend {plan.backend} has no Ray cluster")
    if observed.kuberay_missing:
        text = "the API server does not know RayClusters (ray.io/v1); install KubeRay 1.6 and its CRDs"
        return Verdict(kind, Truth.FALSE, Reason.KUBERAY_MISSING, text)
    if plan.cluster_ref:
        if observed.referenced is None:
            text = f"RayCluster {plan.cluster_ref} of ray.clusterRef does not exist in this namespace; create it or change the name"
            return Verdict(kind, Truth.FALSE, Reason.RAY_CLUSTER_MISSING, text)
        port = active.revision.spec.ray.port
        if (theirs := _gcs_port(observed.referenced)) != str(port):
            remedy = f"set ray.port to {theirs}" if theirs.isdecimal() else "correct rayStartParams.port of its head"
            text = (
                f"RayCluster {plan.cluster_ref} has its GCS on port {theirs}, ray.port is {port}, so the server cannot reach it; "
                f"{remedy}"
            )
            return Verdict(kind, Truth.FALSE, Reason.RAY_UNREACHABLE, text)
        state = _cluster_state(observed.referenced, least=0)  # a head may have accelerators itself
        truth, reason = (Truth.TRUE, Reason.RAY_READY) if state.up else (Truth.FALSE, Reason.RAY_STARTING)
        return Verdict(kind, truth, reason, state.text)
    ray_pods = [p for p in pods if p.labels.get(COMPONENT) in {Component.HEAD, Component.WORKER}]
    if all(state.up for state in states):
        return Verdict(kind, Truth.TRUE, Reason.RAY_READY, "; ".join(state.text for state in states))
    if (found := _failing(ray_pods, active)) is not None:
        return Verdict(kind, Truth.FALSE, found[0], found[1])
    if (lost := _on_lost_node(observed, active, ray_pods)) is not None:
        return Verdict(kind, Truth.FALSE, Reason.NODE_LOST, lost)
    if (refused := next((state.text for state in states if state.failed), None)) is not None:
        return Verdict(kind, Truth.FALSE, Reason.RAY_PODS_FAILING, refused)
    text = next(state.text for state in states if not state.up)
    if (again := next((p for p in ray_pods if p.last_words and not p.ready and not p.deleting), None)) is not None:
        text = f"{text}; {who(again, active)} starts again after: {again.last_words}"
    return Verdict(kind, Truth.FALSE, Reason.RAY_STARTING, text)


def _gcs_port(cluster: Child) -> str:
    """What a RayCluster says is its GCS port, which may be anything; 6379 when it does not say (KubeRay 1.6.2)."""
    params = (cluster.body.get("spec", {}).get("headGroupSpec") or {}).get("rayStartParams") or {}
    return str(params.get("port", 6379))


def _cluster_state(cluster: Child, *, least: int) -> _ClusterState:
    """What KubeRay says of a RayCluster. status.state is not asked: it stays "ready" when pods fail later (KubeRay 1.6.2)."""
    status: dict[str, Any] = cluster.status
    if not status:
        text = f"KubeRay has not looked at RayCluster {cluster.name} yet; if this stays, see its log and `kubectl describe raycluster`"
        return _ClusterState(up=False, failed=False, text=text)
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    head = conditions.get("HeadPodReady", {}).get("status") == "True"
    wanted, ready = int(status.get("desiredWorkerReplicas", 0)), int(status.get("readyWorkerReplicas", 0))
    failure = conditions.get("ReplicaFailure") or conditions.get("RayClusterReplicaFailure") or {}
    if failure.get("status") == "True":
        text = f"RayCluster {cluster.name}: {failure.get('reason')}: {failure.get('message')}"
        return _ClusterState(up=False, failed=True, text=text)
    text = f"RayCluster {cluster.name}: head {'ready' if head else 'not ready'}, {ready} of {max(wanted, least)} workers ready"
    return _ClusterState(up=head and ready >= wanted >= least, failed=False, text=text)


def _on_lost_node(observed: Observed, active: Known, pods: Sequence[Pod]) -> str | None:
    for pod in pods:
        if pod.node in observed.lost_nodes and not pod.ready:
            what = f"{who(pod, active)} is on node {pod.node}, which is not Ready"
            return f"{what}; bring the node back, or delete it if it is gone for good, since KubeRay waits for its pods"
    return None


def _failing(pods: Sequence[Pod], active: Known) -> tuple[Reason, str] | None:
    for pod in sorted(pods, key=lambda pod: FOLLOWED in pod.last_words):  # a cause before what followed it
        if pod.deleting:
            continue
        if not pod.ready and (said := _launcher_said(pod)) is not None:  # the same between its starts
            return said
        if pod.unschedulable:
            return Reason.UNSCHEDULABLE, f"{who(pod, active)}: {pod.unschedulable}"
        if pod.trouble:
            words = f" ({pod.last_words})" if pod.last_words else ""
            return Reason.RAY_PODS_FAILING, f"{who(pod, active)}: {pod.trouble}{words}"
    return None


def _available(observed: Observed, active: Known, pods: Sequence[Pod], replicas: int) -> list[int]:
    """Replicas with a server that can answer. Pods are asked: right after one was ended its Deployment still counts it."""
    bereft = {pod.name for pod, _ in observed.bereft_servers(active)}
    servers = [p for p in pods if p.labels.get(COMPONENT) == Component.SERVING and p.ready and not p.deleting]
    up = {p.replica for p in servers if p.name not in bereft}
    out = []
    for replica in range(replicas):
        deployment = observed.children.get(("Deployment", names.serving(observed.owner, active.revision.name, replica)))
        if deployment is not None and not deployment.deleting and str(replica) in up:
            out.append(replica)
    return out


def _refused_pods(observed: Observed, active: Known) -> Verdict | None:
    """Pods that the API server refuses to a Deployment (quota, admission): there is no pod that could tell."""
    for (kind, name), child in observed.children.items():
        if kind != "Deployment" or child.labels.get(REVISION) != active.revision.name:
            continue
        for condition in child.status.get("conditions") or ():
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                text = f"Deployment {name}: {condition.get('message')}"
                return Verdict(ConditionType.SERVING_READY, Truth.FALSE, Reason.CHILD_REFUSED, text)
    return None


def _store_down(observed: Observed, active: Known, pods: Sequence[Pod]) -> Verdict | None:
    """What is wrong with the store; None when it is up or none is planned."""
    if active.revision.plan.store is None or any(p.ready and not p.deleting for p in pods):
        return None
    name = names.store(observed.owner, active.revision.name)
    found = _failing(pods, active)
    why = found[1] if found else "no pod of it is ready"
    text = f"the Mooncake master (Deployment {name}) is not up, so stages cannot find each other's results: {why}"
    return Verdict(ConditionType.SERVING_READY, Truth.FALSE, Reason.STORE_NOT_READY, text)


def _serving(ready: int, outcome: Outcome, pods: Sequence[Pod], *, store: Verdict | None, ray_up: bool) -> Verdict:
    kind, wanted = ConditionType.SERVING_READY, outcome.replicas
    servers = [p for p in pods if p.labels.get(COMPONENT) == Component.SERVING]
    if ready >= wanted:
        return store or _answering(ready, outcome, [p for p in servers if p.ready and not p.deleting])
    assert outcome.active is not None
    for pod in servers:
        if pod.deleting or pod.ready:
            continue
        if (said := _launcher_said(pod)) is not None:
            return Verdict(kind, Truth.FALSE, said[0], _with_names(said[1], pods))
        if pod.unschedulable and ray_up:  # before that, OneNode's server waits for its worker to be placed
            return Verdict(kind, Truth.FALSE, Reason.UNSCHEDULABLE, f"pod {pod.name}: {pod.unschedulable}")
        if pod.trouble or pod.last_words:
            words = _with_names(pod.last_words, pods)
            text = ": ".join(part for part in (who(pod, outcome.active), pod.trouble, words) if part)
            return Verdict(kind, Truth.FALSE, Reason.SERVER_FAILING, text)
    if store is not None:
        return store
    if (silent := next((p for p in servers if p.silent and not p.deleting), None)) is not None:
        text = f"{ready} of {wanted} servers answer /health; pod {silent.name} did and does not now, and is restarted if that lasts"
        return Verdict(kind, Truth.FALSE, Reason.SERVER_NOT_ANSWERING, text)
    text = f"{ready} of {wanted} servers answer /health; the rest wait for Ray or initialise the engine (kubectl logs shows which)"
    if outcome.lately:
        text = f"{text}; {outcome.lately}"
    return Verdict(kind, Truth.FALSE, Reason.SERVER_STARTING, text)


def _launcher_said(pod: Pod) -> tuple[Reason, str] | None:
    """The reason that a launcher of ours left when it gave up, and its words."""
    code, _, words = pod.last_words.partition(": ")
    return (_LAUNCHER_CODES[code], words) if code in _LAUNCHER_CODES else None


def _with_names(words: str, pods: Sequence[Pod]) -> str:
    """The launcher knows pods by their addresses only."""
    for pod in pods:
        if pod.address:
            words = re.sub(
                rf"(?<![\d.]){re.escape(pod.address)}(?![\d.])", f"{pod.address} (pod {pod.name})", words, count=1
            )
    return words


def _answering(ready: int, outcome: Outcome, pods: Sequence[Pod]) -> Verdict:
    """Whether servers that answer /health have answered a request."""
    kind, text = ConditionType.SERVING_READY, f"{ready} of {outcome.replicas} servers answer /health"
    if outcome.answers.unasked:
        return Verdict(
            kind, Truth.TRUE, Reason.SERVER_READY, f"{text}; no request was tried: {outcome.answers.unasked}"
        )
    found = {pod.name: outcome.answers.of((pod.name, pod.ready_since)) for pod in pods}
    for name, answer in found.items():
        if answer.wrong:
            text = f"pod {name} answers /health, but not its warm-up request (serving.warmUp), and is asked again: {answer.wrong}"
            return Verdict(kind, Truth.FALSE, Reason.WARM_UP_FAILED, text)
    if waits := [name for name, answer in found.items() if not answer.passed]:
        text = f"{text}; pod {waits[0]} is asked its warm-up request (serving.warmUp)"
        return Verdict(kind, Truth.FALSE, Reason.WARMING_UP, text)
    return Verdict(kind, Truth.TRUE, Reason.SERVER_READY, f"{text} and have answered a request")


def _transport(plan: Plan, pods: Sequence[Pod], outcome: Outcome, verdicts: Sequence[EdgeVerdict]) -> Verdict:
    kind, replicas = ConditionType.TRANSPORT_AS_PLANNED, outcome.replicas
    ends = (Component.WORKER, Component.SERVING)
    mine = [p for p in pods if p.labels.get(COMPONENT) in ends and not p.deleting]
    expected = replicas * (1 + (0 if plan.cluster_ref else sum(group.pods for group in plan.groups)))
    placed, up = [p for p in mine if p.node], sum(p.ready or p.silent for p in mine)
    if len(placed) < expected:
        return Verdict(kind, Truth.UNKNOWN, Reason.NOT_OBSERVED_YET, f"{len(placed)} of {expected} pods are placed")
    if plan.strategy is Strategy.ONE_NODE and not plan.cluster_ref:
        for replica in range(replicas):
            nodes = {p.node for p in placed if p.replica == str(replica)}
            if len(nodes) > 1:
                text = f"replica {replica} must be on one node, but its pods are on {', '.join(sorted(nodes))}"
                return Verdict(kind, Truth.FALSE, Reason.PLACEMENT_DIFFERS, text)
    if degraded := [found for found in verdicts if found.state is EdgeState.DEGRADED]:
        return Verdict(kind, Truth.FALSE, Reason.TRANSPORT_DEGRADED, told(degraded))
    carried = [found for found in verdicts if found.edge.connector is not None]
    if carried and release_of(plan.line).metrics:
        if unused := [found for found in carried if not outcome.evidence.saw(found.edge)]:
            return Verdict(kind, Truth.UNKNOWN, Reason.NOT_USED_YET, told(unused))
        if unread := [found for found in carried if found.state is EdgeState.UNKNOWN]:
            return Verdict(kind, Truth.UNKNOWN, Reason.RDMA_NOT_VERIFIED, told(unread))
        text = f"pods are where the plan relies on them to be, and the engine counted payloads over {plan.transport} on every edge that has a connector"
        return Verdict(kind, Truth.TRUE, Reason.TRANSFERS_COUNTED, text)
    if up < expected:
        text = f"{up} of {expected} pods have been ready since they started"
        return Verdict(kind, Truth.UNKNOWN, Reason.NOT_OBSERVED_YET, text)
    if any(edge.protocol is Protocol.RDMA for edge in plan.edges):
        text = f"both ends hold {plan.rdma_resource}; that transfers use it has not been observed"
        return Verdict(kind, Truth.UNKNOWN, Reason.RDMA_NOT_VERIFIED, text)
    counts = "" if release_of(plan.line).metrics else " (this release does not count payloads)"
    text = f"pods are where the plan relies on them to be, so {plan.transport} is what the edges should use{counts}"
    return Verdict(kind, Truth.TRUE, Reason.PLACEMENT_AS_PLANNED, text)
