"""Makes the checkpoint of a tiny Qwen2.5-Omni: thinker, talker and code2wav with random weights, and the processor's files.

vllm-omni 0.30 serves it with its own models. No hub can be reached where this runs, and no real weights are needed: what is under
test is how tensors travel. Run with the engine's own Python: `mkqwen.py FOLDER`. The same input makes the same bytes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2VLImageProcessor,
    WhisperFeatureExtractor,
)

CONTEXT = 4096
HIDDEN, INTERMEDIATE, MEL = 64, 128, 20
VOCABULARY = 152064  # ids 151870 and 151872 (voices) are hard-coded (vllm_omni/.../qwen2_5_omni.py, 0.30)
AUDIO_VOCABULARY, AUDIO_PAD = 8448, 8292
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
    "<|vision_bos|>",
    "<|vision_eos|>",
    "<|vision_pad|>",
    "<|IMAGE|>",
    "<|VIDEO|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eos>",
    "<tts_text_bos_single>",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% elif 'image' in c['type'] %}<|vision_bos|><|IMAGE|><|vision_eos|>"
    "{% elif 'audio' in c['type'] %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif 'video' in c['type'] %}<|vision_bos|><|VIDEO|><|vision_eos|>{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Write the tokenizer's files; returns the ids of the special tokens."""
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{kind}_token": f"<|{kind.upper()}|>" for kind in ("image", "audio", "video")}
    named |= {f"{kind}_{end}_token": f"<|{kind}_{end}|>" for kind in ("vision", "audio") for end in ("bos", "eos")}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "extra_special_tokens": named,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    return {token: tokenizer.token_to_id(token) for token in SPECIAL}


def config(ids: dict[str, int]) -> Any:
    """Two layers for the thinker, the talker and the diffusion part of code2wav, one for what sees and hears."""
    shared = {
        "audio_token_index": ids["<|AUDIO|>"],
        "image_token_index": ids["<|IMAGE|>"],
        "video_token_index": ids["<|VIDEO|>"],
        "audio_start_token_id": ids["<|audio_bos|>"],
        "audio_end_token_id": ids["<|audio_eos|>"],
        "vision_start_token_id": ids["<|vision_bos|>"],
        "vision_end_token_id": ids["<|vision_eos|>"],
    }
    layers = {
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rope_parameters": ROPE,
    }
    thinker = {
        "text_config": {
            **layers,
            "vocab_size": VOCABULARY,
            "tie_word_embeddings": False,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        "user_token_id": 0,
        "pad_token_id": ids["<|endoftext|>"],
        "audio_config": {
            "num_mel_bins": 128, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "d_model": 32,
            "n_window": 100, "output_dim": HIDDEN, "max_source_positions": 1500,
        },
        "vision_config": {
            "depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [0], "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
        },
        **shared,
    }  # fmt: skip
    talker = {
        **layers,
        **shared,
        "vocab_size": AUDIO_VOCABULARY,
        "embedding_size": HIDDEN,
        "head_dim": 32,
        "pad_token_id": AUDIO_PAD,
        "tts_text_start_token_id": ids["<tts_text_bos>"],
        "tts_text_end_token_id": ids["<tts_text_eos>"],
        "tts_text_pad_token_id": ids["<tts_pad>"],
    }
    diffusion = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 32, "emb_dim": 32, "mel_dim": MEL,
        "look_ahead_layers": [1], "look_backward_layers": [0], "num_embeds": 8193, "enc_emb_dim": 16, "enc_dim": 16,
        "enc_channels": [16, 16, 16, 16, 48], "enc_attention_channels": 8, "enc_se_channels": 8, "enc_res2net_scale": 2,
    }  # fmt: skip
    wave = {"dit_config": diffusion, "bigvgan_config": {"mel_dim": MEL, "upsample_initial_channel": 64}}
    return Qwen2_5OmniConfig(thinker_config=thinker, talker_config=talker, token2wav_config=wave)


def write_weights(folder: Path, made: Any) -> None:
    """Write random weights; greedy sampling finds only tokens that the tiny tokenizer knows."""
    torch.manual_seed(0)
    model = Qwen2_5OmniForConditionalGeneration._from_config(made, dtype=torch.float32)
    head = model.thinker.lm_head.weight.data
    head[256:] = 0
    head[:256] *= 50
    # the big tables in half the bytes
    tensors = {
        name: tensor.to(torch.bfloat16 if tensor.numel() > 4_000_000 else tensor.dtype).contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main(folder: Path) -> None:
    """Write everything."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(folder)
    made = config(ids)
    write_weights(folder, made)
    made.architectures = ["Qwen2_5OmniModel"]  # as in the published checkpoints
    made.dtype = torch.float32
    made.save_pretrained(folder)
    voice = {"cond": torch.zeros(1, 16), "ref_mel": torch.zeros(1, 60, MEL), "bos_token": ids["<tts_text_bos>"]}
    torch.save({"Chelsie": voice, "Ethan": dict(voice)}, folder / "spk_dict.pt")
    processor = {
        **Qwen2VLImageProcessor(patch_size=14, merge_size=2, temporal_patch_size=2).to_dict(),
        **WhisperFeatureExtractor(feature_size=128).to_dict(),
        "image_processor_type": "Qwen2VLImageProcessor",
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "Qwen2_5OmniProcessor",
    }
    processor.pop("mel_filters", None)
    plain = {
        key: value for key, value in processor.items() if isinstance(value, int | float | str | list | dict | None)
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(plain, indent=1, default=str))
    generation = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    (folder / "generation_config.json").write_text(json.dumps(generation))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
