"""What the orchestrator does between two stages: the `custom_process_input_func` hooks of the tiny pipeline."""

from typing import Any

import torch
from vllm_omni.inputs.data import OmniTokensPrompt


def thinker2talker(
    stage_list: list[Any], engine_input_source: list[int], prompt: Any = None, requires_multimodal_data: bool = False
) -> list[OmniTokensPrompt]:
    """Make the talker's prompt of the thinker's tokens and its latent."""
    return [
        OmniTokensPrompt(
            prompt_token_ids=list(output.outputs[0].token_ids),
            additional_information={
                "thinker_latent": output.outputs[0].multimodal_output["latent"].detach().to(torch.float32)
            },
            multi_modal_data=None,
            mm_processor_kwargs=None,
        )
        for output in stage_list[engine_input_source[0]].engine_outputs
    ]


def talker2code2wav(
    stage_list: list[Any], engine_input_source: list[int], prompt: Any = None, requires_multimodal_data: bool = False
) -> list[OmniTokensPrompt]:
    """Make code2wav's prompt of the talker's tokens."""
    return [
        OmniTokensPrompt(
            prompt_token_ids=list(output.outputs[0].token_ids), multi_modal_data=None, mm_processor_kwargs=None
        )
        for output in stage_list[engine_input_source[0]].engine_outputs
    ]
