"""Every configuration that upstream ships in a wheel is loaded by the code of that wheel."""

from __future__ import annotations

import sys
from pathlib import PurePosixPath

import pytest
import yaml

from tests.loaders.loader import About, Loader

# Files, those with several stages, and edges between these.
NUMBERS = {
    "0.14": (8, 7, 12),
    "0.16": (20, 20, 31),
    "0.18": (35, 28, 40),
    "0.20": (37, 23, 28),
    "0.22": (48, 36, 42),
    "0.24": (66, 48, 56),
    "0.26": (79, 58, 75),
    "0.28": (89, 66, 84),
    "0.30": (110, 84, 102),
}
# 0.24 registers no such pipeline, so it cannot serve its own files (one stage each).
UNLOADABLE = {"0.24": {"deploy/soulxsinger_svc.yaml", "deploy/soulxsinger_svs.yaml"}}
# The pipeline of a file whose name does not tell it: from its comments and from
# `default_deploy_config_name`.
PIPELINES = {
    "moss_sound_effect": "moss_tts_delay",
    "moss_tts": "moss_tts_delay",
    "moss_tts_80gb": "moss_tts_delay",
    "moss_ttsd": "moss_tts_delay",
    "moss_voice_generator": "moss_tts_delay",
    "audio8_tts": "arktts",
}
SHARED = ["SharedMemoryConnector", "YuanrongConnector"]
STORE = ["MooncakeConnector", "MooncakeStoreConnector"]
ENGINE = "MooncakeTransferEngineConnector"
CONNECTORS = {
    "0.14": ["MooncakeConnector", *SHARED],
    "0.16": [*STORE, ENGINE, *SHARED],
    "0.18": [*STORE, ENGINE, *SHARED],
    "0.20": [*STORE, ENGINE, *SHARED],
    "0.22": [*STORE, ENGINE, *SHARED, "YuanrongTransferEngineConnector"],
    "0.24": [*STORE, ENGINE, "MoriTransferEngineConnector", *SHARED, "YuanrongTransferEngineConnector"],
    "0.26": [*STORE, ENGINE, "MoriTransferEngineConnector", *SHARED, "YuanrongTransferEngineConnector"],
    "0.28": [*STORE, ENGINE, "MoriTransferEngineConnector", *SHARED, "YuanrongTransferEngineConnector"],
    "0.30": [
        *STORE,
        ENGINE,
        "MoriTransferEngineConnector",
        "NixlConnector",
        *SHARED,
        "YuanrongTransferEngineConnector",
    ],
}


def pipeline_of(loader: Loader, about: About, file: str) -> str | None:
    """The model type for which a shipped file is meant."""
    document = yaml.safe_load(loader.text(file))
    if "stage_args" in document:
        return None
    stem = PurePosixPath(file).stem
    if "pipeline" in document:
        return str(document["pipeline"])
    if stem in PIPELINES and PIPELINES[stem] in about.pipelines:
        return PIPELINES[stem]
    fitting = [name for name in about.pipelines if stem == name or stem.startswith(f"{name}_")]
    if not fitting and "base_config" in document:
        return pipeline_of(loader, about, f"deploy/{document['base_config']}")
    return max(fitting, key=len)


def test_every_shipped_configuration_loads(loader: Loader, capsys: pytest.CaptureFixture[str]) -> None:
    about = loader.about()
    files, refused, several, edges, connectors = len(about.shipped), {}, 0, 0, set[str]()
    for file in about.shipped:
        answer = loader.load_shipped(file, pipeline_of(loader, about, file))
        if not answer.ok:
            refused[file] = answer.error
        elif len(answer.stages) > 1:
            several += 1
            edges += len(answer.edges)
            connectors |= {edge.connector for edge in answer.edges if edge.connector}
            assert answer.edges, file
    release = loader.wheel.release
    numbers = f"{files} files, {several} with several stages, {edges} edges"
    with capsys.disabled():
        sys.stdout.write(f"\nvllm-omni {release}: {numbers}, {', '.join(sorted(connectors))}\n")
    assert refused.keys() == UNLOADABLE.get(release, set()), refused
    assert (files, several, edges) == NUMBERS[release]


def test_the_factory_knows_these_connectors(loader: Loader) -> None:
    assert sorted(loader.about().connectors) == sorted(CONNECTORS[loader.wheel.release])


def test_settings_of_a_shipped_file_reach_the_constructors(loader: Loader) -> None:
    """Model parameters in a connector's `extra` are what its chunk processors read."""
    release = loader.wheel.release
    if release == "0.14":
        return  # it ships no such parameters
    folder = "deploy" if float(release) >= 0.2 else "model_executor/stage_configs"
    answer = loader.load_shipped(f"{folder}/qwen3_tts.yaml", "qwen3_tts")
    edge = answer.edge(0, 1)
    assert edge.extra["codec_chunk_frames"] == 25, edge
    for end in (edge.producer, edge.consumer):
        assert end is not None
        assert end.extra.items() >= edge.extra.items()
