"""vllm-omni on machines without a GPU: the real engine on CPU, and a light stand-in; README.md says what is what."""
