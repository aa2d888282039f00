"""Asks the API server whether it would take a revision, before anything that runs makes room for it.

Schema and planner cannot know what else judges a child: admission plugins and policies of the cluster, a PriorityClass that does not
exist, an affinity term that only a pod's validation refuses. Found out after the running revision was removed, it would be an outage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from omni_operator.controller.child_writer import steady
from omni_operator.controller.observed import Observed
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND

# The running revision's pods fill the quota that its successor will use.
_OF_THE_MOMENT = "exceeded quota"
# A policy that cannot judge a dry run says nothing of the spec.
_NO_ANSWER = "does not support dry run"
_REFUSALS = frozenset({400, 403, 422})
PAUSE = 60.0  # seconds; what makes the API server refuse is not watched


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the API server said of a revision, and when."""

    revision: str
    at: float
    refusals: tuple[str, ...]


@dataclass(slots=True)
class Rehearsal:
    """Dry runs: once for a revision that the API server would take, else once a minute."""

    kube: Kube
    clock: Callable[[], float] = time.monotonic
    _answers: dict[str, _Answer] = field(default_factory=dict)

    async def refusals(self, observed: Observed, revision: str, intents: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        """What the API server would refuse of a new revision's children and of their pods, in its words; empty when nothing.

        A server that cannot say (a webhook that is down) counts as one that refuses, for a minute.
        """
        key, now = observed.omni.key, self.clock()
        known = self._answers.get(key)
        if known is None or known.revision != revision or (known.refusals and now - known.at >= PAUSE):
            owner = observed.owner.reference()
            asked = [obj for intent in intents for obj in (intent, *_pods(intent, owner))]
            found = {text for text in await asyncio.gather(*map(self._refusal, asked)) if text}
            known = self._answers[key] = _Answer(revision, now, tuple(sorted(found)))
        return known.refusals

    def forget(self, key: str) -> None:
        """Drops what is known of an OmniDeployment that is gone."""
        self._answers.pop(key, None)

    async def _refusal(self, obj: dict[str, Any]) -> str:
        what = f"{obj['kind']} {obj['metadata']['name']}"
        try:
            await self.kube.create(BY_KIND[obj["kind"]], obj, dry_run=True)
        except ApiError as exc:
            passing = exc.namespace_ends or _OF_THE_MOMENT in exc.message or _NO_ANSWER in exc.message
            if exc.status in _REFUSALS and not passing:
                return f"{what}: {steady(exc.message or str(exc))}"
            if exc.status not in {*_REFUSALS, 404, 409}:  # 404: KubeRay is missing, which RayClusterReady says
                return f"{what}: the API server could not say: {steady(exc.message or str(exc))}"
        except (aiohttp.ClientError, TimeoutError) as exc:
            return f"{what}: the API server could not say: {type(exc).__name__}"
        return ""


def _pods(intent: dict[str, Any], owner: dict[str, object]) -> Iterator[dict[str, Any]]:
    """A pod of each template, as the Deployment controller and KubeRay will make it: with a controller, which policies ask for."""
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
        if intent["kind"] == "RayCluster":
            labels["labels"] = {**labels["labels"], "ray.io/cluster": meta["name"], "ray.io/is-ray-node": "yes"}
        metadata = {"namespace": meta["namespace"], "name": name[:63].rstrip("-"), **labels, "ownerReferences": [owner]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
