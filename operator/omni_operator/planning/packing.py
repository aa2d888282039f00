"""Whether nodes can hold a set of pods: exact vector packing of accelerators and RDMA devices.

Pods of a pipeline are few and of few sizes, and nodes are many but of few kinds, so nodes are
counted by kind, and most questions end with a greedy packing (they fit) or a bound (they cannot);
the search between the two is exact and bounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# Pods are refused, never promised, when the search has not ended after so many steps (some tenths
# of a second); no test comes near it.
_MOST_STEPS = 10_000


class Demand(NamedTuple):
    """What one pod, or several that must share a node, ask of it.

    Attributes:
        accelerators: Accelerators.
        devices: RDMA devices.
        kind: Which nodes admit it: a bit of Bin.admits.
    """

    accelerators: int
    devices: int
    kind: int = 1


class Bin(NamedTuple):
    """What one node has; `admits` has a bit for every kind of demand that it admits."""

    accelerators: int
    devices: int
    admits: int = 1

    def capacity_for(self, demand: Demand) -> int:
        """How many of a demand an empty node holds (a large number for one that asks nothing)."""
        if not demand.kind & self.admits:
            return 0
        most = 1 << 30
        if demand.accelerators:
            most = self.accelerators // demand.accelerators
        if demand.devices:
            most = min(most, self.devices // demand.devices)
        return most

    def minus(self, demand: Demand, count: int) -> Bin:
        """What is left beside `count` of a demand."""
        return Bin(self.accelerators - count * demand.accelerators, self.devices - count * demand.devices, self.admits)


Bins = Mapping[Bin, int]


def fits(demands: Sequence[Demand], bins: Bins, *, copies: int = 1) -> bool:
    """Whether `copies` of all demands fit into the bins at once."""
    wanted = Counter(demands)
    if any(
        sum(node_bin.capacity_for(d) * many for node_bin, many in bins.items()) < copies * n for d, n in wanted.items()
    ):
        return False
    asking = {d: copies * n for d, n in wanted.items() if d.accelerators or d.devices}
    if len(asking) <= 1:
        return True
    needs = (
        sum(d.accelerators * n for d, n in asking.items()),
        sum(d.devices * n for d, n in asking.items()),
    )
    has = (sum(r.accelerators * n for r, n in bins.items()), sum(r.devices * n for r, n in bins.items()))
    if needs[0] > has[0] or needs[1] > has[1]:
        return False
    return _greedy(asking, bins) or _Search(asking, bins).found()


def most_copies(demands: Sequence[Demand], bins: Bins, *, limit: int) -> int:
    """How many copies of all demands fit into the bins, at most `limit`."""
    return next((n for n in range(limit, 0, -1) if fits(demands, bins, copies=n)), 0)


def _greedy(wanted: Mapping[Demand, int], bins: Bins) -> bool:
    """Largest first, each into the fullest bin that has capacity for it."""
    left = Counter(bins)
    for demand, count in sorted(wanted.items(), reverse=True):
        todo = count
        while todo:
            able = [node_bin for node_bin, many in left.items() if many and node_bin.capacity_for(demand)]
            if not able:
                return False
            node_bin = min(able)
            each = min(node_bin.capacity_for(demand), todo)
            times = min(left[node_bin], todo // each)
            left[node_bin] -= times
            left[node_bin.minus(demand, each)] += times
            todo -= times * each
    return True


class _Search:
    """Fills bins one by one with sets to which nothing can be added.

    What is left for later bins is tried once.

    It keeps its own stack: there may be more bins than Python allows nested calls.
    """

    def __init__(self, wanted: Mapping[Demand, int], bins: Bins) -> None:
        self.demands = sorted(wanted, reverse=True)
        self.wanted = tuple(wanted[d] for d in self.demands)
        useful = {r: n for r, n in bins.items() if any(r.capacity_for(d) for d in self.demands)}
        # No more bins of a kind can matter than there are pods.
        self.bins = [node_bin for node_bin, many in sorted(useful.items()) for _ in range(min(many, sum(self.wanted)))]

    def found(self) -> bool:
        """Whether a packing exists."""
        seen: set[tuple[int, tuple[int, ...]]] = set()
        stack = [self._after(0, self.wanted)]
        while stack and len(seen) < _MOST_STEPS:
            left = next(stack[-1], None)
            if left is None:
                stack.pop()
            elif not any(left):
                return True
            elif len(stack) < len(self.bins) and (len(stack), left) not in seen:
                seen.add((len(stack), left))
                stack.append(self._after(len(stack), left))
        return False

    def _after(self, index: int, left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """What can be left when a bin is filled, fuller fillings first."""
        fillings = sorted(self._fillings(self.bins[index], left, 0, ()), key=self._size, reverse=True)
        return (tuple(a - b for a, b in zip(left, taken, strict=True)) for taken in fillings)

    def _size(self, taken: tuple[int, ...]) -> int:
        return sum(n * (d.accelerators + d.devices) for n, d in zip(taken, self.demands, strict=True))

    def _fillings(
        self, node_bin: Bin, left: tuple[int, ...], at: int, more: tuple[Demand, ...]
    ) -> Iterator[tuple[int, ...]]:
        if at == len(self.demands):
            if not any(node_bin.capacity_for(demand) for demand in more):
                yield ()
            return
        demand = self.demands[at]
        for count in range(min(left[at], node_bin.capacity_for(demand)), -1, -1):
            could_be = (*more, demand) if count < left[at] else more
            for rest in self._fillings(node_bin.minus(demand, count), left, at + 1, could_be):
                yield (count, *rest)
