"""Reports on the pods of an OmniDeployment for `omni status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from rich.tree import Tree

from omni_operator.children.names import COMPONENT, NAME, REPLICA, REVISION, Component
from omni_operator.cli.access import Access, AccessError
from omni_operator.controller.conditions.launcher_report import readable
from omni_operator.topology.read import Container, containers

NODE_NOT_READY = "its node is not Ready"
_ORDER = (Component.SERVING, Component.WORKER, Component.HEAD, Component.STORE)
_FINISHED = frozenset({"Failed", "Succeeded"})  # its controller replaces an evicted pod
_TRANSITIONAL = frozenset({"starting", "Pending", "ending", "not placed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReport:
    """One pod.

    Attributes:
        name: Its name.
        component: What it is for.
        replica: Replica of the pipeline; empty for pods that all replicas share.
        revision: Revision it belongs to.
        group: KubeRay's worker group.
        node: The node it is bound to; empty before it is scheduled.
        ready: Whether it is Ready and is not being deleted.
        state: Its state in a word or two.
        restarts: Restarts of all its containers.
        detail: What keeps it from being Ready, or the message of its last termination.
        container: The container that `detail` is about.
    """

    name: str
    component: str
    replica: str
    revision: str
    group: str
    node: str
    ready: bool
    state: str
    restarts: int
    detail: str
    container: str


def pod_reports(access: Access, namespace: str, name: str) -> tuple[PodReport, ...] | None:
    """Reports on all pods of an OmniDeployment; None when the user may not list them."""
    query = f"labelSelector={NAME}%3D{name}"
    try:
        found = access.request("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")
    except AccessError:
        return None
    unready = _unready_nodes(access, {node for raw in found["items"] if (node := raw["spec"].get("nodeName"))})
    mine = [raw for raw in found["items"] if raw["metadata"]["labels"].get(COMPONENT) in _ORDER]
    reports = [pod_report(raw, unready_nodes=unready) for raw in mine]
    return tuple(sorted(reports, key=lambda p: (p.replica, _ORDER.index(Component(p.component)), p.group, p.name)))


def _unready_nodes(access: Access, names: Iterable[str]) -> Mapping[str, str]:
    """The nodes that are not Ready, with the reason.

    A node that the user may not read counts as Ready.
    """
    found = {}
    for name in names:
        try:
            reason = _not_ready(access.request("GET", f"/api/v1/nodes/{name}"))
        except AccessError as exc:
            reason = "the node does not exist" if exc.status == 404 else ""
        if reason:
            found[name] = reason
    return found


def _not_ready(node: dict[str, Any]) -> str:
    conditions = node.get("status", {}).get("conditions") or ()
    ready: dict[str, Any] = next((c for c in conditions if c["type"] == "Ready"), {})
    return "" if ready.get("status") == "True" else str(ready.get("reason") or "unknown")


def pod_report(raw: dict[str, Any], *, unready_nodes: Mapping[str, str]) -> PodReport:
    """The report on a Pod object of the API.

    Args:
        raw: The Pod.
        unready_nodes: Nodes that are not Ready, with the reason.
    """
    meta, status = raw["metadata"], raw.get("status") or {}
    labels, node = meta["labels"], raw["spec"].get("nodeName", "")
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    found = containers(status)
    detail, container = _detail(found)
    state = str(status.get("phase", "Pending"))
    if node in unready_nodes:
        state = NODE_NOT_READY
        detail = f"node {node}: {unready_nodes[node]}"
    elif "deletionTimestamp" in meta:
        state = "ending"
    elif conditions.get("PodScheduled", {}).get("status") == "False":
        state, detail = "not placed", str(conditions["PodScheduled"].get("message", ""))
    elif waits := next((c.waits for c in found if c.waits), ""):
        state = waits
    ready = conditions.get("Ready", {}).get("status") == "True" and state == "Running"
    return PodReport(
        name=meta["name"],
        component=labels[COMPONENT],
        replica=labels.get(REPLICA, ""),
        revision=labels.get(REVISION, ""),
        group=labels.get("ray.io/group", ""),
        node=node,
        ready=ready,
        state="ready" if ready else "starting" if state == "Running" else state,
        restarts=sum(c.get("restartCount", 0) for c in status.get("containerStatuses") or ()),
        detail=detail,
        container=container,
    )


def _detail(found: Sequence[Container]) -> tuple[str, str]:
    """A termination message, else what the kubelet reports, each with the name of its container."""
    terminated = [(readable(c.termination_message), c.name) for c in found if c.termination_message]
    waiting = [(c.message, c.name) for c in found if c.message]
    return next(iter([*terminated, *waiting]), ("", ""))


def tree(status: dict[str, Any], pods: Sequence[PodReport]) -> Tree:
    """The pods below their revision and replica, with stages, nodes, restarts and details."""
    plan, active = status["plan"], str(status.get("revision", ""))
    root = Tree(Text.assemble((f"revision {active}", "bold"), f"  {plan['summary']}"))
    stages = {each["name"]: each.get("stages") or [] for each in plan.get("pods") or ()}
    replicas = sorted({pod.replica for pod in pods if pod.replica and pod.revision == active})
    for replica in replicas:
        branch = root.add(f"replica {replica}") if len(replicas) > 1 else root
        for pod in (p for p in pods if p.replica == replica and p.revision == active):
            _add(branch, pod, stages.get(pod.group or pod.component, []))
    for pod in (p for p in pods if not p.replica and p.revision == active):
        _add(root, pod, [])
    if old := [p for p in pods if p.revision != active]:
        others = root.add("of other revisions")
        for pod in old:
            _add(others, pod, [])
    if not pods:
        root.add(Text("no pods", style="dim"))
    return root


def _add(branch: Tree, pod: PodReport, stages: Sequence[str]) -> None:
    mark, style = ("✔", "green") if pod.ready else ("…", "yellow") if pod.state in _TRANSITIONAL else ("✘", "red")
    what = f" ({', '.join(stages)})" if stages else ""
    often = f"  {pod.restarts} restart{'s' if pod.restarts > 1 else ''}" if pod.restarts else ""
    line = Text.assemble(
        (f"{mark} ", style), (f"{pod.component}{what}", "bold"), f"  {pod.name}  on ", (pod.node or "no node", "blue"),
        "  ", (pod.state, style), (often, "yellow"),
    )  # fmt: skip
    leaf = branch.add(line)
    if pod.detail and (not pod.ready or pod.restarts):
        text = f"last ended: {pod.detail}" if pod.ready else pod.detail
        leaf.add(Text(text, style="dim" if pod.ready else ""))


def failing_pods(pods: Sequence[PodReport], revision: str) -> Iterator[PodReport]:
    """Pods of a revision that fail, then those that start after a failure."""
    unready = [p for p in pods if p.revision == revision and not p.ready and p.state not in _FINISHED]
    failing = [p for p in unready if p.state not in _TRANSITIONAL]
    yield from failing
    yield from (p for p in unready if p.detail and p not in failing)
