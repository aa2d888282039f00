"""A revision: one spec and one plan, kept together in an immutable ConfigMap so that a restart or a bad edit changes nothing.

The revision's name is a hash of both, so equal inputs find the revision that exists.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.model import Plan

# Fields that change what runs without a new revision: they are read from the live spec.
LIVE_FIELDS = ("replicas", "suspend", "rollout")
LIVE_SERVING_FIELDS = ("service", "warmUp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One Plan made real.

    Attributes:
        name: Eight hexadecimal digits, in the names and labels of all its children.
        spec_digest: Digest of the part of the spec that it was made from.
        spec: That spec.
        plan: Its plan.
        checks_image: Whether its ConfigMap has what compares the image with it; those of earlier operators do not.
    """

    name: str
    spec_digest: str
    spec: OmniDeploymentSpec
    plan: Plan
    checks_image: bool = True


def spec_json(spec: OmniDeploymentSpec) -> dict[str, Any]:
    """The part of a spec that makes a revision."""
    raw: dict[str, Any] = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    for field in LIVE_FIELDS:
        raw.pop(field)
    for field in LIVE_SERVING_FIELDS:
        raw["serving"].pop(field)
    return raw


def spec_digest(spec: OmniDeploymentSpec) -> str:
    """Digest of the part of a spec that makes a revision."""
    # Without defaults: a field that a later version of the operator adds must not make every pipeline a new revision.
    raw: dict[str, Any] = spec.model_dump(by_alias=True, mode="json", exclude_none=True, exclude_defaults=True)
    for field in LIVE_FIELDS:
        raw.pop(field, None)
    for field in LIVE_SERVING_FIELDS:
        raw.get("serving", {}).pop(field, None)
    return _digest({key: value for key, value in raw.items() if value})[:16]


def new_revision(*, spec: OmniDeploymentSpec, plan: Plan) -> Revision:
    """A revision of a spec and its plan."""
    digest = spec_digest(spec)
    name = _digest({"spec": digest, "plan": plan.model_dump(mode="json")})[:8]
    return Revision(name=name, spec_digest=digest, spec=spec, plan=plan)


def load(*, name: str, digest: str, spec_text: str, plan_text: str, checks_image: bool = True) -> Revision:
    """A revision from its ConfigMap.

    Raises:
        ValueError: The texts are not what an operator of this version writes.
    """
    return Revision(
        name=name,
        spec_digest=digest,
        spec=OmniDeploymentSpec.model_validate_json(spec_text),
        plan=Plan.model_validate_json(plan_text),
        checks_image=checks_image,
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
