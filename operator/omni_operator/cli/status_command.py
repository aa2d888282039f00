"""`omni status`: one picture of an OmniDeployment; with --watch a live one, with --wait until it is Ready."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import RenderableType
from rich.live import Live

from omni_operator.cli import view
from omni_operator.cli.access import Access
from omni_operator.cli.standing import pods_now

_POLL_SECONDS = 1.0


def show(access: Access, name: str) -> int:
    """Prints the picture once; 0 when Ready, else 1."""
    omni = access.omni(name)
    view.console().print(_picture(access, omni))
    return 0 if _ready(omni) else 1


def watch(access: Access, name: str, *, until_ready: bool, seconds: float) -> int:
    """A live picture on a terminal, otherwise a line per change; 0 when Ready, 1 when the time is up."""
    console = view.console()
    end = time.monotonic() + seconds
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                omni = access.omni(name)
                live.update(_picture(access, omni), refresh=True)
                if (until_ready and _ready(omni)) or time.monotonic() > end:
                    break
                time.sleep(_POLL_SECONDS)
        return show(access, name)
    begun, told = time.monotonic(), ""
    while True:
        omni = access.omni(name)
        if (line := _line(omni)) != told:
            sys.stdout.write(f"[{time.monotonic() - begun:5.0f} s] {line}\n")
            sys.stdout.flush()
            told = line
        if (until_ready and _ready(omni)) or time.monotonic() > end:
            return show(access, name)
        time.sleep(_POLL_SECONDS)


def _picture(access: Access, omni: dict[str, Any]) -> RenderableType:
    meta = omni["metadata"]
    return view.deployment(omni, pods_now(access, meta["namespace"], meta["name"]))


def _ready(omni: dict[str, Any]) -> bool:
    """Whether what is written is what serves: after a bad edit the old revision goes on and is Ready, but that is not it."""
    conditions = {c["type"]: c for c in (omni.get("status") or {}).get("conditions") or ()}
    current = omni["metadata"].get("generation")
    wanted = ("Accepted", "Planned", "Ready")
    return all(
        conditions.get(kind, {}).get("status") == "True" and conditions[kind].get("observedGeneration") == current
        for kind in wanted
    )


def _line(omni: dict[str, Any]) -> str:
    """The condition that tells where it stands; a record that cannot be read leaves only some of them, or none."""
    conditions = {c["type"]: c for c in (omni.get("status") or {}).get("conditions") or ()}
    if not conditions:
        return "waiting for the operator"
    for kind in ("Accepted", "Planned", "RayClusterReady", "ServingReady", "TransportAsPlanned"):
        if (found := conditions.get(kind, {})).get("status") == "False":
            return f"{kind}: {found['reason']}: {found['message']}"
    last = conditions.get("Ready") or next(reversed(conditions.values()))
    return f"{last['reason']}: {last['message']}"
