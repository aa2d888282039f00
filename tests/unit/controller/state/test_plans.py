"""A plan is made again only when the spec, the inventory or the namespace's level has changed."""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.controller.state import plans
from omni_operator.controller.state.plans import PlanCache
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make


def test_a_plan_error_is_kept_for_its_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(plans, "make_plan", lambda **basis: made.append(basis) or make.plan(basis["spec"]))
    cache, spec, nodes = PlanCache(), make.spec(), make.TWO_NODES

    def plan(inventory: Any = nodes, security: PodSecurity = PodSecurity.PRIVILEGED) -> None:
        cache.plan("uid", spec, inventory=inventory, pod_security=security)

    for _ in range(200):
        plan()
    assert len(made) == 1
    plan(make.inventory(make.node("a", 2), make.node("b", 2)))
    plan(security=PodSecurity.RESTRICTED)
    assert len(made) == 3
    cache.forget("uid")
    plan(security=PodSecurity.RESTRICTED)
    assert len(made) == 4
