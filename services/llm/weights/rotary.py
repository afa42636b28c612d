"""Rotary positions: what each pair of floats turns by from one token to the next, and how long contexts stretch it.

The scalings are those of config.json's `rope_scaling`: linear (https://arxiv.org/abs/2306.15595), llama3 (by the
published reference code of Llama 3.1) and yarn (https://arxiv.org/abs/2309.00071).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.llm.weights.shape import Array

Frequencies = NDArray[np.float64]


@dataclass(frozen=True)
class Rotary:
    """frequencies: radians a token [head_dim / 2]; magnitude: what cosine and sine are multiplied by."""

    frequencies: Frequencies
    magnitude: float = 1.0

    def tables(self, context: int) -> tuple[Array, Array]:
        """Cosine and sine [context, head_dim / 2] of each position."""
        angle = np.outer(np.arange(context), self.frequencies)
        return (np.cos(angle) * self.magnitude).astype(np.float32), (np.sin(angle) * self.magnitude).astype(np.float32)


class UnknownScaling(ValueError):
    """A rope_scaling of a kind that is not known here, or that lacks a number."""


def plain(base: float, head_dim: int) -> Frequencies:
    """The frequencies without scaling."""
    return np.asarray(base ** -(np.arange(0, head_dim, 2) / head_dim), np.float64)


def scaled(base: float, head_dim: int, scaling: Mapping[str, object], context: int) -> Rotary:
    """The rotary positions of a rope_scaling; context: tokens the model says it reaches. Raises UnknownScaling."""
    frequencies = plain(base, head_dim)
    match scaling.get("rope_type", scaling.get("type", "default")):
        case "default" | "none" | None:
            return Rotary(frequencies)
        case "linear":
            return Rotary(frequencies / _real(scaling, "factor"))
        case "llama3":
            return Rotary(_llama3(frequencies, scaling))
        case "yarn":
            return _yarn(frequencies, base, scaling, context)
        case other:
            raise UnknownScaling(f"its rotary positions are scaled by {other}, which is not known here")


def _llama3(frequencies: Frequencies, scaling: Mapping[str, object]) -> Frequencies:
    """Fast pairs stay, slow ones are divided by the factor, those between are blended by their turns in the old context."""
    turns = _real(scaling, "original_max_position_embeddings") * frequencies / (2 * math.pi)
    low, high = _real(scaling, "low_freq_factor"), _real(scaling, "high_freq_factor")
    if not high > low:
        raise UnknownScaling("its rope_scaling has a high_freq_factor that is not above its low_freq_factor")
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(frequencies * (kept + (1 - kept) / _real(scaling, "factor")))


def _yarn(frequencies: Frequencies, base: float, scaling: Mapping[str, object], context: int) -> Rotary:
    """As llama3, but blended by the pair's place; attention is sharpened by the magnitude."""
    if {"mscale", "mscale_all_dim"} & {key for key, value in scaling.items() if value}:
        raise UnknownScaling("its rotary positions are scaled by yarn with mscale, which is not known here")
    original = _real(scaling, "original_max_position_embeddings", context)
    factor = _real(scaling, "factor", context / original)
    half = len(frequencies)

    def place(turns: float) -> float:
        return half * math.log(original / (turns * 2 * math.pi)) / math.log(base)

    low, high = place(_real(scaling, "beta_fast", 32)), place(_real(scaling, "beta_slow", 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    divided = np.clip((np.arange(half) - low) / max(high - low, 0.001), 0, 1)
    magnitude = _real(scaling, "attention_factor", 0.1 * math.log(factor) + 1 if factor > 1 else 1)
    return Rotary(np.asarray(frequencies * (1 - divided + divided / factor)), magnitude)


def _real(scaling: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = scaling.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UnknownScaling(f"its rope_scaling has no positive number {key}")
    return float(value)
