"""`omni inventory`: resources of nodes, and the sentences on why each is usable or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omni_operator.cli.node_report import report
from omni_operator.topology.inventory import Node, Taint
from tests.unit.cli.fake_cluster import Cli, FakeAccess, node_list, pod_object, responses
from tests.unit.make import GPU, HCA, inventory, node

NO_PLUGIN = "no rdma/* resource: is the device plugin running?"
CAPABLE = f"RDMA-capable by {HCA}"


@pytest.mark.parametrize(
    ("it", "usable", "capable", "why"),
    [
        (node("a", 4, rdma=8), True, True, (CAPABLE,)),
        (node("a", 4), True, False, (NO_PLUGIN,)),
        (node("a", 4, rdma=8, cordoned=True), False, True, ("cordoned: no new pod is placed here", CAPABLE)),
        (node("a", 4, rdma=8, ready=False), False, True, ("not Ready: no pod is placed here", CAPABLE)),
        (
            node("a", 4, rdma=8, taints=(Taint("gpu", "yes", "NoSchedule"),)),
            False,
            True,
            ("tainted gpu=yes:NoSchedule (not tolerated by a spec without tolerations)", CAPABLE),
        ),
        (
            node("a", 4, rdma=8, taints=(Taint("gpu", "", "PreferNoSchedule"),)),
            True,
            True,
            ("tainted gpu:PreferNoSchedule (so others are filled first)", CAPABLE),
        ),
        (
            node("a", 0, rdma=8),
            True,
            True,
            ("no accelerator: usable for accelerator.type cpu and for pods without stages", CAPABLE),
        ),
        (node("a", 4, available=0, rdma=8), True, True, (f"no {GPU} is available: pods request all 4", CAPABLE)),
        (node("a", 4, rdma=8, rdma_available=0), True, True, (f"{CAPABLE}, of which none is available",)),
        (
            Node(name="a", allocatable={GPU: 1, HCA: 0}, available={GPU: 1}),
            True,
            False,
            (f"{HCA} is there 0 times: the device plugin runs and finds no device",),
        ),
        (
            node("a", 4, allocatable={"nvidia.com/hostdev": 2}),
            True,
            False,
            (NO_PLUGIN, "nvidia.com/hostdev counts for RDMA only where transport.rdmaResource names it"),
        ),
    ],
)
def test_reasons(it: Node, usable: bool, capable: bool, why: tuple[str, ...]) -> None:
    found = report(it)
    assert (found.usable, found.rdma_capable, found.why) == (usable, capable, why)


def test_labels_that_may_name_a_domain() -> None:
    labels = {
        "topology.kubernetes.io/zone": "a",
        "example.com/rack": "r7",
        "ib-fabric": "",
        "failure-domain.beta.kubernetes.io/zone": "a",
        "pool": "gpu",
    }
    assert report(node("a", labels=labels)).topology == (
        ("example.com/rack", "r7"),
        ("topology.kubernetes.io/zone", "a"),
    )


MIXED = inventory(node("a", 4, rdma=8, labels={"topology.kubernetes.io/zone": "z1"}), node("b", 2, cordoned=True))


def table(omni: Cli, *args: Any) -> dict[str, str]:
    assert omni("inventory", *args) == 0, omni.err
    return {line.split()[0]: " ".join(line.split()) for line in omni.out.splitlines()[3:]}


def test_the_table_of_a_file(omni: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    pod = pod_object("p", on="a", requests={GPU: 1, HCA: 2})
    found = table(omni, "--nodes", omni.file("nodes.yaml", node_list(MIXED), pod))
    assert found["a"] == f"a Ready {GPU} 3/4 {HCA} 6/8 zone=z1 {CAPABLE}"
    assert found["b"] == f"b Ready, cordoned {GPU} 2/2 none none cordoned: no new pod is placed here; {NO_PLUGIN}"
    assert "nodes: 2, usable without tolerations: 1, of these RDMA-capable: 1" in omni.out


def test_a_cluster_is_read_by_nodes_and_pods_only(omni: Cli) -> None:
    access = FakeAccess(responses(MIXED, pod_object("p", on="a", requests={GPU: 4})))
    omni.on(access)
    assert f"{GPU} 0/4" in table(omni)["a"]
    assert [path.partition("?")[0] for path in access.requested] == ["/api/v1/nodes", "/api/v1/pods"]


def test_json(omni: Cli) -> None:
    assert omni("inventory", "-o", "json", "--nodes", omni.file("nodes.yaml", node_list(MIXED))) == 0
    first, second = json.loads(omni.out)
    assert first == {
        "name": "a",
        "state": ["Ready"],
        "taints": [],
        "usable": True,
        "rdmaCapable": True,
        "accelerators": {GPU: {"allocatable": 4, "available": 4}},
        "rdma": {HCA: {"allocatable": 8, "available": 8}},
        "topology": {"topology.kubernetes.io/zone": "z1"},
        "why": [CAPABLE],
    }
    assert (second["usable"], second["state"]) == (False, ["Ready", "cordoned"])


def test_a_file_without_nodes(omni: Cli) -> None:
    assert omni("inventory", "--nodes", omni.file("nodes.yaml", pod_object("p", on="a", requests={}))) == 2
    assert "holds no Node" in omni.err
