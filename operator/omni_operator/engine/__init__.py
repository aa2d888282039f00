"""What vllm-omni is: its releases and its pipelines. Data and lookups, no I/O.

A new release is one record (releases.py), its configuration of each pipeline (pipelines/), and its
loader in tests/loaders.
"""
