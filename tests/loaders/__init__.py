"""Rendered configurations in the loader code of every vllm-omni release, without vLLM or a GPU."""
