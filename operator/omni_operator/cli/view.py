"""Tables and trees that commands print.

Views of a status take its JSON, so that `status`, `status --watch` and `plan` print the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from omni_operator.cli.advice import next_step
from omni_operator.cli.difference import Change, Difference
from omni_operator.cli.node_report import NodeReport
from omni_operator.cli.picture import ArrowKind
from omni_operator.cli.pod_report import PodReport, tree
from omni_operator.cli.terminal import COLOUR

_MARK = {"True": ("✔", "green"), "False": ("✘", "red"), "Unknown": ("?", "yellow")}
# Conditions whose normal status is False.
_NORMAL_WHEN_FALSE = {"Progressing"}
_PIPE_COLUMNS = 160


def console(*, stderr: bool = False) -> Console:
    """A console for the terminal.

    For a file or a pipe, its width is COLUMNS, by default wide enough for the table of edges.
    """
    found = Console(stderr=stderr, markup=False, emoji=False)
    if found.is_terminal:
        return found
    columns = os.environ.get("COLUMNS", "")
    return Console(
        stderr=stderr,
        markup=False,
        emoji=False,
        width=int(columns) if columns.isdecimal() and int(columns) else _PIPE_COLUMNS,
    )


def deployment(omni: dict[str, Any], reports: Sequence[PodReport] | None = None) -> RenderableType:
    """Everything about one OmniDeployment; `reports` is None when its pods could not be listed."""
    status = omni.get("status") or {}
    plan = status.get("plan")
    parts: list[RenderableType] = [_head(omni)]
    if plan:
        parts += [pods(plan) if reports is None else tree(status, reports), edges(plan)]
        parts += [Text(f"note: {note}", style="dim") for note in plan.get("notes") or ()]
    parts.append(conditions(status))
    parts.append(Text(f"next: {next_step(omni, reports or ())}", style="bold"))
    return Panel(Group(*parts), title=f"{omni['metadata']['namespace']}/{omni['metadata']['name']}", title_align="left")


def _head(omni: dict[str, Any]) -> Text:
    status, spec = omni.get("status") or {}, omni["spec"]
    ready = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), None)
    text = Text(f"{spec['model']['name']} on vllm-omni {spec['engine']['version']}  ")
    if ready is None:
        return text.append("not evaluated yet" if status.get("conditions") else "not reconciled yet", style="yellow")
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
    """A table of edges: transport, why it was chosen, and the choices that were rejected."""
    table = Table(box=None, pad_edge=False)
    for column in ("edge", "reach", "transport", "why"):
        table.add_column(column, no_wrap=column != "why")
    for edge in plan.get("edges") or ():
        if edge["connector"] == "none":
            transport = Text("by the server", style=COLOUR[ArrowKind.SERVER])
        else:
            transport = Text(f"{edge['connector']}/{edge['protocol']}", style=COLOUR.get(edge["protocol"], ""))
        table.add_row(f"{edge['from']} → {edge['to']}", edge["reach"], transport, edge["reason"])
        grouped: dict[str, list[str]] = {}
        if edge.get("observedReason"):  # only a plan that runs has observations
            style = {"Verified": "green", "Degraded": "red"}.get(edge["observed"], "dim")
            table.add_row("", "", Text(edge["observed"], style=style), Text(edge["observedReason"], style=style))
        for rejected in edge.get("rejected") or ():
            grouped.setdefault(f"{rejected['code']}: {rejected['fact']}", []).append(f"not {rejected['choice']}")
        for why, choices in grouped.items():
            table.add_row("", "", Text("\n".join(choices), style="dim"), Text(why, style="dim"))
    return table


def difference(found: Difference) -> RenderableType:
    """What would change, the summary first."""
    parts: list[RenderableType] = [Text(found.summary, style="bold")]
    parts += [_changes(name, changes) for name, changes in (("spec", found.spec), ("plan", found.plan)) if changes]
    return Group(*parts)


def _changes(name: str, found: Sequence[Change]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in (name, "now", "then"):
        table.add_column(column, overflow="fold")
    for change in found:
        table.add_row(Text(change.what), Text(change.before, style="red"), Text(change.after, style="green"))
    return table


def nodes(reports: Sequence[NodeReport]) -> Table:
    """A row per node."""
    table = Table(box=None, pad_edge=False)
    for column in (
        "node",
        "state",
        "accelerators\navailable/\nallocatable",
        "RDMA\navailable/\nallocatable",
        "topology",
        "why it counts, or not",
    ):
        table.add_column(column, overflow="fold")
    for each in reports:
        table.add_row(
            Text(each.name, style="bold" if each.usable else "dim"),
            Text(", ".join(each.state), style="" if each.usable else "yellow"),
            Text("\n".join(str(count) for count in each.accelerators) or "none"),
            Text("\n".join(str(count) for count in each.rdma) or "none"),
            Text("\n".join(f"{key.rpartition('/')[2]}={value}" for key, value in each.topology) or "none"),
            Text("; ".join(each.why)),
        )
    return table


def paragraph(heading: str, sentences: Sequence[str]) -> RenderableType:
    """A heading with sentences below."""
    table = Table.grid(padding=(0, 1))
    for sentence in sentences:
        table.add_row(" -", Text(sentence))
    return Group(Text(heading, style="bold"), table)


def numbered(heading: str, steps: Sequence[Sequence[str]]) -> RenderableType:
    """A heading with steps below; sentences of one step have one number."""
    table = Table.grid(padding=(0, 1))
    for number, step in enumerate(steps, 1):
        for position, sentence in enumerate(step):
            table.add_row("" if position else f"{number:2}.", Text(sentence))
    return Group(Text(heading, style="bold"), table)


def notes(to: Console, found: Sequence[str]) -> None:
    """Prints notes."""
    for note in found:
        to.print(f"note: {note}", style="dim", highlight=False)


def conditions(status: dict[str, Any]) -> RenderableType:
    """Conditions with a mark each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in (1, 1, 1, 3):
        table.add_column(ratio=column if column > 1 else None, no_wrap=column == 1)
    for condition in status.get("conditions") or ():
        mark, colour = _MARK[condition["status"]]
        if condition["type"] in _NORMAL_WHEN_FALSE:
            mark, colour = ("…", "yellow") if condition["status"] == "True" else ("·", "dim")
        table.add_row(
            Text(mark, style=colour), condition["type"], Text(condition["reason"], style=colour), condition["message"]
        )
    return table
