"""vllm-omni 0.30 (CPU) with Qwen2.5-Omni: Headless and Local give sound and equal text."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from e2e.cluster import images, nodes
from e2e.cluster_under_test import GPU, MODERN, RDMA, Omni, devices, eventually, kubectl_json
from e2e.conftest import FULL
from omni_operator.cli.access import Access
from omni_operator.controller.signals.reading import counted_edges
from omni_operator.engine.releases import release_of

PROMPT = "hello 0"
# What keeps a stage small: one process, a few MiB of KV cache, short answers.
SMALL: dict[str, Any] = {
    "dtype": "float32",
    "distributed_executor_backend": "uni",
    "max_num_seqs": 2,
    "max_model_len": 1024,
    "max_num_batched_tokens": 1024,
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "async_scheduling": False,
    "mm_processor_cache_gb": 0,
    "skip_mm_profiling": True,
    "kv_cache_memory_bytes": 32 << 20,
}
SAMPLING: dict[str, dict[str, Any]] = {
    "thinker": {"temperature": 0.0, "max_tokens": 16, "seed": 42},
    # the talker wants a repetition penalty other than 1
    "talker": {"temperature": 0.9, "top_k": 40, "max_tokens": 24, "seed": 42, "repetition_penalty": 1.05},
    "code2wav": {"temperature": 0.0, "max_tokens": 24, "seed": 42},
}
# Answers of one run of this module, by case, so that the last test can compare them.
_texts: dict[str, str] = {}


def spec(*stages: str, model: dict[str, Any]) -> dict[str, Any]:
    """A spec of the tiny Qwen2.5-Omni."""
    small = [{"name": n, "engineArgs": {**SMALL, "default_sampling_params": SAMPLING[n]}} for n in stages]
    engine = {"version": "0.30.0", "image": MODERN, "mooncakeVersion": "0.3.12.post1"}
    return {"model": {"name": "/models/tiny-qwen2.5-omni", **model}, "engine": engine, "stages": small}


THREE = spec("thinker", "talker", "code2wav", model={"pipeline": "qwen2_5_omni"})
TWO = spec(
    "thinker",
    "code2wav",
    model={
        "pipeline": "omni_cpu_two_stage",
        "definition": {
            "stages": [{"name": "thinker"}, {"name": "code2wav", "kind": "Generation"}],
            "edges": [{"from": "thinker", "to": "code2wav", "maxPayloadMiB": 16}],
        },
    },
)


def _check_answer(omni: Omni, case: str) -> None:
    answer = omni.ask(PROMPT)
    assert answer["text"], answer
    assert answer["wav_rate"] == 24000
    assert answer["wav_frames"] > 0
    _texts[case] = answer["text"]


def _counted(omni: Omni) -> frozenset[tuple[int, int]]:
    """Edges for which the engine itself has counted a payload."""
    port = omni.get()["spec"]["serving"]["port"]
    path = f"/api/v1/namespaces/{omni.namespace}/services/http:{omni.name}:{port}/proxy/metrics"
    page = Access(context=None, namespace=omni.namespace).request("GET", path).decode()
    counter = release_of("0.30").transfer_counter
    assert counter is not None
    return counted_edges(page, counter)


@pytest.mark.usefixtures("modern_engine")
def test_headless_on_two_nodes_with_the_store(space: str) -> None:
    """Three stages on two nodes: MooncakeStore over TCP; each edge counts payloads."""
    with devices(worker={GPU: 1}, worker2={GPU: 1}):
        omni = Omni(space, "headless")
        omni.apply(**THREE)
        omni.wait("Ready", seconds=800)
        status = omni.status()
        assert (status["backend"], status["transport"]) == ("Headless", "MooncakeStore/tcp")
        assert len({p["spec"]["nodeName"] for p in [*omni.pods("worker"), *omni.pods("serving")]}) == 2
        # The warm-up request has used every edge before anybody else asks.
        assert omni.wait("TransportAsPlanned", seconds=120)["reason"] == "TransfersCounted"
        _check_answer(omni, "headless-store")
        assert {edge["observed"] for edge in omni.status()["plan"]["edges"]} == {"Verified"}
        assert _counted(omni) == {(0, 1), (1, 2)}
        omni.delete()


@pytest.mark.usefixtures("modern_engine")
def test_a_stage_lost_while_the_head_initialises(space: str) -> None:
    """Without it the head waits `initTimeoutSeconds`: the new stage is another replica to it."""
    with devices(worker={GPU: 1}, worker2={GPU: 1}):
        omni = Omni(space, "early")
        omni.apply(**THREE)
        (worker,) = eventually("the talker's pod", lambda: omni.pods("worker"), seconds=120)
        pod = (worker["metadata"]["name"], "-n", space, "-c", "ray-worker")
        eventually("it has registered", lambda: "registered; handshake" in nodes.kubectl("logs", *pod), seconds=300)
        nodes.kubectl("exec", *pod, "--", "pkill", "-KILL", "-f", "stage-id 1 --headless")
        omni.wait("Ready", seconds=400)
        (server,) = omni.pods("serving")
        message = server["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"]
        assert json.loads(message)["code"] == "PeerLost"
        _check_answer(omni, "headless-early")
        omni.delete()


@pytest.mark.full
@pytest.mark.usefixtures("modern_engine")
def test_headless_with_the_transfer_engine_and_rdma_that_is_absent(space: str) -> None:
    """Two stages, and nodes that advertise RDMA without a device: Mooncake uses TCP, and logs it.

    Then TCP is planned.
    """
    with devices(worker={GPU: 1, RDMA: 4}, worker2={GPU: 1, RDMA: 4}):
        omni = Omni(space, "engine")
        omni.apply(**TWO, transport={"rdma": "Require"})
        omni.wait("ServingReady", seconds=800)
        assert omni.status()["transport"] == "MooncakeTransferEngine/rdma"
        told = omni.wait("TransportAsPlanned", "False", reason="TransportDegraded", seconds=60)
        assert "thinker -> code2wav" in told["message"]
        assert "No RDMA devices found" in told["message"]
        assert omni.condition("Ready")["status"] == "False"
        omni.patch({"transport": {"rdma": "Never"}})
        omni.wait("Ready", seconds=800)
        status = omni.status()
        assert (status["backend"], status["transport"]) == ("Headless", "MooncakeTransferEngine/tcp")
        _check_answer(omni, "headless-engine")
        omni.wait("TransportAsPlanned", seconds=120)
        assert _counted(omni) == {(0, 1)}
        omni.delete()


@pytest.mark.full
@pytest.mark.usefixtures("modern_engine")
def test_a_stage_over_two_nodes(space: str) -> None:
    """No node has two accelerators, so the talker spans two, as far as vLLM's Ray executor starts.

    It finds no device of platform CPU.
    """
    images.load(MODERN, [nodes.control_plane()])  # of the cluster's three nodes each has one accelerator
    everywhere = [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]
    with devices(**{"control-plane": {GPU: 1}, "worker": {GPU: 1}, "worker2": {GPU: 1}}):
        omni = Omni(space, "spans")
        stages = [dict(stage) for stage in THREE["stages"]]
        split = {key: value for key, value in stages[1]["engineArgs"].items() if key != "distributed_executor_backend"}
        stages[1] = {**stages[1], "accelerators": 2, "engineArgs": split}
        omni.apply(**{**THREE, "stages": stages, "placement": {"tolerations": everywhere}})
        first = eventually("the talker's first pod", lambda: _ends(omni), seconds=600)
        assert omni.status()["backend"] == "Headless"
        workers = omni.pods("worker")
        assert len({pod["spec"]["nodeName"] for pod in workers}) == 2
        # It joined Ray, registered with the head, and vllm/v1/executor/ray_utils.py (0.30) refused
        # the platform.
        said = nodes.kubectl("logs", "-n", space, first, "-c", "ray-worker", "--previous")
        assert "does not support ray" in said
        assert "(talker" in omni.condition("RayClusterReady")["message"]
        # The second is a Ray node and no more; it ends with the head, which ends with the stage
        # that it waited for.
        (second,) = (pod["metadata"]["name"] for pod in workers if pod["metadata"]["name"] != first)
        past = ("logs", "-n", space, second, "-c", "ray-worker", "--previous")
        said = eventually("the second pod's end", lambda: nodes.kubectl(*past), seconds=200)
        assert "starting ray start" in said
        assert "starting stage" not in said
        assert '"code": "HeadRestarted"' in said
        omni.delete()


def _ends(omni: Omni) -> str | None:
    """The first of the pods that run the stage together, once its container has ended before."""
    for pod in omni.pods("worker"):
        number = pod["metadata"]["labels"]["ray.io/replica-host-index"]
        if number == "0" and pod["status"]["containerStatuses"][0]["restartCount"]:
            return str(pod["metadata"]["name"])
    return None


@pytest.mark.usefixtures("modern_engine")
def test_local_in_one_pod(space: str) -> None:
    """A node that can hold all stages: one pod, shared memory, no RayCluster."""
    with devices(worker={GPU: 2}):
        omni = Omni(space, "local")
        omni.apply(**THREE)
        omni.wait("Ready", seconds=800)
        status = omni.status()
        assert (status["backend"], status["transport"]) == ("Local", "shm")
        assert kubectl_json("get", "rayclusters", "-n", space)["items"] == []
        connectors = yaml.safe_load(omni.stage_config())["connectors"]
        assert {c["name"] for c in connectors.values()} == {"SharedMemoryConnector"}
        _check_answer(omni, "local")
        omni.wait("TransportAsPlanned", seconds=120)
        omni.delete()


def test_texts_are_equal() -> None:
    """The way between the stages does not change what the first one says."""
    assert len(_texts) == (4 if FULL else 3), f"only {sorted(_texts)} answered"
    assert len(set(_texts.values())) == 1, _texts
