"""The namespace of one test: actions of a user, and the objects that the operator made there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from e2e.control_plane import ControlPlane
from tests.api.operator_process import Operator

Object = dict[str, Any]
LABEL = "omni.vllm.ai/name"
COMPONENT = "omni.vllm.ai/component"
COLLECTIONS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "RayCluster": "/apis/ray.io/v1/namespaces/{}/rayclusters",
}
# Stages on several nodes that talk over TCP: no finalizer, nothing on the nodes.
TCP: Object = {"placement": {"strategy": "Spread"}, "transport": {"rdma": "Never"}}
# All on one node with shared memory: a finalizer, and a folder on the node.
SHM: Object = {"placement": {"strategy": "OneNode"}}
_MERGE = "application/merge-patch+json"
_JSON = "application/json-patch+json"


def minimal(name: str = "demo", namespace: str = "default") -> Object:
    """The least that a user writes."""
    return {
        "apiVersion": "omni.vllm.ai/v1alpha1",
        "kind": "OmniDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"name": "Qwen/Qwen2.5-Omni-7B"}, "engine": {"version": "0.16.0"}},
    }


def merge(base: Any, patch: Any) -> Any:
    """RFC 7386: null removes."""
    if not isinstance(patch, dict):
        return patch
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


@dataclass
class NamespaceUnderTest:
    control_plane: ControlPlane
    operator: Operator
    namespace: str
    made_nodes: list[str] = field(default_factory=list)

    def path(self, name: str = "") -> str:
        base = f"/apis/omni.vllm.ai/v1alpha1/namespaces/{self.namespace}/omnideployments"
        return f"{base}/{name}" if name else base

    def child_path(self, kind: str, name: str) -> str:
        return f"{COLLECTIONS[kind].format(self.namespace)}/{name}"

    def create(self, name: str = "demo", **spec: Any) -> Object:
        """Creates the minimal object with `spec` merged in, without a first request.

        That has tests of its own (test_first_request.py).
        """
        obj = minimal(name, self.namespace)
        obj["spec"] = merge(merge(obj["spec"], {"serving": {"warmUp": {"mode": "Never"}}}), spec)
        return self.control_plane.ok("POST", self.path() + "?fieldValidation=Strict", obj)

    def edit(self, name: str = "demo", **spec: Any) -> Object:
        return self.control_plane.ok(
            "PATCH", self.path(name) + "?fieldValidation=Strict", {"spec": spec}, content=_MERGE
        )

    def get(self, name: str = "demo") -> Object:
        return self.control_plane.get(self.path(name))

    def delete(self, name: str = "demo") -> None:
        self.control_plane.ok("DELETE", self.path(name), {"propagationPolicy": "Background"})

    def patch(self, kind: str, name: str, operations: list[Object]) -> Object:
        """Somebody edits a child by hand."""
        return self.control_plane.ok("PATCH", self.child_path(kind, name), operations, content=_JSON)

    def condition(self, kind: str, name: str = "demo") -> Object:
        conditions = self.get(name).get("status", {}).get("conditions", ())
        return next((c for c in conditions if c["type"] == kind), {})

    def until(self, kind: str, *, name: str = "demo", seconds: float = 60, **wanted: str) -> Object:
        """The condition, once it has these fields for the current generation."""

        def test() -> Object | None:
            omni = self.get(name)
            found = next((c for c in omni.get("status", {}).get("conditions", ()) if c["type"] == kind), {})
            fresh = found.get("observedGeneration") == omni["metadata"]["generation"]
            return found if fresh and all(found.get(key) == value for key, value in wanted.items()) else None

        try:
            return self.control_plane.wait(f"{kind} of {name} {wanted}", test, seconds=seconds)
        except TimeoutError as exc:
            conditions = json.dumps(self.get(name).get("status", {}).get("conditions"), indent=1)
            raise AssertionError(f"{exc}\n{conditions}") from None

    def ready(self, name: str = "demo", *, seconds: float = 60) -> Object:
        self.until("Ready", name=name, status="True", seconds=seconds)
        return self.get(name)

    def wait(self, what: str, test: Callable[[], Any], *, seconds: float = 30) -> Any:
        return self.control_plane.wait(what, test, seconds=seconds)

    def list(self, kind: str, selector: str = "") -> list[Object]:
        query = f"?labelSelector={selector}" if selector else ""
        return self.control_plane.get(COLLECTIONS[kind].format(self.namespace) + query)["items"]

    def child(self, kind: str, name: str) -> Object | None:
        status, found = self.control_plane.call("GET", self.child_path(kind, name))
        return found if status == 200 else None

    def children(self, name: str = "demo", *, pods: bool = False) -> dict[tuple[str, str], Object]:
        """What the operator made for an OmniDeployment."""
        kinds = [kind for kind in COLLECTIONS if pods or kind != "Pod"]
        found = itertools.chain.from_iterable(
            ((kind, item) for item in self.list(kind, f"{LABEL}={name}")) for kind in kinds
        )
        return {(kind, item["metadata"]["name"]): item for kind, item in found}

    def versions(self, name: str = "demo") -> dict[tuple[str, str], str]:
        return {key: child["metadata"]["resourceVersion"] for key, child in self.children(name).items()}

    def events(self, name: str = "demo") -> list[Object]:
        """Events about an OmniDeployment, oldest first."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        mine = [
            event
            for event in self.control_plane.get(path)["items"]
            if event["regarding"]["kind"] == "OmniDeployment" and event["regarding"]["name"] == name
        ]
        return sorted(mine, key=lambda event: event["eventTime"])

    def nodes(self, count: int, **resources: int) -> dict[str, str]:
        """Adds nodes for this test alone; returns the nodeSelector that selects them.

        In names of resources _ is a dot and __ a slash.
        """
        named = {key.replace("__", "/").replace("_", "."): value for key, value in resources.items()}
        for _ in range(count):
            node = f"{self.namespace}-{len(self.made_nodes)}"
            self.control_plane.add_node(node, named, pool=self.namespace)
            self.made_nodes.append(node)
        self.wait("nodes", lambda: all(self._schedulable(node) for node in self.made_nodes))
        return {"pool": self.namespace}

    def _schedulable(self, node: str) -> bool:
        return not self.control_plane.get(f"/api/v1/nodes/{node}")["spec"].get("taints")

    def drop(self, kind: str, name: str) -> None:
        self.control_plane.ok("DELETE", self.child_path(kind, name))

    def clean(self) -> None:
        """Deletes the objects of the test; the namespace itself ends in the background."""
        for omni in self.control_plane.get(self.path())["items"]:
            self.delete(omni["metadata"]["name"])
        if self.operator.running:
            self.wait("OmniDeployments gone", lambda: not self.control_plane.get(self.path())["items"])
        self.control_plane.call("DELETE", f"/api/v1/namespaces/{self.namespace}")
        for node in self.made_nodes:
            self.control_plane.call("DELETE", f"/api/v1/nodes/{node}")
