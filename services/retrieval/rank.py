"""How lists of findings become one: a sum of raw scores for tools, reciprocal rank fusion for others.

The Postgres adapters fuse and compare in SQL; here that is for the in-memory twins.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

RRF_K = 60
DEPTH = 50
"""How many findings of each list are fused."""

K1, B = 1.2, 0.75
"""Of Okapi BM25, see bm25.py."""

WORTH = {"dense": 1.0, "lexical": 0.008, "name": 0.1}
"""What a point of each raw score is worth in a tool's score. Chosen on requests for training, see tuned/README.md."""

Key = TypeVar("Key", bound=Hashable)


def best(scores: Mapping[Key, float], limit: int = DEPTH) -> list[Key]:
    """Keys by falling score; equal scores by key, so that the order is always the same."""
    return sorted(scores, key=lambda key: (-scores[key], str(key)))[:limit]


def fuse(rankings: Mapping[str, Sequence[Key]]) -> dict[Key, dict[str, float]]:
    """For each key its part of the score by list: 1 / (60 + rank), ranks from 1; their sum is the fused score.

    Cormack, Clarke and Buettcher (2009).
    """
    parts: dict[Key, dict[str, float]] = {}
    for name, ranking in rankings.items():
        for rank, key in enumerate(ranking, start=1):
            parts.setdefault(key, {})[name] = 1 / (RRF_K + rank)
    return parts


def score(found: Mapping[Key, Mapping[str, float]]) -> dict[Key, dict[str, float]]:
    """What each list gives to a tool's score (from_dense, from_lexical, from_name), and their sum: fused.

    found: the raw scores of every candidate: cosine, BM25, likeness of names. Unlike ranks they tell how sure each list is: a
    word that few cards hold outweighs vectors that hardly differ. A candidate that has no vector yet counts as far as the
    farthest that has one.
    """
    farthest = min((raw["dense"] for raw in found.values() if "dense" in raw), default=0.0)
    scored: dict[Key, dict[str, float]] = {}
    for key, raw in found.items():
        known = {"dense": farthest, **raw}
        parts = {f"from_{name}": worth * known.get(name, 0.0) for name, worth in WORTH.items()}
        scored[key] = {**parts, "fused": math.fsum(parts.values())}
    return scored


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Dot product of two unit vectors."""
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def trigram_similarity(left: str, right: str) -> float:
    """Shared share of the padded trigrams of two names, as pg_trgm's similarity()."""
    one, two = _trigrams(left), _trigrams(right)
    return len(one & two) / len(one | two) if one and two else 0.0


def _trigrams(text: str) -> set[str]:
    grams: set[str] = set()
    for word in "".join(char if char.isalnum() else " " for char in text.lower()).split():
        marked = f"  {word} "
        grams.update(marked[at : at + 3] for at in range(len(marked) - 2))
    return grams
