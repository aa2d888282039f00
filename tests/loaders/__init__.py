"""Every vllm-omni release's own loader code as a judge of what the operator renders (no vLLM, no GPU)."""
