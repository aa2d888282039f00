"""The two ends of an edge as pods with their own network and mount namespaces, by its reach."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e import cluster_under_test
from e2e.cluster import nodes
from e2e.transfers.edges import IMAGES, Laid
from omni_operator.children import command, mooncake_master, pod
from omni_operator.connectors.transport import Reach

PROBE = Path(__file__).with_name("probe.py")
SECONDS = 420


@dataclass(frozen=True, slots=True)
class Transfer:
    """One payload.

    Attributes:
        size: Bytes of its tensor.
        put: Whether the producer's connector took it.
        got: Whether it arrived as it was sent.
        seconds: put and get together; the consumer asks when the producer has put.
        error: What was raised, or that the producer died.
    """

    size: int
    put: bool
    got: bool
    seconds: float
    error: str


def move(laid: Laid, sizes: Sequence[int], *, rounds: int = 1, apart: bool = False) -> list[Transfer]:
    """Payloads of all sizes, `rounds` of each, over the edge of a plan; removes its objects after.

    Args:
        laid: The edge.
        sizes: Bytes.
        rounds: Payloads of each size.
        apart: Whether the consumer is put on another node although the plan has both on one.

    Raises:
        TimeoutError: Pods did not start or payloads did not end in time; with what they said.
    """
    space, name = laid.owner.namespace, laid.owner.name
    made = _objects(laid, sizes, rounds, apart=apart)
    cluster_under_test.apply(*made)
    try:
        cluster_under_test.eventually(
            f"transfers of {laid.scenario}",
            lambda: _phase(space, f"{name}-take") in {"Succeeded", "Failed"},
            seconds=SECONDS,
        )
        text = nodes.kubectl("logs", f"{name}-take", "-c", "end", "-n", space)
        found = [_transfer(json.loads(line)) for line in text.splitlines() if line.startswith('{"size"')]
        if len(found) != len(sizes) * rounds:
            msg = f"{laid.scenario}: {len(found)} of {len(sizes) * rounds} payloads\n{_words(space, name)}"
            raise TimeoutError(msg)
        return found
    except TimeoutError as exc:
        raise TimeoutError(f"{exc}\n{_words(space, name)}") from exc
    finally:
        _remove(laid, made)


def _objects(laid: Laid, sizes: Sequence[int], rounds: int, *, apart: bool) -> list[dict[str, Any]]:
    space, name = laid.owner.namespace, laid.owner.name
    out = mooncake_master.build(laid.owner, laid.revision)
    for child in out:
        child["metadata"].pop("ownerReferences", None)  # there is no OmniDeployment of this name
    give = ["give", json.dumps(laid.end(laid.producer))]
    host = "127.0.0.1" if laid.edge.reach is Reach.SAME_POD else f"{name}-give.{space}.svc"
    take = ["take", json.dumps(laid.end(laid.consumer)), host, json.dumps(list(sizes)), str(rounds)]
    workers = nodes.workers()
    far = apart or laid.edge.reach is Reach.CROSS_NODE
    if laid.edge.reach is Reach.SAME_POD:
        out.append(_pod(laid, "take", workers[0], {"end": take, "producer": give}))
    else:
        out += [
            _pod(laid, "give", workers[0], {"end": give}),
            _pod(laid, "take", workers[-1 if far else 0], {"end": take}),
        ]
    config = {"name": f"{name}-probe", "namespace": space}
    out.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": config, "data": {"probe.py": PROBE.read_text()}})
    service = {"name": f"{name}-give", "namespace": space}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"transfer": f"{name}-give"}}
    out.append({"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": spec})
    return out


def _pod(laid: Laid, role: str, node: str, containers: dict[str, list[str]]) -> dict[str, Any]:
    """A pod with the plan's /dev/shm and the environment of the operator's engine containers."""
    space, name = laid.owner.namespace, f"{laid.owner.name}-{role}"
    shm = laid.revision.plan.serving.sizes.shm_bytes
    volumes, mounts = pod.volumes(laid.owner, laid.revision, replica=0, shm_bytes=shm, config=False)
    mounts = [*mounts, {"name": "probe", "mountPath": "/probe"}]
    env = command.environment(laid.owner, laid.revision, replica=0, server=False)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": {"transfer": name}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": container,
                    "image": IMAGES[laid.scenario.engine],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-u", "/probe/probe.py", *args],
                    "env": env,
                    "volumeMounts": mounts,
                }
                for container, args in containers.items()
            ],
            "volumes": [*volumes, {"name": "probe", "configMap": {"name": f"{laid.owner.name}-probe"}}],
        },
    }


def _phase(space: str, name: str) -> str:
    found = cluster_under_test.kubectl_json("get", "pod", name, "-n", space)["status"]
    ended = [c for c in found.get("containerStatuses", ()) if c["name"] == "end" and "terminated" in c["state"]]
    return "Succeeded" if ended else str(found["phase"])  # a producer in the same pod goes on


def _transfer(line: dict[str, Any]) -> Transfer:
    return Transfer(line["size"], line["put"], line["got"], line["put_seconds"] + line["get_seconds"], line["error"])


def _words(space: str, name: str) -> str:
    out = [nodes.kubectl("get", "pods", "-n", space, "-o", "wide")]
    for role in ("give", "take"):
        found = nodes.kubectl(
            "logs", "-l", f"transfer={name}-{role}", "-n", space, "--all-containers", "--tail", "15", "--prefix"
        )
        out.append(found)
    return "\n".join(out)


def _remove(laid: Laid, made: list[dict[str, Any]]) -> None:
    space = laid.owner.namespace
    for child in made:
        nodes.kubectl(
            "delete", child["kind"], child["metadata"]["name"], "-n", space, "--ignore-not-found", "--wait=false"
        )
    cluster_under_test.eventually(
        "no pods", lambda: not cluster_under_test.kubectl_json("get", "pods", "-n", space)["items"], seconds=90
    )
    if laid.revision.plan.node_shared_memory:
        for volume in pod.volumes(laid.owner, laid.revision, replica=0, shm_bytes=0, config=False)[0]:
            if "hostPath" in volume:
                for worker in nodes.workers():
                    # and the operator's folder above, which later tests want to see gone
                    folder = volume["hostPath"]["path"]
                    nodes.node_exec(
                        worker, ["sh", "-c", f"rm -rf {folder}; rmdir {Path(folder).parent} 2>/dev/null || true"]
                    )
