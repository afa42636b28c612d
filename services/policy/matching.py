"""Which calls a rule is about: patterns over names and arguments, and hours of the week in a time zone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import translate
from functools import lru_cache
from zoneinfo import ZoneInfo

import orjson

from schemas.canonical import canonical
from schemas.errors import ProtocolError
from schemas.policy import Day, Hours, When
from schemas.tools import Effect

DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a call that is judged.

    runs: its run, and those that began it. priced: whether its plan has told a price; price is None where that cannot be
    read as a number.
    """

    tool: str
    effect: Effect
    lane: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    ungrounded: tuple[str, ...] = ()
    agent: str = ""
    user: str = ""
    conversation: str = ""
    runs: tuple[str, ...] = ()
    priced: bool = False
    price: Decimal | None = None
    currency: str | None = None


def fits(when: When, call: Call, now: datetime, *, whole: bool = False) -> bool:
    """Whether a rule is about the call.

    whole: where an argument holds several values, all of them must fit; else one does. What allows asks for all, so that a
    list with one allowed server among others is not let through; what refuses is content with one.
    """
    return (
        _any(when.tools, call.tool)
        and _any(when.lanes, call.lane)
        and (not when.effects or call.effect in when.effects)
        and _any(when.agents, call.agent)
        and _any(when.users, call.user)
        and (when.ungrounded is None or when.ungrounded == bool(call.ungrounded))
        and (when.hours is None or within(when.hours, now))
        and (when.outside_hours is None or not within(when.outside_hours, now))
        and all(_argument_fits(call.arguments, name, pattern, whole) for name, pattern in when.arguments.items())
    )


def named(patterns: Sequence[str], name: str) -> bool:
    """Whether one of the shell patterns fits the name; without patterns every name does."""
    return _any(patterns, name)


def within(hours: Hours, now: datetime) -> bool:
    """Whether a moment lies in these hours, by the clocks of their zone; the day is the one on which they begin."""
    there = now.astimezone(ZoneInfo(hours.zone))
    clock, today = there.strftime("%H:%M"), DAYS[there.weekday()]
    if hours.from_ == hours.to:
        return today in hours.days
    if hours.from_ < hours.to:
        return today in hours.days and hours.from_ <= clock < hours.to
    yesterday = DAYS[(there.date() - timedelta(days=1)).weekday()]
    return (today in hours.days and clock >= hours.from_) or (yesterday in hours.days and clock < hours.to)


def _any(patterns: Sequence[str], name: str) -> bool:
    return not patterns or any(_compiled(pattern).match(name) for pattern in patterns)


@lru_cache(maxsize=16_384)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def _argument_fits(arguments: Mapping[str, object], name: str, pattern: str, whole: bool) -> bool:
    found = [each for value in _found(arguments, name) for each in _texts(value, whole)]
    if "," not in pattern:
        found = [each for text in found for each in _apart(text, whole)]
    compiled = _compiled(pattern)
    fitting = (compiled.match(text) is not None for text in found)
    return bool(found) and (all(fitting) if whole else any(fitting))


def _apart(text: str, whole: bool) -> Iterator[str]:
    """Each of several that one text lists with commas, as many providers let one do: i-dev-1,i-prod-2."""
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) > 1:
        yield from filter(None, pieces)
    if len(pieces) == 1 or not whole:
        yield text.strip() or text


def _found(value: object, name: str) -> Iterator[object]:
    """What stands under a dotted name: names may have dots of their own, and a list's items share its name; what a text says
    in JSON is looked through as well."""
    if isinstance(value, str):
        value = _said(value)
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _found(item, name)
    elif isinstance(value, Mapping):
        if name in value:
            yield value[name]
        for dot in (place for place, letter in enumerate(name) if letter == "."):
            if name[:dot] in value:
                yield from _found(value[name[:dot]], name[dot + 1 :])


def _texts(value: object, whole: bool) -> Iterator[str]:
    """A value as the texts that a pattern may fit; a list, also one that is written as JSON in a text, is each of its items."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, whole)
        return
    text = value if isinstance(value, str) else _written(value)
    items = _said(text) if text.lstrip().startswith("[") else None
    if isinstance(items, list):
        yield from _texts(items, whole)
    if not isinstance(items, list) or not whole:
        yield text


def _said(text: str) -> object:
    """The list or the object that a text is in JSON; None for any other text."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _written(value: object) -> str:
    try:
        return canonical(value).decode()
    except ProtocolError:
        return str(value)
