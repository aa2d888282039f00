"""Properties of every plan without the Ray backend: Local and Headless, with all kinds of edges."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from omni_operator.api.conditions import Reason
from omni_operator.api.ports import HEAD_REGISTRATION
from omni_operator.api.spec import Backend, Connector, OmniDeploymentSpec, Protocol, Strategy
from omni_operator.children.revision import new_revision
from omni_operator.connectors.mooncake import mooncake_acknowledges, mooncake_has_store
from omni_operator.connectors.transport import TRANSPORTS, Reach, Transport
from omni_operator.engine.pipeline import catalog
from omni_operator.engine.release import PayloadKind
from omni_operator.engine.releases import release_of
from omni_operator.planning.capacity import Capacity, admitting_nodes
from omni_operator.planning.cost import CHUNK, Load, best
from omni_operator.planning.demand import demands, device_groups
from omni_operator.planning.feasibility import is_still_feasible
from omni_operator.planning.model import PlanError, Planned
from omni_operator.planning.packing import Bin, Demand, fits
from omni_operator.planning.ports import ports_of
from omni_operator.topology.inventory import Inventory, Node
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import parse
from tests.unit import strategies
from tests.unit.make import OWNER
from tests.unit.pods import can_place, pods_of
from tests.unit.strategies import Nodes, a_plan, plan

a_cluster = given(spec=strategies.modern_specs(), nodes=strategies.nodes(), security=strategies.security_levels)


@a_cluster
def test_every_plan_can_be_placed(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> None:
    found = plan(spec, nodes, security)
    assume(isinstance(found, Planned))
    assert isinstance(found, Planned)
    pods = pods_of(OWNER, new_revision(spec=spec, plan=found.plan), spec.replicas)
    assert can_place(pods, nodes, capacity=Capacity.ALLOCATABLE)
    assert can_place(pods, nodes, capacity=Capacity.AVAILABLE) == (found.waits_for is None)
    assert is_still_feasible(found.plan, spec=spec, inventory=Inventory(nodes=nodes))


@a_cluster
def test_every_connector_carries_its_edge_in_this_release(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    release, shipped = release_of(made.series), catalog()[made.pipeline].releases[made.series]
    by_ends = {(edge.producer, edge.consumer): edge for edge in shipped.edges}
    assert by_ends.keys() == {(edge.producer, edge.consumer) for edge in made.edges}
    for edge in made.edges:
        known = by_ends[edge.producer, edge.consumer]
        if edge.connector is None:
            assert edge.payload_kind is PayloadKind.PROMPT
            assert known.payload != "kv_cache"
            continue
        assert edge.connector in release.supported_connectors[edge.payload_kind]
        assert edge.connector_class == release.connectors[edge.connector].class_name
        assert edge.payload_kind is not PayloadKind.CHUNKS or (made.async_chunk and known.in_chunks)
        assert edge.payload_kind is PayloadKind.CHUNKS or known.in_one_part
        if edge.connector is Connector.NIXL:
            assert spec.engine.nixl
        if edge.connector is Connector.MOONCAKE_STORE:
            assert mooncake_has_store(release.mooncake(spec.engine.mooncake_version))
        if edge.connector is Connector.MOONCAKE_TRANSFER_ENGINE and edge.protocol is Protocol.TCP:
            assert mooncake_acknowledges(release.mooncake(spec.engine.mooncake_version))


@a_cluster
def test_shared_memory_only_inside_a_pod_and_a_stage_has_one_connector(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    home = {stage.name: stage.pod for stage in made.stages}
    copies = {group.name: group.pods for group in made.groups}
    for edge in made.edges:
        same = home[edge.from_stage] == home[edge.to_stage]
        assert (edge.reach is Reach.SAME_POD) == same
        assert not same or copies.get(home[edge.from_stage], 1) == 1
        if edge.protocol is Protocol.SHM:
            assert edge.reach is Reach.SAME_POD
    for one, other in combinations([edge for edge in made.edges if edge.connector is not None], 2):
        if one.consumer == other.producer or other.consumer == one.producer:
            assert (one.connector, one.protocol) == (other.connector, other.protocol)
    assert not made.node_shared_memory
    stored = {edge.protocol for edge in made.edges if edge.connector is Connector.MOONCAKE_STORE}
    assert len(stored) <= 1


@a_cluster
def test_stages_that_share_a_device_share_a_pod_and_see_the_same_one(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    needs = demands(catalog()[made.pipeline].releases[made.series], spec, backend=made.backend)
    by_id = {stage.id: stage for stage in made.stages}
    assert by_id[0].pod == "serving"
    assert made.backend is not Backend.LOCAL or {stage.pod for stage in made.stages} == {"serving"}
    for unit in device_groups(needs):
        assert len({by_id[stage.id].pod for stage in unit}) == 1
    sizes = {"serving": made.serving.accelerators} | {group.name: group.accelerators for group in made.groups}
    for one in needs:
        mine = by_id[one.id]
        assert all(0 <= device < sizes[mine.pod] for device in mine.devices)
        for other in needs:
            theirs = by_id[other.id]
            if one.id < other.id and mine.pod == theirs.pod:
                shared = set(mine.devices) & set(theirs.devices)
                assert len(shared) == len(set(one.devices) & set(other.devices))


@a_cluster
def test_rdma_is_requested_by_both_ends_and_by_nobody_else(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    home = {stage.name: stage.pod for stage in made.stages}
    ends = {home[n] for e in made.edges if e.protocol is Protocol.RDMA for n in (e.from_stage, e.to_stage)}
    asking = {group.name for group in made.groups if group.rdma} | ({"serving"} if made.serving.rdma else set())
    assert asking == ends
    assert (made.rdma_resource is not None) == bool(ends)
    if ends:
        assert spec.transport.rdma != "Never"
        assert security is PodSecurity.PRIVILEGED
        able = admitting_nodes(spec, Inventory(nodes=nodes))
        assert any(node.allocatable.get(made.rdma_resource or "") for node in able)


@a_cluster
def test_wishes_are_kept(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> None:
    made = a_plan(spec, nodes, security)
    if spec.transport.rdma == "Require":
        assert all(edge.protocol is not Protocol.TCP for edge in made.edges if edge.connector is not None)
    for asked in spec.transport.edges:
        edge = next(e for e in made.edges if (e.from_stage, e.to_stage) == (asked.from_stage, asked.to_stage))
        assert asked.protocol in {None, edge.protocol}
        assert asked.connector in {None, edge.connector}
    assert spec.engine.backend in {Backend.AUTO, made.backend}
    for override in spec.stages:
        stage = next(s for s in made.stages if s.name == override.name)
        assert override.replicas in {None, stage.replicas}
        assert override.accelerators in {None, len(stage.devices), len(stage.devices) // stage.replicas}


@a_cluster
def test_what_would_be_clearly_quicker_is_rejected_with_a_reason(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    made = a_plan(spec, nodes, security)
    ends = Counter(stage for edge in made.edges if edge.connector for stage in (edge.producer, edge.consumer))
    for edge in made.edges:
        if edge.connector is None or ends[edge.producer] + ends[edge.consumer] > 2:  # edges that meet share the cost
            continue
        chosen, rejected = Transport(edge.connector, edge.protocol), {each.choice for each in edge.rejected}
        usable = [each for each in TRANSPORTS if str(each) not in rejected]
        stated = any(
            o.payload and (o.from_stage, o.to_stage) == (edge.from_stage, edge.to_stage) for o in spec.transport.edges
        )
        assert best(usable, [Load(edge.reach, edge.payload_bytes, stated)]) == chosen
        assert str(chosen) not in rejected
    for asked in spec.transport.edges:
        edge = next(e for e in made.edges if (e.from_stage, e.to_stage) == (asked.from_stage, asked.to_stage))
        if asked.payload is not None and edge.connector is not None:
            stated = int(parse(asked.payload))
            assert edge.payload_bytes == (min(CHUNK, stated) if edge.payload_kind is PayloadKind.CHUNKS else stated)
            assert edge.max_payload_bytes >= stated


@a_cluster
def test_no_layout_is_said_exactly_when_nothing_can_be_placed(
    spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity
) -> None:
    """Compared with all partitions of the device groups on all nodes, where any transport works."""
    free = spec.model_copy(
        update={
            "transport": spec.transport.model_copy(update={"rdma": "Never", "edges": []}),
            "engine": spec.engine.model_copy(update={"nixl": True, "mooncake_version": None, "version": "0.30.0"}),
        }
    )
    found = plan(free, nodes, security)
    assume(not (isinstance(found, PlanError) and found.reason in {Reason.INVALID_SPEC, Reason.UNKNOWN_PIPELINE}))
    refused = isinstance(found, PlanError) and found.reason is Reason.NO_LAYOUT
    assert refused != _some_partition_fits(free, nodes)


def _some_partition_fits(spec: OmniDeploymentSpec, nodes: Nodes) -> bool:
    pipeline = catalog()[spec.model.pipeline or ""].releases["0.30"]
    needs = demands(pipeline, spec, backend=Backend.HEADLESS)
    groups = device_groups(needs)
    by_name = {override.name: override for override in spec.stages}
    copies, inventory = max(1, spec.replicas), Inventory(nodes=nodes)
    for pods_of_groups in _partitions(list(range(len(groups)))):
        local = len(pods_of_groups) == 1
        if spec.engine.backend is not Backend.AUTO and local != (spec.engine.backend is Backend.LOCAL):
            continue
        if spec.placement.strategy is Strategy.SPREAD and (local or len(pods_of_groups) != len(groups)):
            continue
        pods: list[tuple[int, set[str]]] = []
        for members in pods_of_groups:
            stages = [stage for index in members for stage in groups[index]]
            count, size = 1, len({d for stage in stages for d in stage.devices})
            if len(stages) == 1 and stages[0].id != 0:
                count, size = stages[0].replicas, stages[0].per_replica
            own = [by_name[n] for s in stages if (n := pipeline.stage(s.id).name) in by_name]
            able = {node.name for node in admitting_nodes(spec, inventory, own)}
            pods += [(0 if spec.accelerator.type == "cpu" else size, able)] * count
        if _places(pods, nodes, copies=copies, key=spec.placement.topology_key):
            return True
    return False


def _partitions(items: list[int]) -> list[list[list[int]]]:
    if not items:
        return [[]]
    out = []
    for smaller in _partitions(items[1:]):
        out.append([[items[0]], *smaller])
        out += [[*smaller[:i], [items[0], *members], *smaller[i + 1 :]] for i, members in enumerate(smaller)]
    return out


def _places(pods: list[tuple[int, set[str]]], nodes: Nodes, *, copies: int, key: str | None) -> bool:
    """Whether `copies` of all pods can be placed, each copy inside one domain; tries everything."""
    left = {node.name: node.allocatable.get("nvidia.com/gpu", 0) for node in nodes}
    zones = {node.name: node.labels.get(key) if key else "" for node in nodes}

    def place(copy: int, at: int, zone: str | None) -> bool:
        if copy == copies:
            return True
        if at == len(pods):
            return place(copy + 1, 0, None)
        size, able = pods[at]
        for name in sorted(able):
            if left[name] >= size and zones[name] is not None and (at == 0 or zones[name] == zone):
                left[name] -= size
                if place(copy, at + 1, zones[name]):
                    return True
                left[name] += size
        return False

    return place(0, 0, None)


@a_cluster
def test_ports_are_apart_and_in_range(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> None:
    """Of all copies, as if they shared a pod, beside everything else that listens there."""
    made = a_plan(spec, nodes, security)
    formula = release_of(made.series).ports
    needs = demands(catalog()[made.pipeline].releases[made.series], spec, backend=made.backend)
    taken: dict[str, set[int]] = {}
    for edge in made.edges:
        stage = needs[edge.producer]
        for use in ports_of(edge, formula=formula, replicas=stage.replicas, ranks=stage.per_replica):
            mine = taken.setdefault(made.stages[stage.id].pod, {spec.serving.port, spec.ray.port, HEAD_REGISTRATION})
            assert use.port not in mine
            assert 1024 < use.port <= 65535
            mine.add(use.port)


@given(
    spec=strategies.modern_specs(),
    nodes=strategies.nodes(),
    security=strategies.security_levels,
    more=st.integers(2, 8),
)
def test_scaling_moves_no_port(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity, more: int) -> None:
    spare = Node(
        name="z", labels={strategies.ZONE: "z"}, allocatable={"nvidia.com/gpu": 999}, available={"nvidia.com/gpu": 999}
    )
    before = a_plan(spec, (*nodes, spare), security)
    after = a_plan(spec.model_copy(update={"replicas": more}), (*nodes, spare), security)
    ports = {(e.producer, e.consumer): e.port for e in before.edges if e.port}
    assert all(ports.get((e.producer, e.consumer), e.port) == e.port for e in after.edges if e.port)


@a_cluster
def test_sizes_hold_the_payloads(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> None:
    made = a_plan(spec, nodes, security)
    home = {stage.id: stage.pod for stage in made.stages}
    for name, sizes in [("serving", made.serving.sizes), *((g.name, g.sizes) for g in made.groups)]:
        mine = [e for e in made.edges if name in {home[e.producer], home[e.consumer]}]
        in_shm = sum(e.max_payload_bytes for e in mine if e.protocol is Protocol.SHM)
        assert sizes.shm_bytes >= sizes.object_store_bytes + in_shm
        assert sizes.memory_bytes >= sizes.shm_bytes + sizes.pool_bytes
        pinned = sum(edge.pool_bytes for edge in mine if home[edge.producer] == name)
        assert sizes.pool_bytes >= pinned
        for edge in mine:
            if edge.connector is Connector.MOONCAKE_TRANSFER_ENGINE:
                assert edge.pool_bytes >= 2 * edge.max_payload_bytes
            if edge.connector is Connector.MOONCAKE_STORE:
                assert made.store is not None
                assert made.store.localbuf_bytes > edge.max_payload_bytes
                assert sizes.pool_bytes >= made.store.segment_bytes + made.store.localbuf_bytes


@settings(max_examples=1000)
@given(
    pods=st.lists(st.builds(Demand, st.integers(0, 4), st.integers(0, 2), st.sampled_from((1, 1, 2, 3))), max_size=4),
    bins=st.lists(st.builds(Bin, st.integers(0, 6), st.integers(0, 3), st.sampled_from((1, 2, 3))), max_size=4),
    copies=st.integers(1, 2),
)
def test_packing_is_exact(pods: list[Demand], bins: list[Bin], copies: int) -> None:
    counted = {one: bins.count(one) for one in bins}

    def place(todo: list[Demand], left: list[Bin]) -> bool:
        if not todo:
            return True
        return any(
            place(todo[1:], [*left[:i], one.minus(todo[0], 1), *left[i + 1 :]])
            for i, one in enumerate(left)
            if one.capacity_for(todo[0])
        )

    assert fits(pods, counted, copies=copies) == place(pods * copies, bins)
