"""Asks the API server whether it would take a revision, before what runs makes room for it.

Schema and planner cannot know what else judges a child: admission plugins and policies of the
cluster, a PriorityClass that does not exist, an affinity term that only a pod's validation refuses.
Found out after the running revision was removed, it would be an outage. It runs in the background:
a webhook that hangs must not hold a worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp

from omni_operator.controller.apply.children import steady
from omni_operator.controller.state.signals import DryRunResult
from omni_operator.controller.state.snapshot import Snapshot
from omni_operator.kube.client import ApiError, Kube
from omni_operator.kube.kinds import BY_KIND

_log = logging.getLogger(__name__)
# The running revision's pods fill the quota that its successor will use.
_OF_THE_MOMENT = "exceeded quota"
# A policy that cannot judge a dry run says nothing of the spec.
_NO_ANSWER = "does not support dry run"
_ABOUT_THE_SPEC = frozenset({400, 403, 422})
_DEADLINE = 30.0
_AT_ONE_TIME = 6

Objects = Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class DryRuns:
    """One answer per OmniDeployment.

    Once for a revision that the API server would take, else again every minute.

    Attributes:
        wake: Called with the key of an OmniDeployment whose dry run has been answered.
    """

    kube: Kube
    wake: Callable[[str], None]
    now: Callable[[], datetime]
    _results: dict[str, DryRunResult] = field(default_factory=dict)
    # All dry runs share these, so that a webhook that hangs leaves the other connections to others.
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONE_TIME))
    _tasks: dict[str, tuple[str, asyncio.Task[None]]] = field(default_factory=dict)

    def result(self, uid: str) -> DryRunResult | None:
        """The last answer."""
        return self._results.get(uid)

    def start(self, snapshot: Snapshot, revision: str, objects: Objects) -> None:
        """Asks in the background, unless that is being done."""
        uid = snapshot.omni.uid
        running = self._tasks.get(uid)
        if running is not None and running[0] == revision and not running[1].done():
            return
        if running is not None:
            running[1].cancel()
        work = self._ask(snapshot, revision, objects)
        self._tasks[uid] = revision, asyncio.create_task(work, name=f"dry run of {snapshot.omni.key}")

    def forget(self, uid: str) -> None:
        """Drops what is known of an OmniDeployment that is gone."""
        self._results.pop(uid, None)
        if (running := self._tasks.pop(uid, None)) is not None:
            running[1].cancel()

    async def close(self) -> None:
        """Ends all requests."""
        tasks = [task for _, task in self._tasks.values()]
        for uid in list(self._tasks):
            self.forget(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, snapshot: Snapshot, revision: str, objects: Objects) -> None:
        owner = snapshot.owner.reference()
        asked = [obj for intent in objects for obj in (intent, *_pods(intent, owner))]
        try:
            async with asyncio.timeout(_DEADLINE):
                found = {text for text in await asyncio.gather(*map(self._bounded, asked)) if text}
        except TimeoutError:
            found = {f"the API server did not answer within {_DEADLINE:.0f} s"}
        except Exception as exc:  # an answer that never comes would hold the edit for ever
            _log.exception("dry run of %s", snapshot.omni.key)
            found = {f"{type(exc).__name__}: {exc}"}
        errors = tuple(sorted(found))
        self._results[snapshot.omni.uid] = DryRunResult(revision=revision, errors=errors, at=self.now())
        self.wake(snapshot.omni.key)

    async def _bounded(self, obj: Mapping[str, Any]) -> str:
        async with self._slots:
            return await self._error(obj)

    async def _error(self, obj: Mapping[str, Any]) -> str:
        """What the API server says against an object.

        One that cannot say counts as one that refuses.
        """
        what = f"{obj['kind']} {obj['metadata']['name']}"
        try:
            await self.kube.create(BY_KIND[obj["kind"]], dict(obj), dry_run=True)
        except ApiError as exc:
            passing = exc.namespace_ends or _OF_THE_MOMENT in exc.message or _NO_ANSWER in exc.message
            if exc.status in _ABOUT_THE_SPEC and not passing:
                return f"{what}: {steady(exc.message or str(exc))}"
            # 404: KubeRay is missing, which RayClusterReady says
            if exc.status not in {*_ABOUT_THE_SPEC, 404, 409}:
                return f"{what}: the API server could not say: {steady(exc.message or str(exc))}"
        except (aiohttp.ClientError, TimeoutError) as exc:
            return f"{what}: the API server could not say: {type(exc).__name__}"
        return ""


def _pods(intent: Mapping[str, Any], owner: dict[str, object]) -> Iterator[dict[str, Any]]:
    """A pod of each template, as the Deployment controller and KubeRay will make it.

    With a controller, which policies ask for.
    """
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
