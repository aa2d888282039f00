"""The faults: each kills one part of a running pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from e2e.cluster import kind, nodes, provider, shell
from e2e.cluster_under_test import GPU, SYSTEM, Omni, eventually, kubectl_json, set_device
from omni_operator.children.names import SERVER_CONTAINER, WORKER_CONTAINER

# Sends SIGKILL to the first process whose command line has a text.
_KILL = """
import os, signal, sys
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open(f"/proc/{pid}/cmdline").read().replace("\\0", " ")
    except OSError:
        continue
    if sys.argv[1] in line and "os.listdir" not in line and int(pid) != 1:
        found.append((int(pid), line[:120]))
if not found:
    sys.exit("no process has " + sys.argv[1] + " in its command line")
pid, line = min(found)
os.kill(pid, signal.SIGKILL)
print("killed", pid, line)
"""
_devices: dict[str, int] = {}  # of the node that is stopped


@dataclass(frozen=True, slots=True)
class Fault:
    """One part, and how it is killed.

    Attributes:
        part: What is killed, for the table.
        inject: Kills it.
        after: Repairs what Kubernetes cannot, such as a stopped node; called when Ready is False.
    """

    part: str
    inject: Callable[[Omni], None]
    after: Callable[[Omni], None] | None = None


def _kill_process(omni: Omni, pod: str, container: str, text: str) -> None:
    nodes.kubectl("exec", "-n", omni.namespace, pod, "-c", container, "--", "python3", "-c", _KILL, text)


def _worker_with(omni: Omni, stage: str) -> str:
    groups = {each["name"]: each.get("stages") or () for each in omni.status()["plan"]["pods"]}
    pods = omni.pods("worker")
    return next(p["metadata"]["name"] for p in pods if stage in groups.get(p["metadata"]["labels"]["ray.io/group"], ()))


def _delete(omni: Omni, component: str) -> None:
    name = omni.pods(component)[0]["metadata"]["name"]
    nodes.kubectl("delete", "pod", name, "-n", omni.namespace, "--grace-period=1", "--wait=false")


def _stage_process(omni: Omni) -> None:
    _kill_process(omni, _worker_with(omni, "talker"), WORKER_CONTAINER, "--stage-id 1")


def _stage_pod(omni: Omni) -> None:
    name = _worker_with(omni, "talker")
    nodes.kubectl("delete", "pod", name, "-n", omni.namespace, "--grace-period=1", "--wait=false")


def _head_runtime(omni: Omni) -> None:
    _kill_process(omni, omni.pods("serving")[0]["metadata"]["name"], SERVER_CONTAINER, "--stage-id 0")


def _stage_actor(omni: Omni) -> None:
    """Ray names a worker process after its actor; not every worker's pod has a stage."""
    refused: list[Exception] = []
    for pod in omni.pods("worker"):
        try:
            _kill_process(omni, pod["metadata"]["name"], WORKER_CONTAINER, "ray::OmniStage")
        except shell.CommandError as exc:
            refused.append(exc)
        else:
            return
    msg = f"no worker's pod has a stage: {refused}"
    raise RuntimeError(msg)


def _engine(omni: Omni) -> None:
    _kill_process(omni, omni.pods("serving")[0]["metadata"]["name"], SERVER_CONTAINER, "serve /models")


def _operator(_: Omni) -> None:
    nodes.kubectl(
        "delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=omni-operator", "--grace-period=1", "--wait=false"
    )


def _stop_node(omni: Omni) -> None:
    talker = _worker_with(omni, "talker")
    node = next(p["spec"]["nodeName"] for p in omni.pods("worker") if p["metadata"]["name"] == talker)
    _devices[node] = int(kubectl_json("get", "node", node)["status"]["allocatable"][GPU])
    provider.run("stop", "--time", "0", node)


def _start_node(_: Omni) -> None:
    """Starts the node when it is NotReady, with its network and devices, as after a reboot."""
    for node in list(_devices):
        eventually(f"{node} is given up", lambda node=node: not _ready(node), seconds=120)
        time.sleep(20)
        kind.up()
        set_device(node, GPU, _devices.pop(node))


def _ready(node: str) -> bool:
    conditions = kubectl_json("get", "node", node)["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


HEADLESS = (
    Fault("a stage's process", _stage_process),
    Fault("a stage's pod", _stage_pod),
    Fault("the head runtime's process", _head_runtime),
    Fault("the serving pod", lambda omni: _delete(omni, "serving")),
    Fault("the Mooncake master's pod", lambda omni: _delete(omni, "store")),
    Fault("the Ray head's pod", lambda omni: _delete(omni, "head")),
    Fault("the operator", _operator),
    Fault("a node, back after it was noticed", _stop_node, _start_node),
)
RAY = (
    Fault("a stage's process (Ray actor)", _stage_actor),
    Fault("a Ray worker's pod", lambda omni: _delete(omni, "worker")),
    Fault("the Ray head's pod", lambda omni: _delete(omni, "head")),
    Fault("the engine's process in the serving pod", _engine),
)
