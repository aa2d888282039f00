"""The rules for RDMA and TCP between two pods, for all connectors that use a network."""

from __future__ import annotations

from omni_operator.api.spec import Protocol, RdmaPolicy
from omni_operator.connectors.base import Site
from omni_operator.connectors.transport import Fact, Rejection
from omni_operator.topology.namespace import PodSecurity

RDMA_CAPABILITY = "IPC_LOCK"  # registered memory is pinned


def reject_place(site: Site) -> Fact | None:
    """Why RDMA or TCP cannot be used on an edge; TCP works between any two pods."""
    if site.protocol is Protocol.RDMA:
        return _reject_rdma(site)
    if site.rdma_policy is RdmaPolicy.REQUIRE:
        return Rejection.FORBIDDEN_BY_USER, "transport.rdma is Require, so TCP is not used"
    return None


def _reject_rdma(site: Site) -> Fact | None:
    if site.rdma_policy is RdmaPolicy.NEVER:
        return Rejection.FORBIDDEN_BY_USER, "transport.rdma is Never"
    if not site.pods_ours:
        return (
            Rejection.PODS_NOT_OURS,
            "the workers belong to the RayCluster of ray.clusterRef and may lack the RDMA resource",
        )
    if site.rdma is None:
        return site.rdma_missing
    if site.pod_security is not PodSecurity.PRIVILEGED:
        return (
            Rejection.CAPABILITY_FORBIDDEN,
            f"the namespace enforces pod security level {site.pod_security}, which forbids the {RDMA_CAPABILITY} "
            "capability that RDMA needs",
        )
    return None
