"""What a person would look at when a pipeline does not come up; what says most comes first, since a CI may keep a part of it only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from e2e.cluster import nodes, shell

_LINES = "15"  # of each container's log


def story(namespace: str, name: str, pods: list[dict[str, Any]]) -> str:
    """Conditions, what `omni status` draws, events, each container with its last words, and the whole object."""
    here = ("-n", namespace)
    conditions = '{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\\n"}{end}'
    parts = [_kubectl("get", "omni", name, *here, "-o", f"jsonpath={conditions}"), _drawn(namespace, name)]
    columns = "custom-columns=AT:.lastTimestamp,N:.count,ON:.involvedObject.name,REASON:.reason,SAID:.message"
    parts.append(_kubectl("get", "events", *here, "--sort-by=.lastTimestamp", "-o", columns, "--no-headers"))
    for pod in pods:
        for container in pod["status"].get("containerStatuses") or ():
            label = f"{pod['metadata']['name']}/{container['name']}"
            logs = ("logs", pod["metadata"]["name"], "-c", container["name"], *here, "--tail", _LINES)
            if container["restartCount"]:
                parts.append(f"== {label}, before its restart {container['restartCount']}\n{_kubectl(*logs, '-p')}")
            parts.append(f"== {label}\n{_kubectl(*logs)}")
    return "\n".join([*parts, _kubectl("describe", "omni", name, *here)])


def _kubectl(*args: str) -> str:
    try:
        return nodes.kubectl(*args)
    except shell.CommandError as exc:
        return str(exc)


def _drawn(namespace: str, name: str) -> str:
    command = [str(Path(sys.executable).with_name("omni")), "status", name, "-n", namespace]
    env = {"KUBECONFIG": str(nodes.kubeconfig()), "COLUMNS": "160"}
    try:
        found = subprocess.run(command, env=env, text=True, check=False, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as exc:  # the rest of the story is still worth telling
        return f"omni status: {exc}"
    return found.stdout + found.stderr
