"""CPU time of make_plan, which the controller spends on a new or changed spec, by stages and nodes.

    python -m bench.planner [--runs 11] [--nodes 5,50,500,5000]

Every stage has an accelerator of its own, the release is 0.30 and the backend Auto, so that Local
and every partition into Headless pods are candidates. CPU time and not time by the clock: a busy
machine changes it little.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.engine.pipeline import catalog
from omni_operator.planning.model import Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory, Node
from omni_operator.topology.namespace import PodSecurity

GPU, HCA, ZONE = "nvidia.com/gpu", "rdma/hca", "topology.kubernetes.io/zone"
NODES_OF_A_ZONE = 25
GOAL_MS = 50
SHIPPED = {2: "qwen3_tts_high_concurrency", 3: "qwen2_5_omni", 4: "aura_omni"}  # more than 4 stages are not shipped
STAGES = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A column of the table.

    Attributes:
        title: Its heading.
        full: Whether no accelerator is available, so that the plan waits; otherwise pods request a
            part of every large node, so that 8 stages must be split.
        zones: Whether placement.topologyKey keeps the pipeline inside a zone.
    """

    title: str
    full: bool
    zones: bool


LOADS = [
    Load(title="partly taken", full=False, zones=False),
    Load(title="same, by zone", full=False, zones=True),
    Load(title="all taken", full=True, zones=False),
    Load(title="same, by zone", full=True, zones=True),
]


def inventory(count: int, *, full: bool) -> Inventory:
    """Nodes of 0, 1, 4 and 8 accelerators, half of them with RDMA; pods request a part of most."""
    return Inventory(nodes=tuple(_node(number, full=full) for number in range(count)))


def _node(number: int, *, full: bool) -> Node:
    accelerators = (8, 4, 1, 0)[number % 4]
    allocatable = {GPU: accelerators, HCA: 4 if number // 4 % 2 else 0}
    taken = accelerators if full else min(accelerators, number // 4 % 3 + accelerators // 8)
    available = {GPU: accelerators - taken, HCA: allocatable[HCA] // (1 + number // 8 % 2)}
    return Node(
        name=f"node-{number:04}",
        labels={"kubernetes.io/hostname": f"node-{number:04}", ZONE: f"zone-{number // NODES_OF_A_ZONE:03}"},
        allocatable={resource: n for resource, n in allocatable.items() if n},
        available={resource: available[resource] for resource, n in allocatable.items() if n},
    )


def spec(stages: int, *, zones: bool) -> OmniDeploymentSpec:
    """A pipeline of so many stages, of the catalog or else a chain that the spec describes."""
    model: dict[str, Any] = {"name": "a/model", "pipeline": SHIPPED.get(stages, "chain")}
    if stages in SHIPPED:
        names = [stage.name for stage in catalog()[SHIPPED[stages]].releases["0.30"].stages]
    else:
        names = [f"stage-{number}" for number in range(stages)]
        edges = [{"from": a, "to": b, "maxPayloadMiB": 16 << n} for n, (a, b) in enumerate(pairwise(names))]
        model["definition"] = {"stages": [{"name": name} for name in names], "edges": edges}
    return OmniDeploymentSpec.model_validate(
        {
            "model": model,
            "engine": {"version": "0.30.0", "backend": "Auto"},
            "stages": [{"name": name, "accelerators": 1} for name in names],
            "placement": {"topologyKey": ZONE} if zones else {},
        }
    )


def plan_times(of: OmniDeploymentSpec, nodes: Inventory, *, runs: int) -> tuple[list[float], str]:
    """Milliseconds of each run after a first one that is not counted, and what was planned."""
    found = make_plan(spec=of, inventory=nodes, pod_security=PodSecurity.PRIVILEGED)
    assert isinstance(found, Planned), found
    took = []
    for _ in range(runs):
        begun = time.process_time()
        make_plan(spec=of, inventory=nodes, pod_security=PodSecurity.PRIVILEGED)
        took.append((time.process_time() - begun) * 1000)
    pods = 1 + sum(group.pods for group in found.plan.groups)
    waits = ", waits" if found.waits_for else ""
    return took, f"{found.plan.backend} {pods}{waits}"


def main() -> int:
    """Runs the bench and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--nodes", default="5,50,500,5000")
    args = parser.parse_args()
    sizes = [int(size) for size in args.nodes.split(",")]
    print(f"CPU ms of make_plan, median and (worst) of {args.runs} runs; backend and pods of the plan\n")
    print(f"{'stages':>6} {'nodes':>6}" + "".join(f" {load.title:>30}" for load in LOADS))
    medians: dict[tuple[int, int], list[float]] = {}
    for stages in STAGES:
        for size in sizes:
            cells = ""
            for load in LOADS:
                nodes = inventory(size, full=load.full)
                took, plan = plan_times(spec(stages, zones=load.zones), nodes, runs=args.runs)
                medians.setdefault((stages, size), []).append(statistics.median(took))
                figures = f"{statistics.median(took):.1f} ({max(took):.1f})"
                cells += f" {figures:>14} {plan:<15}"
            print(f"{stages:6d} {size:6d}{cells}".rstrip(), flush=True)
    if {500, 5000} <= set(sizes):
        print("\ngrowth from 500 to 5000 nodes (10 would be in proportion)")
        for stages in STAGES:
            pairs = zip(medians[stages, 500], medians[stages, 5000], strict=True)
            print(f"{stages:6d}       " + "".join(f" {after / before:>29.1f}x" for before, after in pairs))
    if 500 in sizes:
        slowest = max(medians[8, 500])
        result = "met" if slowest < GOAL_MS else "not met"
        print(f"\n8 stages on 500 nodes: {slowest:.1f} ms in the slowest column; under {GOAL_MS} ms is {result}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
