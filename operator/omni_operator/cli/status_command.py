"""`omni status`: an OmniDeployment with its pods, edges and conditions.

With --watch it is redrawn until the timeout, with --wait until the OmniDeployment is Ready.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import RenderableType
from rich.live import Live

from omni_operator.cli import view
from omni_operator.cli.access import Access
from omni_operator.cli.pod_report import pod_reports

_POLL_SECONDS = 1.0


def show(access: Access, name: str) -> int:
    """Prints the status once; the exit code is 0 when it is Ready, else 1."""
    omni = access.omni(name)
    view.console().print(_status(access, omni))
    return 0 if _ready(omni) else 1


def watch(access: Access, name: str, *, until_ready: bool, seconds: float) -> int:
    """A live status on a terminal, otherwise a line per change.

    Args:
        access: The cluster.
        name: The OmniDeployment.
        until_ready: Whether to stop as soon as it is Ready.
        seconds: When to stop at the latest.

    Returns:
        The exit code: 0 when it is Ready, 1 when the time is up.
    """
    console = view.console()
    end = time.monotonic() + seconds
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                omni = access.omni(name)
                live.update(_status(access, omni), refresh=True)
                if (until_ready and _ready(omni)) or time.monotonic() > end:
                    break
                time.sleep(_POLL_SECONDS)
        return show(access, name)
    begun, printed = time.monotonic(), ""
    while True:
        omni = access.omni(name)
        if (line := _line(omni)) != printed:
            sys.stdout.write(f"[{time.monotonic() - begun:5.0f} s] {line}\n")
            sys.stdout.flush()
            printed = line
        if (until_ready and _ready(omni)) or time.monotonic() > end:
            return show(access, name)
        time.sleep(_POLL_SECONDS)


def _status(access: Access, omni: dict[str, Any]) -> RenderableType:
    meta = omni["metadata"]
    return view.deployment(omni, pod_reports(access, meta["namespace"], meta["name"]))


def _ready(omni: dict[str, Any]) -> bool:
    """Whether the current spec is accepted, planned and Ready.

    Ready alone is not enough: after an edit that is not accepted the earlier revision stays Ready.
    """
    conditions = {c["type"]: c for c in (omni.get("status") or {}).get("conditions") or ()}
    current = omni["metadata"].get("generation")
    wanted = ("Accepted", "Planned", "Ready")
    return all(
        conditions.get(kind, {}).get("status") == "True" and conditions[kind].get("observedGeneration") == current
        for kind in wanted
    )


def _line(omni: dict[str, Any]) -> str:
    """The first condition that is False, else Ready.

    An OmniDeployment whose revision cannot be read has only some conditions, or none.
    """
    conditions = {c["type"]: c for c in (omni.get("status") or {}).get("conditions") or ()}
    if not conditions:
        return "waiting for the operator"
    for kind in ("Accepted", "Planned", "RayClusterReady", "ServingReady", "TransportAsPlanned"):
        if (found := conditions.get(kind, {})).get("status") == "False":
            return f"{kind}: {found['reason']}: {found['message']}"
    last = conditions.get("Ready") or next(reversed(conditions.values()))
    return f"{last['reason']}: {last['message']}"
