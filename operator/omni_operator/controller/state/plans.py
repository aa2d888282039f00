"""Plans that were made for a spec on an inventory.

A pipeline that waits for capacity is planned anew only when that has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.model import PlanError, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.namespace import PodSecurity

_Basis = tuple[OmniDeploymentSpec, Inventory, PodSecurity]


@dataclass(slots=True)
class PlanCache:
    """The last answer of the planner for each OmniDeployment, by uid."""

    _last: dict[str, tuple[_Basis, Planned | PlanError]] = field(default_factory=dict)

    def plan(
        self, uid: str, spec: OmniDeploymentSpec, *, inventory: Inventory, pod_security: PodSecurity
    ) -> Planned | PlanError:
        """The plan, made now unless the spec and the inventory are the very ones of last time."""
        known = self._last.get(uid)
        if known is not None and known[0][0] is spec and known[0][1] is inventory and known[0][2] is pod_security:
            return known[1]
        made = make_plan(spec=spec, inventory=inventory, pod_security=pod_security)
        self._last[uid] = ((spec, inventory, pod_security), made)
        return made

    def forget(self, uid: str) -> None:
        """Drops the answer for an OmniDeployment that is gone."""
        self._last.pop(uid, None)
