"""Hypothesis strategies for nodes and specs.

Clusters are small, and every rule of the planner can meet every other.
"""

from __future__ import annotations

from typing import Any

from hypothesis import assume, event
from hypothesis import strategies as st

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.connectors.transport import Transport
from omni_operator.engine.pipeline import StageKind, catalog
from omni_operator.engine.release import PayloadSender
from omni_operator.engine.releases import release_of
from omni_operator.planning.cost import Load, cost
from omni_operator.planning.model import Plan, PlanError, Planned
from omni_operator.planning.planner import make_plan
from omni_operator.topology.inventory import Inventory, Node, Taint
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make

Nodes = tuple[Node, ...]
ZONE, OTHER_HCA = "topology.kubernetes.io/zone", "rdma/other"


@st.composite
def nodes(draw: st.DrawFn, *, most: int = 4) -> tuple[Node, ...]:
    return tuple(
        draw(node(name)) for name in "abcdef"[: draw(st.integers(0, most) if draw(st.booleans()) else st.just(most))]
    )


@st.composite
def node(draw: st.DrawFn, name: str, *, all_free: bool = False) -> Node:
    allocatable = {make.GPU: draw(st.integers(0, 4)), make.HCA: draw(st.sampled_from((0, 0, 1, 2, 3, 8)))}
    allocatable[OTHER_HCA] = draw(st.sampled_from((0, 0, 0, 4)))
    allocatable = {resource: count for resource, count in allocatable.items() if count}
    available = {r: count if all_free else draw(st.integers(0, count)) for r, count in allocatable.items()}
    labels = {"kubernetes.io/hostname": name}
    if zone := draw(st.sampled_from(("", "x", "x", "y"))):
        labels[ZONE] = zone
    tainted = not all_free and draw(st.integers(0, 7)) == 0
    return Node(
        name=name,
        labels=labels,
        taints=(Taint("gpu", "yes", "NoSchedule"),) if tainted else (),
        ready=all_free or draw(st.integers(0, 9)) > 0,
        cordoned=not all_free and draw(st.integers(0, 9)) == 0,
        allocatable=allocatable,
        available=available,
    )


@st.composite
def specs(draw: st.DrawFn) -> OmniDeploymentSpec:
    name = draw(st.sampled_from((make.MODEL, make.TWO_STAGES, make.STREAMING)))
    transport: dict[str, Any] = {
        "rdma": draw(st.sampled_from(("Prefer", "Prefer", "Require", "Never"))),
        "sharedMemory": draw(st.sampled_from(("Allow", "Allow", "PodOnly"))),
    }
    if name == make.MODEL and draw(st.integers(0, 3)) == 0:
        edge = draw(st.sampled_from((("thinker", "talker"), ("talker", "code2wav"))))
        override: dict[str, Any] = {"from": edge[0], "to": edge[1]}
        override |= draw(
            st.sampled_from(
                ({"protocol": "tcp"}, {"protocol": "rdma"}, {"protocol": "shm"}, {"connector": "MooncakeStore"})
            )
        )
        transport["edges"] = [override]
    if transport["rdma"] != "Never" and draw(st.integers(0, 4)) == 0:
        transport["rdmaResource"] = make.HCA
    placement: dict[str, Any] = {"strategy": draw(st.sampled_from(("Auto", "Auto", "OneNode", "Spread")))}
    if draw(st.integers(0, 3)) == 0:
        placement["topologyKey"] = ZONE
    if draw(st.booleans()):
        placement["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    parts: dict[str, Any] = {"transport": transport, "placement": placement, "replicas": draw(st.integers(0, 2))}
    if draw(st.integers(0, 5)) == 0:
        parts["accelerator"] = {"type": "cpu"}
    if draw(st.integers(0, 7)) == 0:
        parts["ray"] = {"clusterRef": {"name": "theirs"}}
    version = draw(st.sampled_from(("0.16.0", "0.16.0", "0.14.0"))) if name != make.TWO_STAGES else "0.16.0"
    return make.spec(model={"name": name}, engine={"version": version}, **parts)


# Every kind of edge and every way to share devices: middle stages, chunks that may be whole and
# that may not, KV cache, prompts.
MODERN = (
    "qwen2_5_omni",
    "qwen3_omni_moe",
    "qwen3_tts_high_concurrency",
    "fish_qwen3_omni_2gpu",
    "minicpmo_4_5_3gpu",
    "minicpmo_4_5_3gpu_stage1_replicas",
    "glm_image",
    "bagel",
    "hunyuan_image_3_moe",
    "step_audio_2",
    "minimax_music3_2gpu",
)


@st.composite
def modern_specs(draw: st.DrawFn) -> OmniDeploymentSpec:
    """Specs for releases without the Ray backend."""
    entry = catalog()[draw(st.sampled_from(MODERN))]
    series = draw(st.sampled_from([series for series in entry.releases if series not in {"0.14", "0.16"}]))
    pipeline = entry.releases[series]
    backends = ["Auto", "Local"] if series == "0.18" else ["Auto", "Auto", "Local", "Headless"]
    engine: dict[str, Any] = {"version": f"{series}.0", "backend": draw(st.sampled_from(backends))}
    if draw(st.booleans()):
        engine["nixl"] = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        engine["mooncakeVersion"] = draw(st.sampled_from(("0.3.11.post1", "0.3.13.post1")))
    transport: dict[str, Any] = {"rdma": draw(st.sampled_from(("Prefer", "Prefer", "Require", "Never")))}
    if draw(st.integers(0, 3)) == 0:
        edge = draw(st.sampled_from(pipeline.edges))
        wish = draw(
            st.sampled_from(
                (
                    {"protocol": "tcp"},
                    {"protocol": "shm"},
                    {"connector": "MooncakeStore"},
                    {"connector": "Nixl"},
                    {"connector": "MooncakeTransferEngine"},
                    {"payload": "2Ki"},
                    {"payload": "64Mi"},
                    {"connector": "Nixl", "payload": "2Gi"},
                )
            )
        )
        if not (transport["rdma"] == "Require" and wish.get("protocol") == "tcp"):
            ends = (pipeline.stage(i).name for i in (edge.producer, edge.consumer))
            transport["edges"] = [dict(zip(("from", "to"), ends, strict=True)) | wish]
    placement: dict[str, Any] = {"strategy": draw(st.sampled_from(("Auto", "Auto", "Auto", "Spread")))}
    if draw(st.integers(0, 3)) == 0:
        placement["topologyKey"] = ZONE
    parts: dict[str, Any] = {"transport": transport, "placement": placement, "replicas": draw(st.integers(0, 2))}
    if draw(st.integers(0, 2)) == 0:
        stage = draw(st.sampled_from(pipeline.stages))
        own: dict[str, Any] = {"name": stage.name}
        if stage.kind is not StageKind.DIFFUSION and draw(st.booleans()):
            own["accelerators"] = draw(st.integers(1, 2))
        if draw(st.booleans()):
            own["nodeSelector"] = {"kubernetes.io/hostname": draw(st.sampled_from("ab"))}
        elif draw(st.booleans()) and series != "0.18":
            own["replicas"] = draw(st.integers(1, 3))
        parts["stages"] = [own]
    if draw(st.integers(0, 7)) == 0:
        parts["accelerator"] = {"type": "cpu"}
    return make.spec(model={"name": "m", "pipeline": entry.name}, engine=engine, **parts)


security_levels = st.sampled_from((PodSecurity.PRIVILEGED, *PodSecurity))
KINDS = {"ray": specs, "modern": modern_specs}


def plan(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> Planned | PlanError:
    """The planner's answer, with what is not free held by others."""
    held = [(n.name, {r: count - n.available[r] for r, count in n.allocatable.items()}) for n in nodes]
    found = make_plan(spec=spec, inventory=Inventory.of(nodes, held), pod_security=security)
    done = isinstance(found, Planned)
    event(f"{found.plan.backend} {found.plan.strategy} {found.plan.transport}" if done else found.reason.value)
    return found


def a_plan(spec: OmniDeploymentSpec, nodes: Nodes, security: PodSecurity) -> Plan:
    """The plan, of clusters that have one."""
    found = plan(spec, nodes, security)
    assume(isinstance(found, Planned))
    assert isinstance(found, Planned)
    return found.plan


def badness(found: Planned | PlanError, spec: OmniDeploymentSpec) -> tuple[int, int, int]:
    """The order of plans, best last.

    No plan is worst, then one that waits, then one without async_chunk, then the cost of payloads.
    """
    if isinstance(found, PlanError):
        return (2, 0, 0)
    shipped = catalog()[found.plan.pipeline].releases[found.plan.series]
    moved = sum(cost(transport, loads).weight for transport, loads in _loads(found.plan, spec))
    return (int(found.waits_for is not None), int(shipped.async_chunk != found.plan.async_chunk), moved)


def _loads(made: Plan, spec: OmniDeploymentSpec) -> list[tuple[Transport, list[Load]]]:
    """What passes over each connector.

    Where workers send payloads, edges that meet in a stage have one connector.
    """
    stated = {(said.from_stage, said.to_stage) for said in spec.transport.edges if said.payload is not None}
    by_workers = release_of(made.series).payload_sender is PayloadSender.WORKERS
    found: list[tuple[set[int], set[int], Transport, list[Load]]] = []
    for edge in made.edges:
        if edge.connector is None:
            continue
        mine = ({edge.producer}, {edge.consumer}, Transport(edge.connector, edge.protocol))
        loads = [Load(edge.reach, edge.payload_bytes, (edge.from_stage, edge.to_stage) in stated)]
        for other in [o for o in found if by_workers and (o[0] & mine[1] or o[1] & mine[0])]:
            found.remove(other)
            mine = (mine[0] | other[0], mine[1] | other[1], mine[2])
            loads += other[3]
        found.append((*mine, loads))
    return [(transport, loads) for _, _, transport, loads in found]
