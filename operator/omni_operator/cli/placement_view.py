"""Which pods of a plan share a node, and which nodes admit them.

The scheduler has not placed the pods yet, so a placement names every node that their constraints
allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Strategy
from omni_operator.planning.capacity import admitting_nodes
from omni_operator.planning.layout import SERVING
from omni_operator.planning.model import Plan, ServingPod, StagePlan, WorkerGroup
from omni_operator.topology.inventory import Inventory, Node

_NAMED_NODES = 2  # in a title; the hint names all


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod with its stages; `text` says what it runs besides them."""

    title: str
    stages: tuple[StagePlan, ...] = ()
    text: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Pods that share a node. The title names the candidate nodes in short, the hint names all."""

    title: str
    hint: str
    pods: tuple[PodView, ...]


def placements(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> tuple[Placement, ...]:
    """The pods of one replica that run the server and the stages, in the order of the stages."""
    matcher = _NodeMatcher(plan=plan, spec=spec, inventory=inventory)
    server = _server(plan)
    if plan.cluster_ref:
        title = f"RayCluster {plan.cluster_ref}"
        workers = PodView(title="its workers, as they are", stages=plan.stages)
        return (matcher.placement([server], [plan.serving]), Placement(title=title, hint=title, pods=(workers,)))
    if plan.backend is Backend.RAY and plan.strategy is Strategy.ONE_NODE:
        group = plan.groups[0]
        pods = [server, PodView(title=_title(plan, "worker", group), stages=plan.stages)]
        return (matcher.placement(pods, [plan.serving, group]),)
    found = [matcher.placement([server], [plan.serving])]
    for group in plan.groups:
        if plan.backend is Backend.RAY:  # the pods of the group are equal, and each runs one stage
            for number, stage in enumerate(plan.stages, 1):
                title = _title(plan, f"worker {number} of {group.pods}", group)
                found.append(matcher.placement([PodView(title=title, stages=(stage,))], [group]))
            continue
        many = f" x {group.pods}, each on one of these" if group.pods > 1 else ""
        stages = tuple(stage for stage in plan.stages if stage.pod == group.name)
        pod = PodView(title=_title(plan, f"worker {group.name}{many}", group), stages=stages)
        found.append(matcher.placement([pod], [group]))
    return tuple(found)


def helper_placements(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> tuple[Placement, ...]:
    """The pods without devices and stages: the Ray head and the Mooncake master."""
    nodes = admitting_nodes(spec, inventory)
    titles = ["Ray head"] if plan.has_ray and not plan.cluster_ref else []
    titles += ["Mooncake master"] if plan.store else []
    return tuple(Placement(title=title, hint=_names(nodes), pods=(PodView(title=_any_of(nodes)),)) for title in titles)


def _server(plan: Plan) -> PodView:
    what = "API server; moves every payload" if plan.backend is Backend.RAY else "API server"
    stages = tuple(stage for stage in plan.stages if stage.pod == SERVING)
    return PodView(title=_title(plan, SERVING, plan.serving), stages=stages, text=(what,))


def _title(plan: Plan, name: str, pod: ServingPod | WorkerGroup) -> str:
    """A pod's name and the devices it requests."""
    parts = [name]
    if pod.accelerators and plan.accelerator_resource:
        parts.append(f"{pod.accelerators} x {plan.accelerator_resource}")
    if pod.rdma:
        parts.append(f"1 x {plan.rdma_resource}")
    return " · ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NodeMatcher:
    """Finds the nodes that satisfy the constraints of a plan's pods."""

    plan: Plan
    spec: OmniDeploymentSpec
    inventory: Inventory

    def placement(self, pods: Sequence[PodView], requests: Sequence[ServingPod | WorkerGroup]) -> Placement:
        """Pods that share a node, with all nodes whose allocatable resources suffice."""
        nodes = self._candidates(requests)
        return Placement(title=_any_of(nodes), hint=_names(nodes), pods=tuple(pods))

    def _candidates(self, requests: Sequence[ServingPod | WorkerGroup]) -> tuple[Node, ...]:
        plan = self.plan
        # With Ray any worker may run any stage, so only constraints that all stages share apply
        # (children/ray_cluster.py renders the same).
        names = {name for pod in requests for name in pod.stages} if plan.backend is not Backend.RAY else set()
        nodes = admitting_nodes(self.spec, self.inventory, [o for o in self.spec.stages if o.name in names])
        wanted = {plan.rdma_resource: sum(pod.rdma for pod in requests)}
        wanted[plan.accelerator_resource] = sum(pod.accelerators for pod in requests)
        found = [n for n in nodes if all(n.allocatable.get(what, 0) >= count for what, count in wanted.items() if what)]
        if plan.topology_key is not None and plan.domains is not None:
            found = [n for n in found if n.labels.get(plan.topology_key) in plan.domains.able]
        return tuple(found)


def _any_of(nodes: Sequence[Node]) -> str:
    """The candidate nodes in a few words."""
    if len(nodes) < 2:
        return nodes[0].name if nodes else "no current node"
    more = f" (+{len(nodes) - _NAMED_NODES})" if len(nodes) > _NAMED_NODES else ""
    return f"any of: {_names(nodes[:_NAMED_NODES])}{more}"


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes)
