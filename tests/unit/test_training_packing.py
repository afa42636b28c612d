"""Packing: every conversation once, no row too long, hardly any room left; the same for the same seed."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.batch import arrays, weighted
from services.training.packing import batches_of, by_length, first_fit, updates
from services.training.token_file import TokenFile

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=200)


@given(LENGTHS, st.integers(0, 9))
def test_each_conversation_is_in_one_row_that_holds_it(lengths: list[int], seed: int) -> None:
    order = [int(one) for one in np.random.default_rng(seed).permutation(len(lengths))]
    rows = first_fit(lengths, order, 64)
    assert sorted(chain(*rows)) == list(range(len(lengths)))
    assert max(sum(lengths[one] for one in row) for row in rows) <= 64


def test_a_conversation_goes_into_the_first_row_with_room() -> None:
    assert first_fit([6, 6, 4, 3, 1], range(5), 10) == [[0, 2], [1, 3, 4]]


def test_rows_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(100, 800, 2000)
    rows = first_fit(lengths, range(2000), 2048)
    assert lengths.sum() / (2048 * len(rows)) > 0.97


@given(LENGTHS, st.integers(1, 4), st.booleans(), st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_a_pass_holds_each_conversation_once(
    lengths: list[int], rows: int, packing: bool, seed: tuple[int, int] | None
) -> None:
    held = np.array(lengths)
    batches = batches_of(held, 64, rows, packing=packing, seed=seed)
    assert sorted(one for batch in batches for row in batch for one in row) == list(range(len(lengths)))
    assert max(len(batch) for batch in batches) <= rows
    assert batches == batches_of(held, 64, rows, packing=packing, seed=seed)


def test_another_epoch_and_another_seed_have_another_order() -> None:
    lengths = np.random.default_rng(0).integers(5, 30, 100)
    passes = [batches_of(lengths, 64, 2, packing=True, seed=seed) for seed in ((0, 0), (0, 1), (1, 0))]
    assert passes[0] != passes[1] != passes[2] != passes[0]


def test_batches_by_length_are_hardly_padded() -> None:
    lengths = np.random.default_rng(0).integers(100, 800, 1000)
    held = lengths.sum()
    sorted_ones = sum(max(lengths[batch]) * len(batch) for batch in by_length(lengths, range(1000), 8))
    unsorted = sum(max(lengths[at : at + 8]) * 8 for at in range(0, 1000, 8))
    assert sorted_ones < 1.03 * held < unsorted / 1.4


@pytest.mark.parametrize("packing", [True, False])
def test_updates_go_on_where_they_were_left(packing: bool) -> None:
    lengths = np.random.default_rng(0).integers(5, 30, 60)

    def taken(start: int, count: int) -> list[tuple[int, list[list[list[int]]]]]:
        return list(islice(updates(lengths, 64, 2, packing=packing, seed=3, of=4, start=start), count))

    whole = taken(0, 12)
    assert all(len(batches) == 4 for _, batches in whole)
    assert whole[-1][0] > 0  # more than one pass
    assert taken(5, 7) == whole[5:]


NAMES = ("context", "name")
BY_KIND = {"context": 0.0, "name": 2.0}


def file_of(*conversations: tuple[list[int], list[int]]) -> TokenFile:
    return TokenFile.of([(at, tokens, kinds) for at, (tokens, kinds) in enumerate(conversations)], NAMES)


def test_packed_rows_become_one_without_padding() -> None:
    file = file_of(([5, 6, 7], [0, 1, 1]), ([8, 9], [1, 1]))
    made = arrays(file, weighted(file, BY_KIND), [[0], [1]], packed=True)
    assert made.tokens.tolist() == [[5, 6, 7, 8, 9]]
    assert made.positions.tolist() == [[0, 1, 2, 0, 1]]
    assert made.segments == (3, 2)
    assert made.columns[made.at].tolist() == [0, 1, 3]  # 8 begins a conversation: nothing predicts it
    assert made.targets.tolist() == [6, 7, 9]
    assert made.weights.tolist() == [2.0, 2.0, 2.0]


def test_other_rows_are_padded_and_padding_is_never_predicted() -> None:
    file = file_of(([5, 6, 7], [0, 0, 1]), ([8, 9], [1, 1]))
    made = arrays(file, weighted(file, BY_KIND), [[0], [1]], packed=False)
    assert made.tokens.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert made.segments == ()
    assert made.columns.tolist() == [0, 1]
    assert [(int(row), int(made.columns[at])) for row, at in zip(made.rows, made.at, strict=True)] == [(0, 1), (1, 0)]
    assert made.targets.tolist() == [7, 9]
    assert made.kinds.tolist() == [1, 1]
