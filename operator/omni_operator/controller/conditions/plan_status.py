"""status.plan: the active revision's plan, where its pods are, what is known of its edges."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from omni_operator.children.describe import describe
from omni_operator.children.names import COMPONENT
from omni_operator.controller.conditions.facts import Facts

_MAX_NODES = 64  # the schema's bound of PodPlan.nodes; more are possible with many replicas
_KEPT = 4096
# A plan never changes, so its description is made once per placement and observation: it is half of
# a status.
_known: OrderedDict[tuple[object, ...], dict[str, Any]] = OrderedDict()


def plan_status(facts: Facts) -> dict[str, Any]:
    """The JSON of status.plan; callers must not change it."""
    found: dict[str, set[str]] = {}
    for pod in facts.snapshot.pods_of(facts.current.name):
        if pod.node:
            found.setdefault(pod.labels.get(COMPONENT, ""), set()).add(pod.node)
    nodes = {component: tuple(sorted(names)[:_MAX_NODES]) for component, names in sorted(found.items())}
    edges = tuple((edge.state.value, edge.why) for edge in facts.edges)
    key = (facts.snapshot.owner, facts.current.name, tuple(nodes.items()), edges)
    if key not in _known:
        _known[key] = _described(facts, nodes)
        if len(_known) > _KEPT:
            _known.popitem(last=False)
    return _known[key]


def _described(facts: Facts, nodes: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    out = describe(facts.snapshot.owner, facts.current.revision, nodes=nodes)
    edges = [
        edge.model_copy(update={"observed": found.state.value, "observed_reason": found.why})
        for edge, found in zip(out.edges, facts.edges, strict=True)
    ]
    status: dict[str, Any] = out.model_copy(update={"edges": edges}).model_dump(
        by_alias=True, mode="json", exclude_none=True
    )
    return status
