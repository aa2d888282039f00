"""Regret of planned transports: time of a payload over the planned and the best feasible connector.

    python -m bench.transfers [--rounds 5] [--turns 3]

For every scenario the planner chooses, with the payload in transport.edges[].payload. Each
connector is also asked for by override, and those that the planner accepts are the feasible ones.
All move the same payloads between pods of the test cluster, in one run and in turns, since a
machine is not equally fast at all times. A connector's time is its best turn's median, and the
quotient is the regret. In brackets: the regret of a plan without transport.edges[].payload.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys

from e2e import cluster_under_test
from e2e.transfers import edges, pods
from e2e.transfers.edges import ONE, TWO, Laid, Scenario
from omni_operator.api.spec import Connector
from omni_operator.children.names import Owner
from omni_operator.connectors.base import SIZES
from omni_operator.planning.model import PlanError
from omni_operator.topology.quantity import MIB

SPACE = "bench-transfers"
GOAL = 1.1
IMAGES = ["0.16", "0.30"]
SCENARIOS = (
    (Scenario("0.16", "glm_image", ONE), 64 * MIB),
    (Scenario("0.16", "glm_image", TWO), 64 * MIB),
    (Scenario("0.30", "indextts2", ONE), 64 * MIB),
    (Scenario("0.30", "indextts2", TWO), 64 * MIB),
    (Scenario("0.30", "qwen2_5_omni", TWO, (1, 2)), 16 * MIB),
)


def feasible(scenario: Scenario, owner: Owner) -> list[Laid]:
    """The edge over each connector that the planner accepts."""
    found = (edges.plan(scenario.forcing(connector), owner) for connector in Connector)
    return [laid for laid in found if not isinstance(laid, PlanError)]


def chosen(scenario: Scenario, owner: Owner) -> str:
    """The planner's own choice of a transport."""
    found = edges.plan(scenario, owner)
    assert not isinstance(found, PlanError), found.message
    return found.transport


def medians(laid: Laid, sizes: list[int], rounds: int) -> dict[int, float]:
    """Milliseconds by size; a lost payload is printed and has no time; empty when all are lost."""
    found = pods.move(laid, sizes, rounds=rounds + 1)  # the first of a size warms up
    out = {}
    for size in sizes:
        mine = [transfer for transfer in found if transfer.size == size][1:]
        if lost := [transfer for transfer in mine if not transfer.got]:
            why = "; ".join(
                sorted({each.error or ("lost" if each.put else "the producer had no room") for each in lost})
            )
            print(
                f"{laid.scenario!s:40} {named(size):>8} {laid.transport}: {len(lost)} of {len(mine)} lost: {why}",
                flush=True,
            )
        came = [transfer.seconds for transfer in mine if transfer.got]
        out[size] = statistics.median(came) * 1000 if came else math.inf
    return out


def best_turns(ways: list[Laid], sizes: list[int], *, rounds: int, turns: int) -> dict[str, dict[int, float]]:
    """The best turn's median of each transport, by size."""
    out = {laid.transport: dict.fromkeys(sizes, math.inf) for laid in ways}
    for _ in range(turns):
        for laid in ways:
            best = out[laid.transport]
            out[laid.transport] = {size: min(best[size], time) for size, time in medians(laid, sizes, rounds).items()}
    return out


def named(size: int) -> str:
    """Such as 64 MiB."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size >> 10} KiB"


def main() -> int:
    """Runs the bench and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5, help="payloads of a size in one turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--images",
        nargs="+",
        choices=IMAGES,
        default=IMAGES,
        help="engine images to use; those that are missing are built",
    )
    args = parser.parse_args()
    cluster_under_test.up(with_engine="0.16" in args.images, with_standin=False)
    if "0.30" in args.images:
        cluster_under_test.modern()
    cluster_under_test.namespace(SPACE)
    owner, worst = Owner(namespace=SPACE, name="edge", uid="0"), 0.0
    print(
        f"put and get of a payload in ms, best of {args.turns} medians of {args.rounds}; "
        "in brackets without transport.edges[].payload\n"
    )
    print(f"{'scenario':32} {'payload':>8} {'planned':>28} regret  {'':26}  all that are feasible")
    for scenario, largest in SCENARIOS:
        if scenario.engine not in args.images:
            continue
        sizes = [size for size in SIZES if size <= largest]
        times = best_turns(feasible(scenario, owner), sizes, rounds=args.rounds, turns=args.turns)
        untold = chosen(scenario, owner)
        for size in sizes:
            planned, least = chosen(scenario.telling(size), owner), min(found[size] for found in times.values())
            assert least < math.inf, "every payload was lost"
            regret = times[planned][size] / least
            worst = max(worst, regret)
            blind = f"({untold.partition('/')[0]} {times[untold][size] / least:.2f})"
            shown = ", ".join(f"{name} {found[size]:.1f}" for name, found in times.items())
            print(f"{scenario!s:32} {named(size):>8} {planned:>28} {regret:6.2f}  {blind:30}  {shown}", flush=True)
    print(f"\nworst regret {worst:.2f}; at most {GOAL} is {'met' if worst <= GOAL else 'not met'}")
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
