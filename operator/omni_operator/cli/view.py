"""Pictures of an OmniDeployment and of a plan: pods inside a pipeline, edges with their transport, conditions as marks.

Works on plain dicts of the status, so that the live view, `status` and `plan` show the same thing.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

_MARK = {"True": ("✔", "green"), "False": ("✘", "red"), "Unknown": ("?", "yellow")}
_TRANSPORT = {"shm": "green", "rdma": "cyan", "tcp": "yellow"}
# For these False is the quiet state.
_QUIET_WHEN_FALSE = {"Progressing"}


def console(*, stderr: bool = False) -> Console:
    """The terminal as it is; a file or a pipe gets lines wide enough for the table of edges."""
    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=160)


def deployment(omni: dict[str, Any]) -> RenderableType:
    """Everything about one OmniDeployment."""
    status = omni.get("status") or {}
    plan = status.get("plan")
    parts: list[RenderableType] = [_head(omni)]
    if plan:
        parts += [pods(plan), edges(plan)]
        parts += [Text(f"note: {note}", style="dim") for note in plan.get("notes") or ()]
    parts.append(conditions(status))
    if hint := next_step(omni):
        parts.append(Text(f"next: {hint}", style="bold"))
    return Panel(Group(*parts), title=f"{omni['metadata']['namespace']}/{omni['metadata']['name']}", title_align="left")


def _head(omni: dict[str, Any]) -> Text:
    status, spec = omni.get("status") or {}, omni["spec"]
    ready = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), None)
    text = Text(f"{spec['model']['name']} on vllm-omni {spec['engine']['version']}  ")
    if ready is None:
        return text.append("not looked at yet", style="yellow")
    mark, colour = _MARK[ready["status"]]
    text.append(f"{mark} {ready['reason']}", style=colour)
    text.append(f"  replicas {status.get('replicasSummary', '?')}  revision {status.get('revision', '-')}")
    return text


def pods(plan: dict[str, Any]) -> RenderableType:
    """The pods of one replica, with their stages and nodes."""
    tree = Tree(Text(plan["summary"]))
    for pod in plan.get("pods") or ():
        many = f" x {pod['count']}" if pod.get("count", 1) > 1 else ""
        devices = f"  {pod['accelerators']} accelerator(s) each" if pod.get("accelerators") else ""
        where = ", ".join(pod.get("nodes") or ()) or "not placed yet"
        branch = tree.add(Text.assemble((f"{pod['role']}{many}", "bold"), devices, "  on ", (where, "blue")))
        if pod.get("stages"):
            branch.add(Text("stages: " + ", ".join(pod["stages"])))
    return tree


def edges(plan: dict[str, Any]) -> RenderableType:
    """A table of edges: transport, why, and what was not usable."""
    table = Table(box=None, pad_edge=False)
    for column in ("edge", "reach", "transport", "why"):
        table.add_column(column, no_wrap=column != "why")
    for edge in plan.get("edges") or ():
        transport = Text(f"{edge['connector']}/{edge['protocol']}", style=_TRANSPORT.get(edge["protocol"], ""))
        table.add_row(f"{edge['from']} → {edge['to']}", edge["reach"], transport, edge["reason"])
        for rejected in edge.get("rejected") or ():
            table.add_row(
                "",
                "",
                Text(f"not {rejected['choice']}", style="dim"),
                Text(f"{rejected['code']}: {rejected['fact']}", style="dim"),
            )
    return table


def conditions(status: dict[str, Any]) -> RenderableType:
    """Conditions with a mark each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in (1, 1, 1, 3):
        table.add_column(ratio=column if column > 1 else None, no_wrap=column == 1)
    for condition in status.get("conditions") or ():
        mark, colour = _MARK[condition["status"]]
        if condition["type"] in _QUIET_WHEN_FALSE:
            mark, colour = ("…", "yellow") if condition["status"] == "True" else ("·", "dim")
        table.add_row(
            Text(mark, style=colour), condition["type"], Text(condition["reason"], style=colour), condition["message"]
        )
    return table


def next_step(omni: dict[str, Any]) -> str | None:
    """What a person should do now."""
    status = omni.get("status") or {}
    name, namespace = omni["metadata"]["name"], omni["metadata"]["namespace"]
    by_type = {c["type"]: c for c in status.get("conditions") or ()}
    ready = by_type.get("Ready")
    if ready is None:
        return "the operator has not looked at it; check that it runs: kubectl get pods -n omni-system"
    if ready["status"] == "True":
        return f"omni chat {name} -n {namespace} 'Hello'   (inside the cluster: {status.get('endpoint')})"
    pods_of = f"kubectl logs -n {namespace} -l omni.vllm.ai/name={name},omni.vllm.ai/component="
    hints = {
        "RayStarting": f"wait, or look at {pods_of}worker",
        "ServerStarting": f"wait, or look at {pods_of}serving --tail 20",
        "ServerFailing": f"{pods_of}serving --previous --tail 50",
        "Suspended": f'kubectl patch omni {name} -n {namespace} --type merge -p \'{{"spec":{{"suspend":false}}}}\'',
    }
    for kind in ("Ready", "ServingReady", "RayClusterReady"):
        if (reason := by_type.get(kind, {}).get("reason")) in hints:
            return hints[reason]
    return str(ready["message"])
