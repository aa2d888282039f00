"""A revision: one spec and one plan, kept together in an immutable ConfigMap.

So neither a restart of the operator nor a bad edit changes what runs. The revision's name is a hash
of both, so equal inputs find the revision that exists.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omni_operator import __version__
from omni_operator.api.defaults import without_defaults
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children import names
from omni_operator.planning.model import Plan

# Fields that change what runs without a new revision: they are read from the live spec.
LIVE_FIELDS = ("replicas", "suspend", "rollout")
LIVE_SERVING_FIELDS = ("service", "warmUp")
_DIGEST_VERSION = 1
_LARGEST_RECORD = 2 << 20  # bytes; an object of the API server has less than 1.5 MiB


class UnreadableRevisionError(ValueError):
    """The record of a revision was written by an operator that this one does not understand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One Plan made real.

    Attributes:
        name: Eight hexadecimal digits, in the names and labels of all its children.
        spec_digest: Digest of the part of the spec that it was made from.
        spec: That spec.
        plan: Its plan.
        checks_image: Whether its ConfigMap has what compares the image with it; those of earlier
            operators do not.
        rendered_by: Version of the operator that made its workloads.
    """

    name: str
    spec_digest: str
    spec: OmniDeploymentSpec
    plan: Plan
    checks_image: bool = True
    rendered_by: str = __version__


def spec_json(spec: OmniDeploymentSpec) -> dict[str, Any]:
    """The part of a spec that makes a revision."""
    raw: dict[str, Any] = spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    for field in LIVE_FIELDS:
        raw.pop(field)
    for field in LIVE_SERVING_FIELDS:
        raw["serving"].pop(field)
    return raw


def canonical(spec: OmniDeploymentSpec) -> dict[str, Any]:
    """The part of a spec that makes a revision, without what equals the frozen defaults.

    Two specs with equal canonical forms are the same revision, whichever operator wrote them:
    defaults are those that a field had when it was introduced (api/frozen_defaults.json), so that a
    default that a later operator changes makes no pipeline a new revision.
    """
    return without_defaults(spec_json(spec))


def spec_digest(spec: OmniDeploymentSpec) -> str:
    """Versioned digest of the canonical form, such as 1-0c0ffee00c0ffee0.

    A form that is made otherwise gets another number.
    """
    return f"{_DIGEST_VERSION}-{_digest(canonical(spec))[:16]}"


def new_revision(*, spec: OmniDeploymentSpec, plan: Plan) -> Revision:
    """A revision of a spec and its plan."""
    digest = spec_digest(spec)
    name = _digest({"spec": digest, "plan": plan.model_dump(mode="json")})[:8]
    return Revision(name=name, spec_digest=digest, spec=spec, plan=plan)


def from_config_map(*, name: str, annotations: Mapping[str, str], body: Mapping[str, Any]) -> Revision:
    """A revision from its ConfigMap.

    Raises:
        UnreadableRevisionError: The data is not what an operator of this version can read.
    """
    data = body.get("data") or {}
    try:
        record = {"spec": data[names.SPEC_FILE], "plan": data[names.PLAN_FILE]}
    except KeyError as exc:
        msg = f"it has no {exc.args[0]}"
        raise UnreadableRevisionError(msg) from exc
    record |= {"digest": annotations.get(names.SPEC_DIGEST, ""), "rendered_by": annotations.get(names.RENDERED_BY, "")}
    return _load(name=name, record=record, checks_image=names.IMAGE_CHECK_FILE in data)


def copy_of(revision: Revision) -> str:
    """The record as an annotation of other children: compressed, about 3 KB.

    It says who rendered the workloads, since a record that comes back under a newer operator must
    not make them anew.
    """
    record = {
        "name": revision.name,
        "digest": revision.spec_digest,
        "rendered_by": revision.rendered_by,
        "checks_image": revision.checks_image,
        "spec": json.dumps(spec_json(revision.spec), sort_keys=True),
        "plan": json.dumps(revision.plan.model_dump(mode="json"), sort_keys=True),
    }
    return base64.b64encode(zlib.compress(json.dumps(record).encode(), 9)).decode()


def from_copy(*, name: str, annotations: Mapping[str, str], body: Mapping[str, Any]) -> Revision:
    """A revision from the copy that `copy_of` made, which has its name.

    Raises:
        UnreadableRevisionError: The annotation is not what `copy_of` writes.
    """
    del name, body
    try:
        record = json.loads(_decompressed(base64.b64decode(annotations[names.RECORD])))
        return _load(name=str(record["name"]), record=record, checks_image=bool(record["checks_image"]))
    except (KeyError, TypeError, ValueError, RecursionError, zlib.error) as exc:
        msg = f"annotation {names.RECORD}: {exc}"
        raise UnreadableRevisionError(msg) from exc


def _decompressed(data: bytes) -> bytes:
    """Anybody who may edit children may write the annotation, so its size is bounded.

    Raises:
        ValueError: It is larger than any record.
    """
    stream = zlib.decompressobj()
    found = stream.decompress(data, _LARGEST_RECORD)
    if stream.unconsumed_tail:
        msg = f"it is larger than {_LARGEST_RECORD} bytes"
        raise ValueError(msg)
    return found


def _load(*, name: str, record: Mapping[str, Any], checks_image: bool) -> Revision:
    """Reads spec and plan without the fields that only a newer operator knows.

    The pipeline keeps running by the fields that this operator knows.
    """
    try:
        return Revision(
            name=name,
            spec_digest=record["digest"],
            spec=OmniDeploymentSpec.model_validate_json(record["spec"], extra="ignore"),
            plan=Plan.model_validate_json(record["plan"]),
            checks_image=checks_image,
            rendered_by=record["rendered_by"],
        )
    except ValueError as exc:
        raise UnreadableRevisionError(str(exc).replace("\n", " ")) from exc


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
