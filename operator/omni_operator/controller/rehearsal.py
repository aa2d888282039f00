"""Asks the API server whether it would take a revision, before anything that runs makes room for it.

Schema and planner cannot know what else judges a child: admission plugins and policies of the cluster, a PriorityClass that does not
exist, an affinity term that only a pod's validation refuses. Found out after the running revision was removed, it would be an outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from omni_operator.controller.observed import Observed
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND

# The running revision's pods fill the quota that its successor will use.
_OF_THE_MOMENT = "exceeded quota"
_REFUSALS = frozenset({400, 403, 422})


@dataclass(slots=True)
class Rehearsal:
    """Dry runs, once for every revision that the API server would take."""

    kube: Kube
    _passed: dict[str, str] = field(default_factory=dict)

    async def refusals(self, observed: Observed, revision: str, intents: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        """What the API server would refuse of a new revision's children and of their pods, in its words; empty when nothing.

        Raises:
            ApiError: The API server could not say.
        """
        key = observed.omni.key
        if self._passed.get(key) == revision:
            return ()
        asked = [obj for intent in intents for obj in (intent, *_pods(intent))]
        found = tuple(sorted({text for text in await asyncio.gather(*map(self._refusal, asked)) if text}))
        if not found:
            self._passed[key] = revision
        return found

    def forget(self, key: str) -> None:
        """Drops what is known of an OmniDeployment that is gone."""
        self._passed.pop(key, None)

    async def _refusal(self, obj: dict[str, Any]) -> str:
        try:
            await self.kube.create(BY_KIND[obj["kind"]], obj, dry_run=True)
        except ApiError as exc:
            if exc.status in _REFUSALS and not exc.namespace_ends and _OF_THE_MOMENT not in exc.message:
                return f"{obj['kind']} {obj['metadata']['name']}: {exc.message or exc}"
            if exc.status not in {*_REFUSALS, 404, 409}:  # 404: KubeRay is missing, which RayClusterReady says
                raise
        return ""


def _pods(intent: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A pod of each template, as the Deployment controller and KubeRay will make it."""
    spec, meta = intent.get("spec", {}), intent["metadata"]
    templates = {}
    if intent["kind"] == "Deployment":
        templates = {meta["name"]: spec["template"]}
    elif intent["kind"] == "RayCluster":
        templates = {f"{meta['name']}-head": spec["headGroupSpec"]["template"]}
        for group in spec.get("workerGroupSpecs", ()):
            templates[f"{meta['name']}-{group['groupName']}"] = group["template"]
    for name, template in templates.items():
        labels = {key: template.get("metadata", {}).get(key, {}) for key in ("labels", "annotations")}
        metadata = {"namespace": meta["namespace"], "name": name[:63].rstrip("-"), **labels}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
