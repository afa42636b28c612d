"""Weights in 8 and 4 bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.llm.weights import Array

LEAST = 1e-12
LEVELS = 15
SPANS = (1.0, 0.94, 0.88, 0.82)
AT_ONCE = 1 << 18  # floats whose search fits a core's cache


class Blocks(NamedTuple):
    """A matrix [out, in] in 4 bits, as MatMulNBits takes it: weight = (q - zero) * scale.

    values: uint8 [out, blocks, block / 2], two q a byte, the first in the low half; scales: float32 [out, blocks];
    zeros: uint8 [out, blocks / 2 rounded up], packed likewise.
    """

    values: NDArray[np.uint8]
    scales: Array
    zeros: NDArray[np.uint8]


def quantise_rows(matrix: Array) -> tuple[NDArray[np.int8], Array]:
    """int8 [out, in] and a float32 scale per row, symmetric: row = int8 * scale."""
    scale = np.maximum(np.abs(matrix).max(axis=1) / 127, LEAST).astype(np.float32)
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale


def quantise_blocks(matrix: Array, block: int) -> Blocks:
    """Each `block` weights of a row by a scale and a zero of their own; rows are padded with zeros to whole blocks."""
    rows, width = matrix.shape
    count = -(-width // block)
    flat = np.pad(matrix, ((0, 0), (0, count * block - width))).reshape(-1, block)
    step = max(AT_ONCE // block, 1)
    found = [_search(flat[start : start + step]) for start in range(0, len(flat), step)]
    values, scales, zeros = (np.concatenate(part) for part in zip(*found, strict=True))
    return Blocks(
        _pack(values).reshape(rows, count, block // 2), scales.reshape(rows, count), _pack(zeros.reshape(rows, count))
    )


def _search(blocks: Array) -> tuple[NDArray[np.uint8], Array, NDArray[np.uint8]]:
    """The scale and zero of each block [n, block] that leave the least squared error among a few ways to round it.

    Of each block's span some fraction becomes the 15 steps, about a zero that lies well or a step beside it. With the
    roundings d = q - zero given, the best scale is sum(w d) / sum(d d), and it leaves sum(w w) - sum(w d)^2 / sum(d d).
    """
    weights = np.ascontiguousarray(blocks.T)  # what a block shares lies along rows then, which numpy is quicker at
    low, high = np.minimum(weights.min(axis=0), 0), np.maximum(weights.max(axis=0), 0)
    span = np.maximum(high - low, LEAST)
    middle = np.rint(-low / span * LEVELS)
    best = np.full(len(blocks), -1.0, np.float32)
    values = np.zeros(weights.shape, np.uint8)
    scales, zeros = np.ones(len(blocks), np.float32), np.zeros(len(blocks), np.uint8)
    for fraction in SPANS:
        steps = np.rint(weights * (LEVELS / (fraction * span)))
        for shift in (-1, 0, 1):
            zero = np.clip(middle + shift, 0, LEVELS)
            rounded = np.minimum(np.maximum(steps, -zero), LEVELS - zero)
            along, square = (weights * rounded).sum(axis=0), np.maximum((rounded * rounded).sum(axis=0), 1)
            gain = along**2 / square
            better = gain > best
            np.copyto(best, gain, where=better)
            np.copyto(values, rounded + zero, where=better, casting="unsafe")
            np.copyto(scales, along / square, where=better)
            np.copyto(zeros, zero, where=better, casting="unsafe")
    return np.ascontiguousarray(values.T), scales, zeros


def _pack(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two values of the last axis a byte, the first in the low half."""
    odd = values.shape[-1] % 2
    padded = np.pad(values, ((0, 0), (0, odd)))
    return np.asarray(padded[..., 0::2] | padded[..., 1::2] << 4, np.uint8)
