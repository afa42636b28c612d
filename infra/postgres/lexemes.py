"""Words as Postgres' text search reads them, past its own parser, which knows neither Chinese nor identifiers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

PLACES = 1_000_000_000
"""Dimensions of a vector of words, pgvector's most: each word has one by its hash, so that no vocabulary is kept."""

_LAST_POSITION = 16_383
_POSITIONS_A_WORD = 255
_QUERY_WORDS = 64


def tsvector(*parts: tuple[str, Sequence[str]]) -> str:
    """A tsvector literal of (weight, words) parts in order; weights A to D, positions as Postgres bounds them."""
    places: dict[str, list[str]] = {}
    position = 0
    for weight, words in parts:
        for word in words:
            position = min(position + 1, _LAST_POSITION)
            held = places.setdefault(word, [])
            if len(held) < _POSITIONS_A_WORD:
                held.append(f"{position}{weight}")
    return " ".join(f"{_quoted(word)}:{','.join(held)}" for word, held in places.items())


def tsqueries(words: Sequence[str]) -> list[str]:
    """One tsquery literal for each different word, for the first 64 of them."""
    return [_quoted(word) for word in list(dict.fromkeys(words))[:_QUERY_WORDS]]


def lexemes(words: Iterable[str]) -> str:
    """A tsvector literal of words without positions: which texts hold a word."""
    return " ".join(_quoted(word) for word in words)


def sparse(weights: Mapping[str, float]) -> str:
    """A sparsevec literal of what each word weighs; of two words of one hash the second counts."""
    parts = {place(word): weight for word, weight in weights.items()}
    return f"{{{','.join(f'{at}:{weight:.6g}' for at, weight in parts.items())}}}/{PLACES}"


def place(word: str) -> int:
    """The dimension of a word, from 1."""
    return zlib.crc32(word.encode()) % PLACES + 1


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
