"""The kinds this operator touches and where their collections are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind with its place in the API."""

    kind: str
    api_version: str
    plural: str
    namespaced: bool = True

    @property
    def prefix(self) -> str:
        """Path of its group and version."""
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of a collection or an object; all namespaces when none is given."""
        out = self.prefix
        if self.namespaced and namespace is not None:
            out += f"/namespaces/{namespace}"
        out += f"/{self.plural}"
        if name is not None:
            out += f"/{name}"
        return f"{out}/{subresource}" if subresource else out


POD = Resource("Pod", "v1", "pods")
NODE = Resource("Node", "v1", "nodes", namespaced=False)
NAMESPACE = Resource("Namespace", "v1", "namespaces", namespaced=False)
SERVICE = Resource("Service", "v1", "services")
CONFIG_MAP = Resource("ConfigMap", "v1", "configmaps")
EVENT = Resource("Event", "events.k8s.io/v1", "events")
DEPLOYMENT = Resource("Deployment", "apps/v1", "deployments")
NETWORK_POLICY = Resource("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies")
DISRUPTION_BUDGET = Resource("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets")
RAY_CLUSTER = Resource("RayCluster", "ray.io/v1", "rayclusters")

CHILD_KINDS = (CONFIG_MAP, SERVICE, DEPLOYMENT, NETWORK_POLICY, DISRUPTION_BUDGET, RAY_CLUSTER)
BY_KIND = {resource.kind: resource for resource in (*CHILD_KINDS, POD)}
