"""What a wrong transport would cost: time of a payload over the planned connector against the best one that was feasible.

    python -m bench.transfers [--rounds 5]

For every scenario the planner chooses, then each other connector is asked for by override; those that the planner accepts are the
feasible ones. All move the same payloads between pods of the test cluster, in one run, and the quotient of the medians is the regret.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys

from e2e import world
from e2e.transfers import edges, pods
from e2e.transfers.edges import ONE, TWO, Laid, Scenario
from omni_operator.api.spec import Connector
from omni_operator.children.names import Owner
from omni_operator.planning.model import Refused
from omni_operator.planning.sizing import MIB

SPACE = "bench-transfers"
GOAL = 1.1
SIZES = (1 << 10, MIB, 4 * MIB, 16 * MIB, 64 * MIB)
IMAGES = ["0.16", "0.30"]
SCENARIOS = (
    (Scenario("0.16", "glm_image", ONE), 64 * MIB),
    (Scenario("0.16", "glm_image", TWO), 64 * MIB),
    (Scenario("0.30", "indextts2", ONE), 64 * MIB),
    (Scenario("0.30", "indextts2", TWO), 64 * MIB),
    (Scenario("0.30", "qwen2_5_omni", TWO, (1, 2)), 16 * MIB),
)


def feasible(scenario: Scenario, owner: Owner) -> tuple[Laid, list[Laid]]:
    """The planner's choice, and what else it would accept."""
    chosen = edges.plan(scenario, owner)
    assert not isinstance(chosen, Refused), chosen.message
    others = []
    for connector in Connector:
        if connector is chosen.edge.connector:
            continue
        found = edges.plan(scenario.forcing(connector), owner)
        if not isinstance(found, Refused):
            others.append(found)
    return chosen, others


def medians(laid: Laid, sizes: list[int], rounds: int) -> dict[int, float]:
    """Milliseconds by size; a payload that is lost has no time and is told; what loses all is no rival."""
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


def named(size: int) -> str:
    """Such as 64 MiB."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size >> 10} KiB"


def main() -> int:
    """Runs the bench and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--images",
        nargs="+",
        choices=IMAGES,
        default=IMAGES,
        help="engine images to use; those that are missing are built",
    )
    args = parser.parse_args()
    world.up(with_engine="0.16" in args.images, with_standin=False)
    if "0.30" in args.images:
        world.modern()
    world.namespace(SPACE)
    owner, worst = Owner(namespace=SPACE, name="edge", uid="0"), 0.0
    print(f"put and get of a payload in ms, median of {args.rounds}; regret: planned against the best feasible one\n")
    print(f"{'scenario':40} {'payload':>8} {'planned':>30} {'others':60} regret")
    for scenario, largest in SCENARIOS:
        if scenario.engine not in args.images:
            continue
        sizes = [size for size in SIZES if size <= largest]
        chosen, others = feasible(scenario, owner)
        mine = medians(chosen, sizes, args.rounds)
        theirs = {other.transport: medians(other, sizes, args.rounds) for other in others}
        for size in sizes:
            regret = mine[size] / min([mine[size], *(times[size] for times in theirs.values())])
            worst = max(worst, regret)
            rest = (
                ", ".join(f"{transport} {times[size]:.1f}" for transport, times in theirs.items()) or "none is feasible"
            )
            print(
                f"{scenario!s:40} {named(size):>8} {f'{chosen.transport} {mine[size]:.1f}':>30} {rest:60} {regret:.2f}",
                flush=True,
            )
    print(f"\nworst regret {worst:.2f}; at most {GOAL} is {'met' if worst <= GOAL else 'not met'}")
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
