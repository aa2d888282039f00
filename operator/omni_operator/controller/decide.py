"""Which revision should run: the one that exists for this spec, or a new one from a plan made now. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from omni_operator.api.conditions import ConditionType, Reason, Truth
from omni_operator.api.invalid import sentences
from omni_operator.api.serving_spec import RolloutStrategy
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.describe import summary
from omni_operator.children.names import COMPONENT, Component
from omni_operator.children.revision import LIVE_FIELDS, LIVE_SERVING_FIELDS, new_revision, spec_digest, spec_json
from omni_operator.controller.observed import Known, Observed, Verdict
from omni_operator.planning.model import PodSecurity, Refused
from omni_operator.planning.plan import make_plan
from omni_operator.planning.stands import stands
from omni_operator.topology.inventory import Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What should run.

    Attributes:
        accepted: Verdict on the spec.
        planned: Verdict on the plan.
        wanted: The revision to run; None when there is none and none can be made.
        spec: The spec for what may change without a revision; None when nothing runs and nothing can.
    """

    accepted: Verdict
    planned: Verdict
    wanted: Known | None
    spec: OmniDeploymentSpec | None

    @property
    def replicas(self) -> int:
        """Replicas to run; a suspended pipeline has none."""
        return 0 if self.spec is None or self.spec.suspend else self.spec.replicas


def decide(observed: Observed, *, inventory: Callable[[], Inventory], pod_security: PodSecurity) -> Decision:
    """The decision. `inventory` is called only when a plan is made."""
    current = _current(observed)
    try:
        spec = OmniDeploymentSpec.model_validate(observed.omni.spec)
    except ValidationError as exc:
        return _keep(
            current,
            Verdict(ConditionType.ACCEPTED, Truth.FALSE, Reason.INVALID_SPEC, "; ".join(sentences(exc))),
            _readable(observed, current),
        )
    accepted = Verdict(ConditionType.ACCEPTED, Truth.TRUE, Reason.VALID, "the spec is valid")
    digest = spec_digest(spec)
    same = [k for k in observed.known.values() if k.revision.spec_digest == digest]
    if same:
        wanted = current if current in same else max(same, key=lambda k: (k.created, k.revision.name))
        assert wanted is not None
        lost = _has_lost_its_ground(observed, wanted, inventory) or _is_forbidden_now(observed, wanted, pod_security)
        if not lost:
            return Decision(accepted=accepted, planned=_standing(observed, wanted), wanted=wanted, spec=spec)
    result = make_plan(spec=spec, inventory=inventory(), pod_security=pod_security)
    if isinstance(result, Refused):
        verdict = Verdict(result.condition, Truth.FALSE, result.reason, result.message)
        if result.condition is ConditionType.ACCEPTED:
            return _keep(current, verdict, _live(spec, current))
        return Decision(accepted=accepted, planned=verdict, wanted=current, spec=_live(spec, current))
    made = Known(revision=new_revision(spec=spec, plan=result.plan), created="")
    if made.revision.name in observed.known:
        made = observed.known[made.revision.name]
    # Hold is about edits; a revision of this very spec that can no longer run holds nothing.
    if spec.rollout.strategy is RolloutStrategy.HOLD and current is not None and made != current and not same:
        text = (
            f"the spec changed, but rollout.strategy is Hold: revision {current.revision.name} stays; set Recreate to go to "
            f"{made.revision.name} ({summary(result.plan)})"
        )
        held = Verdict(ConditionType.PLANNED, Truth.FALSE, Reason.HELD, text)
        return Decision(accepted=accepted, planned=held, wanted=current, spec=spec)
    if result.waits_for:
        planned = Verdict(ConditionType.PLANNED, Truth.TRUE, Reason.WAITING_FOR_CAPACITY, result.waits_for)
    else:
        planned = Verdict(ConditionType.PLANNED, Truth.TRUE, Reason.PLAN_FITS, summary(result.plan))
    return Decision(accepted=accepted, planned=planned, wanted=made, spec=spec)


def keep_for(observed: Observed, decision: Decision, refusals: Sequence[str]) -> Decision:
    """The decision when the API server would refuse the wanted revision: what runs stays, and the spec is not accepted."""
    text = f"the API server does not take what this spec asks for; correct the spec, or what stands against it: {'; '.join(refusals)}"
    verdict = Verdict(ConditionType.ACCEPTED, Truth.FALSE, Reason.CHILD_REFUSED, text)
    return _keep(_current(observed), verdict, decision.spec)


def _current(observed: Observed) -> Known | None:
    """The revision that status calls active, or else the newest that exists."""
    named = observed.known.get(str(observed.omni.status.get("revision")))
    return named or max(observed.known.values(), key=lambda k: (k.created, k.revision.name), default=None)


def _keep(current: Known | None, accepted: Verdict, spec: OmniDeploymentSpec | None) -> Decision:
    text = (
        f"revision {current.revision.name} is kept as it is"
        if current
        else "nothing is created for a spec that is not accepted"
    )
    truth = Truth.TRUE if current else Truth.FALSE
    planned = Verdict(ConditionType.PLANNED, truth, Reason.PLAN_FITS if current else accepted.reason, text)
    return Decision(accepted=accepted, planned=planned, wanted=current, spec=spec)


def _live(spec: OmniDeploymentSpec, current: Known | None) -> OmniDeploymentSpec | None:
    """A spec whose plan was refused may still suspend or scale what runs."""
    return spec if current is not None else None


def _readable(observed: Observed, current: Known | None) -> OmniDeploymentSpec | None:
    """The running revision's spec, with what may change without a revision from a spec that is invalid elsewhere.

    A revision's own record has none of that, so without this an invalid edit would scale the pipeline and change its Service.
    """
    if current is None:
        return None
    raw, kept = observed.omni.spec, spec_json(current.revision.spec)
    _, _, last = str(observed.omni.status.get("replicasSummary", "")).partition("/")  # ready/wanted, of the last look
    parts: list[dict[str, Any]] = [{"replicas": int(last)}] if last.isdecimal() else []
    parts += [{field: raw[field]} for field in LIVE_FIELDS if field in raw]
    serving = raw.get("serving")
    if isinstance(serving, dict):
        parts += [{"serving": {field: serving[field]}} for field in LIVE_SERVING_FIELDS if field in serving]
    spec = current.revision.spec
    for part in parts:
        whole = {**kept, **part, "serving": {**kept["serving"], **part.get("serving", {})}}
        try:
            spec = OmniDeploymentSpec.model_validate(whole)
        except ValidationError:
            continue
        kept = whole
    return spec


def _standing(observed: Observed, wanted: Known) -> Verdict:
    stuck = [p for p in observed.live_pods() if p.revision == wanted.revision.name and p.unschedulable]
    if stuck:
        # A server that must follow its worker says only that; the worker says what is missing.
        first = min(stuck, key=lambda p: p.labels.get(COMPONENT) != Component.WORKER)
        text = f"pods wait for free capacity; {first.name}: {first.unschedulable}"
        return Verdict(ConditionType.PLANNED, Truth.TRUE, Reason.WAITING_FOR_CAPACITY, text)
    return Verdict(ConditionType.PLANNED, Truth.TRUE, Reason.PLAN_FITS, summary(wanted.revision.plan))


def _is_forbidden_now(observed: Observed, wanted: Known, pod_security: PodSecurity) -> bool:
    """Whether the namespace became stricter than the plan and no pod of it is left to disturb."""
    levels = list(PodSecurity)
    stricter = levels.index(pod_security) > levels.index(wanted.revision.plan.pod_security)
    return stricter and not any(p.revision == wanted.revision.name for p in observed.live_pods())


def _has_lost_its_ground(observed: Observed, wanted: Known, inventory: Callable[[], Inventory]) -> bool:
    """Whether a pod cannot be scheduled and the nodes could not hold the plan even if they were empty.

    Both are asked, so that a node that is away for a moment never moves a running pipeline.
    """
    stuck = any(p.revision == wanted.revision.name and p.unschedulable for p in observed.live_pods())
    return stuck and not stands(wanted.revision.plan, spec=wanted.revision.spec, inventory=inventory())
