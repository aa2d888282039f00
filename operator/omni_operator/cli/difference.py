"""What a change of a spec would change of what runs: fields of the spec, and what the plan makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from omni_operator.api.serving_spec import RolloutStrategy
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.revision import Revision
from omni_operator.cli.picture import transport_of
from omni_operator.planning.model import Plan, ServingPod, Sizes, WorkerGroup
from omni_operator.planning.stands import stands
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.quantity import about, binary

_ABSENT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that differs."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Everything that differs.

    Attributes:
        verdict: What would happen, in a sentence.
        before: Revision that runs; None when nothing does.
        after: Revision that would run.
        spec: Fields of the spec.
        plan: Layout, transports, sizes.
    """

    verdict: str
    before: str | None
    after: str
    spec: tuple[Change, ...] = ()
    plan: tuple[Change, ...] = ()

    def data(self) -> dict[str, Any]:
        """For machines."""
        return {
            "verdict": self.verdict,
            "before": self.before,
            "after": self.after,
            "newRevision": self.before != self.after,
            "spec": [asdict(change) for change in self.spec],
            "plan": [asdict(change) for change in self.plan],
        }


def first(made: Revision, *, lacking: str) -> Difference:
    """The difference to nothing."""
    return Difference(verdict=f"{lacking}: revision {made.name} would be the first", before=None, after=made.name)


def difference(
    old: Revision, made: Revision, *, inventory: Inventory, spec: OmniDeploymentSpec | None = None
) -> Difference:
    """How one revision differs from what runs, and what the operator would do.

    Args:
        old: The revision that runs.
        made: The spec that is asked about, with the plan that was made for it now.
        inventory: Nodes.
        spec: The spec that runs; a revision's own record lacks what may change without a new one.
    """
    changed = changes(_flat(_whole(spec or old.spec)), _flat(_whole(made.spec)))
    known = all(edge.payload_bytes for plan in (old.plan, made.plan) for edge in plan.edges if edge.connector)
    differs = changes(facts(old.plan, payloads=known), facts(made.plan, payloads=known))
    if old.spec_digest == made.spec_digest:  # the operator then keeps the revision, whatever it would plan now
        verdict, kept = f"no change: the same revision {old.name}", old.name
        if changed:
            verdict = f"revision {old.name} stays; the fields below change in place"
        if differs:
            verdict += "; made anew today its plan would be another, as below, but " + (
                "a plan is kept as long as nodes can hold it"
                if stands(old.plan, spec=old.spec, inventory=inventory)
                else f"the nodes cannot hold the old one: revision {made.name} comes when a pod of it cannot be scheduled"
            )
        return Difference(verdict=verdict, before=old.name, after=kept, spec=changed, plan=differs)
    if made.spec.rollout.strategy is RolloutStrategy.HOLD:
        verdict = (
            f"rollout.strategy is Hold: revision {old.name} stays; with Recreate it would become {made.name}, as below"
        )
        return Difference(verdict=verdict, before=old.name, after=old.name, spec=changed, plan=differs)
    verdict = f"a new revision would be made: {made.name}, in place of {old.name}, which is removed first"
    return Difference(verdict=verdict, before=old.name, after=made.name, spec=changed, plan=differs)


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs between two sets of facts, in their order."""
    return tuple(
        Change(what=what, before=old.get(what, _ABSENT), after=new.get(what, _ABSENT))
        for what in dict.fromkeys([*old, *new])
        if old.get(what) != new.get(what)
    )


def facts(plan: Plan, *, payloads: bool = True) -> dict[str, str]:
    """A plan in facts that people compare, by name; why it is so is left to `omni explain`.

    Args:
        plan: The plan.
        payloads: Whether to tell what edges usually carry, which plans of earlier operators did not keep.
    """
    out = {
        "release": f"vllm-omni {plan.version}, by the record of {plan.line}",
        "pipeline": plan.pipeline,
        "backend": plan.backend.value,
        "layout": plan.strategy.value,
        "sent": "in chunks" if plan.streams else "whole",
        "accelerator": plan.accelerator_resource or plan.accelerator.value,
    }
    out |= _pod("pod serving", plan.serving, plan)
    for group in plan.groups:
        out |= _pod(f"pod {group.name}", group, plan)
    for stage in plan.stages:
        many = f", {stage.replicas} copies" if stage.replicas > 1 else ""
        out[f"stage {stage.name}"] = f"pod {stage.pod}, device {','.join(map(str, stage.devices))}{many}"
    for edge in plan.edges:
        name = f"edge {edge.from_stage} → {edge.to_stage}"
        out[name] = f"{transport_of(edge)}, {edge.reach}"
        usual = f"about {about(edge.payload_bytes)}, " if payloads else ""
        out[f"{name}: payload"] = f"{edge.use}, {usual}at most {binary(edge.max_payload_bytes)}"
        if edge.pool_bytes or edge.port:
            out[f"{name}: pool, port"] = f"{binary(edge.pool_bytes)}, {edge.port}"
    if plan.store:
        segment, local = binary(plan.store.segment_bytes), binary(plan.store.localbuf_bytes)
        out["Mooncake store"] = f"{plan.store.protocol}, segment {segment}, localbuf {local}"
    out |= {
        "memory of the node": "shared by its pods" if plan.node_shared_memory else "not used",
        "pod security": plan.pod_security.value,
    }
    if plan.has_ray:
        token = "a token" if plan.token_auth else "no token"
        out["Ray"] = f"{plan.ray_version} with {token}, {plan.cluster_ref or 'a RayCluster of its own'}"
    if plan.topology_key:
        out["domain"] = f"{plan.topology_key} in {', '.join(plan.domains.able) if plan.domains else 'any'}"
    return out


def _pod(name: str, pod: ServingPod | WorkerGroup, plan: Plan) -> dict[str, str]:
    many = f"{pod.pods} x " if isinstance(pod, WorkerGroup) else ""
    parts = [", ".join(pod.stages) or "no stage"]
    if pod.accelerators:
        parts.append(f"{pod.accelerators} x {plan.accelerator_resource or 'CPU'}")
    if pod.rdma:
        parts.append(f"1 x {plan.rdma_resource}")
    return {name: many + "; ".join(parts), f"{name}: sizes": _sizes(pod.sizes)}


def _sizes(sizes: Sizes) -> str:
    parts = {"memory": sizes.memory_bytes, "/dev/shm": sizes.shm_bytes}  # noqa: S108
    parts |= {"object store": sizes.object_store_bytes, "pools": sizes.pool_bytes}
    return ", ".join(f"{what} {binary(size)}" for what, size in parts.items() if size)


def _whole(spec: OmniDeploymentSpec) -> dict[str, Any]:
    """A spec with what may change without a revision."""
    raw: dict[str, Any] = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    return raw


def _flat(value: Any, path: str = "spec") -> dict[str, str]:
    """Every leaf of a JSON value by its path; items of lists that have a name go by it."""
    if isinstance(value, dict):
        return {key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{path}.{name}").items()}
    if isinstance(value, list):
        out: dict[str, str] = {}
        for number, item in enumerate(value):
            name = item.get("name", number) if isinstance(item, dict) else number
            out |= _flat(item, f"{path}[{name}]")
        return out
    return {path: str(value)}
