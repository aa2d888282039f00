"""The pods behind rendered children, and a small scheduler that tries every placement of them.

It reads what the API server would read (requests, selectors, tolerations, required affinity), not
the plan, so it judges planner and builders together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omni_operator.children import mooncake_master, ray_cluster, serving
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision
from omni_operator.planning.capacity import Capacity
from omni_operator.topology.inventory import Node, Toleration, matches_affinity

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True)
class SimplePod:
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def demands(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for container in self.spec["containers"]:
            for resource, count in container["resources"].get("limits", {}).items():
                if "/" in resource:
                    total[resource] = total.get(resource, 0) + int(count)
        return total

    @property
    def terms(self) -> list[dict[str, Any]]:
        return list(self.spec.get("affinity", {}).get("podAffinity", {}).get(_REQUIRED, ()))


def templates(obj: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Pod templates of an object with the number of pods each makes."""
    spec = obj.get("spec", {})
    if obj["kind"] == "Deployment":
        return [(spec["replicas"], spec["template"])]
    if obj["kind"] == "RayCluster":
        groups = spec["workerGroupSpecs"]
        workers = [(group["replicas"] * group.get("numOfHosts", 1), group["template"]) for group in groups]
        return [(1, spec["headGroupSpec"]["template"]), *workers]
    return []


def pods_of(owner: Owner, revision: Revision, replicas: int) -> list[SimplePod]:
    """All pods of a revision; those that take most come first, which is kind to the search."""
    objects = mooncake_master.build(owner, revision)
    for replica in range(max(1, replicas)):
        if revision.plan.has_ray and revision.plan.cluster_ref is None:
            objects.append(ray_cluster.build(owner, revision, replica))
        objects.append(serving.build(owner, revision, replica))
    made = [
        SimplePod(labels=template["metadata"]["labels"], spec=template["spec"])
        for obj in objects
        for count, template in templates(obj)
        for _ in range(count)
    ]
    return sorted(made, key=lambda pod: -sum(pod.demands.values()))


def hosts(pod: SimplePod, nodes: Sequence[Node]) -> list[str]:
    """Nodes that a pod could be bound to if they were empty and it were the only one."""
    able = _able([pod], nodes)[0]
    return [n.name for n in able if all(n.allocatable.get(r, 0) >= count for r, count in pod.demands.items())]


def can_place(pods: Sequence[SimplePod], nodes: Sequence[Node], *, capacity: Capacity) -> bool:
    """Whether any placement satisfies every pod.

    Affinity is evaluated on the whole placement, as after all pods are bound.
    """
    left = {node.name: dict(node.available if capacity is Capacity.AVAILABLE else node.allocatable) for node in nodes}
    return _search(pods, _able(pods, nodes), left, ())


def can_follow_wherever_the_first_goes(pods: Sequence[SimplePod], nodes: Sequence[Node]) -> bool:
    """Whether empty nodes fit all pods for any node of the first pod.

    The scheduler places the first pod without regard to the others.
    """
    allocatable = {node.name: dict(node.allocatable) for node in nodes}
    able = _able(pods, nodes)
    starts = [
        n
        for n in able[0]
        if all(n.allocatable.get(r, 0) >= count for r, count in pods[0].demands.items()) and _friendly(pods[:1], (n,))
    ]
    return bool(starts) and all(
        _search(pods, [[start], *able[1:]], {name: dict(left) for name, left in allocatable.items()}, (), twins=False)
        for start in starts
    )


def _able(pods: Sequence[SimplePod], nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes that each pod's selectors, tolerations and node affinity admit."""
    tolerations = [
        [
            Toleration(**{k: v for k, v in t.items() if k != "tolerationSeconds"})
            for t in pod.spec.get("tolerations", ())
        ]
        for pod in pods
    ]
    return [
        [
            n
            for n in nodes
            if n.admits(selector=pod.spec.get("nodeSelector", {}), tolerations=tolerated)
            and matches_affinity(n, pod.spec.get("affinity", {}).get("nodeAffinity", {}))
        ]
        for pod, tolerated in zip(pods, tolerations, strict=True)
    ]


def _search(
    pods: Sequence[SimplePod],
    able: Sequence[Sequence[Node]],
    left: dict[str, dict[str, int]],
    done: tuple[Node, ...],
    *,
    twins: bool = True,
) -> bool:
    if len(done) == len(pods):
        return all(_has_company(pods, term) for pod in pods for term in pod.terms)
    pod, index = pods[len(done)], len(done)
    # Equal pods are interchangeable: the second goes where the first went or further on.
    twin = index > 0 and pods[index - 1].labels == pod.labels and pods[index - 1].demands == pod.demands
    first = able[index].index(done[-1]) if twin and (twins or index > 1) else 0
    for node in able[index][first:]:
        if any(left[node.name].get(r, 0) < n for r, n in pod.demands.items()):
            continue
        if not _friendly(pods, (*done, node)):
            continue
        for resource, count in pod.demands.items():
            left[node.name][resource] -= count
        if _search(pods, able, left, (*done, node), twins=twins):
            return True
        for resource, count in pod.demands.items():
            left[node.name][resource] += count
    return False


def _has_company(pods: Sequence[SimplePod], term: dict[str, Any]) -> bool:
    """Whether required affinity has a pod to be near to; without one it would wait for ever."""
    wanted = term["labelSelector"]["matchLabels"].items()
    return any(wanted <= other.labels.items() for other in pods)


def _friendly(pods: Sequence[SimplePod], placed: Sequence[Node]) -> bool:
    """Whether required affinity can still hold between the pods that are placed."""
    for pod, node in zip(pods, placed, strict=False):
        for term in pod.terms:
            key, wanted = term["topologyKey"], term["labelSelector"]["matchLabels"].items()
            if key not in node.labels:
                return False
            others = [n for other, n in zip(pods, placed, strict=False) if wanted <= other.labels.items()]
            if any(other.labels.get(key) != node.labels[key] for other in others):
                return False
    return True
