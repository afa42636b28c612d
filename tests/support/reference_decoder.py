"""The arithmetic of a Llama-like decoder, computed plainly in numpy: full attention matrices and no cache."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import gguf
import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class ReferenceDecoder:
    """tensors by GGUF name; turns: radians a token of each pair of floats [head_dim / 2]; a tied model has no `output.weight`.

    interleaved: a pair's floats are neighbours, else they are half a head apart.
    """

    tensors: Mapping[str, Array]
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    turns: NDArray[np.float64]
    interleaved: bool
    magnitude: float = 1.0

    @classmethod
    def of_gguf(cls, path: Path) -> ReferenceDecoder:
        """A file's decoder, without any scaling of its positions."""
        reader = gguf.GGUFReader(path)

        def number(key: str) -> float:
            field = reader.get_field(f"{family}.{key}")
            assert field is not None
            return cast("float", field.contents())

        architecture = reader.get_field("general.architecture")
        assert architecture is not None
        family = architecture.contents()
        heads = int(number("attention.head_count"))
        head_dim = int(number("embedding_length")) // heads
        return cls(
            tensors={tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors},
            layers=int(number("block_count")),
            heads=heads,
            kv_heads=int(number("attention.head_count_kv")),
            head_dim=head_dim,
            epsilon=number("attention.layer_norm_rms_epsilon"),
            turns=turns(number("rope.freq_base"), head_dim),
            interleaved=family == "llama",
        )

    def logits(self, ids: list[int]) -> Array:
        """Logits [len(ids), vocabulary]."""
        hidden = self.tensors["token_embd.weight"][ids]
        for layer in range(self.layers):
            block = f"blk.{layer}"
            hidden = hidden + self._attend(block, self._norm(f"{block}.attn_norm", hidden))
            normed = self._norm(f"{block}.ffn_norm", hidden)
            gate, up = (normed @ self.tensors[f"{block}.ffn_{part}.weight"].T for part in ("gate", "up"))
            hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ self.tensors[f"{block}.ffn_down.weight"].T
        head = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        return np.asarray(self._norm("output_norm", hidden) @ head.T, np.float32)

    def _norm(self, name: str, x: Array) -> Array:
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + self.epsilon) * self.tensors[f"{name}.weight"])

    def _attend(self, block: str, x: Array) -> Array:
        length = len(x)
        query, key, value = (self._heads(f"{block}.attn_{part}", x) for part in "qkv")
        if f"{block}.attn_q_norm.weight" in self.tensors:
            query, key = self._norm(f"{block}.attn_q_norm", query), self._norm(f"{block}.attn_k_norm", key)
        query, key = self._rotate(query), self._rotate(key)
        mask = np.triu(np.full((length, length), -np.inf), 1)
        parts = []
        for head in range(self.heads):
            shared = head // (self.heads // self.kv_heads)
            scores = query[:, head] @ key[:, shared].T / np.sqrt(self.head_dim) + mask
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            parts.append(weights / weights.sum(-1, keepdims=True) @ value[:, shared])
        return np.asarray(np.concatenate(parts, -1) @ self.tensors[f"{block}.attn_output.weight"].T, np.float32)

    def _heads(self, name: str, x: Array) -> Array:
        bias = self.tensors.get(f"{name}.bias", np.float32(0))
        return np.asarray((x @ self.tensors[f"{name}.weight"].T + bias).reshape(len(x), -1, self.head_dim))

    def _rotate(self, x: Array) -> Array:
        angle = np.outer(np.arange(len(x)), self.turns)[:, None]
        cos, sin = np.cos(angle) * self.magnitude, np.sin(angle) * self.magnitude
        half = self.head_dim // 2
        left, right = (x[..., 0::2], x[..., 1::2]) if self.interleaved else (x[..., :half], x[..., half:])
        turned = left * cos - right * sin, left * sin + right * cos
        return np.stack(turned, -1).reshape(x.shape) if self.interleaved else np.concatenate(turned, -1)


def turns(base: float, head_dim: int) -> NDArray[np.float64]:
    """Radians a token of each pair."""
    return np.array([1 / base ** (2 * pair / head_dim) for pair in range(head_dim // 2)])


def llama3_divisors(base: float, head_dim: int, scaling: Mapping[str, object]) -> NDArray[np.float64]:
    """What Llama 3.1 divides the turns by, told in wavelengths, as its published code has it."""
    factor, low, high, original = (
        cast("float", scaling[key])
        for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    divisors = []
    for turn in turns(base, head_dim):
        wavelength = 2 * math.pi / turn
        if wavelength < original / high:
            divisors.append(1.0)
        elif wavelength > original / low:
            divisors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors)


def slower(decoder: ReferenceDecoder, divisors: float | NDArray[np.float64], magnitude: float = 1.0) -> ReferenceDecoder:
    """The decoder with its turns divided."""
    return replace(decoder, turns=decoder.turns / divisors, magnitude=magnitude)
