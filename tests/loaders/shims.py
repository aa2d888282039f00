"""Stand-ins for vLLM and its relatives, each with the reason; other code is the wheel's own."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pydantic.dataclasses

from tests.loaders import stub, vllm_fields

# Imported by the loaders' modules for types and for code that runs in a GPU process; nothing in
# them resolves a configuration.
PACKAGES = (
    "vllm",  # loggers, base classes of schedulers, engine arguments, workers
    "torch",  # tensors in annotations and in code that moves payloads
    "transformers",  # classes of model configurations, in annotations and resolvers
    "diffusers",
    "huggingface_hub",
    "PIL",
    "numpy",
    "msgspec",  # payloads on the wire
    "aenum",
    "zmq",
    "janus",
    "psutil",
    "prettytable",  # tables of metrics
    "prometheus_client",
    "fastapi",  # HTTP endpoints
    "starlette",
    "einops",
    "safetensors",
    "cache_dit",
    "tqdm",
    "vllm_omni.diffusion.models.minimax_h3.pipeline_minimax_h3",  # the model; asked for a folder of its checkpoint only
)


class Rank:
    """The tensor-parallel rank of the worker code; set before a connector is opened."""

    rank = 0
    size = 1


def _logger(name: str) -> logging.Logger:
    """vllm.logger.init_logger returns a logger with more methods (info_once ...)."""
    logger = logging.getLogger(name)
    for level in ("debug", "info", "warning"):
        setattr(logger, f"{level}_once", getattr(logger, level))
    return logger


class Qwen3OmniMoeConfig:
    """transformers' class of this name; its configuration chooses the pipeline (0.24 on)."""

    model_type = "qwen3_omni_moe"
    architectures = ("Qwen3OmniMoeForConditionalGeneration",)
    enable_audio_output = True


def _hf_config(model: str, *args: Any, **kwargs: Any) -> Any:
    """vllm.transformers_utils.config.get_config; it fails for model types unknown to transformers.

    The release then reads config.json itself, as it does for models such as qwen3_tts.
    """
    found = _hf_file("config.json", model) or {}
    if found.get("model_type") == Qwen3OmniMoeConfig.model_type:
        return Qwen3OmniMoeConfig()
    msg = f"no configuration class for {model}"
    raise ValueError(msg)


def _hf_file(name: str, model: str, revision: str | None = None) -> dict[str, Any] | None:
    """vllm.transformers_utils.config.get_hf_file_to_dict for a local folder."""
    path = Path(model) / name
    return json.loads(path.read_text()) if path.is_file() else None


def _hf_path(model: str, name: str, revision: str | None = None) -> bool:
    """vllm.transformers_utils.repo_utils.file_or_path_exists for a local folder."""
    return (Path(model) / name).is_file()


def _config(cls: type | None = None, *, config: pydantic.ConfigDict | None = None, **kwargs: Any) -> Any:
    """vllm.config.utils.config of 0.28 and 0.30: a pydantic dataclass without unknown fields."""
    merged = pydantic.ConfigDict(extra="forbid")
    merged.update(config or {})

    def decorate(target: type) -> Any:
        return pydantic.dataclasses.dataclass(target, config=merged, **kwargs)

    return decorate if cls is None else decorate(cls)


def _vllm_class(name: str, **body: Any) -> Any:
    """A vLLM configuration class by its fields; a base of vllm_omni.config.omni_config (0.28 on).

    Values are not checked: that is vLLM's part. Defaults are those that the harness needs, None
    otherwise.
    """
    fields = {field: vllm_fields.DEFAULTS.get(field) for field in vllm_fields.CLASSES[name]}
    annotations = {field: type(value) if value is not None else Any for field, value in fields.items()}
    return _config(type(name, (), {"__annotations__": annotations, **fields, **body}))


def _engine_args() -> Any:
    """vllm.engine.arg_utils.EngineArgs: names of fields, for `_upstream_engine_field_map`."""
    return dataclasses.make_dataclass("EngineArgs", [(name, Any, None) for name in vllm_fields.ENGINE_ARGS])


def _values() -> dict[str, dict[str, Any]]:
    hf = {"get_config": _hf_config, "get_hf_file_to_dict": _hf_file, "file_or_path_exists": _hf_path}
    parallel: Callable[[Any], None] = lambda self: None  # noqa: E731 - ParallelConfig's own validator
    return {
        "vllm": {"__version__": "0", "__version_tuple__": (0, 0)},  # vllm_omni.version compares; 0.0 is "do not"
        "vllm.logger": {"init_logger": _logger},
        "vllm.transformers_utils.config": hf,
        "vllm.transformers_utils.repo_utils": hf,
        "vllm.transformers_utils.runai_utils": {"is_runai_obj_uri": lambda uri: False},
        "vllm.distributed.parallel_state": {
            "get_tensor_model_parallel_rank": lambda: Rank.rank,
            "get_tensor_model_parallel_world_size": lambda: Rank.size,
        },
        # Both are unpacked or added to while modules of the wheel are imported.
        "vllm.model_executor.models.registry": {"_VLLM_MODELS": {}},
        "vllm.model_executor.layers.quantization": {"QUANTIZATION_METHODS": []},
        "vllm.config.utils": {"config": _config},
        "vllm.config": {
            "LoadConfig": _vllm_class("LoadConfig"),
            "CacheConfig": _vllm_class("CacheConfig"),
            "SchedulerConfig": _vllm_class("SchedulerConfig"),
            "ParallelConfig": _vllm_class("ParallelConfig", _validate_parallel_config=parallel),
            "CompilationConfig": dict,
            "ProfilerConfig": dict,
            "KVTransferConfig": _vllm_class("KVTransferConfig"),
        },
        "vllm.engine.arg_utils": {"EngineArgs": _engine_args(), "AsyncEngineArgs": _engine_args()},
        # Names of HTTP flags that are no engine arguments (`_frontend_cli_fields`); the harness
        # gives no flags at all.
        "vllm.entrypoints.launchers.cli_args": {"FrontendArgs": dataclasses.make_dataclass("FrontendArgs", [])},
        "vllm_omni.diffusion.models.minimax_h3.pipeline_minimax_h3": {
            "resolve_minimax_h3_diffusion_model_path": lambda model, *args, **kwargs: model
        },
        "vllm.envs": {"VLLM_USE_MODELSCOPE": False},
        "vllm.pooling_params": {"PoolingParams": dict},
        "transformers": {"Qwen3OmniMoeConfig": Qwen3OmniMoeConfig},
    }


class _Cuda:
    """vllm_omni.platforms.current_omni_platform with a CUDA device, without its driver."""

    device_name = device_type = "cuda"
    device_control_env_var = "CUDA_VISIBLE_DEVICES"
    Stream = None

    def is_cuda(self) -> bool:
        return True

    def is_rocm(self) -> bool:
        return False

    is_npu = is_xpu = is_musa = is_rocm

    def get_device_count(self) -> int:
        return 0  # nothing is looked for on devices (vllm_omni.diffusion.envs)

    def get_default_stage_config_path(self) -> str:
        return "vllm_omni/model_executor/stage_configs"

    def get_omni_ar_worker_cls(self) -> str:
        return "vllm_omni.worker.gpu_ar_worker.GPUARWorker"

    def get_omni_generation_worker_cls(self) -> str:
        return "vllm_omni.worker.gpu_generation_worker.GPUGenerationWorker"


# Packages of the wheel whose `__init__` is not run.
BARE = (
    "vllm_omni",  # patches vLLM
    "vllm_omni.entrypoints",  # imports the servers
    "vllm_omni.worker",  # imports the workers
    "vllm_omni.platforms",  # looks for devices
)
BARE_CHILDREN_OF = (
    "vllm_omni.model_executor.models",  # a model's package imports the model beside its pipeline.py
    "vllm_omni.diffusion.models",
)


def install(folder: Path) -> None:
    """Make `vllm_omni` of a wheel folder importable, without vLLM."""
    sys.path.insert(0, str(folder))
    sys.modules["regex"] = re  # only its common subset is used (`_stage_cli_overrides`)
    bare = stub.Bare(BARE, BARE_CHILDREN_OF, {"vllm_omni.platforms": {"current_omni_platform": _Cuda()}})
    sys.meta_path[:0] = [stub.Packages(PACKAGES, _values()), bare]
    importlib.import_module("vllm_omni.config")  # first, as vllm_omni's own __init__ does: modules import each other


def executed() -> tuple[list[str], list[str]]:
    """Names of the modules that the wheel executed, and of the modules that are stand-ins."""
    modules = sorted(sys.modules.items())
    real = [name for name, module in modules if name.startswith("vllm_omni") and getattr(module, "__file__", None)]
    stand_ins = [name for name, module in modules if isinstance(module, types.ModuleType) and stub.is_stand_in(module)]
    return real, stand_ins
