"""What an edit of a spec would change: fields of the spec, and the plan made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from omni_operator.api.serving_spec import RolloutStrategy
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.revision import Revision
from omni_operator.cli.picture import transport_of
from omni_operator.planning.feasibility import is_still_feasible
from omni_operator.planning.model import Plan, ServingPod, Sizes, WorkerGroup
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.quantity import about, binary

_ABSENT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One fact that differs."""

    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Everything that differs between two revisions.

    Attributes:
        summary: What the operator would do, in a sentence.
        before: The active revision; None without one.
        after: The revision that would be active.
        spec: Fields of the spec.
        plan: Layout, transports, sizes.
    """

    summary: str
    before: str | None
    after: str
    spec: tuple[Change, ...] = ()
    plan: tuple[Change, ...] = ()

    def data(self) -> dict[str, Any]:
        """JSON for -o json and -o yaml."""
        return {
            "summary": self.summary,
            "before": self.before,
            "after": self.after,
            "newRevision": self.before != self.after,
            "spec": [asdict(change) for change in self.spec],
            "plan": [asdict(change) for change in self.plan],
        }


def first(new: Revision, *, missing_reason: str) -> Difference:
    """The difference when there is no active revision; `missing_reason` says why."""
    return Difference(summary=f"{missing_reason}: revision {new.name} would be the first", before=None, after=new.name)


def difference(
    old: Revision, new: Revision, *, inventory: Inventory, spec: OmniDeploymentSpec | None = None
) -> Difference:
    """How a new revision differs from the active one, and what the operator would do.

    Args:
        old: The active revision.
        new: The edited spec, with the plan for it on the current nodes.
        inventory: The current nodes.
        spec: The spec that runs; None for that of `old`, which lacks the fields that change in
            place.
    """
    changed = changes(_flat(_spec_json(spec or old.spec)), _flat(_spec_json(new.spec)))
    have_payloads = all(edge.payload_bytes for plan in (old.plan, new.plan) for edge in plan.edges if edge.connector)
    differs = changes(facts(old.plan, payloads=have_payloads), facts(new.plan, payloads=have_payloads))
    if old.spec_digest == new.spec_digest:  # the operator keeps the revision and its plan
        summary, kept = f"no change: the same revision {old.name}", old.name
        if changed:
            summary = f"revision {old.name} stays; the fields below change in place"
        if differs:
            summary += "; planned on the current nodes its plan would differ, as below, but " + (
                "a plan is kept as long as nodes can hold it"
                if is_still_feasible(old.plan, spec=old.spec, inventory=inventory)
                else "the nodes cannot hold the old one: "
                f"revision {new.name} replaces it when a pod of it cannot be scheduled"
            )
        return Difference(summary=summary, before=old.name, after=kept, spec=changed, plan=differs)
    if new.spec.rollout.strategy is RolloutStrategy.HOLD:
        summary = (
            f"rollout.strategy is Hold: revision {old.name} stays; with Recreate it would become {new.name}, as below"
        )
        return Difference(summary=summary, before=old.name, after=old.name, spec=changed, plan=differs)
    summary = f"a new revision would be made: {new.name}, in place of {old.name}, which is removed first"
    return Difference(summary=summary, before=old.name, after=new.name, spec=changed, plan=differs)


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    """The facts that differ, in their order."""
    return tuple(
        Change(what=what, before=old.get(what, _ABSENT), after=new.get(what, _ABSENT))
        for what in dict.fromkeys([*old, *new])
        if old.get(what) != new.get(what)
    )


def facts(plan: Plan, *, payloads: bool = True) -> dict[str, str]:
    """A plan as facts to compare, by name. `omni explain` gives the reasons.

    Args:
        plan: The plan.
        payloads: Whether to include the usual size of payloads, which plans of earlier operators
            lack.
    """
    out = {
        "release": f"vllm-omni {plan.version}, by the record of {plan.series}",
        "pipeline": plan.pipeline,
        "backend": plan.backend.value,
        "layout": plan.strategy.value,
        "async_chunk": "on" if plan.async_chunk else "off",
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
        out[f"{name}: payload"] = f"{edge.payload_kind}, {usual}at most {binary(edge.max_payload_bytes)}"
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


def _spec_json(spec: OmniDeploymentSpec) -> dict[str, Any]:
    """A spec with the fields that change in place too."""
    raw: dict[str, Any] = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    return raw


def _flat(value: Any, path: str = "spec") -> dict[str, str]:
    """Every leaf of a JSON value by its path; list items go by name, else by index."""
    if isinstance(value, dict):
        return {key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{path}.{name}").items()}
    if isinstance(value, list):
        out: dict[str, str] = {}
        for number, item in enumerate(value):
            name = item.get("name", number) if isinstance(item, dict) else number
            out |= _flat(item, f"{path}[{name}]")
        return out
    return {path: str(value)}
