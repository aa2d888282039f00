"""A revision's plan for people: the same words in status, in events and in `omni plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omni_operator.api.spec import Backend, Strategy
from omni_operator.api.status import EdgeStatus, PlanStatus, PodPlan, RejectedChoice
from omni_operator.children import command
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision
from omni_operator.planning.model import EdgePlan, Plan


def summary(plan: Plan) -> str:
    """The plan in a sentence."""
    devices = plan.accelerator_resource or "CPU"
    if plan.backend is Backend.LOCAL:
        where = f"one pod with {plan.accelerators} x {devices} runs the server and every stage"
    elif plan.backend is Backend.HEADLESS:
        count = sum(group.pods for group in plan.groups)
        pods = "1 worker pod" if count == 1 else f"{count} worker pods"
        first = ", ".join(plan.serving.stages)
        where = (
            f"{first} in the serving pod with {plan.serving.accelerators} x {devices}, {pods} with "
            f"{plan.accelerators - plan.serving.accelerators} x {devices} for the other stages"
        )
        if spread := [f"{', '.join(group.stages)} over {group.pods} of them" for group in plan.groups if group.spans]:
            where = f"{where}, {' and '.join(spread)}"
    elif plan.cluster_ref:
        where = f"{plan.accelerators} stages as Ray actors in RayCluster {plan.cluster_ref}"
    elif plan.strategy is Strategy.ONE_NODE:
        where = f"one worker pod with {plan.accelerators} x {devices}, the server on its node"
    else:
        where = f"{plan.accelerators} worker pods with 1 x {devices} each, on several nodes where possible"
    return f"{plan.pipeline} on vllm-omni {plan.version}, backend {plan.backend}: {where}; edges use {plan.transport}"


def describe(owner: Owner, revision: Revision, *, nodes: Mapping[str, Sequence[str]]) -> PlanStatus:
    """The plan as in status.

    Args:
        owner: The OmniDeployment.
        revision: The revision.
        nodes: Where pods run now, by component.
    """
    plan = revision.plan
    return PlanStatus(
        release=f"vllm-omni {plan.series}",
        pipeline=plan.pipeline,
        strategy=plan.strategy.value,
        summary=summary(plan),
        injected=[" ".join(flags) for flags in command.injected(owner, revision, 0)],
        pods=_pods(plan, nodes),
        edges=[_edge(edge) for edge in plan.edges],
        notes=list(plan.notes),
    )


def _edge(edge: EdgePlan) -> EdgeStatus:
    rejected = [RejectedChoice(choice=r.choice, code=r.code.value, fact=r.fact) for r in edge.rejected]
    return EdgeStatus.model_validate(
        {
            "from": edge.from_stage,
            "to": edge.to_stage,
            "reach": edge.reach.value,
            "connector": edge.connector_class,
            "protocol": edge.protocol.value,
            "reason": edge.reason,
            "rejected": rejected,
        }
    )


def _pods(plan: Plan, nodes: Mapping[str, Sequence[str]]) -> list[PodPlan]:
    def pod(component: Component, role: str) -> PodPlan:
        return PodPlan(name=role, role=role, nodes=list(nodes.get(component, ())))

    out = []
    if plan.has_ray and not plan.cluster_ref:
        out.append(pod(Component.HEAD, "head"))
        out += [
            PodPlan(
                name=group.name,
                role="workers",
                count=group.pods,
                stages=list(group.stages),
                accelerators=group.accelerators,
                nodes=list(nodes.get(Component.WORKER, ())),
            )
            for group in plan.groups
        ]
    serving = pod(Component.SERVING, "serving")
    if plan.serving.stages:
        update = {"stages": list(plan.serving.stages), "accelerators": plan.serving.accelerators}
        serving = serving.model_copy(update=update)
    out.append(serving)
    if plan.store:
        out.append(pod(Component.STORE, "store"))
    return out
