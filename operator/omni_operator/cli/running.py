"""What runs under a name: the OmniDeployment of the cluster and the revision that its ConfigMap keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children import names, revision
from omni_operator.children.names import Owner
from omni_operator.children.revision import LIVE_FIELDS, LIVE_SERVING_FIELDS, Revision, spec_json
from omni_operator.cli.access import Access, AccessError


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An OmniDeployment and its active revision; without a revision, `lacking` says why."""

    omni: dict[str, Any]
    revision: Revision | None = None
    lacking: str = ""

    @property
    def owner(self) -> Owner:
        """Its identity."""
        meta = self.omni["metadata"]
        return Owner(namespace=meta["namespace"], name=meta["name"], uid=meta["uid"])

    def spec(self) -> OmniDeploymentSpec | None:
        """The revision's spec, with what may change without a revision as it is now; None without a revision."""
        if self.revision is None:
            return None
        live, kept = self.omni["spec"], spec_json(self.revision.spec)
        kept |= {field: live[field] for field in LIVE_FIELDS if field in live}
        served = live.get("serving") or {}
        kept["serving"] |= {field: served[field] for field in LIVE_SERVING_FIELDS if field in served}
        try:
            return OmniDeploymentSpec.model_validate(kept)
        except ValidationError:
            return self.revision.spec


def running(access: Access, *, namespace: str, name: str) -> Running | None:
    """What runs; None when there is no such OmniDeployment.

    Raises:
        AccessError: The cluster cannot be reached, or refuses.
    """
    try:
        omni = access.omni(name, namespace=namespace)
    except AccessError as exc:
        if exc.status == 404:
            return None
        raise
    active = (omni.get("status") or {}).get("revision")
    if not active:
        return Running(omni=omni, lacking=f"OmniDeployment {name} has no revision yet")
    record = f"{name}-{active}"
    try:
        found = access.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{record}")
    except AccessError as exc:
        if exc.status not in {403, 404}:
            raise
        return Running(omni=omni, lacking=f"ConfigMap {record} of the active revision cannot be read: {exc}")
    meta, data = found["metadata"], found.get("data") or {}
    try:
        made = revision.load(
            name=active,
            digest=(meta.get("annotations") or {}).get(names.SPEC_DIGEST, ""),
            spec_text=data[names.SPEC_FILE],
            plan_text=data[names.PLAN_FILE],
        )
    except (KeyError, ValueError):
        return Running(omni=omni, lacking=f"ConfigMap {record} was written by another version of the operator")
    return Running(omni=omni, revision=made)
