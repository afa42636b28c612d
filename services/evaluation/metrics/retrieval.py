"""How well tools or passages were found: measures over the names that are right and the names as they were ranked."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def recall_at(k: int, gold: Collection[str], ranked: Sequence[str]) -> float:
    """The share of the right ones among the first k; 1 where nothing is right to be found."""
    right = set(gold)
    return len(right & set(ranked[:k])) / len(right) if right else 1.0


def all_at(k: int, gold: Collection[str], ranked: Sequence[str]) -> float:
    """1 if every right one is among the first k, else 0."""
    return float(set(gold) <= set(ranked[:k]))


def reciprocal_rank(gold: Collection[str], ranked: Sequence[str]) -> float:
    """1 / the place of the first right one, 0 without one; its mean is MRR (Voorhees 1999)."""
    return next((1 / place for place, name in enumerate(ranked, 1) if name in gold), 0.0)


def ndcg_at(k: int, gold: Collection[str], ranked: Sequence[str]) -> float:
    """NDCG of the first k with gains of 0 and 1 (Järvelin and Kekäläinen 2002); a name that comes again gains nothing."""
    right = set(gold)
    first = {name: place for place, name in reversed([*enumerate(ranked[:k], 1)])}
    gained = sum(1 / math.log2(place + 1) for name, place in first.items() if name in right)
    best = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(right)) + 1))
    return gained / best if best else 1.0
