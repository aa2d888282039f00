"""TransportAsPlanned.

Whether pods are where the plan relies on them to be, and the edges use what was planned.
"""

from __future__ import annotations

from omni_operator.api.conditions import ConditionStatus, ConditionType, Reason
from omni_operator.api.spec import Protocol, Strategy
from omni_operator.children.names import Component
from omni_operator.controller.conditions.edges import EdgeState, in_words
from omni_operator.controller.conditions.facts import Facts
from omni_operator.controller.conditions.idle import idle
from omni_operator.controller.conditions.update import ConditionUpdate
from omni_operator.engine.releases import release_of

_KIND = ConditionType.TRANSPORT_AS_PLANNED
_AS_PLANNED = "pods are where the plan relies on them to be"


def transport_as_planned(facts: Facts) -> ConditionUpdate:
    """The condition."""
    if (nothing := idle(facts, _KIND)) is not None:
        return nothing
    plan = facts.current.revision.plan
    ends = [p for p in facts.of(Component.WORKER, Component.SERVING) if not p.deleting]
    workers = 0 if plan.cluster_ref else sum(group.pods for group in plan.groups)
    expected = facts.replicas * (1 + workers)
    placed, up = [p for p in ends if p.node], sum(p.ready or p.unresponsive for p in ends)
    if len(placed) < expected:
        return _unknown(Reason.NOT_OBSERVED_YET, f"{len(placed)} of {expected} pods are placed")
    if plan.strategy is Strategy.ONE_NODE and not plan.cluster_ref:
        for replica in range(facts.replicas):
            nodes = {p.node for p in placed if p.replica == str(replica)}
            if len(nodes) > 1:
                text = f"replica {replica} must be on one node, but its pods are on {', '.join(sorted(nodes))}"
                return ConditionUpdate(_KIND, ConditionStatus.FALSE, Reason.PLACEMENT_DIFFERS, text)
    if degraded := [found for found in facts.edges if found.state is EdgeState.DEGRADED]:
        return ConditionUpdate(_KIND, ConditionStatus.FALSE, Reason.TRANSPORT_DEGRADED, in_words(degraded))
    counts = release_of(plan.series).transfer_counter is not None
    connected = [found for found in facts.edges if found.edge.connector is not None]
    if connected and counts:
        return _counted(facts)
    if up < expected:
        return _unknown(Reason.NOT_OBSERVED_YET, f"{up} of {expected} pods have been ready since they started")
    if any(edge.protocol is Protocol.RDMA for edge in plan.edges):
        text = f"both ends hold {plan.rdma_resource}; that transfers use it has not been observed"
        return _unknown(Reason.RDMA_NOT_VERIFIED, text)
    note = "" if counts else " (this release does not count payloads)"
    text = f"{_AS_PLANNED}, so {plan.transport} is what the edges should use{note}"
    return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.PLACEMENT_AS_PLANNED, text)


def _counted(facts: Facts) -> ConditionUpdate:
    """What the engine's own counters say of the edges that a connector carries."""
    connected = [found for found in facts.edges if found.edge.connector is not None]
    seen = facts.snapshot.signals.transfers
    if unused := [found for found in connected if not seen.has_counted(found.edge)]:
        return _unknown(Reason.NOT_USED_YET, in_words(unused))
    if unverified := [found for found in connected if found.state is EdgeState.UNKNOWN]:
        return _unknown(Reason.RDMA_NOT_VERIFIED, in_words(unverified))
    transport = facts.current.revision.plan.transport
    text = f"{_AS_PLANNED}, and the engine counted payloads over {transport} on every edge that has a connector"
    return ConditionUpdate(_KIND, ConditionStatus.TRUE, Reason.TRANSFERS_COUNTED, text)


def _unknown(reason: Reason, message: str) -> ConditionUpdate:
    return ConditionUpdate(_KIND, ConditionStatus.UNKNOWN, reason, message)
