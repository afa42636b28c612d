"""Which earlier turns are near a request: in meaning (their vectors) or in words, the two lists fused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from schemas.tools import Value

DEPTH = 32
"""How many turns of each list are fused."""

COMMON = 32
"""A word of more turns than this tells nothing."""

COVERED = 0.5
"""What share of the request's words, by rarity, a turn must have to be near in words alone."""

_RRF_K = 60


class Meaning(Value):
    """A text's unit vector. embedder: which vectors may be compared; fits: the least cosine at which texts are related."""

    embedder: str
    fits: float
    vector: tuple[float, ...]


class Place(NamedTuple):
    """Where a turn stands: its conversation, and when it ended by that conversation's clock."""

    conversation: str
    ended: int


def rarity(turns: int) -> float:
    """The weight of a word that this many turns have: inverse document frequency, 0 beyond COMMON."""
    return math.log(1 + COMMON / max(turns, 1)) if turns <= COMMON else 0.0


def by_words(asked: Sequence[str], holders: Mapping[str, Sequence[Place]]) -> dict[Place, float]:
    """The share (0 to 1) of the asked words that each turn has, by rarity. holders: the turns of a word, COMMON + 1 at most."""
    weights = {word: rarity(len(holders.get(word, ()))) for word in asked}
    total = sum(weights.values())
    shares: dict[Place, float] = {}
    for word, places in holders.items():
        for place in places if weights[word] else ():
            shares[place] = shares.get(place, 0.0) + weights[word] / total
    return shares


def nearest(near: Mapping[Place, float], shares: Mapping[Place, float], fits: float, k: int) -> list[tuple[Place, float]]:
    """The k nearest turns with their fused scores, best first: reciprocal ranks of cosines and of shares of words.

    near: cosines of those nearest in meaning; a turn counts when its cosine is at least `fits`, or its share of words at
    least COVERED. Cormack, Clarke and Buettcher (2009).
    """
    lists = ({place: score for place, score in near.items() if score >= fits}, shares)
    allowed = {*lists[0], *(place for place, share in shares.items() if share >= COVERED)}
    scores = dict.fromkeys(allowed, 0.0)
    for ranking in lists:
        best = sorted(ranking, key=lambda place: (ranking[place], place.ended, place.conversation), reverse=True)
        for rank, place in enumerate(best[:DEPTH], start=1):
            if place in scores:
                scores[place] += 1 / (_RRF_K + rank)
    return sorted(scores.items(), key=lambda each: (-each[1], -each[0].ended, each[0].conversation))[:k]
