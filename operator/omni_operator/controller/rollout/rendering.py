"""Children as they should be, and whether what is there agrees with them.

Both are pure functions of their arguments; what is kept here only saves their repetition, since a
reconcile that finds nothing to do must cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omni_operator.api.serving_spec import ServiceSpec
from omni_operator.children import config_map
from omni_operator.children.names import Owner
from omni_operator.children.render import children, record_metadata
from omni_operator.children.revision import Revision
from omni_operator.controller.rollout.diff import first_difference
from omni_operator.controller.state.objects import Child

# the revision, how its pods start and who rendered them, replicas, the Service
_Key = tuple[str, str, bool, str, int, ServiceSpec]


@dataclass(frozen=True, slots=True)
class Rendering:
    """The children of a revision; of its ConfigMap only what may be repaired."""

    record: dict[str, Any]
    others: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class Renderer:
    """Keeps the last rendering of each OmniDeployment."""

    _last: dict[str, tuple[_Key, Rendering]] = field(default_factory=dict)
    _equal: dict[str, dict[tuple[str, str], tuple[str, int]]] = field(default_factory=dict)

    def render(self, owner: Owner, revision: Revision, *, replicas: int, service: ServiceSpec) -> Rendering:
        """The children that should exist."""
        origin = (revision.spec_digest, revision.checks_image, revision.rendered_by)
        key = (revision.name, *origin, replicas, service)
        last = self._last.get(owner.uid)
        if last is None or last[0] != key:
            others = children(owner, revision, replicas=replicas, service=service)
            last = key, Rendering(record_metadata(owner, revision), tuple(others))
            self._last[owner.uid] = last
            self._equal.pop(owner.uid, None)
        return last[1]

    def record(self, owner: Owner, revision: Revision) -> dict[str, Any]:
        """The ConfigMap of a revision, with its data."""
        return config_map.build(owner, revision)

    def difference(self, owner: Owner, live: Child, intent: Mapping[str, Any]) -> str | None:
        """Path of the first field of a child that is not as intended; None when all are."""
        known = self._equal.setdefault(owner.uid, {})
        version = (live.resource_version, id(intent))
        if known.get((live.kind, live.uid)) == version:
            return None
        found = first_difference(live.body, intent)
        if found is None:
            known[live.kind, live.uid] = version
        return found

    def forget(self, uid: str) -> None:
        """Drops what was rendered for an OmniDeployment that is gone."""
        self._last.pop(uid, None)
        self._equal.pop(uid, None)
