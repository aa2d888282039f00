"""Whole reconciles one OmniDeployment in a small cluster.

The real store and reconciler, an API server that only remembers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from omni_operator.children import names
from omni_operator.children.names import COMPONENT, MANAGED_BY, MANAGER, NAME, REPLICA, REVISION, Component
from omni_operator.controller.reconcile import Reconciler
from omni_operator.controller.state import decode
from omni_operator.controller.state.store import Store
from omni_operator.kube.client import ApiError
from tests.unit import make
from tests.unit.make import OWNER

NO_WARM_UP = {"warmUp": {"mode": "Never"}}  # nothing listens where its servers are said to be
KEY = f"{OWNER.namespace}/{OWNER.name}"
MISSING = ApiError(404, "NotFound", "the server could not find the requested resource")


@dataclass
class Harness:
    """A cluster of two nodes, as its API server tells it; whoever makes pods is the test."""

    spec: dict[str, Any] = field(default_factory=lambda: make.raw_spec(serving=NO_WARM_UP))
    now: datetime = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    refuse: dict[str, Exception] = field(default_factory=dict)
    refuse_dry: dict[str, ApiError] = field(default_factory=dict)
    dry_runs: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    finalizers: list[str] = field(default_factory=list)
    deleted_at: str = ""
    requeue_after: float | None = None
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        client: Any = self
        self.store = Store(kube=client, enqueue=lambda _: None, capacity_changed=lambda: None)
        self.store.namespaces.upsert({"metadata": {"name": OWNER.namespace, "resourceVersion": "1"}})
        for name in "ab":
            self.node(name)
        self.reconciler = Reconciler(
            kube=client, store=self.store, status_pause_seconds=0, instance="test", now=lambda: self.now
        )
        self.store.upsert(decode.omni(self._omni()))

    def node(self, name: str, *, ready: str = "True", gpus: int = 2) -> None:
        status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {make.GPU: str(gpus)}}
        self.store.nodes.upsert(
            {"metadata": {"name": name, "resourceVersion": str(next(self.versions))}, "status": status}
        )

    def edit(self, **parts: Any) -> None:
        """A user's edit of the spec."""
        self.spec = {**self.spec, **parts}
        self.store.upsert(decode.omni(self._omni()))

    def delete_omni(self) -> None:
        """`kubectl delete omni`."""
        self.deleted_at = self.stamp
        self.store.upsert(decode.omni(self._omni()))

    def _omni(self) -> dict[str, Any]:
        meta = {"namespace": OWNER.namespace, "name": OWNER.name, "uid": OWNER.uid, "generation": 1}
        meta |= {"deletionTimestamp": self.deleted_at} if self.deleted_at else {}
        meta |= {"resourceVersion": str(next(self.versions)), "finalizers": self.finalizers}
        return {"metadata": meta, "spec": self.spec, "status": self.status}

    @property
    def stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    async def apply(
        self, resource: Any, obj: dict[str, Any], *, subresource: str | None = None, **_: Any
    ) -> dict[str, Any]:
        if resource.kind == "OmniDeployment":
            if subresource:
                self.status = obj["status"]
            else:
                self.finalizers = obj["metadata"].get("finalizers", [])
            return self._omni()
        known = self.store.children[resource.kind].get(OWNER.namespace, obj["metadata"]["name"])
        kept = {"data": known.body["data"]} if known is not None and "data" in known.body else {}
        return await self.create(resource, {**kept, **obj})

    async def create(self, resource: Any, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        if resource.kind == "Event":
            self.events.append((obj["reason"], obj["note"]))
            return obj
        if dry_run:
            self.dry_runs.append(f"{resource.kind} {obj['metadata']['name']}")
            if resource.kind in self.refuse_dry:
                raise self.refuse_dry[resource.kind]
            return obj
        name = obj["metadata"]["name"]
        self.calls.append(("make", f"{resource.kind} {name}"))
        if resource.kind in self.refuse:
            raise self.refuse[resource.kind]
        meta = {"uid": name, "resourceVersion": str(next(self.versions)), "creationTimestamp": self.stamp}
        made = {**obj, "metadata": {**obj["metadata"], **meta}}
        if resource.kind == "Pod":  # which the watch brings
            self.store.pods.upsert(made)
        return made

    async def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any] | None:
        del resource, namespace, name
        return None

    async def delete(self, resource: Any, namespace: str, name: str, **_: Any) -> bool:
        self.calls.append(("delete", f"{resource.kind} {name}"))
        store = self.store.pods if resource.kind == "Pod" else self.store.children[resource.kind]
        found = store.get(namespace, name) is not None
        store.remove(namespace, name)
        return found

    def lose(self, kind: str, name: str) -> None:
        """Somebody deletes a child."""
        self.store.children[kind].remove(OWNER.namespace, name)

    async def reconcile(self, *, fails: bool = False) -> list[tuple[str, str]]:
        """One reconcile, and a second one when a dry run was answered in between.

        Returns what they made and deleted.
        """
        self.calls.clear()
        if fails:
            with pytest.raises(ApiError):
                await self.reconciler.reconcile(KEY)
            return self.calls[:]
        self.requeue_after = await self.reconciler.reconcile(KEY)
        if running := [task for _, task in self.reconciler.collector.dry_runs._tasks.values() if not task.done()]:
            await asyncio.gather(*running)
            self.requeue_after = await self.reconciler.reconcile(KEY)
        return self.calls[:]

    async def settle(self) -> None:
        """Reconciles until nothing is left to do."""
        while await self.reconcile():
            pass

    def later(self, seconds: float = 60) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def revision(self) -> str:
        return str(self.status["revision"])

    @property
    def key(self) -> str:
        return KEY

    @property
    def server(self) -> str:
        return names.serving(OWNER, self.revision, 0)

    @property
    def cluster(self) -> str:
        return names.ray_cluster(OWNER, self.revision, 0)

    def pod(self, component: Component, number: int = 0, *, node: str = "a", **changes: Any) -> str:
        """A pod of the revision that has run and been ready since now; returns its name."""
        revision = changes.pop("revision", "") or self.revision
        labels = {MANAGED_BY: MANAGER, NAME: OWNER.name, COMPONENT: component.value, REVISION: revision}
        if component is not Component.STORE:
            labels[REPLICA] = "0"
        name = f"{component.value}-{number}"
        meta = {
            "namespace": OWNER.namespace,
            "name": name,
            "uid": f"uid-of-{name}",
            "ownerReferences": [{"uid": "a controller", "controller": True}],
            "resourceVersion": str(next(self.versions)),
            "labels": labels,
        }
        meta |= changes.pop("metadata", {})
        name = meta["name"]
        status: dict[str, Any] = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": self.stamp}],
            "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": self.stamp}}}],
        }
        self.store.pods.upsert({"metadata": meta, "spec": {"nodeName": node}, "status": {**status, **changes}})
        return name

    def ending(self, component: Component, *, grace: int, node: str = "a", revision: str = "") -> str:
        """A pod that was asked to end just now."""
        grace_deadline = (self.now + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta = {"deletionTimestamp": grace_deadline, "deletionGracePeriodSeconds": grace}
        return self.pod(component, node=node, revision=revision, metadata=meta)

    def end_pods(self, *kept: str) -> None:
        """All pods end, but those named."""
        for pod in self.store.pods_of(KEY):
            if pod.name not in kept:
                self.store.pods.remove(pod.namespace, pod.name)

    def child_status(self, kind: str, name: str, **status: Any) -> None:
        """What the kind's own controller writes."""
        known = self.store.children[kind].get(OWNER.namespace, name)
        assert known is not None
        meta = {**known.body["metadata"], "uid": known.uid, "creationTimestamp": known.created}
        meta["resourceVersion"] = str(next(self.versions))
        self.store.children[kind].upsert({**known.body, "metadata": meta, "status": status})

    def ray(self, *, workers: int = 3, of: int = 3) -> None:
        """How many of its workers KubeRay sees ready."""
        status = {"desiredWorkerReplicas": of, "readyWorkerReplicas": workers}
        head = [{"type": "HeadPodReady", "status": "True"}]
        self.child_status("RayCluster", self.cluster, conditions=head, **status)

    async def bring_up(self, *, workers: int = 3) -> None:
        """Everything, until it is Ready."""
        await self.settle()
        if ("Deployment", names.store(OWNER, self.revision)) in self.store.children_of(KEY):
            self.pod(Component.STORE)
        self.pod(Component.HEAD)
        for number in range(workers):
            self.pod(Component.WORKER, number)
        self.ray(workers=workers, of=workers)
        self.child_status("Deployment", self.server, availableReplicas=1)
        self.later()
        self.pod(Component.SERVING)
        await self.settle()
        assert self.condition("Ready")["status"] == "True", self.status["conditions"]
        self.events.clear()

    def condition(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = next(c for c in self.status["conditions"] if c["type"] == kind)
        return found
