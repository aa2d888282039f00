"""What an OmniDeployment costs: API requests, CPU, memory, time to Ready, against applying the same objects directly.

    python -m bench.reconcile [--sizes 20,100] [--steady-seconds 300] [--rounds 2]

A real control plane (etcd, kube-apiserver, controller manager, scheduler, KubeRay) with KWOK nodes instead of kubelets. The
operator and the direct apply take turns in one run, so the ratio holds when the machine's speed drifts. The client limits of
controller manager and scheduler are stated with the figures: their defaults make Deployments several times slower.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.plane import Plane, free_port, path_of
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.names import Owner
from omni_operator.children.render import children
from omni_operator.children.revision import new_revision
from omni_operator.planning.model import Planned, PodSecurity
from omni_operator.planning.plan import make_plan
from omni_operator.topology.inventory import Inventory, Node

QPS = 300
TICK = os.sysconf("SC_CLK_TCK")
SPEC: dict[str, Any] = {
    "model": {"name": "Qwen/Qwen2.5-Omni-7B"},
    "engine": {"version": "0.16.0"},
    "placement": {"strategy": "Spread"},  # MooncakeStore: the layout with the most children
}
COLLECTION = "/apis/omni.vllm.ai/v1alpha1/namespaces/bench/omnideployments"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the operator had used at one moment."""

    cpu: float
    writes: int
    reads: int
    peak_mib: float


class Operator:
    """The operator as a process of its own, with the rights of its ClusterRole."""

    def __init__(self, plane: Plane) -> None:
        self.port = free_port()
        env = {**os.environ, "KUBECONFIG": str(plane.kubeconfig("operator")), "OMNI_HTTP_PORT": str(self.port)}
        self.process = plane.spawn("omni-operator", [sys.executable, "-m", "omni_operator"], env)
        plane.wait("operator", self._ready)

    def _ready(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)

    def usage(self) -> Usage:
        """Counters of now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        counts: dict[str, int] = {}
        for verb, value in re.findall(r'omni_operator_api_requests_total\{.*?verb="(\w+)"\} ([\d.e+]+)', text):
            counts[verb] = counts.get(verb, 0) + int(float(value))
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]
        writes = sum(counts.get(verb, 0) for verb in ("PATCH", "POST", "DELETE"))
        return Usage(
            (int(fields[11]) + int(fields[12])) / TICK, writes, counts.get("GET", 0) + counts.get("LIST", 0), peak
        )


def names(prefix: str, count: int) -> list[str]:
    """Names of one batch."""
    return [f"{prefix}-{index:03d}" for index in range(count)]


def ready_omnis(plane: Plane) -> int:
    """OmniDeployments that are Ready."""
    items = plane.get(COLLECTION)["items"]
    return sum(
        any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))
        for item in items
    )


def ready_directly(plane: Plane, count: int) -> bool:
    """Whether as many RayClusters and servers are up as were applied."""
    clusters = plane.get("/apis/ray.io/v1/namespaces/bench/rayclusters")["items"]
    up = sum(c.get("status", {}).get("readyWorkerReplicas", 0) >= 3 for c in clusters)
    servers = plane.get("/apis/apps/v1/namespaces/bench/deployments?labelSelector=omni.vllm.ai/component%3Dserving")[
        "items"
    ]
    return up >= count and sum(d.get("status", {}).get("availableReplicas", 0) for d in servers) >= count


def empty(plane: Plane) -> bool:
    """Whether nothing is left in the namespace."""
    paths = ("/api/v1/namespaces/bench/pods", "/apis/ray.io/v1/namespaces/bench/rayclusters", COLLECTION)
    return all(not plane.get(path)["items"] for path in paths)


def by_operator(plane: Plane, operator: Operator, count: int) -> tuple[float, Usage, Usage]:
    """Applies OmniDeployments; seconds until all are Ready, and usage before and after."""
    before, begun = operator.usage(), time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: plane.apply(_omni(name)), names("omni", count)))
    plane.wait(f"{count} Ready", lambda: ready_omnis(plane) >= count, seconds=600, every=0.25)
    return time.monotonic() - begun, before, operator.usage()


def directly(plane: Plane, count: int) -> float:
    """Applies the very objects that the operator would make; seconds until all are up."""
    batches = [_objects(name) for name in names("direct", count)]
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda objects: [plane.apply(o) for o in objects], batches))
    plane.wait(f"{count} up", lambda: ready_directly(plane, count), seconds=600, every=0.25)
    return time.monotonic() - begun


def clear(plane: Plane) -> None:
    """Deletes everything of the namespace and waits for it."""
    plane.ok("DELETE", COLLECTION)
    for path in (
        "/apis/ray.io/v1/namespaces/bench/rayclusters", "/apis/apps/v1/namespaces/bench/deployments",
        "/api/v1/namespaces/bench/configmaps", "/apis/policy/v1/namespaces/bench/poddisruptionbudgets",
        "/apis/networking.k8s.io/v1/namespaces/bench/networkpolicies", "/api/v1/namespaces/bench/services",
    ):  # fmt: skip
        plane.ok("DELETE", f"{path}?labelSelector=omni.vllm.ai/name&propagationPolicy=Background")
    plane.wait("an empty namespace", lambda: empty(plane), seconds=300, every=0.5)


def _omni(name: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "bench"}
    return {"apiVersion": "omni.vllm.ai/v1alpha1", "kind": "OmniDeployment", "metadata": meta, "spec": SPEC}


def _objects(name: str) -> list[dict[str, Any]]:
    spec = OmniDeploymentSpec.model_validate(SPEC)
    nodes = [Node(name=f"n{i}", offers={"nvidia.com/gpu": 8}) for i in range(2)]
    planned = make_plan(spec=spec, inventory=Inventory.of(nodes), pod_security=PodSecurity.PRIVILEGED)
    assert isinstance(planned, Planned)
    owner = Owner(namespace="bench", name=name, uid="0")
    made = children(owner, new_revision(spec=spec, plan=planned.plan), replicas=1, service=spec.serving.service)
    for obj in made:
        obj["metadata"].pop("ownerReferences", None)
        assert path_of(obj)
    return made


def main() -> int:
    """Runs the bench and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", default="20,100")
    parser.add_argument(
        "--rounds", type=int, default=2, help="times each size is measured, operator and direct in turn"
    )
    parser.add_argument("--steady-seconds", type=float, default=300)
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="omni-bench-") as folder:
        plane = Plane(Path(folder) / "plane")
        try:
            plane.up(controllers=True, nodes=50, gpus=32, qps=QPS)
            plane.ensure_namespace("bench")
            _measure(plane, sizes=sizes, rounds=args.rounds, steady=args.steady_seconds)
        finally:
            plane.down()
    return 0


def _measure(plane: Plane, *, sizes: list[int], rounds: int, steady: float) -> None:
    operator = Operator(plane)
    per_object = len(_objects("count"))
    print(
        f"{os.cpu_count()} cores; 50 KWOK nodes; controller manager and scheduler at {QPS} requests/s; {per_object} children each"
    )
    print(
        f"{'size':>5} {'round':>5} {'operator s':>11} {'direct s':>9} {'ratio':>6} {'writes/each':>12} {'reads/each':>11} {'CPU s/each':>11} {'peak MiB':>9}"
    )
    for size in sizes:
        ratios = []
        for turn in range(rounds):
            seconds, before, after = by_operator(plane, operator, size)
            steady_before = operator.usage()
            if steady and size == sizes[-1] and turn == rounds - 1:
                time.sleep(5)  # events of the last pods
                steady_before = operator.usage()
                time.sleep(steady)
                later = operator.usage()
                quiet = later.writes - steady_before.writes
                share = (later.cpu - steady_before.cpu) / steady
                print(f"steady state with {size}: {quiet} writes in {steady:.0f} s, {share * 100:.2f} % of a core")
            clear(plane)
            direct = directly(plane, size)
            clear(plane)
            ratios.append(seconds / direct)
            writes, reads = (after.writes - before.writes) / size, (after.reads - before.reads) / size
            cpu = (after.cpu - before.cpu) / size
            print(
                f"{size:5d} {turn:5d} {seconds:11.1f} {direct:9.1f} {ratios[-1]:6.2f} {writes:12.1f} {reads:11.2f} {cpu:11.3f} {after.peak_mib:9.0f}",
                flush=True,
            )
        print(f"{size:5d}: median ratio {statistics.median(ratios):.2f} (operator / direct apply)")


if __name__ == "__main__":
    sys.exit(main())
