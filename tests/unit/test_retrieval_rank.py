"""Ranking: BM25, fusion, similarity."""

from __future__ import annotations

import math

import pytest

from services.retrieval import bm25
from services.retrieval.rank import WORTH, best, fuse, score, trigram_similarity


def test_bm25_is_the_formula() -> None:
    said = ["renew", "instance", "renew"]
    length = 1.2 * (1 - 0.75 + 0.75 * 3 / bm25.USUAL_WORDS)
    assert bm25.weights(said)["renew"] == pytest.approx(2 * 2.2 / (2 + length))
    assert bm25.rarity({"renew": 1}, 3) == {"renew": pytest.approx(math.log(1 + (3 - 1 + 0.5) / (1 + 0.5)))}


def test_a_rare_word_counts_more_than_a_common_one_and_none_counts_against_a_text() -> None:
    rarity = bm25.rarity({"common": 10, "rare": 1}, 10)
    assert rarity["rare"] > rarity["common"] > 0


def test_fusion_adds_one_over_sixty_plus_rank() -> None:
    parts = fuse({"dense": ["a", "b"], "lexical": ["b"]})
    assert parts == {"a": {"dense": 1 / 61}, "b": {"dense": 1 / 62, "lexical": 1 / 61}}


def test_equal_scores_stand_in_the_order_of_their_keys() -> None:
    assert best({"b": 1.0, "a": 1.0, "c": 2.0}) == ["c", "a", "b"]


def test_similarity_is_that_of_pg_trgm() -> None:
    assert trigram_similarity("word", "two words") == pytest.approx(0.363636, abs=1e-6)  # from pg_trgm's manual
    assert trigram_similarity("Renew_Instance", "renew instance") == 1.0
    assert trigram_similarity("", "x") == 0.0


def test_a_score_is_the_sum_of_what_each_list_gives() -> None:
    raw = {"a": {"dense": 0.5, "lexical": 10.0, "name": 1.0}}
    parts = {f"from_{name}": worth * raw["a"][name] for name, worth in WORTH.items()}
    assert score(raw) == {"a": {**parts, "fused": pytest.approx(sum(parts.values()))}}


def test_words_decide_where_vectors_hardly_differ_and_only_there() -> None:
    near = score({"a": {"dense": 0.61, "lexical": 2.0}, "b": {"dense": 0.60, "lexical": 12.0}})
    far = score({"a": {"dense": 0.80, "lexical": 2.0}, "b": {"dense": 0.40, "lexical": 12.0}})
    assert near["b"]["fused"] > near["a"]["fused"]
    assert far["a"]["fused"] > far["b"]["fused"]


def test_a_card_without_a_vector_counts_as_far_as_the_farthest() -> None:
    scored = score({"a": {"dense": 0.7}, "b": {"dense": 0.3}, "new": {"lexical": 5.0}})
    assert scored["new"]["from_dense"] == scored["b"]["from_dense"]
    assert scored["b"]["fused"] < scored["new"]["fused"] < scored["a"]["fused"]


def test_without_vectors_words_and_names_alone_rank() -> None:
    scored = score({"a": {"lexical": 5.0}, "b": {"lexical": 4.0, "name": 0.5}, "c": {}})
    assert sorted(scored, key=lambda key: -scored[key]["fused"]) == ["b", "a", "c"]
    assert score({}) == {}
