"""Runs chosen by what a person asks for, in options or in one line: `agent:ops tool:RenewInstance since:7d text:续费`.

A word NAME:VALUE is a filter, every other word is looked for in tasks and answers; quotes hold words together. The terminal and
the console's search box speak it alike.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, get_args

from schemas.errors import Mistyped

if TYPE_CHECKING:
    from schemas.runs import RunFilter, Status

NAMES = (
    "agent", "user", "status", "tool", "model", "conversation", "text", "since", "until", "tokens-over", "cost-over", "forks",
    "fork-of", "deep",
)  # fmt: skip
_MOST = 2.0**53
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS = {"today": 0, "今天": 0, "yesterday": 1, "昨天": 1}
_WORDS = {"yes": True, "no": False}


class BadQuery(Mistyped):
    """What was asked for is no choice of runs."""


def filter_of(
    query: str | Sequence[str], given: Mapping[str, object] | None = None, *, now: datetime | None = None
) -> RunFilter:
    """Which runs a query means. Raises BadQuery.

    query: one line, which is split as a shell does, or words that are split already. given: options by the same names, in
    addition; None is none. now: what ages count back from, with a zone, in which dates and times are read.
    """
    values: dict[str, list[str]] = {}
    words: list[str] = []
    for word in _split(query) if isinstance(query, str) else query:
        name, colon, value = word.partition(":")
        if not colon:
            words.append(word)
        elif name not in NAMES:
            hint = f"one of {', '.join(NAMES)}; to look for these characters: 'text:{word}'"
            raise BadQuery(f"There is no filter {name!r}.", why=f"{word!r} would ask for it", hint=hint)
        else:
            values.setdefault(name, []).append(value)
    for name, option in (given or {}).items():
        values.setdefault(name, []).extend(_said(option))
    if words:
        values.setdefault("text", []).insert(0, " ".join(words))
    return _filter({name: said for name, said in values.items() if said}, now or datetime.now().astimezone())


def moment(text: str, now: datetime, *, until: bool = False) -> datetime:
    """A moment as a person says it: an age (90s, 2h, 7d, 1w), today, yesterday, a time of today, a date, or both in ISO 8601.

    Without a zone it is in that of `now`. until: a date alone means the end of that day. Raises BadQuery.
    """
    said = text.strip()
    try:
        if age := _AGE.fullmatch(said):
            return now - timedelta(**{_UNITS[age[2]]: float(age[1])})
        if said in _DAYS:
            return _day(now.date() - timedelta(days=_DAYS[said]), now, until=until)
        if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", said):
            return datetime.combine(now.date(), time.fromisoformat(said.zfill(len(said) + (said.find(":") < 2))), _zone(now))
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", said):
            return _day(date.fromisoformat(said), now, until=until)
        found = datetime.fromisoformat(said)
        return (found if found.tzinfo else found.replace(tzinfo=_zone(now))).astimezone(
            _zone(now)
        )  # which the first year may not be
    except (ValueError, OverflowError) as error:
        hint = "as 2h, 7d, yesterday, 08:30, 2026-11-20 or 2026-11-20T08:30+08:00"
        raise BadQuery(f"{text!r} is no moment.", why=str(error), hint=hint) from error


def _day(day: date, now: datetime, *, until: bool) -> datetime:
    return datetime.combine(day + timedelta(days=until), time(), _zone(now))


def _zone(now: datetime) -> tzinfo | None:
    return now.tzinfo


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise BadQuery(f"{line!r} cannot be read.", why=str(error), hint="close the quotes, or leave them out") from error


def _said(option: object) -> list[str]:
    """An option's values as words."""
    if option is None:
        return []
    if isinstance(option, bool):
        return ["yes" if option else "no"]
    return [str(each) for each in option] if isinstance(option, list | tuple) else [str(option)]


def _filter(values: Mapping[str, Sequence[str]], now: datetime) -> RunFilter:
    from schemas.runs import RunFilter  # slow to load, and a terminal's help needs none of it

    for name, said in values.items():
        if len(said) > 1 and name not in ("status", "text"):
            raise BadQuery(f"{name} is given more than once.", why=", ".join(said), hint=f"give {name} once")
        if not all(each.strip() for each in said):
            raise BadQuery(f"{name} is given without a value.", hint=f"{name}:VALUE, or leave it out")
    one = {name: said[0] for name, said in values.items()}
    since = moment(one["since"], now) if "since" in one else None
    before = moment(one["until"], now, until=True) if "until" in one else None
    if since and before and since >= before:
        raise BadQuery("No run can have begun then.", why=f"{since:%Y-%m-%d %H:%M} is not before {before:%Y-%m-%d %H:%M}")
    return RunFilter(
        status=_statuses(values["status"]) if "status" in values else None, agent=one.get("agent"), user=one.get("user"),
        text=" ".join(values["text"]) if "text" in values else None, deep=_truth("deep", one.get("deep", "no")),
        since=since, before=before, conversation=one.get("conversation"), tool=one.get("tool"), model=one.get("model"),
        tokens_over=int(_number("tokens-over", one["tokens-over"])) if "tokens-over" in one else None,
        cost_over=_number("cost-over", one["cost-over"]) if "cost-over" in one else None,
        forks=_truth("forks", one["forks"]) if "forks" in one else None, fork_of=one.get("fork-of"),
    )  # fmt: skip


def _statuses(said: Iterable[str]) -> tuple[Status, ...]:
    from schemas.runs import Status

    known: dict[str, Status] = {each: each for each in get_args(Status)}
    asked = list(dict.fromkeys(each for part in said for each in part.split(",")))
    if wrong := [each for each in asked if each not in known]:
        raise BadQuery(f"{wrong[0]!r} is no status of a run.", hint=f"one of {', '.join(known)}")
    return tuple(known[each] for each in asked)


def _number(name: str, said: str) -> float:
    try:
        found = float(said)
    except ValueError:
        found = math.nan
    if not 0 <= found <= _MOST:
        raise BadQuery(f"{said!r} is no number that {name} could be.", hint=f"{name}:100")
    return found


def _truth(name: str, said: str) -> bool:
    if said not in _WORDS:
        raise BadQuery(f"{name} is yes or no, not {said!r}.", hint=f"{name}:no")
    return _WORDS[said]
