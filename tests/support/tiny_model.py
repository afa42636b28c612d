"""A decoder small enough to be checked by hand: random weights in a real GGUF file, and the same arithmetic in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from services.llm.tokenizer import BYTE_OF

Array = NDArray[np.float32]

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD = 2, 64, 4, 2, 16, 96
EPSILON, ROPE_BASE, CONTEXT = 1e-5, 10_000.0, 256
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "Ġ t")


def tokens() -> list[str]:
    """All bytes, a few merges, then the special tokens."""
    return [*BYTE_OF, *("".join(merge.split()) for merge in MERGES), *SPECIAL]


VOCABULARY = len(tokens())


@dataclass(frozen=True)
class Tiny:
    """family: `llama` or `qwen2` (which has biases of q, k and v); tied: the output table is the embedding."""

    family: str
    tied: bool
    tensors: dict[str, Array]

    @classmethod
    def random(cls, family: str, *, tied: bool, seed: int = 0) -> Tiny:
        """Weights of a scale at which every part of the arithmetic shows in the logits."""
        random = np.random.default_rng(seed)

        def normal(*dims: int) -> Array:
            return (random.standard_normal(dims) * 0.2).astype(np.float32)

        tensors = {"token_embd.weight": normal(VOCABULARY, HIDDEN), "output_norm.weight": 1 + normal(HIDDEN)}
        if not tied:
            tensors["output.weight"] = normal(VOCABULARY, HIDDEN)
        for layer in range(LAYERS):
            block = f"blk.{layer}"
            widths = {"q": HEADS * HEAD_DIM, "k": KV_HEADS * HEAD_DIM, "v": KV_HEADS * HEAD_DIM}
            for part, width in widths.items():
                tensors[f"{block}.attn_{part}.weight"] = normal(width, HIDDEN)
                if family == "qwen2":
                    tensors[f"{block}.attn_{part}.bias"] = normal(width)
            tensors[f"{block}.attn_output.weight"] = normal(HIDDEN, HEADS * HEAD_DIM)
            tensors[f"{block}.ffn_gate.weight"] = normal(FEED_FORWARD, HIDDEN)
            tensors[f"{block}.ffn_up.weight"] = normal(FEED_FORWARD, HIDDEN)
            tensors[f"{block}.ffn_down.weight"] = normal(HIDDEN, FEED_FORWARD)
            tensors[f"{block}.attn_norm.weight"] = 1 + normal(HIDDEN)
            tensors[f"{block}.ffn_norm.weight"] = 1 + normal(HIDDEN)
        return cls(family, tied, tensors)

    def write(self, path: Path, *, rope_scaling: str | None = None) -> Path:
        """The model as a GGUF file, in float32."""
        writer = gguf.GGUFWriter(path, self.family)
        writer.add_block_count(LAYERS)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(HIDDEN)
        writer.add_feed_forward_length(FEED_FORWARD)
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(KV_HEADS)
        writer.add_layer_norm_rms_eps(EPSILON)
        writer.add_rope_freq_base(ROPE_BASE)
        if rope_scaling:
            writer.add_string(f"{self.family}.rope.scaling.type", rope_scaling)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2" if self.family == "qwen2" else "smollm")
        writer.add_token_list(tokens())
        writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens()])
        writer.add_token_merges(list(MERGES))
        for name, tensor in self.tensors.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def logits(self, ids: list[int]) -> Array:
        """Logits [len(ids), vocabulary], computed plainly: full attention matrices and no cache."""
        hidden = self.tensors["token_embd.weight"][ids]
        for layer in range(LAYERS):
            block = f"blk.{layer}"
            hidden = hidden + self._attend(block, self._norm(f"{block}.attn_norm", hidden))
            normed = self._norm(f"{block}.ffn_norm", hidden)
            gate = normed @ self.tensors[f"{block}.ffn_gate.weight"].T
            up = normed @ self.tensors[f"{block}.ffn_up.weight"].T
            hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ self.tensors[f"{block}.ffn_down.weight"].T
        head = self.tensors["token_embd.weight" if self.tied else "output.weight"]
        return np.asarray(self._norm("output_norm", hidden) @ head.T, np.float32)

    def _norm(self, name: str, x: Array) -> Array:
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * self.tensors[f"{name}.weight"])

    def _attend(self, block: str, x: Array) -> Array:
        length = len(x)
        query, key = (self._rotate(self._heads(f"{block}.attn_{part}", x)) for part in "qk")
        value = self._heads(f"{block}.attn_v", x)
        mask = np.triu(np.full((length, length), -np.inf), 1)
        parts = []
        for head in range(HEADS):
            shared = head // (HEADS // KV_HEADS)
            scores = query[:, head] @ key[:, shared].T / np.sqrt(HEAD_DIM) + mask
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            parts.append(weights / weights.sum(-1, keepdims=True) @ value[:, shared])
        return np.asarray(np.concatenate(parts, -1) @ self.tensors[f"{block}.attn_output.weight"].T)

    def _heads(self, name: str, x: Array) -> Array:
        bias = self.tensors.get(f"{name}.bias", np.float32(0))
        return np.asarray((x @ self.tensors[f"{name}.weight"].T + bias).reshape(len(x), -1, HEAD_DIM))

    def _rotate(self, x: Array) -> Array:
        """Rotary positions: llama.cpp keeps pairs side by side for `llama`, half a head apart for `qwen2`."""
        frequency = ROPE_BASE ** -(np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        angle = np.outer(np.arange(len(x)), frequency)[:, None]
        half = HEAD_DIM // 2
        left, right = (x[..., 0::2], x[..., 1::2]) if self.family == "llama" else (x[..., :half], x[..., half:])
        turned = left * np.cos(angle) - right * np.sin(angle), left * np.sin(angle) + right * np.cos(angle)
        return np.stack(turned, -1).reshape(x.shape) if self.family == "llama" else np.concatenate(turned, -1)
