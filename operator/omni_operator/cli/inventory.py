"""Nodes for `omni plan`: from a file of `kubectl get nodes -o yaml`, or from the cluster with what its pods hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from omni_operator.cli.access import Access
from omni_operator.planning.model import PodSecurity
from omni_operator.topology.inventory import Inventory
from omni_operator.topology.read import held_by, node


def from_file(path: Path) -> Inventory:
    """Nodes of a file: a List of Nodes, or Node documents; nothing is held on them."""
    documents: list[Any] = [d for d in yaml.safe_load_all(path.read_text()) if d]
    items = [item for d in documents for item in (d["items"] if str(d.get("kind", "")).endswith("List") else [d])]
    return Inventory.of([node(item) for item in items])


def from_cluster(access: Access) -> tuple[Inventory, PodSecurity]:
    """Nodes and what pods hold of them, and the level that the namespace enforces."""
    nodes = access.list("/api/v1/nodes")
    pods = access.list("/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed")
    held = [found for pod in pods if (found := held_by(pod)) is not None]
    namespace = access.request("GET", f"/api/v1/namespaces/{access.namespace}")
    return Inventory.of([node(n) for n in nodes], held), PodSecurity.of(namespace["metadata"].get("labels") or {})
