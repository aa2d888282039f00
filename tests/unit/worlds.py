"""Hypothesis strategies for nodes and specs: small worlds in which every rule of the planner can meet every other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.model import PodSecurity
from omni_operator.topology.inventory import Node, Taint
from tests.unit import make

ZONE, OTHER_HCA = "topology.kubernetes.io/zone", "rdma/other"


@st.composite
def nodes(draw: st.DrawFn, *, most: int = 4) -> tuple[Node, ...]:
    return tuple(
        draw(node(name)) for name in "abcdef"[: draw(st.integers(0, most) if draw(st.booleans()) else st.just(most))]
    )


@st.composite
def node(draw: st.DrawFn, name: str, *, all_free: bool = False) -> Node:
    offers = {make.GPU: draw(st.integers(0, 4)), make.HCA: draw(st.sampled_from((0, 0, 1, 2, 3, 8)))}
    offers[OTHER_HCA] = draw(st.sampled_from((0, 0, 0, 4)))
    offers = {resource: count for resource, count in offers.items() if count}
    free = {r: count if all_free else draw(st.integers(0, count)) for r, count in offers.items()}
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
        offers=offers,
        free=free,
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


security_levels = st.sampled_from((PodSecurity.PRIVILEGED, *PodSecurity))
