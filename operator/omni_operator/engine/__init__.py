"""What vllm-omni is: its releases, its pipelines, and what each connector needs. Data and lookups, no I/O."""
