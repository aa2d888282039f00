"""Where the pods of a plan may start: which share a node, and the nodes that admit them.

Where a pod will be is not known before it is scheduled, so a place names every node that its constraints leave open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omni_operator.api.spec import Backend, OmniDeploymentSpec, Strategy
from omni_operator.planning.layout import SERVING
from omni_operator.planning.model import Plan, ServingPod, StagePlan, WorkerGroup
from omni_operator.planning.terrain import admitting_nodes
from omni_operator.topology.inventory import Inventory, Node

_SHOWN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPlace:
    """A pod with its stages; `text` says what it runs besides them."""

    title: str
    stages: tuple[StagePlan, ...] = ()
    text: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Pods that share a node, and that node, or all that it may be."""

    title: str
    hint: str
    pods: tuple[PodPlace, ...]


def places(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> tuple[Place, ...]:
    """The pods of one replica that run the server and the stages, in the order of the stages."""
    land = _Land(plan=plan, spec=spec, inventory=inventory)
    server = _server(plan)
    if plan.cluster_ref:
        title = f"RayCluster {plan.cluster_ref}"
        workers = PodPlace(title="its workers, as they are", stages=plan.stages)
        return (land.place([server], [plan.serving]), Place(title=title, hint=title, pods=(workers,)))
    if plan.backend is Backend.RAY and plan.strategy is Strategy.ONE_NODE:
        group = plan.groups[0]
        pods = [server, PodPlace(title=_title(plan, "worker", group), stages=plan.stages)]
        return (land.place(pods, [plan.serving, group]),)
    found = [land.place([server], [plan.serving])]
    for group in plan.groups:
        if plan.backend is Backend.RAY:  # equal pods, a stage in each
            for number, stage in enumerate(plan.stages, 1):
                title = _title(plan, f"worker {number} of {group.pods}", group)
                found.append(land.place([PodPlace(title=title, stages=(stage,))], [group]))
            continue
        many = f" x {group.pods}, each on one of these" if group.pods > 1 else ""
        stages = tuple(stage for stage in plan.stages if stage.pod == group.name)
        pod = PodPlace(title=_title(plan, f"worker {group.name}{many}", group), stages=stages)
        found.append(land.place([pod], [group]))
    return tuple(found)


def anywhere(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> tuple[Place, ...]:
    """The pods that hold no device and run no stage: the Ray head and the Mooncake master."""
    nodes = admitting_nodes(spec, inventory)
    titles = ["Ray head"] if plan.has_ray and not plan.cluster_ref else []
    titles += ["Mooncake master"] if plan.store else []
    return tuple(Place(title=title, hint=_names(nodes), pods=(PodPlace(title=_any_of(nodes)),)) for title in titles)


def _server(plan: Plan) -> PodPlace:
    what = "API server; moves every payload" if plan.backend is Backend.RAY else "API server"
    stages = tuple(stage for stage in plan.stages if stage.pod == SERVING)
    return PodPlace(title=_title(plan, SERVING, plan.serving), stages=stages, text=(what,))


def _title(plan: Plan, name: str, holder: ServingPod | WorkerGroup) -> str:
    """A pod's name and the devices it requests."""
    parts = [name]
    if holder.accelerators and plan.accelerator_resource:
        parts.append(f"{holder.accelerators} x {plan.accelerator_resource}")
    if holder.rdma:
        parts.append(f"1 x {plan.rdma_resource}")
    return " · ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Land:
    """The nodes as the pods of one plan are constrained to them."""

    plan: Plan
    spec: OmniDeploymentSpec
    inventory: Inventory

    def place(self, pods: Sequence[PodPlace], holders: Sequence[ServingPod | WorkerGroup]) -> Place:
        """Pods that share a node, on every node that could hold them if it were empty."""
        nodes = self._admitting(holders)
        return Place(title=_any_of(nodes), hint=_names(nodes), pods=tuple(pods))

    def _admitting(self, holders: Sequence[ServingPod | WorkerGroup]) -> tuple[Node, ...]:
        plan = self.plan
        # With Ray any stage may be in any worker, so only what holds for all pods counts (children/ray_cluster.py).
        names = {name for holder in holders for name in holder.stages} if plan.backend is not Backend.RAY else set()
        nodes = admitting_nodes(self.spec, self.inventory, [o for o in self.spec.stages if o.name in names])
        wanted = {plan.rdma_resource: sum(holder.rdma for holder in holders)}
        wanted[plan.accelerator_resource] = sum(holder.accelerators for holder in holders)
        found = [n for n in nodes if all(n.offers.get(what, 0) >= count for what, count in wanted.items() if what)]
        if plan.topology_key is not None and plan.domains is not None:
            found = [n for n in found if n.labels.get(plan.topology_key) in plan.domains.able]
        return tuple(found)


def _any_of(nodes: Sequence[Node]) -> str:
    """The nodes in a few words."""
    if len(nodes) < 2:
        return nodes[0].name if nodes else "no node of now"
    more = f" (+{len(nodes) - _SHOWN})" if len(nodes) > _SHOWN else ""
    return f"any of: {_names(nodes[:_SHOWN])}{more}"


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes)
