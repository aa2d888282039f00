"""Kubernetes operator that serves omni-modality models with vllm-omni on KubeRay."""

__version__ = "0.1.0"
