"""Makes the checkpoint of the tiny pipeline: a random Qwen2 text model of two layers and a byte-level tokenizer.

No hub can be reached where this runs, and no real weights are needed: what is under test is how tensors travel. Run with
the engine's own Python: `mkmodel.py FOLDER`. The same input makes the same bytes.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 512  # 256 bytes, the special tokens, padding
CONTEXT = 512
HIDDEN, LAYERS, HEADS, KV_HEADS, INTERMEDIATE = 64, 2, 2, 1, 128
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{{ c.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tokenizer(folder: Path) -> dict[str, int]:
    """Write the tokenizer's files; returns the vocabulary."""
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *SPECIAL]
    words += [f"<|pad{number}|>" for number in range(len(words), VOCABULARY)]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    return vocabulary


def write_config(folder: Path, vocabulary: dict[str, int]) -> None:
    """Write config.json and generation_config.json."""
    end, pad = vocabulary["<|im_end|>"], vocabulary["<|endoftext|>"]
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": INTERMEDIATE,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": LAYERS,
        "bos_token_id": pad,
        "eos_token_id": end,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end, "pad_token_id": pad}))


def write_weights(folder: Path) -> int:
    """Write random weights; returns how many numbers they hold."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.1).to(torch.bfloat16)

    ones = torch.ones(HIDDEN, dtype=torch.bfloat16)
    weights = {"model.embed_tokens.weight": random(VOCABULARY, HIDDEN), "lm_head.weight": random(VOCABULARY, HIDDEN)}
    weights["lm_head.weight"][len(pre_tokenizers.ByteLevel.alphabet()) :] = 0  # bytes are likelier than padding
    weights["model.norm.weight"] = ones.clone()
    head = HIDDEN // HEADS
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name, width in (("q", HEADS * head), ("k", KV_HEADS * head), ("v", KV_HEADS * head)):
            weights[f"{prefix}self_attn.{name}_proj.weight"] = random(width, HIDDEN)
            weights[f"{prefix}self_attn.{name}_proj.bias"] = random(width)
        weights[f"{prefix}self_attn.o_proj.weight"] = random(HIDDEN, HEADS * head)
        for name in ("gate", "up"):
            weights[f"{prefix}mlp.{name}_proj.weight"] = random(INTERMEDIATE, HIDDEN)
        weights[f"{prefix}mlp.down_proj.weight"] = random(HIDDEN, INTERMEDIATE)
        for name in ("input", "post_attention"):
            weights[f"{prefix}{name}_layernorm.weight"] = ones.clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return sum(tensor.numel() for tensor in weights.values())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    write_config(target, write_tokenizer(target))
    print(f"{target}: {write_weights(target)} parameters")
