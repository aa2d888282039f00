"""Specs, nodes, plans and revisions in one line each, so that a test shows only its subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.children.names import Owner
from omni_operator.children.revision import Revision, new_revision
from omni_operator.planning.model import Plan, PlanError, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory, Node, Taint
from omni_operator.topology.namespace import PodSecurity

GPU, HCA = "nvidia.com/gpu", "rdma/hca"
OWNER = Owner(namespace="shop", name="omni", uid="7d1e9a04-0000-4000-8000-000000000001")
MODEL = "Qwen/Qwen2.5-Omni-7B"  # three stages
TWO_STAGES = "XiaomiMiMo/MiMo-Audio-7B-Instruct"
STREAMING = "Qwen/Qwen3-TTS-12Hz-1.7B-CustomVoice"  # async_chunk on 0.16
PRIVILEGED = PodSecurity.PRIVILEGED


def raw_spec(**parts: Any) -> dict[str, Any]:
    """The JSON of a spec; keywords replace its parts, and `model` and `engine` are merged."""
    raw: dict[str, Any] = {
        "model": {"name": MODEL, **parts.pop("model", {})},
        "engine": {"version": "0.16.0", **parts.pop("engine", {})},
    }
    return raw | parts


def spec(**parts: Any) -> OmniDeploymentSpec:
    return OmniDeploymentSpec.model_validate(raw_spec(**parts))


def node(
    name: str,
    gpus: int = 0,
    *,
    available: int | None = None,
    rdma: int = 0,
    rdma_available: int | None = None,
    allocatable: Mapping[str, int] | None = None,
    labels: Mapping[str, str] | None = None,
    taints: tuple[Taint, ...] = (),
    ready: bool = True,
    cordoned: bool = False,
) -> Node:
    allocated = {GPU: gpus, HCA: rdma, **(allocatable or {})}
    left = {
        GPU: gpus if available is None else available,
        HCA: rdma if rdma_available is None else rdma_available,
        **(allocatable or {}),
    }
    return Node(
        name=name,
        labels={"kubernetes.io/hostname": name, **(labels or {})},
        taints=taints,
        ready=ready,
        cordoned=cordoned,
        allocatable={key: count for key, count in allocated.items() if count},
        available={key: count for key, count in left.items() if allocated.get(key)},
    )


def inventory(*nodes: Node) -> Inventory:
    """Nodes in the order given, with what they say is free."""
    return Inventory(nodes=nodes)


TWO_NODES = inventory(node("a", 2), node("b", 2))
ONE_NODE = inventory(node("a", 4))
RDMA_NODES = inventory(node("a", 2, rdma=8), node("b", 2, rdma=8))


def plan(
    of: OmniDeploymentSpec, nodes: Inventory = TWO_NODES, *, security: PodSecurity = PRIVILEGED
) -> Planned | PlanError:
    return make_plan(spec=of, inventory=nodes, pod_security=security)


def planned(of: OmniDeploymentSpec, nodes: Inventory = TWO_NODES, *, security: PodSecurity = PRIVILEGED) -> Plan:
    found = plan(of, nodes, security=security)
    assert isinstance(found, Planned), found
    return found.plan


def refused(of: OmniDeploymentSpec, nodes: Inventory = TWO_NODES, *, security: PodSecurity = PRIVILEGED) -> PlanError:
    found = plan(of, nodes, security=security)
    assert isinstance(found, PlanError), found
    return found


def revision(
    of: OmniDeploymentSpec | None = None, nodes: Inventory = TWO_NODES, *, security: PodSecurity = PRIVILEGED
) -> Revision:
    wanted = of or spec()
    return new_revision(spec=wanted, plan=planned(wanted, nodes, security=security))
