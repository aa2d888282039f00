"""Nodes and Pods as the planner sees them: what is allocatable, what is available, who may use it.

Values only: the controller and the CLI make them from watch events or files. Extended resources
(accelerators, RDMA devices) are whole numbers by definition of the API, so counts are ints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

RDMA_PREFIX = "rdma/"


@dataclass(frozen=True, slots=True)
class Taint:
    """A node taint."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A pod toleration; an empty key with Exists tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether this toleration covers a taint, by the API's rules."""
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.operator == "Exists"
        if self.key != taint.key:
            return False
        return self.operator == "Exists" or self.value == taint.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node; `allocatable` and `available` count extended resources."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    cordoned: bool = False
    allocatable: Mapping[str, int] = field(default_factory=dict)
    available: Mapping[str, int] = field(default_factory=dict)

    def admits(self, *, selector: Mapping[str, str], tolerations: Iterable[Toleration]) -> bool:
        """Whether a pod with this selector and these tolerations may be scheduled here."""
        if not self.ready or self.cordoned:
            return False
        if selector and any(self.labels.get(key) != value for key, value in selector.items()):
            return False
        hard = [taint for taint in self.taints if taint.effect != "PreferNoSchedule"]
        tolerated = tuple(tolerations)
        return not hard or all(any(t.tolerates(taint) for t in tolerated) for taint in hard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All nodes, sorted by name so that no result depends on the order of events."""

    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, nodes: Iterable[Node], held: Iterable[tuple[str, Mapping[str, int]]] = ()) -> Inventory:
        """Nodes with what pods hold taken off.

        Args:
            nodes: Nodes as offered; their `available` is computed here.
            held: Pairs of a node name and the extended resources that a pod there has requested.
        """
        taken: dict[str, dict[str, int]] = {}
        for holder, requests in held:
            mine = taken.setdefault(holder, {})
            for resource, count in requests.items():
                mine[resource] = mine.get(resource, 0) + count
        made = []
        for node in sorted(nodes, key=lambda n: n.name):
            used = taken.get(node.name, {})
            available = {r: max(0, count - used.get(r, 0)) for r, count in node.allocatable.items()}
            made.append(replace(node, available=available))
        return cls(nodes=tuple(made))

    def admitting(self, *, selector: Mapping[str, str], tolerations: Iterable[Toleration]) -> tuple[Node, ...]:
        """The nodes that may host a pod."""
        tolerated = tuple(tolerations)
        return tuple(node for node in self.nodes if node.admits(selector=selector, tolerations=tolerated))


def rdma_resources(node: Node) -> tuple[str, ...]:
    """RDMA resources of a node, by name."""
    return tuple(sorted(r for r, count in node.allocatable.items() if r.startswith(RDMA_PREFIX) and count > 0))


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_COUNTS = {
    "In": range(1, 1 << 16),
    "NotIn": range(1, 1 << 16),
    "Exists": (0,),
    "DoesNotExist": (0,),
    "Gt": (1,),
    "Lt": (1,),
}


def affinity_problem(affinity: Mapping[str, Any]) -> str | None:
    """What cannot be read in a pod's affinity; None when this module can read all of it.

    The schema leaves the field open.
    """
    for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity"):
        if not isinstance(affinity.get(kind) or {}, Mapping):
            return f"{kind} must be an object"
    if not isinstance((affinity.get("podAffinity") or {}).get(_REQUIRED) or [], list):
        return f"podAffinity.{_REQUIRED} must be a list"
    required = (affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    terms = required.get("nodeSelectorTerms") or [] if isinstance(required, Mapping) else None
    if not isinstance(terms, list) or not all(isinstance(term, Mapping) for term in terms):
        return f"nodeAffinity.{_REQUIRED}.nodeSelectorTerms must be a list of objects"
    for term in terms:
        for kind in ("matchExpressions", "matchFields"):
            listed = term.get(kind) or []
            for expression in listed if isinstance(listed, list) else [None]:
                if not _readable(expression):
                    operators = ", ".join(_COUNTS)
                    return (
                        f"nodeAffinity: in {kind}, {expression!r} is not a key, an operator ({operators}) and its "
                        "values"
                    )
    return None


def _readable(expression: Any) -> bool:
    if not isinstance(expression, Mapping) or not isinstance(expression.get("key"), str):
        return False
    operator, values = expression.get("operator"), expression.get("values") or []
    if not isinstance(operator, str) or operator not in _COUNTS or not isinstance(values, list):
        return False
    integers = operator not in {"Gt", "Lt"} or all(str(value).lstrip("-").isdecimal() for value in values)
    return integers and len(values) in _COUNTS[operator]


def matches_affinity(node: Node, affinity: Mapping[str, Any]) -> bool:
    """Whether a node meets the required part of a pod's nodeAffinity, by the API's rules."""
    required = affinity.get(_REQUIRED) or {}
    terms = required.get("nodeSelectorTerms") or ()
    return not terms or any(_meets(node, term) for term in terms)


def _meets(node: Node, term: Mapping[str, Any]) -> bool:
    by_label = [(node.labels.get(e["key"]), e) for e in term.get("matchExpressions") or ()]
    by_field = [(node.name if e["key"] == "metadata.name" else None, e) for e in term.get("matchFields") or ()]
    return bool(by_label or by_field) and all(_satisfies(value, e) for value, e in (*by_label, *by_field))


def _satisfies(value: str | None, expression: Mapping[str, Any]) -> bool:
    operator, values = expression["operator"], expression.get("values") or ()
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    if value is None or not value.lstrip("-").isdigit() or len(values) != 1:
        return False
    bound = int(str(next(iter(values))))
    return int(value) > bound if operator == "Gt" else int(value) < bound
