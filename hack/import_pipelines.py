"""Makes the catalog files of shipped pipelines from the stage_configs of unpacked vllm-omni wheels.

Usage: python hack/import_pipelines.py 0.14=FOLDER 0.16=FOLDER, where FOLDER holds an unpacked wheel.
Comments, devices and connectors are dropped: devices and connectors are what the planner decides.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

OUT = Path(__file__).parent.parent / "operator/omni_operator/engine/pipelines"
MIB = 1 << 20

# Payload bounds: tokens x hidden size x 4 bytes (latents travel as float32), or codec tokens; rounded up to a power of two.
PIPELINES: dict[str, dict[str, Any]] = {
    "qwen2_5_omni": {
        "about": "Qwen2.5-Omni: text, audio, image and video in; text and speech out.",
        "models": ["Qwen/Qwen2.5-Omni-7B", "Qwen/Qwen2.5-Omni-3B"],
        "payload": {(0, 1): 512 * MIB, (1, 2): 16 * MIB},
    },
    "qwen3_omni_moe": {
        "about": "Qwen3-Omni: text, audio, image and video in; text and speech out.",
        "models": ["Qwen/Qwen3-Omni-30B-A3B-Instruct"],
        "payload": {(0, 1): 512 * MIB, (1, 2): 16 * MIB},
    },
    "qwen3_tts": {
        "about": "Qwen3-TTS: text in, speech out.",
        "models": [
            "Qwen/Qwen3-TTS-12Hz-1.7B-CustomVoice",
            "Qwen/Qwen3-TTS-12Hz-1.7B-VoiceDesign",
            "Qwen/Qwen3-TTS-12Hz-0.6B-Base",
        ],
        "payload": {(0, 1): 16 * MIB},
    },
    "mimo_audio": {
        "about": "MiMo-Audio: text and audio in; text and speech out.",
        "models": ["XiaomiMiMo/MiMo-Audio-7B-Instruct"],
        "payload": {(0, 1): 256 * MIB},
    },
    "bagel": {
        "about": "BAGEL: text and image in; text and image out. Its edge carries a KV cache.",
        "models": ["ByteDance-Seed/BAGEL-7B-MoT"],
        "payload": {(0, 1): 2048 * MIB},
    },
    "glm_image": {
        "about": "GLM-Image: text and image in; image out.",
        "models": ["zai-org/GLM-Image"],
        "payload": {(0, 1): 64 * MIB},
    },
}
DROP_RUNTIME = ("devices",)
DROP_STAGE = ("input_connectors", "output_connectors")


def stage_body(raw: dict[str, Any]) -> dict[str, Any]:
    """One stage_args entry without what the planner decides."""
    out = {key: value for key, value in raw.items() if key not in DROP_STAGE}
    out["runtime"] = {key: value for key, value in raw.get("runtime", {}).items() if key not in DROP_RUNTIME}
    return out


def kind(raw: dict[str, Any]) -> str:
    """ar, generation or diffusion."""
    return "diffusion" if raw.get("stage_type") == "diffusion" else str(raw["engine_args"].get("worker_type", "ar"))


def main(argv: list[str]) -> None:
    """Writes one file per pipeline."""
    wheels = dict(arg.split("=", 1) for arg in argv)
    for name, known in PIPELINES.items():
        releases: dict[str, Any] = {}
        stages: list[dict[str, Any]] = []
        for line, folder in sorted(wheels.items()):
            path = Path(folder) / f"vllm_omni/model_executor/stage_configs/{name}.yaml"
            if not path.exists():
                continue
            raw = yaml.safe_load(path.read_text())
            stages = [
                {"id": s["stage_id"], "name": s["engine_args"]["model_stage"], "kind": kind(s), "accelerators": 1}
                for s in raw["stage_args"]
            ]
            entry: dict[str, Any] = {
                "async_chunk": bool(raw.get("async_chunk", False)),
                "stage_args": [stage_body(s) for s in raw["stage_args"]],
            }
            extra: dict[str, Any] = {}
            for connector in raw.get("runtime", {}).get("connectors", {}).values():
                extra |= {k: v for k, v in connector.get("extra", {}).items() if k != "shm_threshold_bytes"}
            if extra:
                entry["connector_extra"] = extra
            releases[line] = entry
        edges = [{"producer": a, "consumer": b, "max_payload_bytes": size} for (a, b), size in known["payload"].items()]
        data = {
            "name": name,
            "about": known["about"],
            "models": known["models"],
            "stages": stages,
            "edges": edges,
            "releases": releases,
        }
        head = f"# Made by hack/import_pipelines.py from vllm-omni's own stage_configs/{name}.yaml (Apache-2.0).\n"
        (OUT / f"{name}.yaml").write_text(head + yaml.safe_dump(data, sort_keys=False, width=120))


if __name__ == "__main__":
    main(sys.argv[1:])
