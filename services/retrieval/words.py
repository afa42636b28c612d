"""Texts to words for lexical search: Chinese segmented, identifiers split, case and width folded.

Postgres' parser would keep a whole Chinese sentence as one word, so both the index and its query use this.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from schemas.tools import ToolCard

_RUN = re.compile(r"[A-Za-z0-9_\-.]+|[^\W_]+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_MARKED = re.compile(r"[a-z][A-Z]|[0-9_\-]")
_LONGEST = 64
_IDENTIFIERS = 16


def words(text: str) -> list[str]:
    """Lower-case words in order; an identifier gives itself and its parts, Chinese its segments (rjieba)."""
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text)):
        found.extend(_ascii_words(run) if run.isascii() else _segments(run))
    return [word[:_LONGEST] for word in found]


def identifiers(text: str) -> list[str]:
    """What looks like a name or an id (RenewInstance, i-bp1f...), lower-case; a text of one word counts as one."""
    tokens = re.findall(r"[A-Za-z0-9_\-.:/]+", unicodedata.normalize("NFKC", text))
    alone = len(text.split()) == 1
    names = [token for token in (token.strip("-.:/") for token in tokens) if 4 <= len(token) <= _LONGEST]
    return list(dict.fromkeys(name.lower() for name in names if alone or _MARKED.search(name)))[:_IDENTIFIERS]


class CardFields(NamedTuple):
    """A card in three parts of falling weight: its names, what is said about it, its parameters."""

    names: str
    text: str
    parameters: str


def card_text(card: ToolCard) -> str:
    """What a card is embedded as: all that it is found by."""
    return "\n".join(filter(None, card_fields(card)))


def card_fields(card: ToolCard) -> CardFields:
    """What a card is found by, by weight."""
    properties = card.parameters.get("properties")
    parameters = list(properties) if isinstance(properties, dict) else []
    names = [card.title, " ".join(name_parts(card.name))]
    text = [card.description, *card.examples, *card.tags]
    return CardFields(
        "\n".join(filter(None, names)),
        "\n".join(filter(None, text)),
        " ".join(part for name in parameters for part in name_parts(name)),
    )


def name_parts(name: str) -> list[str]:
    """The words of an identifier as they are written: RenewInstance, renew_instance -> [Renew, Instance], ..."""
    return [part for run in _RUN.findall(name) for part in (_PART.findall(run) if run.isascii() else [run])]


def _ascii_words(run: str) -> list[str]:
    whole = re.sub(r"[^a-z0-9]", "", run.lower())
    parts = [_singular(part.lower()) for part in _PART.findall(run)]
    return parts if len(parts) == 1 or not whole else [whole, *parts]


def _singular(word: str) -> str:
    """The word without its plural s, crudely: all that counts is that index and query do the same."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _segments(run: str) -> list[str]:
    import rjieba

    return [part.lower() for part in rjieba.cut_for_search(run, True) if part.strip()]
