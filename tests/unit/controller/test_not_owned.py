"""Objects of others in the way.

Named in status, left alone, and asked about again since nobody watches them.
"""

from __future__ import annotations

from typing import Any

from omni_operator.kube.client import ApiError
from tests.unit.controller.harness import Harness

CONFLICT = ApiError(409, "AlreadyExists", "it is there")


class Occupied(Harness):
    """A cluster with somebody's Service of the public name, which the caches do not know."""

    async def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any] | None:
        meta = {"namespace": namespace, "name": name, "uid": "theirs", "resourceVersion": "1"}
        return {"metadata": meta} if resource.kind in self.refuse else None


async def test_what_only_the_api_server_knows_is_asked_about_again() -> None:
    harness = Occupied(refuse={"Service": CONFLICT})
    await harness.reconcile()
    await harness.reconcile()
    assert harness.condition("Progressing")["reason"] == "ForeignObject"
    assert "Service omni" in harness.condition("Progressing")["message"]
    assert harness.requeue_after == 10
    harness.refuse.clear()
    await harness.settle()
    assert harness.condition("Progressing")["reason"] != "ForeignObject"
