"""Servers on fake nodes: ready when their Ray cluster is complete, as the launcher makes them on real ones.

KWOK makes every pod ready at once. A server that is ready before Ray's workers exist cannot happen on a real cluster, and would
look like one whose workers were replaced.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

_JOINED = "plane/joined"
_SERVING = "omni.vllm.ai/component=serving"
_ADDRESS = re.compile(r"--ray-address=(\S+?)-head-svc\.")


def stages(pod_ready: Path, folder: Path) -> list[Path]:
    """KWOK stages: pods become ready at once, servers when they have joined. `pod_ready` is KWOK's own stage."""
    component = '.metadata.labels["omni.vllm.ai/component"]'
    others = {"key": component, "operator": "NotIn", "values": ["serving"]}
    joined = {"key": f'.metadata.annotations["{_JOINED}"]', "operator": "In", "values": ["true"]}
    paths = []
    for name, expression in (("pod-ready", others), ("server-ready", joined)):
        stage = yaml.safe_load(pod_ready.read_text())
        stage["metadata"]["name"] = name
        stage["spec"]["selector"]["matchExpressions"].append(expression)
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(stage))
    return paths


class ServersJoin:
    """Marks servers whose RayCluster has all its workers, until it is stopped."""

    def __init__(self, *, get: Callable[[str], Any], patch: Callable[[str, Any], Any]) -> None:
        self._get, self._patch = get, patch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="servers-join", daemon=True)

    def start(self) -> None:
        """Starts to look four times a second."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.25):
            try:
                self._look()
            except (OSError, RuntimeError):
                continue  # tests restart the API server

    def _look(self) -> None:
        pods = self._get(f"/api/v1/pods?labelSelector={_SERVING.replace('=', '%3D')}")["items"]
        waiting = [
            p for p in pods if p["spec"].get("nodeName") and _JOINED not in (p["metadata"].get("annotations") or {})
        ]
        if not waiting:
            return
        items = self._get("/apis/ray.io/v1/rayclusters")["items"]
        complete = {(c["metadata"]["namespace"], c["metadata"]["name"]) for c in items if _complete(c)}
        for pod in waiting:
            meta, cluster = pod["metadata"], _cluster(pod)
            if cluster is None or (meta["namespace"], cluster) in complete:
                change = {"metadata": {"annotations": {_JOINED: "true"}}}
                self._patch(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", change)


def _cluster(server: dict[str, Any]) -> str | None:
    """The RayCluster whose workers a server waits for; None on backend Local, which has none."""
    container, labels = server["spec"]["containers"][0], server["metadata"]["labels"]
    command = " ".join([*container.get("command", ()), *container.get("args", ())])
    if (found := _ADDRESS.search(command)) is not None:
        return found.group(1)
    if "run_stages.py" not in command:
        return None
    return "-".join(labels[f"omni.vllm.ai/{part}"] for part in ("name", "revision", "replica"))


def _complete(cluster: dict[str, Any]) -> bool:
    status = cluster.get("status") or {}
    return bool(status) and status.get("readyWorkerReplicas", 0) >= max(1, status.get("desiredWorkerReplicas", 0))
