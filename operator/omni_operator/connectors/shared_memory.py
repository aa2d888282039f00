"""SharedMemory: payloads are files in /dev/shm.

Both ends must be in one pod, or mount one folder of one node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omni_operator.api.spec import Connector, Protocol, SharedMemoryPolicy
from omni_operator.connectors.base import ConnectorModule, EdgeSettings, Site, Times
from omni_operator.connectors.transport import Fact, Reach, Rejection
from omni_operator.topology.namespace import PodSecurity

# vllm-omni's Ray guide says that Ray's default keeps payloads inline; 0.14 and 0.16 ignore the key
# (verified with both), later ones read it.
THRESHOLD_BYTES = 65536


@dataclass(frozen=True, slots=True)
class SharedMemory(ConnectorModule):
    """The connector that needs no library, no port and no device."""

    kind = Connector.SHARED_MEMORY
    protocols = (Protocol.SHM,)
    times = {Protocol.SHM: Times(in_one_pod=(0.6, 5.1, 16.4, 63.3, 443.2))}

    def reject_place(self, site: Site) -> Fact | None:
        """Two pods need a folder of their node's /dev/shm, which is a hostPath."""
        if site.reach is Reach.SAME_POD:
            return None
        if not site.pods_ours:
            return (
                Rejection.PODS_NOT_OURS,
                "the workers belong to the RayCluster of ray.clusterRef; their /dev/shm is their own",
            )
        if site.reach is Reach.CROSS_NODE:
            return (
                Rejection.NO_SHARED_MEMORY,
                "the two ends may be on different nodes, and /dev/shm belongs to one node",
            )
        if site.shared_memory is SharedMemoryPolicy.POD_ONLY:
            return Rejection.FORBIDDEN_BY_USER, "transport.sharedMemory is PodOnly and the two ends are different pods"
        if site.pod_security is not PodSecurity.PRIVILEGED:
            return (
                Rejection.HOST_MEMORY_FORBIDDEN,
                f"the namespace enforces pod security level {site.pod_security}, which forbids the hostPath that two "
                "pods need to share memory",
            )
        return None

    def settings(self, edge: EdgeSettings) -> dict[str, Any]:
        """Nothing of the edge: both ends find a payload by its name."""
        del edge
        return {"shm_threshold_bytes": THRESHOLD_BYTES}
