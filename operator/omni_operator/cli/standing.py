"""What the pods of an OmniDeployment do now: the trunk of `omni status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text
from rich.tree import Tree

from omni_operator.children.names import COMPONENT, NAME, REPLICA, REVISION, Component
from omni_operator.cli.access import Access, AccessError
from omni_operator.topology.read import Container, containers

_ORDER = (Component.SERVING, Component.WORKER, Component.HEAD, Component.STORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNow:
    """One pod.

    Attributes:
        name: Its name.
        component: What it is for.
        replica: Replica of the pipeline; empty for what all share.
        revision: Revision it belongs to.
        group: KubeRay's worker group.
        node: Where it runs; empty while it is not placed.
        ready: Whether it is ready and stays.
        state: What it does, in a word or two.
        restarts: How often its containers have ended and were started again.
        words: What keeps it from being ready, or why it ended last.
        container: The container that `words` are of.
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
    words: str
    container: str


def pods_now(access: Access, namespace: str, name: str) -> tuple[PodNow, ...] | None:
    """The pods, or None when they may not be listed."""
    query = f"labelSelector={NAME}%3D{name}"
    try:
        found = access.request("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")
    except AccessError:
        return None
    lost = _lost_nodes(access, {node for raw in found["items"] if (node := raw["spec"].get("nodeName"))})
    pods = [read(raw, lost=lost) for raw in found["items"] if raw["metadata"]["labels"].get(COMPONENT) in _ORDER]
    return tuple(sorted(pods, key=lambda p: (p.replica, _ORDER.index(Component(p.component)), p.group, p.name)))


def _lost_nodes(access: Access, names: Iterable[str]) -> Mapping[str, str]:
    """Those nodes that are not Ready, each with the reason; none when nodes may not be read."""
    found = {}
    for name in names:
        try:
            why = _not_ready(access.request("GET", f"/api/v1/nodes/{name}"))
        except AccessError as exc:
            why = "it exists no more" if exc.status == 404 else ""
        if why:
            found[name] = why
    return found


def _not_ready(node: dict[str, Any]) -> str:
    ready: dict[str, Any] = next(
        (c for c in node.get("status", {}).get("conditions") or () if c["type"] == "Ready"), {}
    )
    return "" if ready.get("status") == "True" else str(ready.get("reason") or "unknown")


def read(raw: dict[str, Any], *, lost: Mapping[str, str]) -> PodNow:
    """From the JSON of a pod; `lost` are the nodes that are not Ready."""
    meta, status = raw["metadata"], raw.get("status") or {}
    labels, node = meta["labels"], raw["spec"].get("nodeName", "")
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    inside = containers(status)
    words, container = _words(inside)
    state = str(status.get("phase", "Pending"))
    if node in lost:
        state = "its node is not Ready"
        words = f"node {node}: {lost[node]}"
    elif "deletionTimestamp" in meta:
        state = "ending"
    elif conditions.get("PodScheduled", {}).get("status") == "False":
        state, words = "not placed", str(conditions["PodScheduled"].get("message", ""))
    elif waits := next((c.waits for c in inside if c.waits), ""):
        state = waits
    ready = conditions.get("Ready", {}).get("status") == "True" and state == "Running"
    return PodNow(
        name=meta["name"],
        component=labels[COMPONENT],
        replica=labels.get(REPLICA, ""),
        revision=labels.get(REVISION, ""),
        group=labels.get("ray.io/group", ""),
        node=node,
        ready=ready,
        state="ready" if ready else "starting" if state == "Running" else state,
        restarts=sum(c.get("restartCount", 0) for c in status.get("containerStatuses") or ()),
        words=words,
        container=container,
    )


def _words(found: Sequence[Container]) -> tuple[str, str]:
    """The last words of a container that ended with an error, or what the kubelet says, and its name."""
    said = [(c.last_words, c.name) for c in found if c.last_words]
    kubelet = [(c.message, c.name) for c in found if c.message]
    return next(iter([*said, *kubelet]), ("", ""))


def tree(status: dict[str, Any], pods: Sequence[PodNow]) -> Tree:
    """The pods below their revision and replica, with stages, nodes, restarts and last words."""
    plan, active = status["plan"], str(status.get("revision", ""))
    trunk = Tree(Text.assemble((f"revision {active}", "bold"), f"  {plan['summary']}"))
    stages = {each["name"]: each.get("stages") or [] for each in plan.get("pods") or ()}
    replicas = sorted({pod.replica for pod in pods if pod.replica and pod.revision == active})
    for replica in replicas:
        branch = trunk.add(f"replica {replica}") if len(replicas) > 1 else trunk
        for pod in (p for p in pods if p.replica == replica and p.revision == active):
            _add(branch, pod, stages.get(pod.group or pod.component, []))
    for pod in (p for p in pods if not p.replica and p.revision == active):
        _add(trunk, pod, [])
    if old := [p for p in pods if p.revision != active]:
        leaving = trunk.add("of other revisions")
        for pod in old:
            _add(leaving, pod, [])
    if not pods:
        trunk.add(Text("no pods", style="dim"))
    return trunk


def _add(branch: Tree, pod: PodNow, stages: Sequence[str]) -> None:
    mark, style = ("✔", "green") if pod.ready else ("…", "yellow") if pod.state in _ON_THE_WAY else ("✘", "red")
    what = f" ({', '.join(stages)})" if stages else ""
    often = f"  {pod.restarts} restart{'s' if pod.restarts > 1 else ''}" if pod.restarts else ""
    line = Text.assemble(
        (f"{mark} ", style), (f"{pod.component}{what}", "bold"), f"  {pod.name}  on ", (pod.node or "no node", "blue"),
        "  ", (pod.state, style), (often, "yellow"),
    )  # fmt: skip
    leaf = branch.add(line)
    if pod.words and (not pod.ready or pod.restarts):
        leaf.add(Text(pod.words if not pod.ready else f"last ended: {pod.words}", style="dim" if pod.ready else ""))


_OVER = frozenset({"Failed", "Succeeded"})  # an evicted pod has a successor
_ON_THE_WAY = frozenset({"starting", "Pending", "ending", "not placed"})


def troubled(pods: Sequence[PodNow], revision: str) -> Iterator[PodNow]:
    """Pods of a revision that a person should look at, the worst first: those that fail, then those that start again."""
    mine = [p for p in pods if p.revision == revision and not p.ready and p.state not in _OVER]
    bad = [p for p in mine if p.state not in _ON_THE_WAY]
    yield from bad
    yield from (p for p in mine if p.words and p not in bad)
