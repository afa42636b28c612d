"""A batch as arrays: what a model reads, and which of its predictions count how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.training import packing
from services.training.token_file import TokenFile


@dataclass(frozen=True)
class Arrays:
    """tokens, positions: (rows, columns), int64; segments: how long each packed conversation is, empty for padded rows.

    columns: where anything is predicted, ascending; rows, at: row and index into `columns` of each prediction; targets,
    weights, kinds: the token that follows there, its loss weight and kind. Only tokens with a weight are predicted.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    segments: tuple[int, ...]
    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    at: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    kinds: NDArray[np.int64]


def weighted(file: TokenFile, by_kind: dict[str, float]) -> NDArray[np.float32]:
    """The weight of each token; 0 for the first of a conversation, which nothing predicts."""
    weights = file.weights(by_kind)
    weights[file.offsets[:-1][file.lengths > 0]] = 0
    return weights


def arrays(file: TokenFile, weights: NDArray[np.float32], batch: packing.Batch, *, packed: bool) -> Arrays:
    """Packed, rows follow each other in one, as nothing attends beyond its conversation; else they are padded to one width."""
    groups = [[one for row in batch for one in row]] if packed else batch
    spans = [[slice(int(file.offsets[one]), int(file.offsets[one + 1])) for one in group] for group in groups]
    width = max(sum(span.stop - span.start for span in row) for row in spans)
    shape = (len(spans), width)
    tokens, kinds = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    held, positions = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    for row, parts in enumerate(spans):
        size = sum(span.stop - span.start for span in parts)
        tokens[row, :size] = np.concatenate([file.tokens[span] for span in parts])
        kinds[row, :size] = np.concatenate([file.kinds[span] for span in parts])
        held[row, :size] = np.concatenate([weights[span] for span in parts])
        positions[row, :size] = np.concatenate([np.arange(span.stop - span.start) for span in parts])
    rows, ends = np.nonzero(held)
    columns, at = np.unique(ends - 1, return_inverse=True)
    segments = tuple(span.stop - span.start for span in spans[0]) if packed else ()
    return Arrays(tokens, positions, segments, columns, rows, at, tokens[rows, ends], held[rows, ends], kinds[rows, ends])
