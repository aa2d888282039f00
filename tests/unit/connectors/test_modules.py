"""Each connector by example: where it works, its needs of image and pods, configuration, sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from omni_operator.api.spec import AcceleratorType, Backend, Connector, Protocol, RdmaPolicy, SharedMemoryPolicy
from omni_operator.connectors import mooncake_store
from omni_operator.connectors.base import EdgeSettings, ImageFacts, Site, StoreAddress
from omni_operator.connectors.registry import connector, connectors
from omni_operator.connectors.transport import Reach, Rejection
from omni_operator.engine.releases import release_of
from omni_operator.topology.namespace import PodSecurity
from omni_operator.topology.quantity import MIB

SHM, STORE, TE, NIXL = (
    connector(kind)
    for kind in (
        Connector.SHARED_MEMORY,
        Connector.MOONCAKE_STORE,
        Connector.MOONCAKE_TRANSFER_ENGINE,
        Connector.NIXL,
    )
)
IMAGE = ImageFacts(mooncake="0.3.12.post1", nixl=True)
SITE = Site(
    release=release_of("0.30"),
    backend=Backend.HEADLESS,
    reach=Reach.CROSS_NODE,
    protocol=Protocol.TCP,
    requested=False,
    image=IMAGE,
    accelerator=AcceleratorType.NVIDIA,
    pod_security=PodSecurity.PRIVILEGED,
    pods_ours=True,
    shared_memory=SharedMemoryPolicy.ALLOW,
    rdma_policy=RdmaPolicy.PREFER,
    rdma="rdma/hca",
    rdma_missing=(Rejection.NO_RDMA_ON_NODE, "no rdma/* on a"),
)
EDGE = EdgeSettings(
    protocol=Protocol.RDMA,
    port=50052,
    pool_bytes=256 * MIB,
    rdma_device="mlx5_0",
    store=StoreAddress(host="s.ns.svc", rpc_port=1, http_port=2, segment_bytes=64 * MIB, localbuf_bytes=16 * MIB),
)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reach": Reach.SAME_POD}, None),
        ({"reach": Reach.SAME_NODE}, None),
        ({}, Rejection.NO_SHARED_MEMORY),
        ({"reach": Reach.SAME_NODE, "pods_ours": False}, Rejection.PODS_NOT_OURS),
        ({"reach": Reach.SAME_NODE, "shared_memory": SharedMemoryPolicy.POD_ONLY}, Rejection.FORBIDDEN_BY_USER),
        ({"reach": Reach.SAME_NODE, "pod_security": PodSecurity.BASELINE}, Rejection.HOST_MEMORY_FORBIDDEN),
        ({"reach": Reach.SAME_POD, "pod_security": PodSecurity.RESTRICTED}, None),
    ],
)
def test_where_shared_memory_works(changes: dict[str, Any], code: Rejection | None) -> None:
    found = SHM.reject_place(replace(SITE, protocol=Protocol.SHM, **changes))
    assert (found[0] if found else None) is code


@pytest.mark.parametrize("module", [STORE, TE, NIXL], ids=lambda module: module.kind.value)
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"rdma_policy": RdmaPolicy.REQUIRE}, Rejection.FORBIDDEN_BY_USER),
        ({"protocol": Protocol.RDMA}, None),
        ({"protocol": Protocol.RDMA, "rdma_policy": RdmaPolicy.NEVER}, Rejection.FORBIDDEN_BY_USER),
        ({"protocol": Protocol.RDMA, "pods_ours": False}, Rejection.PODS_NOT_OURS),
        ({"protocol": Protocol.RDMA, "rdma": None}, Rejection.NO_RDMA_ON_NODE),
        ({"protocol": Protocol.RDMA, "pod_security": PodSecurity.BASELINE}, Rejection.CAPABILITY_FORBIDDEN),
    ],
)
def test_where_a_network_works(module: Any, changes: dict[str, Any], code: Rejection | None) -> None:
    found = module.reject_place(replace(SITE, **changes))
    assert (found[0] if found else None) is code


@pytest.mark.parametrize(
    ("module", "changes", "code"),
    [
        (STORE, {"image": ImageFacts(mooncake="0.3.13")}, Rejection.LIBRARY_VERSION),
        (STORE, {"image": ImageFacts(mooncake="0.3.8.post1")}, None),
        (TE, {"image": ImageFacts(mooncake="0.3.11.post1")}, Rejection.LIBRARY_VERSION),
        (TE, {"image": ImageFacts(mooncake="0.3.11.post1"), "protocol": Protocol.RDMA}, None),
        (TE, {"accelerator": AcceleratorType.CPU}, Rejection.NEEDS_ACCELERATOR),
        (TE, {"accelerator": AcceleratorType.CPU, "requested": True}, None),
        (NIXL, {"image": ImageFacts(mooncake="0.3.12")}, Rejection.LIBRARY_MISSING),
        (NIXL, {}, None),
        (SHM, {"image": ImageFacts(mooncake="0.1.0"), "accelerator": AcceleratorType.CPU}, None),
    ],
)
def test_what_the_image_must_have(module: Any, changes: dict[str, Any], code: Rejection | None) -> None:
    found = module.reject_image(replace(SITE, **changes))
    assert (found[0] if found else None) is code


def test_only_the_transfer_engine_needs_an_accelerator_at_the_server() -> None:
    on_ray = {m.kind for m in connectors() if m.reject_backend(Backend.RAY, release=release_of("0.16")) is not None}
    assert on_ray == {Connector.MOONCAKE_TRANSFER_ENGINE}
    assert not any(m.reject_backend(Backend.LOCAL, release=release_of("0.30")) for m in connectors())


def test_settings_name_the_device_for_rdma_alone() -> None:
    assert STORE.settings(EDGE)["rdma"] == "mlx5_0"
    assert STORE.settings(EDGE)["metadata_server"] == "http://s.ns.svc:2/metadata"
    assert TE.settings(EDGE)["device_name"] == "mlx5_0"
    plain = replace(EDGE, protocol=Protocol.TCP)
    assert "rdma" not in STORE.settings(plain)
    assert "device_name" not in TE.settings(plain)
    assert NIXL.settings(EDGE) == {"host": "auto", "zmq_port": 50052, "backends": ["UCX"]}


def test_ucx_can_neither_fall_back_nor_try_what_was_not_planned() -> None:
    assert NIXL.environment({Protocol.TCP}, rdma_device="mlx5_0") == {"UCX_TLS": "tcp,self,sm"}
    assert NIXL.environment({Protocol.RDMA}, rdma_device="mlx5_0,mlx5_1:2") == {
        "UCX_TLS": "rc,ud,self,sm",
        "UCX_NET_DEVICES": "mlx5_0:1,mlx5_1:2",
    }


def test_the_image_check_asks_for_what_the_plan_counts_on() -> None:
    old = ImageFacts(mooncake="0.3.11.post1")
    assert STORE.image_check(old) == ("--mooncake", "--mooncake-below=0.3.13")
    assert STORE.image_check(IMAGE) == ("--mooncake", "--mooncake-from=0.3.12", "--mooncake-below=0.3.13")
    assert TE.image_check(IMAGE) == ("--mooncake", "--mooncake-from=0.3.12")
    assert SHM.image_check(IMAGE) == NIXL.image_check(IMAGE) == ()


def test_sizes_grow_with_the_payload_and_have_a_least() -> None:
    assert (mooncake_store.segment_bytes(1), mooncake_store.localbuf_bytes(1)) == (64 * MIB, 16 * MIB)
    assert mooncake_store.segment_bytes(100 * MIB) == 448 * MIB
    assert mooncake_store.localbuf_bytes(100 * MIB) == 128 * MIB
    assert TE.pool_bytes(1) == 256 * MIB
    assert TE.pool_bytes(2 << 30) == 4 << 30
    assert SHM.pool_bytes(1 << 30) == STORE.pool_bytes(1 << 30) == 0
