"""The active revision of an OmniDeployment in the cluster, as its ConfigMap keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.names import Owner
from omni_operator.children.revision import (
    LIVE_FIELDS,
    LIVE_SERVING_FIELDS,
    Revision,
    UnreadableRevisionError,
    from_config_map,
    spec_json,
)
from omni_operator.cli.access import Access, AccessError


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRevision:
    """An OmniDeployment and its active revision.

    Attributes:
        omni: The OmniDeployment as the API server returns it.
        revision: The active revision; None when it does not exist or cannot be read.
        missing_reason: Why there is no revision; empty when there is one.
    """

    omni: dict[str, Any]
    revision: Revision | None = None
    missing_reason: str = ""

    @property
    def owner(self) -> Owner:
        """Namespace, name and UID of the OmniDeployment."""
        meta = self.omni["metadata"]
        return Owner(namespace=meta["namespace"], name=meta["name"], uid=meta["uid"])

    def spec(self) -> OmniDeploymentSpec | None:
        """The spec of the revision, with current values of the fields that change in place.

        None without a revision.
        """
        if self.revision is None:
            return None
        live, kept = self.omni["spec"], spec_json(self.revision.spec)
        kept |= {field: live[field] for field in LIVE_FIELDS if field in live}
        serving = live.get("serving") or {}
        kept["serving"] |= {field: serving[field] for field in LIVE_SERVING_FIELDS if field in serving}
        try:
            return OmniDeploymentSpec.model_validate(kept)
        except ValidationError:
            return self.revision.spec


def read_live_revision(access: Access, *, namespace: str, name: str) -> LiveRevision | None:
    """Reads an OmniDeployment and its active revision; None when the OmniDeployment does not exist.

    Raises:
        AccessError: The cluster cannot be reached, or denies the request.
    """
    try:
        omni = access.omni(name, namespace=namespace)
    except AccessError as exc:
        if exc.status == 404:
            return None
        raise
    active = (omni.get("status") or {}).get("revision")
    if not active:
        return LiveRevision(omni=omni, missing_reason=f"OmniDeployment {name} has no revision yet")
    config_map = f"{name}-{active}"
    try:
        found = access.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{config_map}")
    except AccessError as exc:
        if exc.status not in {403, 404}:
            raise
        reason = f"ConfigMap {config_map} of the active revision cannot be read: {exc}"
        return LiveRevision(omni=omni, missing_reason=reason)
    annotations = found["metadata"].get("annotations") or {}
    try:
        active_revision = from_config_map(name=active, annotations=annotations, body=found)
    except UnreadableRevisionError:
        reason = f"ConfigMap {config_map} was written by another version of the operator"
        return LiveRevision(omni=omni, missing_reason=reason)
    return LiveRevision(omni=omni, revision=active_revision)
