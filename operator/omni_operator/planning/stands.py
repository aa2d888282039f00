"""Whether a plan that was made once could still be placed: what it stands on may be gone (a node, its devices, its labels)."""

from __future__ import annotations

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.layout import Measure, RayLayout, fits
from omni_operator.planning.model import Plan
from omni_operator.planning.plan import admitting_nodes
from omni_operator.topology.inventory import Inventory


def stands(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> bool:
    """Whether the nodes, if they were empty, could hold one replica of the plan."""
    if plan.cluster_ref:
        return True
    layout = RayLayout(
        strategy=plan.strategy,
        pods=sum(group.pods for group in plan.groups),
        accelerators_per_pod=max(group.accelerators for group in plan.groups),
        replicas=1,
    )
    nodes = admitting_nodes(spec, inventory)
    if plan.domains is not None and plan.topology_key:
        nodes = tuple(n for n in nodes if n.labels.get(plan.topology_key) in plan.domains.able)
    return fits(
        layout,
        nodes,
        measure=Measure.OFFERS,
        accelerator=plan.accelerator_resource,
        rdma=plan.rdma_resource,
        topology_key=plan.topology_key,
    )
