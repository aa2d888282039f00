"""Prints what one unpacked vllm-omni wheel (0.20 on) knows of its pipelines, as YAML.

Usage: python hack/wheel_topology.py FOLDER, where FOLDER holds `vllm_omni`.

The topology of these releases is code, so the wheel's own modules are run: the pipeline registry,
the pipeline modules and `config/stage_config.py`, whose `resolve_deploy_yaml` also merges
`base_config`. They import vLLM, torch and transformers for types and names only, so every other
module is a stand-in. One process per wheel: all wheels use the same module names.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

REAL = frozenset(f"vllm_omni.config.{name}" for name in ("stage_config", "pipeline_registry", "endpoint_policy"))
REAL_ENDINGS = (".pipeline", "_pipeline_config")


class _StandInType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn


class StandIn(metaclass=_StandInType):
    """Any class of a module that is not run; its instances have every attribute, and it is true."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def __call__(self, *_: Any, **__: Any) -> StandIn:
        """Nothing; decorators of modules that are not run end here."""
        return self

    def __getattr__(self, name: str) -> Any:
        # True, so that a resolver such as resolve_qwen3_omni_pipeline (`enable_audio_output`) takes
        # the whole pipeline.
        if name.startswith("__"):
            raise AttributeError(name)
        return True


class _StandInModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of the wheel, the standard library and YAML; all others are stand-ins."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See importlib."""
        top = fullname.partition(".")[0]
        if top in sys.stdlib_module_names or top in {"yaml", "_yaml"}:
            return None
        if top == "vllm_omni" and (fullname in REAL or fullname.endswith(REAL_ENDINGS)):
            file = self.wheel / (fullname.replace(".", "/") + ".py")
            if file.exists():
                return importlib.util.spec_from_file_location(fullname, file)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """A stand-in; only the reading of YAML is real."""
        module = _StandInModule(spec.name)
        if spec.name == "vllm_omni.config.yaml_util":
            vars(module).update(
                load_yaml_config=lambda path: yaml.safe_load(Path(path).read_text()), to_dict=lambda raw: raw
            )
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def _plain(value: Any) -> Any:
    """Without what YAML cannot say: enums by value, functions and classes left out."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float) else None


def topologies() -> dict[str, Any]:
    """Registry name to the PipelineConfig, as plain data."""
    registry: Any = importlib.import_module("vllm_omni.config.pipeline_registry")
    found = {}
    # 0.20 and 0.22: (module, variable); from 0.24: the PipelineConfig, or a function that takes the
    # model's own config.
    entries = getattr(registry, "OMNI_PIPELINES", None) or registry._OMNI_PIPELINES
    for name, entry in entries.items():
        if isinstance(entry, tuple):
            pipeline: Any = getattr(importlib.import_module(entry[0]), entry[1])
        else:
            pipeline = entry(StandIn()) if callable(entry) else entry
        found[name] = {
            "default_deploy": getattr(pipeline, "default_deploy_config_name", None),
            "stages": [_plain(dataclasses.asdict(stage)) for stage in pipeline.stages],
        }
    return found


def main(folder: str) -> None:
    """Prints the registry and every deploy file with its base_config merged."""
    wheel = Path(folder)
    sys.meta_path.insert(0, Finder(wheel))
    stage_config: Any = importlib.import_module("vllm_omni.config.stage_config")
    files = sorted((wheel / "vllm_omni/deploy").glob("*.yaml"))
    deploys = {file.stem: stage_config.resolve_deploy_yaml(file) for file in files}
    yaml.dump({"topologies": topologies(), "deploys": deploys}, sys.stdout, Dumper=yaml.SafeDumper, sort_keys=False)


if __name__ == "__main__":
    main(sys.argv[1])
