"""What the nodes have left, kept up to date event by event.

A plan that waits must not count every pod of the cluster anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from omni_operator.topology.inventory import Inventory, Node


class Holder(Protocol):
    """A pod as far as it holds resources of a node."""

    @property
    def node(self) -> str: ...  # noqa: D102
    @property
    def requests(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def occupies_node(self) -> bool: ...  # noqa: D102


@dataclass(slots=True)
class AvailableCapacity:
    """Nodes and the extended resources that pods hold of them.

    Attributes:
        version: Grows with every change; equal versions mean equal inventories.
    """

    version: int = 0
    _nodes: dict[str, Node] = field(default_factory=dict)
    _held: dict[str, Counter[str]] = field(default_factory=dict)
    _total: Inventory | None = None

    def replace(self, old: Holder | None, new: Holder | None) -> bool:
        """A pod changed; whether that changed what nodes have left."""
        before, after = _holding(old), _holding(new)
        if before == after:
            return False
        for holding, sign in ((before, -1), (after, 1)):
            if holding is None:
                continue
            held = self._held.setdefault(holding[0], Counter())
            for resource, count in holding[1].items():
                held[resource] += sign * count
            if not any(held.values()):
                del self._held[holding[0]]
        self._changed()
        return True

    def set_node(self, old: Node | None, new: Node | None) -> None:
        """A node came, changed or went."""
        if old is not None:
            self._nodes.pop(old.name, None)
        if new is not None:
            self._nodes[new.name] = new
        self._changed()

    def inventory(self, own: Iterable[Holder] = ()) -> Inventory:
        """All nodes; what the pods of `own` hold counts as available.

        The same object while nothing has changed and nothing is own.
        """
        mine = [(pod.node, pod.requests) for pod in own if pod.occupies_node and pod.requests]
        if not mine:
            if self._total is None:
                self._total = Inventory.of(self._nodes.values(), self._held.items())
            return self._total
        held = {name: Counter(found) for name, found in self._held.items()}
        for name, requests in mine:
            for resource, count in requests.items():
                held.setdefault(name, Counter())[resource] -= count
        return Inventory.of(self._nodes.values(), held.items())

    def _changed(self) -> None:
        self.version += 1
        self._total = None


def _holding(pod: Holder | None) -> tuple[str, Mapping[str, int]] | None:
    return (pod.node, pod.requests) if pod is not None and pod.occupies_node and pod.requests else None
