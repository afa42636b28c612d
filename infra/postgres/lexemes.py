"""Words as Postgres' text search reads them, past its own parser, which knows neither Chinese nor identifiers."""

from __future__ import annotations

from collections.abc import Sequence

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


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
