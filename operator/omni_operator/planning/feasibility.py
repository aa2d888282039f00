"""Whether an earlier plan can still be scheduled.

A node, its devices or its labels may be gone.
"""

from __future__ import annotations

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.capacity import Capacity, NodeCapacity, RdmaRequest
from omni_operator.planning.layout import SERVING, Layout, PodShape
from omni_operator.planning.model import Plan
from omni_operator.topology.inventory import Inventory


def is_still_feasible(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> bool:
    """Whether the nodes, if they were empty, could hold one replica of the plan."""
    if plan.cluster_ref:
        return True
    if plan.domains is not None and plan.topology_key:
        inventory = Inventory(
            nodes=tuple(n for n in inventory.nodes if n.labels.get(plan.topology_key) in plan.domains.able)
        )
    node_capacity = NodeCapacity(
        spec=spec.model_copy(update={"replicas": 1}),
        inventory=inventory,
        accelerator=plan.accelerator_resource,
        stages=[stage.name for stage in plan.stages],
    )
    return node_capacity.fits(layout_of(plan), Capacity.ALLOCATABLE, rdma_request(plan))


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
