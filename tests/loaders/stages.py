"""The stages as a release resolves them: its loader, called as by its server (child process)."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Version = tuple[int, int]


class RefusedError(ValueError):
    """The release's code gave no stages, without an exception of its own."""


@dataclass(slots=True)
class Stage:
    """A stage after the release has merged, checked and flattened its configuration.

    Attributes:
        raw: The release's own object (OmegaConf up to 0.28, VllmOmniStageConfig in 0.30).
        engine_args: What the engine of the stage is made from.
        sources: Ids of the stages that feed it.
        replica_devices: Devices of each replica where the release splits them (0.20 on), else
            empty.
    """

    raw: Any
    id: int
    kind: str
    devices: str | None
    num_replicas: int
    async_chunk: bool
    engine_args: dict[str, Any]
    sources: tuple[int, ...]
    replica_devices: list[str | None] = field(default_factory=list)

    @property
    def tensor_parallel(self) -> int:
        """Ranks of the stage: fields of AR and generation stages, parallel_config for diffusion."""
        nested = self.engine_args.get("parallel_config")
        flat = self.engine_args.get("tensor_parallel_size")
        if flat is None and isinstance(nested, dict):
            flat = nested.get("tensor_parallel_size")
        return int(flat or 1)


def model_folder(scratch: Path, pipeline: str | None) -> Path:
    """A model whose config.json names a pipeline, for the release to find; empty without one."""
    path = scratch / "models" / (pipeline or "nameless")
    path.mkdir(parents=True, exist_ok=True)
    if pipeline:
        (path / "config.json").write_text(json.dumps({"model_type": pipeline}))
    return path


def is_stage_args(path: Path) -> bool:
    """Whether a file is for `--stage-configs-path` (0.14 to 0.26) and not for `--deploy-config`."""
    document = yaml.safe_load(path.read_text())
    return isinstance(document, dict) and "stage_args" in document


def resolve(version: Version, path: Path, model: Path) -> tuple[list[Stage], dict[str, Any]]:
    """Load a file as `vllm serve MODEL --stage-configs-path|--deploy-config FILE` does.

    Functions by release: 0.14 `load_stage_configs_from_yaml` (OmniBase._initialize_stages); 0.16 to
    0.28 `load_and_resolve_stage_configs` (all in vllm_omni.entrypoints.utils; with a deploy file it
    runs StageConfigFactory, load_deploy_config and merge_pipeline_deploy); 0.30
    `resolve_omni_config` in vllm_omni.config.resolver (VllmOmniConfig.from_pipeline_config;
    merge_pipeline_deploy is not called).

    Returns:
        The stages, and the mapping that the release's transfer configuration is read from.
    """
    raws = _raw(version, path, model)
    if not raws:
        msg = f"no stages: pipeline {model.name} is not registered or the file is empty"
        raise RefusedError(msg)
    found = [_stage(version, raw, model) for raw in raws]
    if version >= (0, 20):
        _split_devices(raws, found)
    return found, _document(version, path)


def _raw(version: Version, path: Path, model: Path) -> list[Any]:
    if version >= (0, 30):
        resolver = importlib.import_module("vllm_omni.config.resolver")
        resolution = resolver.resolve_omni_config(
            str(model),
            trust_remote_code=None,
            deploy_config_path=str(path),
            cli_overrides={},
            stage_overrides=None,
            strategy_config_path=None,
        )
        return list(resolution.stage_configs)
    utils = importlib.import_module("vllm_omni.entrypoints.utils")
    if version < (0, 16):
        return list(utils.load_stage_configs_from_yaml(str(path), base_engine_args=None))
    if version < (0, 20):
        return list(utils.load_and_resolve_stage_configs(str(model), str(path), {})[1])
    more: dict[str, Any] = {"trust_remote_code": None} if version >= (0, 26) else {}
    if version >= (0, 28):
        return list(utils.load_and_resolve_stage_configs(str(model), {}, deploy_config_path=str(path), **more)[1])
    legacy = is_stage_args(path)
    return list(
        utils.load_and_resolve_stage_configs(
            str(model),
            str(path) if legacy else None,
            {},
            deploy_config_path=None if legacy else str(path),
            **more,
        )[1]
    )


def _document(version: Version, path: Path) -> dict[str, Any]:
    """The result of `load_omni_transfer_config_for_model`; before 0.20 the file itself.

    The function is in vllm_omni.engine.stage_init_utils.
    """
    if version < (0, 20):
        return dict(yaml.safe_load(path.read_text()))
    return dict(importlib.import_module("vllm_omni.config.stage_config").resolve_deploy_yaml(str(path)))


def _stage(version: Version, raw: Any, model: Path) -> Stage:
    if version >= (0, 30):
        return _structured(raw, model)
    runtime = plain(raw.get("runtime")) or {}
    args = plain(raw.engine_args)
    _make_parts(model, args)
    if version >= (0, 18):
        # async_omni_engine (0.18 to 0.22), stage_runtime (0.24 on). The connector is added by
        # edges.py.
        init = importlib.import_module("vllm_omni.engine.stage_init_utils")
        args = plain(init.build_engine_args_dict(raw, str(model)))
    return Stage(
        raw=raw,
        id=int(raw.stage_id),
        kind=str(raw.get("stage_type", "llm")),
        devices=None if runtime.get("devices") is None else str(runtime["devices"]),
        num_replicas=int(runtime.get("num_replicas", 1)),
        async_chunk=bool(args.get("async_chunk", False)),
        engine_args=_without_model(args),
        sources=tuple(int(source) for source in raw.get("engine_input_source") or ()),
    )


def _structured(raw: Any, model: Path) -> Stage:
    """build_engine_args_dict_from_omni_stage_config of vllm_omni.engine.stage_init_utils (0.30)."""
    init = importlib.import_module("vllm_omni.engine.stage_init_utils")
    _make_parts(model, plain(raw.model_config))
    args = plain(init.build_engine_args_dict_from_omni_stage_config(raw, str(model)))
    return Stage(
        raw=raw,
        id=int(raw.stage_id),
        kind=raw.stage_type.value,
        devices=raw.runtime_config.devices,
        num_replicas=int(raw.runtime_config.num_replicas),
        async_chunk=bool(raw.connector_config.async_chunk),
        engine_args=_without_model(args),
        sources=tuple(raw.input_sources),
    )


def _make_parts(model: Path, args: dict[str, Any]) -> None:
    """Subfolders of a checkpoint that `_resolve_model_tokenizer_paths` looks for."""
    for key in ("model_subdir", "tokenizer_subdir"):
        if args.get(key):
            (model / args[key]).mkdir(parents=True, exist_ok=True)


def _without_model(args: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in args.items() if key != "model"}  # a scratch folder of ours


def _split_devices(raws: list[Any], found: list[Stage]) -> None:
    """`compute_replica_layout` in vllm_omni.engine.stage_init_utils (0.20 on); it may raise."""
    init = importlib.import_module("vllm_omni.engine.stage_init_utils")
    layout = init.compute_replica_layout(raws)[1]
    for position, stage in enumerate(found):
        stage.replica_devices = list(layout.get(position, ()))


def plain(value: Any) -> Any:
    """JSON's types only; what has none is named by its repr."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name, None)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    return repr(value)
