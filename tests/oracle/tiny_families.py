"""Tiny random decoders of many families and what transformers computes with them. Runs in the export environment.

python tiny_families.py FOLDER: writes FOLDER/<family> (a Hugging Face folder) and FOLDER/<family>.npz, with the arrays
prompt.<i>, logits.<i> [tokens, vocabulary] and said.<i> (the greedy continuation) of each prompt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

VOCABULARY, CONTEXT, STEPS = 300, 256, 16
# The longest prompt goes beyond what llama3's scaling takes for the original context, and beyond sliding windows.
PROMPT_LENGTHS = (60, 7, 25)

COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "tie_word_embeddings": False, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip

# name: (model type, what differs from COMMON)
FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "llama-all-heads-tied": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama3-scaled": ("llama", {"rope_scaling": LLAMA3, "rope_theta": 500_000.0}),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True, "rope_theta": 1_000_000.0}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen3-tied": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "phi": ("phi", {"num_key_value_heads": 4}),
    "gemma": ("gemma", {"head_dim": 32, "num_key_value_heads": 1}),
    "gemma2": ("gemma2", {"head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 32}),
    "granite": ("granite", {"attention_multiplier": 0.2, "embedding_multiplier": 3.0, "logits_scaling": 2.0}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0]}),
}


def main(folder: Path) -> None:
    """Write every family."""
    for name, (kind, differences) in FAMILIES.items():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**COMMON, **differences}))
        scatter(model)
        model.save_pretrained(folder / name)
        np.savez(folder / f"{name}.npz", **reference(model.eval()))


@torch.no_grad()
def scatter(model: PreTrainedModel) -> None:
    """Weights of a scale at which every part of the arithmetic shows in the logits; transformers' own would hide biases."""
    for name, parameter in model.named_parameters():
        parameter.normal_(0, 0.2)
        if "norm" in name and not name.endswith("bias"):
            parameter.add_(1)


@torch.no_grad()
def reference(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """Prompts, their logits and 16 greedy tokens, each computed from the beginning, without a cache."""
    random = np.random.default_rng(1)
    arrays = {}
    for index, length in enumerate(PROMPT_LENGTHS):
        ids = random.integers(3, VOCABULARY, length).tolist()
        arrays[f"prompt.{index}"] = np.array(ids)
        for _ in range(STEPS):
            logits = model(torch.tensor([ids]), use_cache=False).logits[0]
            arrays.setdefault(f"logits.{index}", logits.numpy())
            ids.append(int(logits[-1].argmax()))
        arrays[f"said.{index}"] = np.array(ids[length:])
    return arrays


if __name__ == "__main__":
    main(Path(sys.argv[1]))
