"""Okapi BM25 in two halves: what its words weigh is stored with a text; how rare words are is known when they are asked for.

The score of a text is the sum over the question's words of weight times rarity. Robertson and Zaragoza (2009).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from services.retrieval.rank import DEPTH, K1, B
from services.retrieval.words import identifiers, words

USUAL_WORDS = 120
"""Words of a usual passage, in place of the collection's mean: stored weights would change with each document."""

LOOKED_AT = 500
"""How many passages a question's words may lead to; the more common words only add to the score of these.

With 200, 500 and 2,000 the recall on cmrc2018 is the same."""

QUESTION_WORDS = 64
"""How many different words of a question are looked up."""


def weights(said: Sequence[str]) -> dict[str, float]:
    """What each word of a text tells about it: grows with how often it stands there, less in a longer text."""
    damping = K1 * (1 - B + B * len(said) / USUAL_WORDS)
    return {word: count * (K1 + 1) / (count + damping) for word, count in Counter(said).items()}


def rarity(held: Mapping[str, int], passages: int) -> dict[str, float]:
    """How much each word tells, by how many of the passages hold it; the +1 in the logarithm keeps it positive."""
    return {word: math.log(1 + (passages - count + 0.5) / (count + 0.5)) for word, count in held.items()}


def telling(held: Mapping[str, int]) -> list[str]:
    """The rarest words, as many as together lead to at most LOOKED_AT passages; the very rarest in any case."""
    chosen: list[str] = []
    looked_at = 0
    for word in sorted(held, key=lambda word: (held[word], word)):
        looked_at += held[word]
        if chosen and looked_at > LOOKED_AT:
            break
        chosen.append(word)
    return chosen


def named(question: str, held: Mapping[str, int]) -> dict[str, float]:
    """The names and ids in the question that few passages hold, each as one word, and how much it tells: one by its holders.

    One that stands in many passages is a topic, which is what rarity weighs.
    """
    names = dict.fromkeys(whole for name in identifiers(question) for whole in words(name)[:1])
    return {name: 1 / held[name] for name in names if 0 < held.get(name, 0) <= DEPTH}
