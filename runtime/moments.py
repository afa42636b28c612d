"""Dates and times as people write them, in English and Chinese, without time zones: what is written is compared.

Text is read as `numerals.normalised` gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Day(NamedTuple):
    """A day; year 0 where none is said."""

    year: int
    month: int
    day: int


class Time(NamedTuple):
    """A time of the day."""

    hour: int
    minute: int


class Moment(NamedTuple):
    """What a machine writes: 2026-12-01, 14:30, 2026-12-01T14:30:00Z."""

    day: Day | None
    time: Time | None


_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"(?P<d>\d{1,2})(?:st|nd|rd|th)?(?!\d)"
_YEAR = r"(?:,?\s+(?P<y>\d{4}))?(?!\d)"
_DAYS = (
    re.compile(r"(?<!\d)(?P<y>\d{4})\s*[-/.年]\s*(?P<m>\d{1,2})\s*[-/.月]\s*(?P<d>\d{1,2})(?!\d)"),
    re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d)(?!\d)"),
    re.compile(r"(?<![\d年])(?P<m>\d{1,2})\s*月\s*(?P<d>\d{1,2})\s*[日号]"),
    re.compile(rf"(?<![a-z]){_MONTH}\s+{_DAY}{_YEAR}"),
    re.compile(rf"(?<!\d){_DAY}\s+(?:of\s+)?{_MONTH}{_YEAR}"),
    re.compile(r"(?<![\d/])(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})(?!\d)"),
    re.compile(r"(?<![\d/.])(?P<d>\d{1,2})[/.](?P<m>\d{1,2})[/.](?P<y>\d{4})(?!\d)"),
)
_CLOCK = re.compile(r"(?<![\d:.])(?P<h>\d{1,2}):(?P<m>[0-5]\d)(?::[0-5]\d(?:\.\d+)?)?(?:\s*(?P<half>[ap])\.?m)?(?!\d)")
_HOUR = re.compile(r"(?<![\d:.])(?P<h>\d{1,2})\s*(?P<half>[ap])\.?m(?![a-z])")
_CHINESE = re.compile(
    r"(?P<part>凌晨|早上|上午|中午|下午|傍晚|晚上)?\s*(?P<h>\d{1,2}|十[一二]?|[一二两三四五六七八九])\s*[点时](?P<m>半|[0-5]?\d(?=分|\D|$)|一刻|三刻)?"
)
_CHINESE_HOURS = {**{each: n for n, each in enumerate("零一二三四五六七八九十")}, "两": 2, "十一": 11, "十二": 12}
_CHINESE_MINUTES = {"": 0, "半": 30, "一刻": 15, "三刻": 45}
_MACHINE = re.compile(
    r"(?:(?P<y>\d{4})[-/](?P<mo>\d{1,2})[-/](?P<d>\d{1,2}))?(?(y)(?:[t\s]+|$)|)"
    r"(?:(?P<h>\d{1,2}):(?P<mi>\d{2})(?::\d{2}(?:\.\d+)?)?\s*(?:z|[+-]\d{2}:?\d{2})?)?"
)


def moment_of(text: str) -> Moment | None:
    """The moment that a value is, if it is one and nothing else."""
    found = _MACHINE.fullmatch(text.strip())
    if not found or not (found["y"] or found["h"]):
        return None
    day = Day(int(found["y"]), int(found["mo"]), int(found["d"])) if found["y"] else None
    return Moment(day, Time(int(found["h"]), int(found["mi"])) if found["h"] else None)


def says(text: str, moment: Moment) -> bool:
    """Whether a normalised text names the day, of this year if it says one, and the time; midnight need not be said."""
    if moment.day and not any(each[1:] == moment.day[1:] and each.year in (0, moment.day.year) for each in _days(text)):
        return False
    if moment.time is None or (moment.day and moment.time == Time(0, 0)):
        return True
    return moment.time in _times(text)


def _days(text: str) -> Iterator[Day]:
    for pattern in _DAYS:
        for found in pattern.finditer(text):
            groups = found.groupdict()
            month = _MONTH_NAMES.index(groups["name"]) + 1 if groups.get("name") else int(groups["m"])
            yield Day(int(groups.get("y") or 0), month, int(groups["d"]))


def _times(text: str) -> set[Time]:
    named = {"noon": Time(12, 0), "midnight": Time(0, 0), "中午": Time(12, 0), "午夜": Time(0, 0)}
    times = {time for word, time in named.items() if word in text}
    for pattern in (_CLOCK, _HOUR):
        for found in pattern.finditer(text):
            groups = found.groupdict()
            times.add(Time(_hour(int(groups["h"]), groups["half"] == "p", groups["half"] == "a"), int(groups.get("m") or 0)))
    for found in _CHINESE.finditer(text):
        hour = int(found["h"]) if found["h"].isdecimal() else _CHINESE_HOURS[found["h"]]
        said = found["m"] or ""
        minute = _CHINESE_MINUTES[said] if said in _CHINESE_MINUTES else int(said)
        times.add(
            Time(_hour(hour, found["part"] in ("下午", "傍晚", "晚上"), found["part"] in ("凌晨", "早上", "上午")), minute)
        )
    return times


def _hour(hour: int, afternoon: bool, morning: bool) -> int:
    if afternoon and hour < 12:
        return hour + 12
    return 0 if morning and hour == 12 else hour
