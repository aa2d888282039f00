"""Workers: vLLM's CPUWorker driving vllm-omni's own model runners.

The runners' method resolution order is GPUARModelRunner -> OmniGPUModelRunner -> CPUModelRunner -> GPUModelRunner: all of
vllm-omni's hooks stay, and vLLM's CPU overrides replace the CUDA parts of GPUModelRunner.
"""

import contextlib
from collections.abc import Iterator

import torch
from vllm.config import VllmConfig
from vllm.v1.worker import cpu_worker
from vllm.v1.worker.cpu_model_runner import CPUModelRunner, _torch_cuda_wrapper
from vllm_omni.worker.gpu_ar_model_runner import GPUARModelRunner
from vllm_omni.worker.gpu_generation_model_runner import GPUGenerationModelRunner
from vllm_omni.worker.mixins import OmniWorkerMixin

from omni_cpu import MODERN


class CPUARModelRunner(GPUARModelRunner, CPUModelRunner):
    """Runs an autoregressive stage."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        with _torch_cuda_wrapper():
            super().__init__(vllm_config, device)
        self._postprocess_tensors()  # once more: GPUARModelRunner makes its buffers anew after CPUModelRunner's turn


class CPUGenerationModelRunner(GPUGenerationModelRunner, CPUModelRunner):
    """Runs a stage that turns its whole input into an output at once."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        with _torch_cuda_wrapper():
            super().__init__(vllm_config, device)
        self._postprocess_tensors()


@contextlib.contextmanager
def _runner(cls: type[CPUModelRunner]) -> Iterator[None]:
    # CPUWorker.init_device names its runner's class; there is no other way to hand it one
    saved = cpu_worker.CPUModelRunner
    cpu_worker.CPUModelRunner = cls
    try:
        yield
    finally:
        cpu_worker.CPUModelRunner = saved


class _Worker(OmniWorkerMixin, cpu_worker.CPUWorker):
    model_runner_cls: type[CPUModelRunner]  # 0.30 asks the class for it before there is a worker

    def init_device(self) -> None:
        """Make the runner."""
        self.use_v2_model_runner = False
        with _runner(self.model_runner_cls):
            super().init_device()


class CPUARWorker(_Worker):
    """The worker of an autoregressive stage."""

    model_runner_cls = CPUARModelRunner

    def determine_available_memory(self) -> int:
        """Run the model once before.

        vLLM's CPU worker skips that in eager mode, and 0.30's talker sets up its voice in its first forward
        (models/qwen2_5_omni/qwen2_5_omni.py).
        """
        if MODERN:
            self.model_runner._dummy_run(8, is_profile=True)
        return super().determine_available_memory()


class CPUGenerationWorker(_Worker):
    """The worker of a generation stage."""

    model_runner_cls = CPUGenerationModelRunner
