"""Whether a plan that was made once could still be placed: what it stands on may be gone (a node, its devices, its labels)."""

from __future__ import annotations

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.layout import SERVING, Layout, PodShape
from omni_operator.planning.model import Plan
from omni_operator.planning.terrain import Measure, Terrain, Using
from omni_operator.topology.inventory import Inventory


def stands(plan: Plan, *, spec: OmniDeploymentSpec, inventory: Inventory) -> bool:
    """Whether the nodes, if they were empty, could hold one replica of the plan."""
    if plan.cluster_ref:
        return True
    if plan.domains is not None and plan.topology_key:
        inventory = Inventory(
            nodes=tuple(n for n in inventory.nodes if n.labels.get(plan.topology_key) in plan.domains.able)
        )
    terrain = Terrain(
        spec=spec.model_copy(update={"replicas": 1}),
        inventory=inventory,
        accelerator=plan.accelerator_resource,
        stages=[stage.name for stage in plan.stages],
    )
    return terrain.fits(layout_of(plan), Measure.OFFERS, using(plan))


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


def using(plan: Plan) -> Using | None:
    """The RDMA resource of a plan and who requests it."""
    if plan.rdma_resource is None:
        return None
    pods = {group.name for group in plan.groups if group.rdma} | ({SERVING} if plan.serving.rdma else set())
    return Using(resource=plan.rdma_resource, pods=frozenset(pods))
