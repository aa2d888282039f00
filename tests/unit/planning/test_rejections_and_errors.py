"""Why a transport is rejected and why a spec has no plan.

The code, and a message that names what a user can change.
"""

from __future__ import annotations

from typing import Any

import pytest

from omni_operator.api.conditions import ConditionType, Reason
from omni_operator.connectors.transport import Rejection
from omni_operator.topology.inventory import Inventory, Taint
from omni_operator.topology.namespace import PodSecurity
from tests.unit import make
from tests.unit.make import GPU, ONE_NODE, RDMA_NODES, STREAMING, TWO_NODES, inventory, node, planned, spec

SHM, TCP, RDMA, ENGINE = "SharedMemory/shm", "MooncakeStore/tcp", "MooncakeStore/rdma", "MooncakeTransferEngine/tcp"
ACCEPTED, PLANNED = ConditionType.ACCEPTED, ConditionType.PLANNED
EMPTY, TAINTED = inventory(), inventory(node("a", 4, taints=(Taint("k", "", "NoExecute"),)))
SINGLES = inventory(node("a", 1), node("b", 1))
ZONES = inventory(node("a", 2, labels={"zone": "x"}), node("b", 2, labels={"zone": "y"}))
BY_ZONE, CPU = {"placement": {"topologyKey": "zone"}}, {"accelerator": {"type": "cpu"}}
SPREAD = {"placement": {"strategy": "Spread"}}
THEIRS = {"ray": {"clusterRef": {"name": "theirs"}}}


def stage(name: str = "thinker", **asked: Any) -> dict[str, Any]:
    return {"stages": [{"name": name, **asked}]}


def rules(**asked: Any) -> dict[str, Any]:
    return {"transport": asked}


def edge(one: str, other: str, protocol: str) -> dict[str, Any]:
    return {"from": one, "to": other, "protocol": protocol}


def rejection(
    name: str,
    parts: dict[str, Any],
    nodes: Inventory,
    choice: str,
    code: Rejection,
    words: str,
    security: PodSecurity = make.PRIVILEGED,
) -> Any:
    return pytest.param(parts, nodes, choice, code, words, security, id=name)


def plan_error(
    name: str,
    parts: dict[str, Any],
    nodes: Inventory,
    condition: ConditionType,
    reason: Reason,
    words: str,
    security: PodSecurity = make.PRIVILEGED,
) -> Any:
    return pytest.param(parts, nodes, condition, reason, words, security, id=name)


FIRST, SECOND = ("thinker", "talker"), ("talker", "code2wav")
MIXED = rules(edges=[edge(*FIRST, "rdma"), edge(*SECOND, "tcp")])

# fmt: off
REJECTIONS = [
    rejection("two nodes", {}, TWO_NODES, SHM, Rejection.NO_SHARED_MEMORY, "different nodes"),
    rejection("baseline", {}, ONE_NODE, SHM, Rejection.HOST_MEMORY_FORBIDDEN, "baseline", PodSecurity.BASELINE),
    rejection("restricted", {}, RDMA_NODES, RDMA, Rejection.CAPABILITY_FORBIDDEN, "IPC_LOCK", PodSecurity.RESTRICTED),
    rejection("pod only", rules(sharedMemory="PodOnly"), ONE_NODE, SHM, Rejection.FORBIDDEN_BY_USER,
        "transport.sharedMemory"),
    rejection("never", rules(rdma="Never"), RDMA_NODES, RDMA, Rejection.FORBIDDEN_BY_USER, "transport.rdma is Never"),
    rejection("a node without", {}, inventory(node("a", 2, rdma=4), node("b", 2)), RDMA, Rejection.NO_RDMA_ON_NODE,
        "no rdma/* on b"),
    rejection("too few", {}, inventory(node("a", 2, rdma=1), node("b", 2, rdma=1)), RDMA, Rejection.NO_RDMA_ON_NODE,
        "too few of rdma/hca"),
    rejection("taken", SPREAD, inventory(node("a", 4, rdma=4, rdma_available=0)), RDMA, Rejection.NO_RDMA_ON_NODE,
        "too little free now"),
    rejection("asked by name", rules(rdmaResource="rdma/ib"), RDMA_NODES, RDMA, Rejection.NO_RDMA_ON_NODE,
        "no rdma/ib on a, b"),
    rejection("no device in the server", {}, TWO_NODES, ENGINE, Rejection.NEEDS_ACCELERATOR_IN_SERVING_POD,
        "the serving pod has no accelerator"),
    rejection("old release", {"engine": {"version": "0.14.0"}}, TWO_NODES, ENGINE, Rejection.RELEASE_LACKS_CONNECTOR,
        "vllm-omni 0.14 has no"),
    rejection("their pods, rdma", THEIRS, RDMA_NODES, RDMA, Rejection.PODS_NOT_OURS, "ray.clusterRef"),
    rejection("their pods, memory", THEIRS, ONE_NODE, SHM, Rejection.PODS_NOT_OURS, "ray.clusterRef"),
    rejection("one protocol per store", rules(edges=[edge(*SECOND, "tcp")]), RDMA_NODES, RDMA,
        Rejection.FORBIDDEN_BY_USER, "one store has one protocol"),
]

PLAN_ERRORS = [
    plan_error("release", {"engine": {"version": "0.12.0"}}, TWO_NODES, ACCEPTED, Reason.UNSUPPORTED_RELEASE,
        "engine.version 0.12.0"),
    plan_error("exact release", {"engine": {"version": "0.99.0", "versionPolicy": "Exact"}}, TWO_NODES, ACCEPTED,
        Reason.UNSUPPORTED_RELEASE, "set Nearest to run it by the record of 0.30"),
    plan_error("backend of a release", {"engine": {"version": "0.18.0", "backend": "Headless"}}, TWO_NODES, ACCEPTED,
        Reason.BACKEND_UNAVAILABLE, "0.18 supports Local"),
    plan_error("model", {"model": {"name": "acme/unknown"}}, TWO_NODES, ACCEPTED, Reason.UNKNOWN_PIPELINE,
        "set model.pipeline"),
    plan_error("pipeline", {"model": {"pipeline": "nope"}}, TWO_NODES, ACCEPTED, Reason.UNKNOWN_PIPELINE,
        "model.pipeline nope"),
    plan_error("pipeline of a release", {"model": {"pipeline": "glm_image"}, "engine": {"version": "0.14.0"}},
        TWO_NODES, ACCEPTED, Reason.UNKNOWN_PIPELINE, "engine.version"),
    plan_error("backend", {"engine": {"backend": "Headless"}}, TWO_NODES, ACCEPTED, Reason.BACKEND_UNAVAILABLE,
        "engine.backend Headless"),
    plan_error("stage name", stage("thinkr"), TWO_NODES, ACCEPTED, Reason.INVALID_SPEC, "stages[thinkr]"),
    plan_error("stage devices", stage(accelerators=2), TWO_NODES, ACCEPTED, Reason.INVALID_SPEC,
        "stages[thinker].accelerators 2"),
    plan_error("stage copies", stage(replicas=2), TWO_NODES, ACCEPTED, Reason.INVALID_SPEC, "raise spec.replicas"),
    plan_error("stage nodes", stage(nodeSelector={"a": "b"}), TWO_NODES, ACCEPTED, Reason.INVALID_SPEC,
        "use placement.nodeSelector"),
    plan_error("stage taints", stage(tolerations=[{"key": "a"}]), TWO_NODES, ACCEPTED, Reason.INVALID_SPEC,
        "use placement.tolerations"),
    plan_error("edge name", rules(edges=[edge("talker", "thinker", "tcp")]), TWO_NODES, ACCEPTED, Reason.INVALID_SPEC,
        "transport.edges[talker -> thinker]"),
    plan_error("host weights", {"model": {"weights": {"hostPath": {"path": "/w"}}}}, TWO_NODES, ACCEPTED,
        Reason.INVALID_SPEC, "model.weights.hostPath", PodSecurity.BASELINE),
    plan_error("token of an old Ray", {"ray": {"version": "2.51.0", "tokenAuth": "Enabled"}}, TWO_NODES, ACCEPTED,
        Reason.INVALID_SPEC, "ray.tokenAuth"),
    plan_error("a node of their cluster", {**THEIRS, "placement": {"strategy": "OneNode"}}, TWO_NODES, ACCEPTED,
        Reason.INVALID_SPEC, "placement.strategy OneNode"),
    plan_error("a domain of their cluster", {**THEIRS, **BY_ZONE}, ZONES, ACCEPTED, Reason.INVALID_SPEC,
        "placement.topologyKey"),
    plan_error("mixed store", MIXED, RDMA_NODES, ACCEPTED, Reason.INVALID_SPEC, "transport.edges"),
    plan_error("no nodes", {}, EMPTY, PLANNED, Reason.NO_LAYOUT, "placement.nodeSelector"),
    plan_error("no nodes on cpu", CPU, EMPTY, PLANNED, Reason.NO_LAYOUT, "placement.nodeSelector"),
    plan_error("too few devices", {}, SINGLES, PLANNED, Reason.NO_LAYOUT, f"3 x {GPU}"),
    plan_error("what nodes offer", {}, SINGLES, PLANNED, Reason.NO_LAYOUT, "a: 1, b: 1"),
    plan_error("one node too small", {"placement": {"strategy": "OneNode"}}, TWO_NODES, PLANNED, Reason.NO_LAYOUT,
        "3 on one node"),
    plan_error("too many replicas", {"replicas": 3}, TWO_NODES, PLANNED, Reason.NO_LAYOUT, "each of 3 replicas"),
    plan_error("wrong label", {"placement": {"nodeSelector": {"pool": "gpu"}}}, TWO_NODES, PLANNED, Reason.NO_LAYOUT,
        "placement.nodeSelector"),
    plan_error("tainted", {}, TAINTED, PLANNED, Reason.NO_LAYOUT, "placement.tolerations"),
    plan_error("domains too small", BY_ZONE, ZONES, PLANNED, Reason.NO_LAYOUT, "placement.topologyKey zone"),
    plan_error("no domain on cpu", {**BY_ZONE, **CPU}, TWO_NODES, PLANNED, Reason.NO_LAYOUT,
        "placement.topologyKey zone"),
    plan_error("rdma required", rules(rdma="Require"), TWO_NODES, PLANNED, Reason.POLICY_CANNOT_BE_MET,
        "transport.rdma is Require"),
    plan_error("rdma forbidden", rules(edges=[edge(*FIRST, "rdma")]), RDMA_NODES, PLANNED, Reason.POLICY_CANNOT_BE_MET,
        "level baseline", PodSecurity.BASELINE),
    plan_error("memory of two nodes", rules(edges=[edge(*FIRST, "shm")]), TWO_NODES, PLANNED,
        Reason.POLICY_CANNOT_BE_MET, "different nodes"),
    plan_error("streaming between nodes", {"model": {"name": STREAMING}}, SINGLES, PLANNED,
        Reason.POLICY_CANNOT_BE_MET, "async_chunk"),
]
# fmt: on


@pytest.mark.parametrize(("parts", "nodes", "choice", "code", "words", "security"), REJECTIONS)
def test_rejections(
    parts: dict[str, Any], nodes: Inventory, choice: str, code: Rejection, words: str, security: PodSecurity
) -> None:
    first = planned(spec(**parts), nodes, security=security).edges[0]
    found = next(r for r in first.rejected if r.choice == choice)
    assert found.code is code, found.fact
    assert words in found.fact


def test_what_is_better_than_the_choice_is_rejected_and_nothing_else() -> None:
    first = planned(spec(), TWO_NODES).edges[0]
    assert [r.choice for r in first.rejected] == [
        SHM,
        "MooncakeTransferEngine/rdma",
        "Nixl/rdma",
        RDMA,
        ENGINE,
        "Nixl/tcp",
    ]
    assert planned(spec(), ONE_NODE).edges[0].rejected == ()


@pytest.mark.parametrize(("parts", "nodes", "condition", "reason", "words", "security"), PLAN_ERRORS)
def test_refusals(
    parts: dict[str, Any],
    nodes: Inventory,
    condition: ConditionType,
    reason: Reason,
    words: str,
    security: PodSecurity,
) -> None:
    found = make.refused(spec(**parts), nodes, security=security)
    assert (found.condition, found.reason) == (condition, reason), found.message
    assert words in found.message
