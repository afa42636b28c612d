"""Facts about users: what may be one, and which of them a request is told."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from schemas.errors import MilepostError
from schemas.events import UserFact
from services.memory.words import words

KEY_CHARACTERS = 64
TEXT_CHARACTERS = 500
MOST = 200
"""A user's facts at most; a prompt holds a few of them."""

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

# A request about the user: "my order", "who am I"; "我的订单", "我住在哪里", but not "帮我..." or "我要...".
_ABOUT_ONESELF = re.compile(r"\b(?:my|mine|myself|(?:am|do|did|have|was) i)\b|(?<![帮给替为让诉])我(?![们要想])", re.IGNORECASE)


class FactRefused(MilepostError):
    """What was to be remembered is no fact: empty, too long, or not to be read."""


def fact_of(key: str, text: str, source: str) -> UserFact:
    """The fact with its white space tidied. Raises FactRefused."""
    return UserFact(key=_checked(key, "key", KEY_CHARACTERS), text=_checked(text, "text", TEXT_CHARACTERS), source=source)


def facts_for(newest: Sequence[UserFact], request: str, most: int) -> list[UserFact]:
    """The facts to tell with a request, those that share most words with it first, else the newest; by key.

    Facts that have nothing to do with a request mislead a small model. So one that shares no word with it is told only if
    the request is about the user.
    """
    asked = set(words(request))
    shared = {fact.key: _shared(asked, f"{fact.key} {fact.text}") for fact in newest}
    meant = newest if _ABOUT_ONESELF.search(request) else [fact for fact in newest if shared[fact.key]]
    return sorted(sorted(meant, key=lambda fact: -shared[fact.key])[:most], key=lambda fact: fact.key)


def _shared(asked: set[str], text: str) -> int:
    """How many of the words a text has."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return len(asked.intersection(words(plain))) if any(word in plain for word in asked) else 0  # few texts are read closely


def too_many(user: str) -> FactRefused:
    """Why a user's next fact is not kept."""
    return FactRefused(
        f"{user} has {MOST} facts already.",
        why="no more are kept for one user",
        hint=f"milepost memory forget-fact --user {user} KEY",
    )


def _checked(value: str, what: str, most: int) -> str:
    value = " ".join(value.split())
    if not value:
        raise FactRefused(f"The {what} of the fact is empty.", hint='milepost memory remember city "lives in Hangzhou"')
    if len(value) > most:
        raise FactRefused(f"The {what} of the fact has {len(value)} characters, the limit is {most}.", hint="say it shorter")
    if _UNSEEN.search(value):
        raise FactRefused(f"The {what} of the fact holds characters that cannot be seen.", why="they could hide what it says")
    return value
