"""Messages for a spec without a plan: the request, the facts against it, the remedy.

The best cause is first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.spec import Backend, EdgeOverride, OmniDeploymentSpec, RdmaPolicy, Strategy
from omni_operator.connectors.transport import Rejection
from omni_operator.planning.demand import StageDemand, device_groups
from omni_operator.planning.model import PlanError, TransportRejection
from omni_operator.planning.search import some
from omni_operator.planning.transports import NoTransport
from omni_operator.topology.inventory import Node

# What to do about a rejection. In the order of interest: what a user can change comes before what
# only another release changes.
REMEDIES = {
    Rejection.NO_RDMA_ON_NODE: "offer RDMA on more nodes (a device plugin with a resource such as rdma/hca)",
    Rejection.CAPABILITY_FORBIDDEN: "use a namespace whose pod security level is privileged",
    Rejection.HOST_MEMORY_FORBIDDEN: "use a namespace whose pod security level is privileged",
    Rejection.NO_SHARED_MEMORY: "set placement.strategy to OneNode where one node can hold all accelerators",
    Rejection.PODS_NOT_OURS: "remove ray.clusterRef from a new OmniDeployment",
    Rejection.LIBRARY_MISSING: "use an image with nixl and set engine.nixl to true",
    Rejection.LIBRARY_VERSION: (
        "use an image with Mooncake 0.3.12, which serves all connectors, and say so in engine.mooncakeVersion"
    ),
    Rejection.FORBIDDEN_BY_USER: "",
    Rejection.ONE_CONNECTOR_PER_STAGE: "",
    Rejection.NEEDS_ACCELERATOR: "",
    Rejection.PORTS_COLLIDE: "lower stages[].replicas and raise replicas",
    Rejection.HANDED_ON_BY_SERVER: "",
    Rejection.RELEASE_IGNORES_CONNECTOR: "use vllm-omni 0.26 or later",
    Rejection.MIDDLE_STAGE_UNSUPPORTED: "",
    Rejection.SYNCHRONOUS_UNSUPPORTED: "",
    Rejection.KV_CACHE_UNSUPPORTED: "",
    Rejection.ASYNC_CHUNK_UNSUPPORTED: "",
    Rejection.NEEDS_ACCELERATOR_IN_SERVING_POD: "",
    Rejection.RELEASE_LACKS_CONNECTOR: "",
}
_ORDER = list(REMEDIES)


def no_transport(dead: NoTransport, spec: OmniDeploymentSpec) -> PlanError:
    """No transport is usable on an edge: why, by what the user asked for."""
    override = next(
        (o for o in spec.transport.edges if o.asked and f"{o.from_stage} -> {o.to_stage}" == dead.edge), None
    )
    required = spec.transport.rdma is RdmaPolicy.REQUIRE
    if override is not None:
        asked = "/".join(str(part) for part in (override.connector, override.protocol) if part is not None)
        relevant = [r for r in dead.rejected if _is_asked(r, override)]
        head = f"transport.edges[{dead.edge}] asks for {asked}, which cannot be used"
        last = "remove the entry"
    elif required:
        relevant = [r for r in dead.rejected if not r.choice.endswith("/tcp")]
        head = f"transport.rdma is Require and cannot be met on edge {dead.edge}"
        last = "set transport.rdma to Prefer"
    else:
        relevant = [r for r in dead.rejected if r.code is not Rejection.FORBIDDEN_BY_USER] or list(dead.rejected)
        head, last = f"no transport is usable on edge {dead.edge}", ""
    facts = _facts(relevant) or "vllm-omni has no such transport"
    remedies = [*dict.fromkeys(REMEDIES.get(r.code, "") for r in sorted(relevant, key=_interest)), last]
    remedy = ", or ".join(text for text in remedies if text)
    return PlanError(
        condition=ConditionType.PLANNED,
        reason=Reason.POLICY_CANNOT_BE_MET,
        message=f"{head}: {facts}" + (f". To go on: {remedy}" if remedy else ""),
    )


def _is_asked(rejected: TransportRejection, override: EdgeOverride) -> bool:
    connector, _, protocol = rejected.choice.partition("/")
    return override.connector in {None, connector} and override.protocol in {None, protocol}


def _interest(rejected: TransportRejection) -> int:
    return _ORDER.index(rejected.code) if rejected.code in _ORDER else len(_ORDER)


def _facts(rejected: Sequence[TransportRejection]) -> str:
    """Facts with their codes; choices that share a fact share a sentence."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for one in sorted(rejected, key=_interest):
        grouped.setdefault((one.fact, one.code.value), []).append(one.choice)
    return "; ".join(f"{', '.join(choices)}: {fact} ({code})" for (fact, code), choices in grouped.items())


def no_layout(
    spec: OmniDeploymentSpec,
    *,
    nodes: Sequence[Node],
    accelerator: str | None,
    needs: Mapping[Backend, Sequence[StageDemand]],
) -> PlanError:
    """No layout fits the nodes at all: what is missing.

    Args:
        spec: The spec.
        nodes: Nodes that admit its pods.
        accelerator: Extended resource of the accelerators; None on CPU.
        needs: What the stages need, by backend that was tried.
    """
    key = spec.placement.topology_key
    if not nodes:
        message = "no Ready node matches placement.nodeSelector and placement.tolerations; change them or add nodes"
    elif key and not any(node.labels.get(key) for node in nodes):
        message = (
            f"no node that may be used has the label of placement.topologyKey {key}; label the nodes or change the key"
        )
    elif accelerator is not None and not any(node.allocatable.get(accelerator) for node in nodes):
        message = (
            f"no node that may be used offers {accelerator} (checked {some([n.name for n in nodes], 8)}); check "
            "accelerator.type and accelerator.resourceName, and that the nodes' device plugin runs"
        )
    elif accelerator is None:
        message = "no pod of the pipeline can be placed with stages[].nodeSelector; change it or add nodes"
    else:
        message = _shortage(spec, nodes=nodes, accelerator=accelerator, needs=needs)
    return PlanError(condition=ConditionType.PLANNED, reason=Reason.NO_LAYOUT, message=message)


def _shortage(
    spec: OmniDeploymentSpec,
    *,
    nodes: Sequence[Node],
    accelerator: str,
    needs: Mapping[Backend, Sequence[StageDemand]],
) -> str:
    key = spec.placement.topology_key
    backend, stages = list(needs.items())[-1]  # the one that asks least of a single node
    together = spec.placement.strategy is Strategy.ONE_NODE or backend is Backend.LOCAL
    total = len({device for stage in stages for device in stage.devices})
    allocatable = [f"{node.name}: {node.allocatable.get(accelerator, 0)}" for node in nodes]
    largest = max(len({device for stage in group for device in stage.devices}) for group in device_groups(stages))
    if together:
        each = f"{total} on one node"
    elif backend is Backend.RAY:
        each = f"{total} in all, one per stage"
    else:
        each = f"{total} in all, {largest} of them on one node"
    times = f" for each of {spec.replicas} replicas" if spec.replicas > 1 else ""
    domain = f"; placement.topologyKey {key} keeps each replica inside one domain" if key else ""
    remedies = ["add nodes"]
    if spec.replicas > 1:
        remedies.append("lower replicas")
    enough = sum(node.allocatable.get(accelerator, 0) for node in nodes) >= total * max(1, spec.replicas)
    if spec.placement.strategy is Strategy.ONE_NODE and enough:
        remedies.append("set placement.strategy to Spread")
    elif spec.engine.backend is Backend.LOCAL and enough:
        remedies.append("set engine.backend to Auto")
    if key:
        remedies.append("remove placement.topologyKey")
    return (
        f"the pipeline needs {total} x {accelerator} ({each}){times}; nodes that may be used offer "
        f"{some(allocatable, 8)}{domain}. To go on: {', or '.join(remedies)}"
    )
