"""State and logs of a pipeline that is not Ready, the most important first: CI may cut the end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from e2e.cluster import nodes, shell

_LINES = "15"  # of each container's log


def status(namespace: str, name: str) -> str:
    """The output of `omni status`, or its error."""
    command = [str(Path(sys.executable).with_name("omni")), "status", name, "-n", namespace]
    env = {"KUBECONFIG": str(nodes.kubeconfig()), "COLUMNS": "150"}
    try:
        return shell.run(command, env=env, timeout=60)
    except shell.CommandError as exc:  # it ends with 1 while not Ready
        return exc.output or str(exc)
    except OSError as exc:
        return f"omni status: {exc}"


def collect(namespace: str, name: str) -> str:
    """Output of `omni status`, events, logs of containers, also before a restart, the object."""
    here = ("-n", namespace)
    columns = "custom-columns=AT:.lastTimestamp,N:.count,ON:.involvedObject.name,REASON:.reason,SAID:.message"
    parts = [status(namespace, name)]
    parts.append(_kubectl("get", "events", *here, "--sort-by=.lastTimestamp", "-o", columns, "--no-headers"))
    for pod, container, restarts in _containers(namespace, name):
        label, logs = f"{pod}/{container}", ("logs", pod, "-c", container, *here, "--tail", _LINES)
        if restarts:
            parts.append(f"== {label}, before its restart {restarts}\n{_kubectl(*logs, '-p')}")
        parts.append(f"== {label}\n{_kubectl(*logs)}")
    return "\n".join([*parts, _kubectl("describe", "omni", name, *here)])


def _containers(namespace: str, name: str) -> list[tuple[str, str, int]]:
    """Pod, container and restarts; none when the API server does not say."""
    found = _kubectl("get", "pods", "-n", namespace, "-l", f"omni.vllm.ai/name={name}", "-o", "json")
    try:
        pods = json.loads(found)["items"]
    except ValueError:
        return []
    return [
        (pod["metadata"]["name"], container["name"], container["restartCount"])
        for pod in pods
        for container in pod["status"].get("containerStatuses") or ()
    ]


def _kubectl(*args: str) -> str:
    try:
        return nodes.kubectl(*args)
    except shell.CommandError as exc:
        return str(exc)
