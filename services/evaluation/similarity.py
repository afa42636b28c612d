"""How alike two texts are: ROUGE-L over words, Chinese ones cut apart first."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from functools import lru_cache

_RUNS = re.compile(r"[一-鿿㐀-䶿]+|[^\W_一-鿿㐀-䶿]+")
_HAN = re.compile(r"[一-鿿㐀-䶿]")
WORDS = 4_000
"""Of longer texts the beginning alone is compared."""


def rouge_l(said: str, wanted: str) -> float:
    """ROUGE-L F1 of two texts, 0 to 1 (Lin 2004, https://aclanthology.org/W04-1013): 2 L / (|said| + |wanted|), where L is the
    length of the longest common subsequence of their words. Two texts without a word are alike if they are equal.
    """
    if said == wanted:
        return 1.0
    first, second = words(said), words(wanted)
    if not first or not second:
        return float(first == second and said.strip() == wanted.strip())
    return 2 * common(first, second) / (len(first) + len(second))


@lru_cache(maxsize=4_096)
def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, Chinese ones as rjieba cuts them; at most WORDS."""
    found: list[str] = []
    for run in _RUNS.findall(text.lower()):
        found.extend(_segments(run) if _HAN.match(run) else (run,))
        if len(found) >= WORDS:
            break
    return tuple(found[:WORDS])


def _segments(run: str) -> list[str]:
    import rjieba

    return [part for part in rjieba.cut(run, True) if part.strip()]


def common(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """The length of the longest common subsequence, by Hunt and Szymanski: quick where few words stand twice."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(second):
        places[word].append(place)
    ends: list[int] = []  # ends[n]: the smallest place in `second` at which a common subsequence of n + 1 words ends
    for word in first:
        for place in reversed(places.get(word, ())):
            length = bisect_left(ends, place)
            ends[length : length + 1] = [place]
    return len(ends)
