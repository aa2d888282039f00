"""`omni inventory`: the nodes with their resources, and why each is usable or not."""

from __future__ import annotations

import json
import sys

from omni_operator.cli import view
from omni_operator.cli.manifest import ManifestError
from omni_operator.cli.node_report import report
from omni_operator.cli.plan_command import print_failure
from omni_operator.cli.plan_source import INVALID, OK, CommandFailure, PlanSource


def inventory(*, source: PlanSource, output: str) -> int:
    """Prints a row per node."""
    try:
        nodes = source.cluster_view().inventory.nodes
    except ManifestError as exc:
        return print_failure(CommandFailure(INVALID, str(exc)))
    reports = [report(node) for node in nodes]
    if output == "json":
        sys.stdout.write(json.dumps([each.data() for each in reports], indent=2) + "\n")
        return OK
    console = view.console()
    console.print(view.nodes(reports))
    capable = sum(each.rdma_capable and each.usable for each in reports)
    usable = sum(each.usable for each in reports)
    summary = f"nodes: {len(reports)}, usable without tolerations: {usable}, of these RDMA-capable: {capable}"
    console.print(summary, highlight=False)
    return OK
