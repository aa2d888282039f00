"""Whether an earlier plan can still be scheduled, and what it waits for.

A node, its devices or its labels may be gone, or others may hold what it needs.
"""

from __future__ import annotations

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.capacity import Capacity, NodeCapacity, RdmaRequest
from omni_operator.planning.layout import SERVING, Layout, PodShape
from omni_operator.planning.model import Plan
from omni_operator.topology.inventory import Inventory

_NODES_NAMED = 8


def is_still_feasible(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> bool:
    """Whether the nodes, if they were empty, could hold one replica of the plan."""
    if plan.cluster_ref:
        return True
    node_capacity = _node_capacity(plan, spec=spec.model_copy(update={"replicas": 1}), inventory=inventory)
    return node_capacity.fits(layout_of(plan), Capacity.ALLOCATABLE, rdma_request(plan))


def waits_now(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> str:
    """What all replicas of the plan need and what is free of it now; empty when they fit.

    Only what planning counts: a scheduler may have other reasons.
    """
    if plan.cluster_ref:
        return ""
    node_capacity = _node_capacity(plan, spec=spec, inventory=inventory)
    layout, rdma = layout_of(plan), rdma_request(plan)
    return "" if node_capacity.fits(layout, Capacity.AVAILABLE, rdma) else shortage(layout, rdma, node_capacity)


def shortage(layout: Layout, rdma: RdmaRequest | None, node_capacity: NodeCapacity) -> str:
    """What a layout that has to wait needs, and what the nodes have free of it."""
    needs = {
        node_capacity.accelerator: node_capacity.copies
        * sum(shape.copies * shape.accelerators for shape in layout.shapes)
    }
    if rdma is not None:
        needs[rdma.resource] = node_capacity.copies * sum(s.copies for s in layout.shapes if s.name in rdma.pods)
    said = []
    for resource, count in needs.items():
        if resource is not None:
            free = ", ".join(f"{n.name}: {n.available.get(resource, 0)}" for n in node_capacity.nodes[:_NODES_NAMED])
            said.append(f"{count} x {resource}, free now: {free}")
    return f"needs {' and '.join(said)}; pods stay Pending until others release theirs"


def _node_capacity(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> NodeCapacity:
    """The nodes that the plan's pods may be on."""
    if plan.domains is not None and plan.topology_key:
        inventory = Inventory(
            nodes=tuple(n for n in inventory.nodes if n.labels.get(plan.topology_key) in plan.domains.able)
        )
    return NodeCapacity(
        spec=spec,
        inventory=inventory,
        accelerator=plan.accelerator_resource,
        stages=[stage.name for stage in plan.stages],
    )


def layout_of(plan: Plan) -> Layout:
    """The layout that a plan was made from."""
    ids = {stage.name: stage.id for stage in plan.stages}
    return Layout(
        backend=plan.backend,
        strategy=plan.strategy,
        serving=PodShape(
            name=SERVING,
            stages=tuple(ids[name] for name in plan.serving.stages),
            accelerators=plan.serving.accelerators,
        ),
        workers=tuple(
            PodShape(
                name=group.name,
                stages=tuple(ids[name] for name in group.stages),
                accelerators=group.accelerators,
                copies=group.pods,
                spans=group.spans,
            )
            for group in plan.groups
        ),
    )


def rdma_request(plan: Plan) -> RdmaRequest | None:
    """The RDMA resource of a plan and who requests it."""
    if plan.rdma_resource is None:
        return None
    pods = {group.name for group in plan.groups if group.rdma} | ({SERVING} if plan.serving.rdma else set())
    return RdmaRequest(resource=plan.rdma_resource, pods=frozenset(pods))
