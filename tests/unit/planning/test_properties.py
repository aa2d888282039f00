"""Properties of every plan for any nodes and spec; placement is compared with all placements."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, target
from hypothesis import strategies as st

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.api.serving_spec import RaySpec
from omni_operator.api.spec import Connector, OmniDeploymentSpec, Protocol, RdmaPolicy, Strategy
from omni_operator.children.revision import new_revision
from omni_operator.connectors.transport import Reach
from omni_operator.planning.capacity import Capacity, admitting_nodes
from omni_operator.planning.feasibility import is_still_feasible
from omni_operator.planning.model import Plan, PlanError, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory, Node
from omni_operator.topology.namespace import PodSecurity
from tests.unit import strategies
from tests.unit.make import GPU, HCA, OWNER, STREAMING, TWO_STAGES
from tests.unit.pods import can_follow_wherever_the_first_goes, can_place, pods_of
from tests.unit.strategies import Nodes, a_plan, badness, plan

every_kind = pytest.mark.parametrize("kind", strategies.KINDS)
a_cluster = given(spec=strategies.specs(), nodes=strategies.nodes(), security=strategies.security_levels)


def _places(spec: OmniDeploymentSpec, plan: Plan, nodes: Nodes, *, available: bool) -> bool:
    pods = pods_of(OWNER, new_revision(spec=spec, plan=plan), spec.replicas)
    return can_place(pods, nodes, capacity=Capacity.AVAILABLE if available else Capacity.ALLOCATABLE)


@every_kind
@given(nodes=strategies.nodes(), security=strategies.security_levels, data=st.data())
def test_the_order_of_nodes_changes_nothing(
    kind: str, nodes: Nodes, security: PodSecurity, data: st.DataObject
) -> None:
    spec = data.draw(strategies.KINDS[kind]())
    shuffled = tuple(data.draw(st.permutations(nodes)))
    assert plan(spec, shuffled, security) == plan(spec, nodes, security)


@a_cluster
def test_every_plan_can_be_placed(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> None:
    found = plan(spec, nodes, security)
    assume(isinstance(found, Planned) and spec.ray.cluster_ref is None)
    assert isinstance(found, Planned)
    target(float(found.plan.accelerators * spec.replicas))
    assert _places(spec, found.plan, nodes, available=False)
    assert _places(spec, found.plan, nodes, available=True) == (found.waits_for is None)
    assert is_still_feasible(found.plan, spec=spec, inventory=Inventory(nodes=nodes))


@a_cluster
def test_a_replica_stays_in_one_domain_wherever_its_first_worker_starts(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    placement = spec.placement.model_copy(update={"topology_key": strategies.ZONE, "strategy": Strategy.SPREAD})
    spec = spec.model_copy(update={"placement": placement, "replicas": 1, "ray": RaySpec()})
    made = a_plan(spec, nodes, security)
    assert can_follow_wherever_the_first_goes(pods_of(OWNER, new_revision(spec=spec, plan=made), 1), nodes)


def _in_a_large_node(spec: OmniDeploymentSpec, strategy: Strategy) -> Plan:
    """The layout of a strategy, where nothing stands in its way."""
    model = spec.model
    if model.name == STREAMING and spec.engine.version == "0.16.0":  # has no transport between nodes; as many stages
        model = model.model_copy(update={"name": TWO_STAGES})
    placement = spec.placement.model_copy(update={"strategy": strategy})
    transport = spec.transport.model_copy(update={"rdma": RdmaPolicy.NEVER, "edges": []})
    other = spec.model_copy(update={"model": model, "placement": placement, "transport": transport})
    large = Node(name="large", labels={strategies.ZONE: "large"}, allocatable={GPU: 99}, available={GPU: 99})
    found = make_plan(spec=other, inventory=Inventory(nodes=(large,)), pod_security=PodSecurity.PRIVILEGED)
    assert isinstance(found, Planned), found
    return found.plan.model_copy(update={"domains": None})  # the large node's zone is not one of theirs


@a_cluster
def test_no_layout_is_said_exactly_when_nothing_can_be_placed(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    found = plan(spec, nodes, security)
    assume(not (isinstance(found, PlanError) and found.reason is Reason.UNKNOWN_PIPELINE))  # 0.14 lacks one of them
    refused = isinstance(found, PlanError) and found.reason is Reason.NO_LAYOUT
    wanted = spec.placement.strategy
    tried = (Strategy.ONE_NODE, Strategy.SPREAD) if wanted is Strategy.AUTO else (wanted,)
    theirs = spec.ray.cluster_ref is not None
    placed = theirs or any(_places(spec, _in_a_large_node(spec, s), nodes, available=False) for s in tried)
    assert refused != placed


@a_cluster
def test_shared_memory_needs_a_shared_node_and_permission(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    for edge in made.edges:
        if edge.protocol is Protocol.SHM:
            assert edge.connector is Connector.SHARED_MEMORY
            assert edge.reach is Reach.SAME_NODE
            assert made.strategy is Strategy.ONE_NODE
            assert security is PodSecurity.PRIVILEGED
            assert spec.transport.shared_memory == "Allow"
            assert spec.ray.cluster_ref is None
    assert made.node_shared_memory == any(edge.protocol is Protocol.SHM for edge in made.edges)


@a_cluster
def test_rdma_only_where_nodes_that_offer_it_can_hold_both_ends(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    used = any(edge.protocol is Protocol.RDMA for edge in made.edges)
    assert (made.rdma_resource is not None) == used
    if used:
        assert made.rdma_resource is not None
        assert spec.transport.rdma != "Never"
        assert security is PodSecurity.PRIVILEGED
        assert spec.ray.cluster_ref is None
        able = tuple(n for n in admitting_nodes(spec, Inventory(nodes=nodes)) if n.allocatable.get(made.rdma_resource))
        pods = [p for p in pods_of(OWNER, new_revision(spec=spec, plan=made), spec.replicas) if p.demands]
        assert all(pod.demands.get(made.rdma_resource) == 1 for pod in pods)
        assert can_place(pods, able, capacity=Capacity.ALLOCATABLE)


@a_cluster
def test_policies_are_kept_and_a_store_has_one_protocol(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    stored = {edge.protocol for edge in made.edges if edge.connector is Connector.MOONCAKE_STORE}
    assert len(stored) <= 1
    assert (made.store is None) == (not stored)
    if made.store:
        assert stored == {made.store.protocol}
    if spec.transport.rdma == "Require":
        assert all(edge.protocol is not Protocol.TCP for edge in made.edges)
    for asked in spec.transport.edges:
        edge = next(e for e in made.edges if (e.from_stage, e.to_stage) == (asked.from_stage, asked.to_stage))
        assert asked.protocol in {None, edge.protocol}
        assert asked.connector in {None, edge.connector}


@a_cluster
def test_sizes_hold_the_payloads(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> None:
    made = a_plan(spec, nodes, security)
    in_shm = sum(edge.max_payload_bytes for edge in made.edges if edge.protocol is Protocol.SHM)
    largest = max((edge.max_payload_bytes for edge in made.edges), default=0)
    for sizes in (*(group.sizes for group in made.groups), made.serving.sizes):
        assert sizes.object_store_bytes >= largest
        assert sizes.shm_bytes >= sizes.object_store_bytes + in_shm
        assert sizes.memory_bytes >= sizes.shm_bytes
    if made.store:
        stored = [e.max_payload_bytes for e in made.edges if e.connector is Connector.MOONCAKE_STORE]
        pool = made.store.segment_bytes + made.store.localbuf_bytes
        assert made.store.localbuf_bytes > max(stored)
        assert 2 * made.store.segment_bytes >= 8 * max(stored), "two clients hold as many as may be in flight, twice"
        assert made.serving.sizes.memory_bytes >= made.serving.sizes.shm_bytes + len(stored) * pool


@every_kind
@given(
    nodes=strategies.nodes(most=3),
    security=strategies.security_levels,
    extra=strategies.node("z", all_free=True),
    data=st.data(),
)
def test_one_more_free_node_never_makes_it_worse(
    kind: str, nodes: Nodes, security: PodSecurity, extra: Node, data: st.DataObject
) -> None:
    spec = data.draw(strategies.KINDS[kind]())
    more, without = plan(spec, (*nodes, extra), security), plan(spec, nodes, security)
    assert badness(more, spec) <= badness(without, spec)


@a_cluster
def test_refusals_name_what_to_change(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> None:
    found = plan(spec, nodes, security)
    assume(isinstance(found, PlanError))
    assert isinstance(found, PlanError)
    allowed = {
        ConditionType.ACCEPTED: {Reason.INVALID_SPEC, Reason.UNKNOWN_PIPELINE},
        ConditionType.PLANNED: {Reason.NO_LAYOUT, Reason.POLICY_CANNOT_BE_MET},
    }
    assert found.reason in allowed[found.condition]
    fields = (
        "placement.",
        "transport.",
        "accelerator.",
        "engine.version",
        "nodes that may be used",
        "pod security level",
        "async_chunk",
        HCA,
        "rdma/*",
    )
    assert any(field in found.message for field in fields), found.message
    assert "None" not in found.message


@a_cluster
def test_what_is_said_of_waiting_and_rejections_is_complete(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    found = plan(spec, nodes, security)
    assume(isinstance(found, Planned))
    assert isinstance(found, Planned)
    assert "None" not in (found.waits_for or "")
    for edge in found.plan.edges:
        assert edge.reason
        assert all(rejected.fact for rejected in edge.rejected)
