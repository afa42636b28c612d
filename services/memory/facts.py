"""Facts about users: what may be one."""

from __future__ import annotations

import re

from schemas.errors import MilepostError
from schemas.events import UserFact

KEY_CHARACTERS = 64
TEXT_CHARACTERS = 500
MOST = 200
"""A user's facts at most; a prompt holds a few of them."""

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class FactRefused(MilepostError):
    """What was to be remembered is no fact: empty, too long, or not to be read."""


def fact_of(key: str, text: str, source: str) -> UserFact:
    """The fact with its white space tidied. Raises FactRefused."""
    return UserFact(key=_checked(key, "key", KEY_CHARACTERS), text=_checked(text, "text", TEXT_CHARACTERS), source=source)


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
