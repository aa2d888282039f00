"""The Mooncake master of a revision: allocates the store and answers its metadata.

It moves no payload.

It goes with its revision: keys left by dead clients crash a reader that meets them again (0.16,
run).
"""

from __future__ import annotations

from typing import Any

from omni_operator.children import names, pod
from omni_operator.children.names import Component, Owner
from omni_operator.children.revision import Revision
from omni_operator.connectors.mooncake import MASTER_MEMORY_BYTES, master_command
from omni_operator.topology.quantity import binary


def build(owner: Owner, revision: Revision) -> list[dict[str, Any]]:
    """Deployment and headless Service; nothing when no edge uses the store."""
    store = revision.plan.store
    if store is None:
        return []
    name = names.store(owner, revision.name)
    ports = {"rpc": store.rpc_port, "metadata": store.http_port}
    master = pod.container(owner, revision, name="mooncake-master", env=[], rdma=False, mounts=[])
    del master["env"], master["volumeMounts"]
    master["command"] = master_command(
        rpc_port=store.rpc_port, http_port=store.http_port, metrics_port=store.metrics_port
    )
    master["ports"] = [{"name": key, "containerPort": port, "protocol": "TCP"} for key, port in ports.items()]
    master["readinessProbe"] = {"tcpSocket": {"port": "rpc"}, "periodSeconds": 2}
    master["resources"] = pod.resources(None, cpu="50m", memory_bytes=MASTER_MEMORY_BYTES, devices={})
    master["resources"]["limits"] = {"memory": binary(MASTER_MEMORY_BYTES)}  # for namespaces whose quota demands one
    metadata = names.metadata(owner, name, Component.STORE, revision=revision.name)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": names.selector(owner, Component.STORE, revision=revision.name)},
            "template": {
                "metadata": pod.pod_metadata(owner, revision, Component.STORE, replica=None),
                "spec": pod.pod_spec(
                    owner,
                    revision,
                    component=Component.STORE,
                    replica=None,
                    containers=[master],
                    pod_volumes=[],
                    grace_seconds=10,
                ),
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            # Clients block 90 s in their constructor when the master has no address; let them find
            # it before it is ready.
            "publishNotReadyAddresses": True,
            "selector": names.selector(owner, Component.STORE, revision=revision.name),
            "ports": [{"name": key, "port": port, "targetPort": key, "protocol": "TCP"} for key, port in ports.items()],
        },
    }
    return [deployment, service]
