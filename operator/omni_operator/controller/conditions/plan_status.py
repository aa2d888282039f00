"""status.plan: the active revision's plan, where its pods are, what is known of its edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omni_operator.children.describe import describe
from omni_operator.children.names import COMPONENT
from omni_operator.controller.conditions.facts import Facts

_MAX_NODES = 64  # the schema's bound of PodPlan.nodes; more are possible with many replicas


@dataclass(slots=True)
class PlanStatuses:
    """The last description of each OmniDeployment's plan, by uid.

    A plan never changes, so it is described once per placement and observation: it is half of a
    status.
    """

    _last: dict[str, tuple[tuple[object, ...], dict[str, Any]]] = field(default_factory=dict)

    def of(self, facts: Facts) -> dict[str, Any]:
        """The JSON of status.plan; callers must not change it."""
        found: dict[str, set[str]] = {}
        for pod in facts.snapshot.pods_of(facts.current.name):
            if pod.node:
                found.setdefault(pod.labels.get(COMPONENT, ""), set()).add(pod.node)
        nodes = {component: tuple(sorted(names)[:_MAX_NODES]) for component, names in sorted(found.items())}
        edges = tuple((edge.state.value, edge.why) for edge in facts.edges)
        key, uid = (facts.current.name, tuple(nodes.items()), edges), facts.snapshot.omni.uid
        last = self._last.get(uid)
        if last is None or last[0] != key:
            last = self._last[uid] = key, _described(facts, nodes)
        return last[1]

    def forget(self, uid: str) -> None:
        """Drops the description for an OmniDeployment that is gone."""
        self._last.pop(uid, None)


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
