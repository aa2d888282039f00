"""A pipeline of two stages from the shipped Qwen2.5-Omni: thinker -> code2wav.

0.30 can use MooncakeTransferEngine only between two stages (a middle stage receives but cannot send over it), and ships no small
pipeline of two that a CPU could run. The names of the hooks are those of the shipped three-stage pipeline.
"""

from vllm_omni.config.pipeline_registry import OMNI_PIPELINES, register_pipeline
from vllm_omni.config.stage_config import PipelineConfig, StageExecutionType, StagePipelineConfig

_HOOKS = "vllm_omni.model_executor.stage_input_processors.qwen2_5_omni"
TWO_STAGES = PipelineConfig(
    model_type="omni_cpu_two_stage",
    model_arch="Qwen2_5OmniForConditionalGeneration",
    stages=(
        StagePipelineConfig(
            stage_id=0,
            model_stage="thinker",
            execution_type=StageExecutionType.LLM_AR,
            final_output=True,
            final_output_type="text",
            owns_tokenizer=True,
            requires_multimodal_data=True,
            hf_config_name="thinker_config",
            engine_output_type="latent",
            sampling_constraints={"detokenize": True},
            custom_process_next_stage_input_func=f"{_HOOKS}.talker2code2wav_full_payload",
        ),
        StagePipelineConfig(
            stage_id=1,
            model_stage="code2wav",
            execution_type=StageExecutionType.LLM_GENERATION,
            input_sources=(0,),
            final_output=True,
            final_output_type="audio",
            hf_config_name="thinker_config",
            engine_output_type="audio",
            sync_process_input_func=f"{_HOOKS}.talker2code2wav_token_only",
            sampling_constraints={"detokenize": True},
            requires_full_payload_input=True,
        ),
    ),
)


def register_pipelines() -> None:
    """Register it, once per process."""
    if TWO_STAGES.model_type not in OMNI_PIPELINES:
        register_pipeline(TWO_STAGES)
