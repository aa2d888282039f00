"""What an OmniDeployment costs, beside direct apply, KubeRay alone and LeaderWorkerSet.

    python -m bench.reconcile [--sizes 20,100,300] [--rounds 2] [--steady-seconds 300]
                              [--layout Spread,OneNode] [--only operator,direct,kuberay,lws]
                              [--markdown docs/reference/cost.md]

API requests, CPU, memory and time to Ready, on a real control plane (etcd, kube-apiserver,
controller manager, scheduler, KubeRay) with KWOK nodes instead of kubelets, all of it on loopback:
servers are fakes that answer the first request there. The operator and direct apply of the very
objects that it made take turns in one run, so the ratio holds when the machine's speed changes.
KubeRay alone gets the same RayClusters, LeaderWorkerSet groups of as many pods. The API server's
audit log, which has those three managers' requests only, is what is counted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.scale import report
from bench.scale.client import Client
from bench.scale.meter import USERS, Audit
from bench.scale.turns import Bench, Steady, Turn
from e2e.cluster import binaries
from e2e.control_plane import ControlPlane

QPS = 300
LWS_QPS = "its default of 500 (burst 500)"
NODES, GPUS = 50, 32
SUBJECTS = ("operator", "direct", "kuberay", "lws")


def spec(layout: str) -> dict[str, Any]:
    """What a user writes; MooncakeStore is what Spread gets, the layout with the most children."""
    return {
        "model": {"name": "Qwen/Qwen2.5-Omni-7B"},
        "engine": {"version": "0.16.0"},
        "placement": {"strategy": layout},
    }


def main() -> int:
    """Runs the bench; prints a table and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", default="20,100,300")
    parser.add_argument(
        "--rounds", type=int, default=2, help="times that operator and direct apply take turns at each size"
    )
    parser.add_argument(
        "--steady-seconds", type=float, default=300, help="time at rest with the largest size; 0 for none"
    )
    parser.add_argument(
        "--layout", default="Spread,OneNode", help="all sizes with the first, the smallest with the others"
    )
    parser.add_argument("--only", default=",".join(SUBJECTS), help="of operator,direct,kuberay,lws")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="a page with marks between which the figures go")
    args = parser.parse_args()
    sizes = sorted({int(size) for size in args.sizes.split(",")})
    only = args.only.split(",")
    if unknown := set(only) - set(SUBJECTS):
        parser.error(f"--only knows {', '.join(SUBJECTS)}, not {', '.join(unknown)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the control plane's processes end with it
    with tempfile.TemporaryDirectory(prefix="omni-bench-") as folder:
        control_plane = ControlPlane(Path(folder) / "control-plane")
        run = Run(control_plane, only=only, rounds=args.rounds, steady=args.steady_seconds)
        try:
            crds = binaries.lws_crds() if "lws" in only else []
            control_plane.up(
                controllers=True, nodes=NODES, gpus=GPUS, qps=QPS, audit=True, audited=list(USERS.values()), crds=crds
            )
            control_plane.ensure_namespace("bench")
            run.all(args.layout.split(","), sizes)
        finally:
            control_plane.down()
    limits = report.limits(QPS, LWS_QPS)
    if args.markdown:
        report.write(args.markdown, report.page(run.turns, run.rests, limits=limits, nodes=NODES))
    return 0


class Run:
    """All turns of one run, told as they come."""

    def __init__(self, control_plane: ControlPlane, *, only: list[str], rounds: int, steady: float) -> None:
        self._control_plane, self._only, self._rounds, self._steady = control_plane, only, rounds, steady
        self.turns: list[Turn] = []
        self.rests: list[Steady] = []

    def all(self, layouts: list[str], sizes: list[int]) -> None:
        """The first layout at all sizes, the others at the smallest."""
        bench = Bench(self._control_plane, Client(self._control_plane), Audit(self._control_plane))
        print(f"{os.cpu_count()} cores; {NODES} KWOK nodes; {report.limits(QPS, LWS_QPS)}")
        print(report.HEAD, flush=True)
        for layout in layouts:
            for size in sizes if layout == layouts[0] else sizes[:1]:
                self._size(bench, layout, size, rest=self._steady if (layout, size) == (layouts[0], sizes[-1]) else 0)

    def _size(self, bench: Bench, layout: str, size: int, *, rest: float) -> None:
        for number in range(self._rounds):
            # Every other round the other way round; the first must make the objects for the others.
            order = ("operator", "direct") if number % 2 == 0 else ("direct", "operator")
            for subject in order:
                if subject == "operator" and ("operator" in self._only or number == 0):
                    self._operator(bench, layout, size, number, rest=rest if number == self._rounds - 1 else 0)
                elif subject == "direct" and "direct" in self._only:
                    self._tell(bench.direct(layout=layout, number=number))
        if bench.has_clusters() and "kuberay" in self._only:
            self._tell(bench.kuberay(layout=layout, number=0))
        if bench.has_clusters() and "lws" in self._only:
            self._tell(bench.lws(layout=layout, number=0))
        self._judge(layout, size)

    def _operator(self, bench: Bench, layout: str, size: int, number: int, *, rest: float) -> None:
        turn, steady = bench.operator(spec(layout), layout=layout, size=size, number=number, steady=rest)
        if "operator" in self._only:
            self._tell(turn)
        if steady is not None:
            self.rests.append(steady)
            print(f"    {report.at_rest(steady)}", flush=True)

    def _tell(self, turn: Turn) -> None:
        self.turns.append(turn)
        print(report.line(turn))
        for detail in report.details(turn):
            print(f"    {detail}", flush=True)

    def _judge(self, layout: str, size: int) -> None:
        mine = [t for t in self.turns if (t.subject, t.layout, t.size) == ("operator", layout, size)]
        if not mine:
            return
        ratio = report.ratio(self.turns, layout, size)
        if ratio is not None:
            print(f"  {size}, {layout}: operator over direct apply {ratio:.2f} (median of {len(mine)})")
        for goal in report.goals(mine[-1], ratio):
            print(f"  {goal}")
        for rest in self.rests:
            if rest.size == size:
                for goal in report.steady_goals(rest):
                    print(f"  {goal}")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
