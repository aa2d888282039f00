"""vllm-omni 0.16 (CPU): every placement gives sound and equal text."""

from __future__ import annotations

import pytest
import yaml

from e2e.cluster_under_test import ENGINE, GPU, RDMA, Omni, devices, eventually, node_memory

PROMPT = "hello 0"
SPEC = {
    "model": {"name": "/models/tiny-omni"},
    "engine": {"version": "0.16.0", "image": ENGINE},
}
# Answers of one run of this module, by case, so that the last test can compare them.
_texts: dict[str, str] = {}


def _connectors(omni: Omni) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = yaml.safe_load(omni.stage_config())["runtime"]["connectors"]
    return found


def _check_answer(omni: Omni, case: str) -> None:
    answer = omni.ask(PROMPT)
    assert answer["text"], answer
    assert answer["wav_rate"] == 24000
    assert answer["wav_frames"] == 20 * 240  # the talker makes 20 codec tokens, code2wav 240 samples of each
    _texts[case] = answer["text"]


@pytest.mark.usefixtures("real_engine")
def test_two_nodes_store_over_tcp_then_rdma_planned(space: str) -> None:
    """(a) Two workers of two GPUs: Spread, MooncakeStore over TCP.

    (c) Both advertise an HCA and have none: the log of Mooncake says so.
    """
    with devices(worker={GPU: 2}, worker2={GPU: 2}):
        omni = Omni(space, "spread")
        omni.apply(**SPEC)
        omni.wait("Ready", seconds=700)
        status = omni.status()
        assert (status["backend"], status["transport"], status["plan"]["strategy"]) == (
            "Ray",
            "MooncakeStore/tcp",
            "Spread",
        )
        assert {c["extra"]["proto"] for c in _connectors(omni).values()} == {"tcp"}  # type: ignore[index]
        assert len({pod["spec"]["nodeName"] for pod in omni.pods("worker")}) == 2
        _check_answer(omni, "spread-tcp")
        omni.wait("TransportAsPlanned", seconds=60)

        with devices(worker={RDMA: 8}, worker2={RDMA: 8}):
            omni.patch({"engine": {"env": [{"name": "OMNI_TEST_ROUND", "value": "2"}]}})  # a new revision plans anew
            omni.wait("Ready", seconds=700)
            assert omni.status()["transport"] == "MooncakeStore/rdma"
            assert {c["extra"]["proto"] for c in _connectors(omni).values()} == {"rdma"}  # type: ignore[index]
            for component in ("worker", "serving"):
                for pod in omni.pods(component):
                    container = pod["spec"]["containers"][0]
                    assert container["resources"]["limits"][RDMA] == "1"
                    assert "IPC_LOCK" in container["securityContext"]["capabilities"]["add"]
            told = omni.wait("TransportAsPlanned", "False", reason="TransportDegraded", seconds=120)
            assert "thinker -> talker" in told["message"]
            assert omni.condition("Ready")["status"] == "True"  # rdma: Prefer, and requests pass
            _check_answer(omni, "spread-rdma-planned")
        omni.delete()


@pytest.mark.usefixtures("real_engine")
def test_one_node_shared_memory(space: str) -> None:
    """(b) One worker of four GPUs: OneNode, SharedMemory on every edge; none of it remains."""
    with devices(worker2={GPU: 4}):
        omni = Omni(space, "one-node")
        omni.apply(**SPEC)
        omni.wait("Ready", seconds=700)
        status = omni.status()
        assert (status["transport"], status["plan"]["strategy"]) == ("shm", "OneNode")
        for connector in _connectors(omni).values():
            assert connector == {"name": "SharedMemoryConnector", "extra": {"shm_threshold_bytes": 65536}}
        _check_answer(omni, "one-node-shm")
        assert node_memory(), "the folder exists while the pipeline runs"
        omni.delete()
        eventually("the node's memory is empty", lambda: not node_memory(), seconds=30)


@pytest.mark.usefixtures("real_engine")
def test_cpu_fallback(space: str) -> None:
    """(d) accelerator.type cpu: no device is requested, Ray gets its GPU count."""
    omni = Omni(space, "cpu")
    omni.apply(**SPEC, accelerator={"type": "cpu"})
    omni.wait("Ready", seconds=700)
    for pod in omni.pods():
        assert GPU not in pod["spec"]["containers"][0]["resources"].get("limits", {})
    _check_answer(omni, "cpu")
    omni.delete()


def test_texts_are_equal() -> None:
    """The same prompt gives the same text however the pipeline is placed."""
    assert len(_texts) >= 4, f"the tests before this one did not all answer: {_texts}"
    assert len(set(_texts.values())) == 1, _texts
