"""Which conversations go through the model together, and in which order: the same for the same seed.

A batch is a list of rows, a row a list of conversations. Packed, a row holds as many as fit into its length, and no token
is padding; else a row holds one, and conversations of nearly one length share a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Batch = list[list[int]]
OPEN = 64
"""Rows that may still be filled at once: enough to leave 1 or 2 % of a row empty, few enough to be quick."""
WINDOW = 50
"""Batches among which conversations are sorted by length: what is drawn stays mixed."""


def first_fit(lengths: Sequence[int] | NDArray[np.int64], order: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of at most `capacity` tokens: each conversation goes, in `order`, into the first of the open rows it fits."""
    rows: list[list[int]] = []
    room: list[int] = []
    first = 0
    for one in order:
        needs = int(lengths[one])
        fits = next((at for at in range(first, len(rows)) if room[at] >= needs), None)
        if fits is None:
            rows.append([])
            room.append(capacity)
            fits = len(rows) - 1
            first = max(first, len(rows) - OPEN)
        rows[fits].append(one)
        room[fits] -= needs
    return rows


def by_length(lengths: Sequence[int] | NDArray[np.int64], order: Sequence[int], rows: int) -> list[list[int]]:
    """Batches of `rows` conversations, sorted by length among WINDOW batches of `order`."""
    batches: list[list[int]] = []
    for start in range(0, len(order), rows * WINDOW):
        window = sorted(order[start : start + rows * WINDOW], key=lambda one: (-int(lengths[one]), one))
        batches += [window[at : at + rows] for at in range(0, len(window), rows)]
    return batches


def batches_of(
    lengths: NDArray[np.int64], length: int, rows: int, *, packing: bool, seed: tuple[int, int] | None
) -> list[Batch]:
    """The batches of one pass over all conversations, each of at most `length` tokens. seed: None leaves them in order."""
    count = len(lengths)
    draw = None if seed is None else np.random.default_rng(seed)
    order = [int(one) for one in (range(count) if draw is None else draw.permutation(count))]
    if packing:
        packed = first_fit(lengths, order, length)
        batches = [packed[at : at + rows] for at in range(0, len(packed), rows)]
    else:
        batches = [[[one] for one in batch] for batch in by_length(lengths, order, rows)]
    if draw is not None and not packing:
        batches = [batches[int(at)] for at in draw.permutation(len(batches))]
    return batches


def updates(
    lengths: NDArray[np.int64], length: int, rows: int, *, packing: bool, seed: int, of: int, start: int = 0
) -> Iterator[tuple[int, list[Batch]]]:
    """Endlessly (epoch, `of` batches), one pass after the other; the first `start` are left out, as they were done before."""
    held: list[Batch] = []
    done = epoch = 0
    while True:
        held += batches_of(lengths, length, rows, packing=packing, seed=(seed, epoch))
        while len(held) >= of:
            if done >= start:
                yield epoch, held[:of]
            held = held[of:]
            done += 1
        epoch += 1
