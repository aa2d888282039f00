"""The operator is killed at random moments of create, update and delete: the end is the same.

The moments are drawn from a seed that is printed, so a failure can be repeated with OMNI_E2E_SEED.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e import cluster_under_test
from e2e.cluster import nodes, shell
from e2e.cluster_under_test import STANDIN, Omni, eventually, kubectl_json, node_memory
from e2e.conftest import FULL

SEED = int(os.environ.get("OMNI_E2E_SEED", "20261124"))
KILLS = 20 if FULL else 5
SPEC: dict[str, Any] = {
    "model": {"name": "/models/tiny-omni"},
    "engine": {"version": "0.16.0", "image": STANDIN, "env": [{"name": "STANDIN_LEAK_SHM", "value": "1"}]},
    "accelerator": {"type": "cpu"},
}
CHANGED = {"engine": {"env": [*SPEC["engine"]["env"], {"name": "ROUND", "value": "2"}]}}


def kill_operator() -> None:
    """SIGKILL from the node, then a new pod at once, without the kubelet's back-off."""
    pod = kubectl_json("get", "pods", "-n", cluster_under_test.SYSTEM, "-l", "app.kubernetes.io/name=omni-operator")[
        "items"
    ]
    for node in {p["spec"].get("nodeName") for p in pod} - {None}:
        nodes.node_exec(node, ["sh", "-c", "pkill -KILL -f '[o]mni_operator' || true"])
    nodes.kubectl(
        "delete",
        "pods",
        "-n",
        cluster_under_test.SYSTEM,
        "-l",
        "app.kubernetes.io/name=omni-operator",
        "--force",
        "--grace-period=0",
        "--wait=false",
    )


@contextmanager
def kills(moments: list[float]) -> Iterator[list[float]]:
    """Kills the operator at these seconds from now, in the background, until the block ends."""
    done: list[float] = []
    over = threading.Event()
    begun = time.monotonic()

    def work() -> None:
        for moment in moments:
            if over.wait(max(0.0, begun + moment - time.monotonic())):
                return
            try:
                kill_operator()
                done.append(moment)
            except shell.CommandError as exc:
                print(f"kill at {moment:.1f} s: {exc}")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join(60)


def _picture(omni: Omni) -> dict[str, Any]:
    """All children with their specs, without uids and addresses, which differ each time."""
    kinds = "rayclusters,deployments,services,configmaps,networkpolicies,poddisruptionbudgets"
    found = kubectl_json("get", kinds, "-n", omni.namespace, "-l", f"omni.vllm.ai/name={omni.name}")["items"]
    uid = omni.get()["metadata"]["uid"].split("-", 1)[0]
    out = {}
    for obj in found:
        spec = dict(obj.get("spec") or obj.get("data") or {})
        for volatile in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
            spec.pop(volatile, None)
        text = repr(sorted(spec.items(), key=lambda item: item[0])).replace(uid, "UID")
        out[f"{obj['kind']}/{obj['metadata']['name']}"] = text
    return out


def test_always_the_same_end(space: str) -> None:
    """Create, update and delete with kills end as without kills; no node keeps shared memory."""
    dice = random.Random(SEED)
    omni = Omni(space, "survivor")
    omni.apply(**SPEC)
    omni.wait("Ready", seconds=240)
    created = _picture(omni)
    omni.patch(CHANGED)
    omni.wait("Ready", seconds=300)
    changed = _picture(omni)
    omni.delete()
    eventually("undisturbed: nothing is left", lambda: not omni.objects() and not node_memory(), seconds=120)

    killed, lives = 0, 0
    while killed < KILLS:
        lives += 1
        assert lives <= 2 * KILLS, "the moments must hit something that is going on"
        print(f"life {lives}: seed {SEED}, {killed} kills so far")
        with kills(_moments(dice, 20)) as done:
            omni.apply(**SPEC)
            omni.wait("Ready", seconds=400)
        killed += len(done)
        assert _picture(omni) == created
        assert omni.ask()["text"]
        with kills(_moments(dice, 30)) as done:
            omni.patch(CHANGED)
            omni.wait("Ready", seconds=400)
        killed += len(done)
        eventually("the changed children, and only these", lambda: _picture(omni) == changed, seconds=90)
        with kills(_moments(dice, 5)) as done:
            omni.delete(wait=False)
            eventually("nothing is left", lambda: not omni.objects() and not node_memory(), seconds=240)
            eventually("the object is gone", lambda: not _exists(omni), seconds=60)
        killed += len(done)
    print(f"{killed} kills in {lives} lives")
    cluster_under_test.eventually("the operator runs again", _operator_ready, seconds=120)


def _moments(dice: random.Random, seconds: float) -> list[float]:
    """Two or three moments of a phase that takes about so long."""
    return sorted(dice.uniform(0, seconds) for _ in range(dice.choice((2, 3))))


def _exists(omni: Omni) -> bool:
    return bool(
        kubectl_json("get", "omni", "-n", omni.namespace, f"--field-selector=metadata.name={omni.name}")["items"]
    )


def _operator_ready() -> bool:
    found = kubectl_json("get", "deployment", "omni-operator", "-n", cluster_under_test.SYSTEM)
    return found["status"].get("readyReplicas") == 1
