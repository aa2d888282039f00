"""Servers on fake nodes: ready when their Ray cluster is complete, and answering.

The launcher makes them so on real nodes.

KWOK makes every pod ready at once. A server that is ready before Ray's workers exist cannot happen
on a real cluster, and would look like one whose workers were replaced. Nor can one that is ready
and does not answer: it gets an address on loopback where e2e/answerer.py listens, before KWOK
writes that address into its status together with Ready.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from e2e.answerer import Answerer, Loopback
from e2e.watching import Watch

_JOINED = "control-plane/joined"
_SERVING = "omni.vllm.ai/component=serving"
_ADDRESS = re.compile(r"--ray-address=(\S+?)-head-svc\.")
_EVERY = 0.05
_POD_IPS = re.compile(r"^ *\{\{ \$podIPs := .*?^ *phase:", re.MULTILINE | re.DOTALL)
_OWN_IP = f"""\
podIP: {{{{ index .metadata.annotations "{_JOINED}" | Quote }}}}
podIPs:
- ip: {{{{ index .metadata.annotations "{_JOINED}" | Quote }}}}
phase:"""
Key = tuple[str, str]


def stages(pod_ready: Path, folder: Path) -> list[Path]:
    """KWOK stages.

    Pods become ready at once, servers when they have joined. `pod_ready` is KWOK's own stage.
    """
    component = '.metadata.labels["omni.vllm.ai/component"]'
    others = {"key": component, "operator": "NotIn", "values": ["serving"]}
    joined = {"key": f'.metadata.annotations["{_JOINED}"]', "operator": "Exists"}
    paths = []
    for name, expression in (("pod-ready", others), ("server-ready", joined)):
        stage = yaml.safe_load(pod_ready.read_text())
        stage["metadata"]["name"] = name
        stage["spec"]["selector"]["matchExpressions"].append(expression)
        if expression is joined:
            template, count = _POD_IPS.subn(_OWN_IP, stage["spec"]["next"]["statusTemplate"])
            assert count == 1, "KWOK's stage gives addresses in another way now"
            stage["spec"]["next"]["statusTemplate"] = template
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(stage))
    return paths


class ServersJoin:
    """Makes servers join whose RayCluster has all its workers, until it is stopped."""

    def __init__(self, *, port: int, token: str, patch: Callable[[str, Any], Any], loopback: Loopback) -> None:
        self.answerer = Answerer()
        self._patch, self._loopback = patch, loopback
        self._waiting: dict[Key, dict[str, Any]] = {}
        self._addresses: dict[Key, str] = {}
        self._gone: list[str] = []
        self._complete: set[Key] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="servers-join", daemon=True)
        selector = _SERVING.replace("=", "%3D")
        self._watches = [
            Watch(port=port, token=token, path=f"/api/v1/pods?labelSelector={selector}", each=self._pod),
            Watch(port=port, token=token, path="/apis/ray.io/v1/rayclusters", each=self._cluster),
        ]

    def start(self) -> None:
        """Begins to follow pods and RayClusters."""
        self.answerer.start()
        for watch in self._watches:
            watch.start()
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self._stop.set()
        for watch in self._watches:
            watch.stop()
        self._thread.join()
        self.answerer.stop()

    def _pod(self, event: str, pod: dict[str, Any]) -> None:
        key = _key(pod)
        if event == "DELETED":
            self._waiting.pop(key, None)
            if (address := self._addresses.pop(key, None)) is not None:
                self._gone.append(address)
        elif pod["spec"].get("nodeName") and _JOINED not in (pod["metadata"].get("annotations") or {}):
            self._waiting[key] = pod

    def _cluster(self, event: str, cluster: dict[str, Any]) -> None:
        if event != "DELETED" and _complete(cluster):
            self._complete.add(_key(cluster))
        else:
            self._complete.discard(_key(cluster))

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            while self._gone:
                self.answerer.close(self._gone.pop())
            for key, pod in list(self._waiting.items()):
                cluster = _cluster_of(pod)
                if cluster is not None and (key[0], cluster) not in self._complete:
                    continue
                try:
                    self._join(key, pod)
                except OSError:
                    continue  # tests restart the API server
                except RuntimeError:  # the pod has gone meanwhile
                    pass
                self._waiting.pop(key, None)

    def _join(self, key: Key, pod: dict[str, Any]) -> None:
        if key not in self._addresses:
            address = self._loopback.address()
            self.answerer.listen(address, _port(pod))
            self._addresses[key] = address
        change = {"metadata": {"annotations": {_JOINED: self._addresses[key]}}}
        self._patch(f"/api/v1/namespaces/{key[0]}/pods/{key[1]}", change)


def _key(obj: dict[str, Any]) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _port(pod: dict[str, Any]) -> int:
    """The port at which a server answers requests."""
    ports = pod["spec"]["containers"][0]["ports"]
    named = [each["containerPort"] for each in ports if each.get("name") == "http"]
    return int((named or [ports[0]["containerPort"]])[0])


def _cluster_of(pod: dict[str, Any]) -> str | None:
    """The RayCluster whose workers a server waits for; None on backend Local, which has none."""
    container, labels = pod["spec"]["containers"][0], pod["metadata"]["labels"]
    command = " ".join([*container.get("command", ()), *container.get("args", ())])
    if (found := _ADDRESS.search(command)) is not None:
        return found.group(1)
    if "run_stages.py" not in command:
        return None
    return "-".join(labels[f"omni.vllm.ai/{part}"] for part in ("name", "revision", "replica"))


def _complete(cluster: dict[str, Any]) -> bool:
    status = cluster.get("status") or {}
    return bool(status) and status.get("readyWorkerReplicas", 0) >= max(1, status.get("desiredWorkerReplicas", 0))
