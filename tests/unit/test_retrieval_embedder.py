"""The embedder that needs no model, and batching."""

from __future__ import annotations

import math

import pytest

from services.retrieval.e5 import BATCH_TOKENS, _batches
from services.retrieval.embedder import HashEmbedder

EXPECTED = {16: 0.3162, 75: -0.3162, 151: 0.6325, 195: 0.3162, 324: -0.3162, 330: 0.3162, 348: -0.3162}


async def test_the_same_text_has_the_same_vector_for_ever() -> None:
    (vector,) = await HashEmbedder().embed(["续费 renew"], "query")
    places = {place: round(part, 4) for place, part in enumerate(vector) if part}
    assert len(vector) == 384
    assert places == EXPECTED


async def test_texts_that_share_spelling_are_nearer_than_others() -> None:
    query, near, far = await HashEmbedder().embed(["renew instance", "RenewInstances", "what is the weather"], "passage")
    assert dot(query, near) > dot(query, far) + 0.2


@pytest.mark.parametrize("text", ["", " ", "!!!", "😀", "字"])
async def test_any_text_has_a_unit_vector(text: str) -> None:
    (vector,) = await HashEmbedder().embed([text], "query")
    assert dot(vector, vector) == pytest.approx(1.0)


def test_batches_keep_the_token_budget_and_every_text() -> None:
    order = [(bytes([number]), [0] * (number * 7 + 1)) for number in range(60)]
    batches = list(_batches(order))
    assert [key for batch in batches for key, _ in batch] == [key for key, _ in order]
    assert all(len(batch) == 1 or len(batch) * len(batch[-1][1]) <= BATCH_TOKENS for batch in batches)
    assert len(batches) < 20


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert [len(batch) for batch in _batches([(b"a", [0]), (b"b", [0] * 5000)])] == [1, 1]


def dot(left: list[float], right: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(left, right, strict=True))
