"""NetworkPolicies of a revision.

Its pods reach each other on any port, clients reach the server's port, and nobody else reaches
anything. Ray and Mooncake use random ports, so ports cannot be listed; tensors of two revisions
must never meet, so the revision is the boundary.
"""

from __future__ import annotations

from typing import Any

from omni_operator.children import names
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision


def build(owner: Owner, revision: Revision) -> list[dict[str, Any]]:
    """Two policies: inside the revision, and from clients to the server."""
    base = names.base(owner, revision.name)
    mine = names.selector(owner, None, revision=revision.name)
    peers: list[dict[str, Any]] = [{"podSelector": {"matchLabels": mine}}]
    if revision.plan.cluster_ref:
        peers.append({"podSelector": {"matchLabels": {"ray.io/cluster": revision.plan.cluster_ref}}})
    inside = _policy(owner, base, revision, pods=mine, ingress=[{"from": peers}])
    server = names.selector(owner, Component.SERVING, revision=revision.name)
    clients = [{"ports": [{"port": revision.spec.serving.port, "protocol": "TCP"}]}]
    return [inside, _policy(owner, f"{base}-clients", revision, pods=server, ingress=clients)]


def _policy(
    owner: Owner, name: str, revision: Revision, *, pods: dict[str, str], ingress: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(owner, name, Component.POLICY, revision=revision.name),
        "spec": {"podSelector": {"matchLabels": pods}, "policyTypes": ["Ingress"], "ingress": ingress},
    }
