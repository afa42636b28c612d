"""A model of the default one's shape with random weights, for a machine that cannot fetch the real one:

    python -m tests.bench.llm.random_weights random.gguf && milepost models add random.gguf --name random --chat chatml
    python -m tests.bench.llm.run --model random --provider cuda

Speed does not depend on what weights say, but for tokens guessed ahead: such a model repeats itself.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.bench.llm import prompts

LAYERS, HIDDEN, HEADS, KV_HEADS, FEED_FORWARD, VOCABULARY = 24, 896, 14, 2, 4864, 151_936
CONTEXT, ROPE_BASE, EPSILON = 32_768, 1e6, 1e-6
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LEARNED = 2_000


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens and merges: learned from our prompts, so that they have about as many tokens as elsewhere, then filled."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [prompts.HANDBOOK, *(message.content for message in prompts.renewal_answer("i-bp1").messages)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=LEARNED, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    learned = sorted(tokenizer.get_vocab(), key=lambda token: int(tokenizer.token_to_id(token) or 0))
    merges = [" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]
    filling = [f"unused{number}" for number in range(VOCABULARY - len(learned) - len(SPECIAL))]
    return [*learned, *filling, *SPECIAL], merges


def write(path: Path, layers: int) -> None:
    """The model as a GGUF file in fp16, its output table the embedding."""
    writer = gguf.GGUFWriter(path, "qwen2")
    tokens, merges = vocabulary()
    _describe(writer, layers, tokens, merges)
    random = np.random.default_rng(0)

    def matrix(name: str, *dims: int) -> None:
        writer.add_tensor(f"{name}.weight", (random.standard_normal(dims, np.float32) * 0.02).astype(np.float16))

    def vector(name: str, size: int, value: float) -> None:
        writer.add_tensor(name, np.full(size, value, np.float32))

    head = HIDDEN // HEADS
    matrix("token_embd", VOCABULARY, HIDDEN)
    vector("output_norm.weight", HIDDEN, 1)
    for layer in range(layers):
        block = f"blk.{layer}"
        for part, count in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            matrix(f"{block}.attn_{part}", count * head, HIDDEN)
            vector(f"{block}.attn_{part}.bias", count * head, 0)
        matrix(f"{block}.attn_output", HIDDEN, HIDDEN)
        matrix(f"{block}.ffn_gate", FEED_FORWARD, HIDDEN)
        matrix(f"{block}.ffn_up", FEED_FORWARD, HIDDEN)
        matrix(f"{block}.ffn_down", HIDDEN, FEED_FORWARD)
        vector(f"{block}.attn_norm.weight", HIDDEN, 1)
        vector(f"{block}.ffn_norm.weight", HIDDEN, 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, layers: int, tokens: list[str], merges: list[str]) -> None:
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--layers", type=int, default=LAYERS)
    chosen = parser.parse_args()
    write(chosen.path, chosen.layers)
