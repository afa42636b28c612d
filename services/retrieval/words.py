"""Texts to words for lexical search: Chinese segmented, identifiers split, case and width folded.

Postgres' parser would keep a whole Chinese sentence as one word, so both the index and its query use this.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from schemas.tools import ToolCard
from services.retrieval.rank import K1, B
from services.retrieval.stop_words import STOP_WORDS

_RUN = re.compile(r"[A-Za-z0-9_\-.]+|[^\W_]+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_MARKED = re.compile(r"[a-z][A-Z]|[0-9_\-]")
_HAN = re.compile(r"[\u3400-\u9fff]")
_LONGEST = 64
_IDENTIFIERS = 16
_ASKED = 64


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
    """A card in four parts: its names, what is said about it, its parameters' names, what is said about those."""

    names: str
    said: str
    parameters: str
    told: str


FIELD_WEIGHTS = (1.0, 1.0, 0.5, 0.3)
"""How much a word counts by where in the card it stands."""

USUAL_WORDS = 25
"""Words of a usual card, in place of the catalogue's mean: what is stored for a card would change with each other card."""

_SAID, _TOLD, _TOLD_OF = 600, 100, 20
"""Characters of a description that are embedded, of a parameter's description that are looked up, and of how many."""


def card_text(card: ToolCard) -> str:
    """What a card is embedded as: its title and what is said about it, then its name. Parameters only blur it."""
    names = name_parts(card.name)
    title = "" if "".join(name_parts(card.title)).lower() in "".join(names).lower() else card.title
    said = " ".join(" ".join((card.description, *card.examples)).split())[:_SAID]
    return "\n".join(filter(None, (title, said, " ".join(names))))


def card_weights(card: ToolCard) -> dict[str, float]:
    """What each word of the card tells about it: the half of BM25 that is known before anything is asked.

    The fields' counts are added with their weights before they are damped: BM25F, Robertson and Zaragoza (2009).
    """
    counts: dict[str, float] = {}
    for field, weight in zip(card_fields(card), FIELD_WEIGHTS, strict=True):
        for word in _searched(field):
            counts[word] = counts.get(word, 0.0) + weight
    damping = K1 * (1 - B + B * sum(counts.values()) / USUAL_WORDS)
    return {word: count * (K1 + 1) / (count + damping) for word, count in counts.items()}


def asked_words(text: str) -> list[str]:
    """The different words to look a request up by, at most 64: without stop words, unless there is nothing else."""
    asked = list(dict.fromkeys(_searched(text)))
    return [word for word in asked if word not in STOP_WORDS][:_ASKED] or asked[:_ASKED]


def card_fields(card: ToolCard) -> CardFields:
    """What a card is found by with words."""
    properties = card.parameters.get("properties")
    parameters = properties if isinstance(properties, dict) else {}
    told = (each.get("description") for each in list(parameters.values())[:_TOLD_OF] if isinstance(each, dict))
    return CardFields(
        "\n".join(filter(None, (card.title, card.name))),
        "\n".join((card.description, *card.examples, *card.tags)),
        " ".join(parameters),
        "\n".join(each[:_TOLD] for each in told if isinstance(each, str)),
    )


def name_parts(name: str) -> list[str]:
    """The words of an identifier as they are written: RenewInstance, renew_instance -> [Renew, Instance], ..."""
    return [part for run in _RUN.findall(name) for part in (_PART.findall(run) if run.isascii() else [run])]


@lru_cache(maxsize=65_536)  # a catalogue says RegionId and instance again and again
def _ascii_words(run: str) -> tuple[str, ...]:
    whole = re.sub(r"[^a-z0-9]", "", run.lower())
    parts = [_singular(part.lower()) for part in _PART.findall(run)]
    return tuple(parts) if len(parts) == 1 or not whole else (whole, *parts)


def _singular(word: str) -> str:
    """The word without its plural s, crudely: all that counts is that index and query do the same."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _segments(run: str) -> list[str]:
    import rjieba

    return [part.lower() for part in rjieba.cut_for_search(run, True) if part.strip()]


def _searched(text: str) -> Iterator[str]:
    """The words of a text, and each character of its Chinese ones: cards and requests seldom choose the same word."""
    for word in words(text):
        yield word
        if len(word) > 1 and not word.isascii():
            yield from _HAN.findall(word)
