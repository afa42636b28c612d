"""Ranking: BM25, fusion, similarity."""

from __future__ import annotations

import math

import pytest

from services.retrieval.rank import best, bm25, fuse, trigram_similarity


def test_bm25_is_the_formula() -> None:
    documents = {"a": ["renew", "instance"], "b": ["stop", "instance"], "c": ["instance"] * 4}
    rarity = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    length = 1.2 * (1 - 0.75 + 0.75 * 2 / (8 / 3))
    assert bm25(["renew"], documents) == {"a": pytest.approx(rarity * 2.2 / (1 + length))}


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    documents = {str(number): ["common"] for number in range(9)} | {"rare": ["rare"], "both": ["common", "filler"]}
    scores = bm25(["common", "rare"], documents)
    assert best(scores, 1) == ["rare"]
    assert scores["0"] > scores["both"]


def test_words_that_are_nowhere_give_no_scores() -> None:
    assert bm25(["x"], {"a": ["b"]}) == {}
    assert bm25(["x"], {}) == {}
    assert bm25([], {"a": ["b"]}) == {}


def test_fusion_adds_one_over_sixty_plus_rank() -> None:
    parts = fuse({"dense": ["a", "b"], "lexical": ["b"]})
    assert parts == {"a": {"dense": 1 / 61}, "b": {"dense": 1 / 62, "lexical": 1 / 61}}


def test_equal_scores_stand_in_the_order_of_their_keys() -> None:
    assert best({"b": 1.0, "a": 1.0, "c": 2.0}) == ["c", "a", "b"]


def test_similarity_is_that_of_pg_trgm() -> None:
    assert trigram_similarity("word", "two words") == pytest.approx(0.363636, abs=1e-6)  # from pg_trgm's manual
    assert trigram_similarity("Renew_Instance", "renew instance") == 1.0
    assert trigram_similarity("", "x") == 0.0
