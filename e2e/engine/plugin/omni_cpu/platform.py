"""vllm-omni's view of the machine: devices that are all the CPU."""

import psutil
import torch
from vllm_omni.platforms.interface import OmniPlatform, OmniPlatformEnum

from omni_cpu import MODERN

if MODERN:
    from omni_cpu.in_process import InProcessCpuPlatform as CpuPlatform
else:
    from vllm.platforms.cpu import CpuPlatform

# 0.30 checks that a stage's devices exist; a stage here never uses one
_DEVICES = 8 if MODERN else 1


class OmniCPUPlatform(OmniPlatform, CpuPlatform):
    """vLLM's CPU platform with the questions answered that vllm-omni asks on top."""

    _omni_enum = OmniPlatformEnum.OOT if MODERN else OmniPlatformEnum.UNSPECIFIED
    # a stage's `devices: "0"` must not become vLLM's CPU affinity variable: this one nobody reads here
    device_control_env_var = "OMNI_CPU_VISIBLE_DEVICES" if MODERN else "CUDA_VISIBLE_DEVICES"

    @classmethod
    def get_omni_ar_worker_cls(cls) -> str:
        """Name the worker of autoregressive stages."""
        return "omni_cpu.workers.CPUARWorker"

    @classmethod
    def get_omni_generation_worker_cls(cls) -> str:
        """Name the worker of stages that turn their whole input into an output at once."""
        return "omni_cpu.workers.CPUGenerationWorker"

    @classmethod
    def get_default_stage_config_path(cls) -> str:
        """Return where the shipped stage configurations are."""
        return "vllm_omni/model_executor/stage_configs"

    @classmethod
    def get_diffusion_attn_backend_cls(cls, selected_backend: str | None, head_size: int, *_: bool, **__: bool) -> str:
        """Name the one attention backend for diffusion that needs no accelerator."""
        from vllm_omni.diffusion.attention.backends.registry import DiffusionAttentionBackendEnum

        return DiffusionAttentionBackendEnum.TORCH_SDPA.get_path()

    @classmethod
    def supports_torch_inductor(cls) -> bool:
        """Whether torch.compile may be used: no, it would want a C++ compiler in the image."""
        return False

    @classmethod
    def get_torch_device(cls, local_rank: int | None = None) -> torch.device:
        """Return the CPU."""
        return torch.device("cpu")

    @classmethod
    def supports_talker_mtp_graph_capture(cls) -> bool:
        """Whether graphs can be captured: no."""
        return False

    @classmethod
    def get_device_count(cls) -> int:
        """Return how many devices a configuration may name."""
        return _DEVICES

    @classmethod
    def device_count(cls) -> int:
        """Return the same to vLLM."""
        return _DEVICES

    @classmethod
    def get_device_version(cls) -> None:
        """Return None: a CPU has no compute capability."""
        return

    @classmethod
    def synchronize(cls) -> None:
        """Do nothing: nothing runs asynchronously."""

    @classmethod
    def get_free_memory(cls, device: torch.device | None = None) -> int:
        """Return the machine's available memory in bytes."""
        return psutil.virtual_memory().available

    @classmethod
    def get_device_memory(cls, device: torch.device | None = None) -> tuple[int, int]:
        """Return the machine's available memory and all of it, in bytes."""
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    @classmethod
    def supports_cpu_offload(cls) -> bool:
        """Whether weights can move to the CPU: they are there."""
        return False


def _unpinned(tensor: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Return the tensor: MooncakeTransferEngine pins its pool for an accelerator, and here is none."""
    return tensor


torch.Tensor.pin_memory = _unpinned  # in processes that use this platform
