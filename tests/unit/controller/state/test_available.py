"""Free capacity is kept event by event and is what counting all pods anew would give."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from omni_operator.controller.state.available import AvailableCapacity
from omni_operator.topology.inventory import Inventory
from tests.unit import make
from tests.unit.make import GPU, HCA


@dataclass(frozen=True)
class Holder:
    name: str
    node: str
    requests: dict[str, int] = field(default_factory=dict)
    occupies_node: bool = True


holders = st.builds(
    Holder,
    name=st.sampled_from("pqrs"),
    node=st.sampled_from("abx"),
    requests=st.dictionaries(st.sampled_from((GPU, HCA)), st.integers(1, 3)),
    occupies_node=st.booleans(),
)
nodes = st.builds(make.node, st.sampled_from("ab"), st.integers(0, 4), rdma=st.integers(0, 4))
changes = st.lists(st.one_of(holders, nodes, st.sampled_from("pqrs"), st.sampled_from(("-a", "-b"))), max_size=25)


@given(changes=changes, own=st.sets(st.sampled_from("pqrs"), max_size=2))
def test_what_is_kept_is_what_counting_anew_gives(changes: list[object], own: set[str]) -> None:
    free, pods, known = AvailableCapacity(), dict[str, Holder](), {}
    for change in changes:
        if isinstance(change, Holder):
            free.replace(pods.get(change.name), change)
            pods[change.name] = change
        elif isinstance(change, str) and change.startswith("-"):
            free.set_node(known.pop(change[1:], None), None)
        elif isinstance(change, str):
            free.replace(pods.pop(change, None), None)
        else:
            node = change
            free.set_node(known.get(node.name), node)  # type: ignore[attr-defined]
            known[node.name] = node  # type: ignore[attr-defined]
    mine = [pod for name, pod in pods.items() if name in own]
    others = [pod for name, pod in pods.items() if name not in own]
    held = [(pod.node, pod.requests) for pod in others if pod.occupies_node]
    assert free.inventory(mine) == Inventory.of(known.values(), held)


def test_an_unchanged_cluster_has_the_same_inventory() -> None:
    """So that a pipeline that waits is planned anew only when something has changed."""
    free = AvailableCapacity()
    free.set_node(None, make.node("a", 4))
    pod = Holder("p", "a", {GPU: 1})
    assert free.replace(None, pod)
    before = free.inventory()
    assert free.inventory() is before
    assert not free.replace(pod, Holder("p", "a", {GPU: 1})), "another version of a pod that holds the same"
    assert not free.replace(None, Holder("q", "a")), "a pod that holds nothing"
    assert free.inventory() is before
    assert free.replace(pod, None)
    assert free.inventory() is not before
