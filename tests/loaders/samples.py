"""Small configurations of both formats for the tests of the harness (Qwen3-Omni's three stages)."""

from __future__ import annotations

from typing import Any

import yaml

TRANSFER_ENGINE: dict[str, Any] = {
    "name": "MooncakeTransferEngineConnector",
    "extra": {"host": "auto", "zmq_port": 50051, "protocol": "tcp", "codec_chunk_frames": 25},
}
STORE: dict[str, Any] = {"name": "MooncakeStoreConnector", "extra": {"master": "store:50051"}}
SHARED_MEMORY: dict[str, Any] = {"name": "SharedMemoryConnector", "extra": {}}
ARCHITECTURE = "Qwen3OmniMoeForConditionalGeneration"
PIPELINE = "qwen3_omni_moe"


def is_legacy(release: str) -> bool:
    """Whether `stage_args` is the only format of a release."""
    return release in {"0.14", "0.16", "0.18"}


def stage_args(connectors: dict[str, Any], *, async_chunk: bool, changes: dict[int, dict[str, Any]]) -> str:
    """Three stages 0 -> 1 -> 2 in the format of `--stage-configs-path`."""
    stages: list[dict[str, Any]] = []
    for number, worker in enumerate(("ar", "ar", "generation")):
        engine = {"model_stage": f"s{number}", "model_arch": ARCHITECTURE, "worker_type": worker}
        stage: dict[str, Any] = {
            "stage_id": number,
            "stage_type": "llm",
            "runtime": {"devices": "0"},
            "engine_args": engine,
        }
        if number:
            stage["engine_input_source"] = [number - 1]
        stages.append(stage | _connected(number) | changes.get(number, {}))
    edges = [{"from": 0, "to": 1}, {"from": 1, "to": 2}]
    return _text(async_chunk, {"stage_args": stages, "runtime": {"connectors": connectors, "edges": edges}})


def deploy(connectors: dict[str, Any], *, async_chunk: bool, changes: dict[int, dict[str, Any]]) -> str:
    """The same in the format of `--deploy-config`."""
    stages = [{"stage_id": n, "devices": str(n)} | _connected(n) | changes.get(n, {}) for n in range(3)]
    return _text(async_chunk, {"connectors": connectors, "stages": stages})


def three_stages(
    release: str,
    connector: dict[str, Any],
    *,
    async_chunk: bool = False,
    more: dict[str, Any] | None = None,
    changes: dict[int, dict[str, Any]] | None = None,
) -> tuple[str, str | None]:
    """Three stages in a release's format whose edges have `connector`, and the pipeline's name.

    Args:
        release: Such as 0.30.
        connector: Of both edges.
        async_chunk: Of all stages.
        more: Further connectors by name.
        changes: Stage id to keys of the stage that are replaced.
    """
    connectors = {"edge": connector, **(more or {})}
    if is_legacy(release):
        return stage_args(connectors, async_chunk=async_chunk, changes=changes or {}), None
    return deploy(connectors, async_chunk=async_chunk, changes=changes or {}), PIPELINE


def _connected(stage: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if stage > 0:
        found["input_connectors"] = {f"from_stage_{stage - 1}": "edge"}
    if stage < 2:
        found["output_connectors"] = {f"to_stage_{stage + 1}": "edge"}
    return found


def _text(async_chunk: bool, document: dict[str, Any]) -> str:
    return yaml.safe_dump({"async_chunk": async_chunk, **document}, sort_keys=False)
