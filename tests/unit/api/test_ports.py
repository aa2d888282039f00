"""The table of ports: no two programs of one pod share one, and the API's rules follow it."""

from __future__ import annotations

import pytest

from omni_operator.api import ports
from omni_operator.api.spec import OmniDeploymentSpec
from omni_operator.planning.model import StorePlan

PODS = {
    "Ray head": (
        ports.RAY_GCS,
        ports.RAY_DASHBOARD,
        ports.RAY_CLIENT,
        ports.RAY_METRICS,
        ports.RAY_AGENT,
        *ports.RAY_NODE,
    ),
    "serving pod": (
        ports.SERVER,
        ports.HEAD_GENERATION,
        ports.HEAD_REGISTRATION,
        ports.FIRST_CONNECTOR,
        ports.RAY_AGENT,
        ports.RAY_METRICS,
        *ports.RAY_NODE,
    ),
    "Mooncake master": (ports.MOONCAKE_MASTER, ports.MOONCAKE_METADATA, ports.MOONCAKE_METRICS),
}


@pytest.mark.parametrize("pod", PODS)
def test_programs_of_one_pod_have_ports_of_their_own(pod: str) -> None:
    found = PODS[pod]
    assert len(set(found)) == len(found)
    low, high = ports.RAY_WORKERS
    assert not any(low <= port <= high for port in found)


def test_defaults_are_not_reserved() -> None:
    spec = OmniDeploymentSpec.model_validate({"model": {"name": "m"}, "engine": {"version": "0.16.0"}})
    assert (spec.serving.port, spec.ray.port) == (ports.SERVER, ports.RAY_GCS)
    assert ports.SERVER not in ports.RESERVED_FOR_SERVER
    assert ports.RAY_GCS not in ports.RESERVED_FOR_GCS


def test_a_store_has_the_masters_ports() -> None:
    store = StorePlan.model_validate({"protocol": "tcp", "segment_bytes": 1, "localbuf_bytes": 1})
    found = (store.rpc_port, store.http_port, store.metrics_port)
    assert found == (ports.MOONCAKE_MASTER, ports.MOONCAKE_METADATA, ports.MOONCAKE_METRICS)


@pytest.mark.parametrize(
    ("given", "words"),
    [((8076, 8077, 8078, 8265), "8076-8078, 8265"), ((50051, 50052), "50051, 50052"), ((1,), "1"), ((), "")],
)
def test_ports_for_people(given: tuple[int, ...], words: str) -> None:
    assert ports.in_words(given) == words
