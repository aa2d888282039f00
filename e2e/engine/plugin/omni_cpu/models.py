"""Tiny models of a thinker -> talker -> code2wav pipeline.

They let a checkpoint of a few hundred KiB go through vllm-omni's real runners, schedulers and connectors. vLLM's own models
refuse the extra keyword arguments that vllm-omni's runners pass (sampling_metadata, logits_index, sampler ...).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM
from vllm_omni.model_executor.models.output_templates import OmniOutput

SAMPLE_RATE = 24000  # Hz; the API server writes this into every WAV
SAMPLES_PER_TOKEN = 240  # 10 ms


class OmniTinyThinker(Qwen2ForCausalLM):
    """Text: a Qwen2 of two layers."""

    have_multimodal_outputs = False
    has_preprocess = False
    has_postprocess = False

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **_: Any,
    ) -> Any:
        """Ignore what only multimodal models need."""
        return super().forward(input_ids, positions, intermediate_tensors, inputs_embeds)


class OmniTinyTalker(OmniTinyThinker):
    """Codec tokens: as the thinker, with the thinker's latent, which came through the connector, added to the prompt."""

    has_preprocess = True

    def preprocess(
        self, input_ids: torch.Tensor, input_embeds: torch.Tensor | None = None, **info: Any
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Embed the tokens; a prompt (more than one token) gets the mean of the thinker's latent."""
        embeddings = self.model.embed_tokens(input_ids)
        latent = info.get("thinker_latent")
        if isinstance(latent, torch.Tensor) and input_ids.shape[0] > 1:
            embeddings = embeddings + latent.to(embeddings.dtype).mean(dim=0, keepdim=True)
        return input_ids, embeddings, {}


class OmniTinyCode2Wav(nn.Module):
    """Sound: 10 ms of a sine for each codec token, its pitch the token's number plus 100 Hz; no weights."""

    input_modalities = "audio"
    have_multimodal_outputs = True
    has_preprocess = False
    has_postprocess = False
    requires_raw_input_tokens = True

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.width = vllm_config.model_config.get_hidden_size()

    def embed_input_ids(self, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return zeros: the runner wants embeddings, the model does not."""
        return torch.zeros((input_ids.shape[0], self.width))

    def compute_logits(self, hidden_states: Any, sampling_metadata: Any = None) -> None:
        """Return None: nothing is sampled."""
        return

    def forward(self, input_ids: torch.Tensor, positions: Any = None, *_: Any, **more: Any) -> OmniOutput:
        """Return one waveform per request of the batch."""
        seconds = torch.arange(SAMPLES_PER_TOKEN, dtype=torch.float32) / SAMPLE_RATE
        waves, start = [], 0
        for count in more.get("seq_token_counts") or [int(input_ids.shape[0])]:
            pitch = 100.0 + input_ids[start : start + count].to(torch.float32)
            waves.append((0.3 * torch.sin(2 * torch.pi * pitch[:, None] * seconds[None, :])).reshape(-1))
            start += count
        return OmniOutput(text_hidden_states=None, multimodal_outputs={"model_outputs": waves})

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load nothing."""
        return set()


ARCHITECTURES = (OmniTinyThinker, OmniTinyTalker, OmniTinyCode2Wav)
