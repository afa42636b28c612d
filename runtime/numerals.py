"""Amounts as people write them, in English and Chinese: 3, three, 三个月, "a month", 1,000, 1.5k, 2万, half a year.

Text is read as `normalised` gives it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

NAME = "name"  # instead of a unit: a number that names something, as that of a bill does
LONGEST = 60  # characters of an amount; what is longer is none
DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹣－", "-"))


class Quantity(NamedTuple):
    """An amount and its unit of time, or NAME; an empty unit for anything else."""

    amount: Decimal
    unit: str


def normalised(text: str) -> str:
    """Small letters, half-width forms, one kind of dash."""
    text = text if text.isascii() else unicodedata.normalize("NFKC", text.translate(DASHES)).translate(DASHES)
    return text.casefold()


# How much of the smallest unit of its kind each unit is: seconds, or months.
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_UNIT_WORDS = {
    "second": "seconds?|secs?|秒钟?", "minute": "minutes?|mins?|分钟", "hour": "hours?|hrs?|个?小时|个?钟头",
    "day": "days?|天|日", "week": "weeks?|wks?|个?星期|个?礼拜|周", "month": "months?|个月", "quarter": "quarters?|个?季度",
    "year": "years?|yrs?|年",
}  # fmt: skip
_UNIT = "|".join(f"(?P<{name}>{words})" for name, words in _UNIT_WORDS.items())
_UNIT_AFTER = re.compile(rf"[\s-]*(?:more[\s-]+|full[\s-]+)?(?:{_UNIT})(?![a-z])(?P<half>半)?")
_UNIT_ALONE = re.compile(rf"(?<![a-z])(?:{_UNIT}|(?P<cn_month>月))(?![a-z])")

_DIGITS = re.compile(
    r"(?<![0-9a-z_.第])(?<![0-9a-z][-/:])(?P<number>\d+(?:,\d+)*(?:\.\d+)?)(?!\d|\.\d|[-/:]\d|_)(?![a-z]+\d)"
    r"(?:\s*(?P<scale>%|k(?![a-z])|thousand|million|billion|[百千]?万|亿|百|千))?"
)
_LABEL = re.compile(
    r"(?:#|(?<![a-z])(?:account|bill|id|invoice|issue|number|order(?=\s*no)|ticket)|账单|订单|工单|账号|账户|编号)"
    r"\s*(?:no\.?|number)?\s*#?\s*$"
)
_OF_JSON = ('"', ":", ",", "[", "=", "")  # before a number: no label ends so
_ITEM = re.compile(r"\d{1,2}[.)、]\s*[^\s\d]")  # of a list: "1. stop it"
_LINE_BEGINS = re.compile(r"(?:^|\n)[ \t]*$")
_TELEPHONE = re.compile(r"\+\d[\d ()-]{6,40}\d")
_SCALES = {
    "k": 10**3, "thousand": 10**3, "million": 10**6, "billion": 10**9, "百": 10**2, "千": 10**3, "万": 10**4, "百万": 10**6,
    "千万": 10**7, "亿": 10**8,
}  # fmt: skip

_WORDS = {
    word: Decimal(value)
    for value, words in (
        (0, "zero"), (1, "one single"), (2, "two twice couple pair"), (3, "three thrice"), (4, "four"), (5, "five"), (6, "six"),
        (7, "seven"), (8, "eight"), (9, "nine"), (10, "ten"), (11, "eleven"), (12, "twelve dozen"), (13, "thirteen"),
        (14, "fourteen"), (15, "fifteen"), (16, "sixteen"), (17, "seventeen"), (18, "eighteen"), (19, "nineteen"),
        (20, "twenty"), (30, "thirty"), (40, "forty"), (50, "fifty"), (60, "sixty"), (70, "seventy"), (80, "eighty"),
        (90, "ninety"),
    )
    for word in words.split()
}  # fmt: skip
_LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_WORD = "|".join((*_WORDS, *_LARGE))
_IN_WORDS = re.compile(rf"(?<![a-z])(?:{_WORD})(?:(?:\s+and\s+|[\s-]+)(?:{_WORD}))*(?![a-z])")
_PRONOUN = "any|each|every|first|last|next|no|old|other|right|same|some|that|the|this|which"
_PRONOUN_BEFORE = re.compile(rf"(?<![a-z])(?:{_PRONOUN})\s+$")
# A text ends so that no amount goes on in the one after it: with a bracket, a quote, or a word that no amount has.
_ENDS = re.compile(
    rf"(?:[\]}}\"']|(?<![a-z])(?!(?:{_WORD}|{_PRONOUN}|k|and|more|full|half|an?|another|account|bill|id|invoice|issue|number"
    r"|order|ticket)+\b)[a-z]+)\.?\s*$"
)
_ONE_UNIT = re.compile(
    rf"(?<![a-z])(?P<how>half[\s-]+(?:an?[\s-]+)?|an?\s+|another\s+|半个?)(?:{_UNIT}|(?P<cn_month>月))(?![a-z])"
)

_CHINESE_DIGITS = {
    each: value
    for value, chars in enumerate(("零〇", "一壹", "二两俩贰", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖"))
    for each in chars
}
_CHINESE_LARGE = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_NUMERAL = "".join((*_CHINESE_DIGITS, *_CHINESE_LARGE, "万", "亿"))
# A single numeral is one only before a measure or at the end of a word: 一下, 三亚 and 四川 name no number.
_MEASURES = "个台次份天日年月周号星礼小分秒块元季位条件张倍项点时名只套核"
_IN_CHINESE = re.compile(rf"(?<![{_NUMERAL}第])(?!一点|(?<=[这那哪每某任])一(?![{_NUMERAL}]))[{_NUMERAL}]+")
_CJK = re.compile(r"[\u3400-\u9fff]")


def quantities(text: str) -> Iterator[Quantity]:
    """Every amount that a normalised text names; those of "1. stop it", "the one", 第一 and telephones are none."""
    text = _TELEPHONE.sub(" ", text)
    following = 0
    for found in _DIGITS.finditer(text):
        if _numbers_an_item(found, text, following):
            following = int(found["number"]) + 1
        elif len(found[0]) <= LONGEST:
            yield from _written(found, text)
    for found in _IN_WORDS.finditer(text):
        pronoun = found[0] == "one" and _PRONOUN_BEFORE.search(text[max(0, found.start() - 12) : found.start()])
        if len(found[0]) <= LONGEST and not (pronoun and not _UNIT_AFTER.match(text, found.end())):
            yield _with_unit(_english(found[0]), text, found.end())
    for found in _ONE_UNIT.finditer(text):
        amount = Decimal("0.5") if found["how"].startswith(("half", "半")) else Decimal(1)
        yield Quantity(amount, _unit(found))
    for found in _IN_CHINESE.finditer(text):
        after = text[found.end() : found.end() + 1]
        if 1 < len(found[0]) <= LONGEST or (len(found[0]) == 1 and (after in _MEASURES or not _CJK.match(after))):
            yield _with_unit(_chinese(found[0]), text, found.end())


def parted(texts: Iterable[str]) -> Iterator[str]:
    """Texts in which the same amounts stand as in these on lines of their own, of which most are those texts themselves.

    Where an amount could go on in the text after it, or a list has numbered items, several are one.
    """
    items: list[str] = []
    together: list[str] = []
    for text in texts:
        together.append(text)
        if _ends(text):
            found = "\n".join(together)
            together.clear()
            if not _numbers_items(found):
                yield found
            else:
                items.append(found)
    yield "\n".join((*items, *together))


@lru_cache(maxsize=2048)
def _ends(text: str) -> bool:
    return _ENDS.search(text[-LONGEST:]) is not None


@lru_cache(maxsize=2048)
def _numbers_items(text: str) -> bool:
    return _ITEM.search(text) is not None


def _numbers_an_item(found: re.Match[str], text: str, following: int) -> bool:
    """Whether a number is that of a list's item: at the beginning of a line, or the next one after such."""
    if text[found.end() : found.end() + 1] not in (".", ")", "、") or not _ITEM.match(text, found.start()):
        return False
    before = text[max(0, found.start() - 8) : found.start()]
    return int(found["number"]) == following or _LINE_BEGINS.search(before) is not None


def _written(found: re.Match[str], text: str) -> Iterator[Quantity]:
    number, scale = found["number"], found["scale"]
    groups = number.split(",")
    before = text[max(0, found.start() - 20) : found.start()]
    grouped = len(groups[0]) <= 3 and all(len(group.split(".")[0]) == 3 for group in groups[1:])
    if len(groups) > 1 and not (grouped and before[-1:] != "["):
        groups, number = groups[:-1], groups[-1]  # a list, not one number
        yield from (Quantity(Decimal(group), "") for group in groups)
    amount = Decimal(number.replace(",", ""))
    if before[-1:] == "-":
        yield Quantity(-amount, "")
    if scale == "%":
        yield Quantity(amount / 100, "")
    elif scale:
        amount *= _SCALES[scale]
    named = not scale and before[-1:] not in _OF_JSON and _LABEL.search(before)
    yield Quantity(amount, NAME) if named else _with_unit(amount, text, found.end())


def _with_unit(amount: Decimal, text: str, end: int) -> Quantity:
    unit = _UNIT_AFTER.match(text, end)
    if unit is None:
        return Quantity(amount, "")
    return Quantity(amount + (Decimal("0.5") if unit["half"] else 0), _unit(unit))


def _unit(found: re.Match[str]) -> str:
    groups = found.groupdict()
    return "month" if groups.get("cn_month") else next(name for name in _UNIT_WORDS if groups[name])


def _english(words: str) -> Decimal:
    total = part = Decimal(0)
    for word in re.split(r"[\s-]+", words):
        if word in _LARGE:
            part = (part or Decimal(1)) * _LARGE[word]
            if _LARGE[word] > 100:
                total, part = total + part, Decimal(0)
        elif word == "dozen" and part:
            part *= 12
        elif word != "and":
            part += _WORDS[word]
    return total + part


def _chinese(numeral: str) -> Decimal:
    if all(each in _CHINESE_DIGITS for each in numeral):
        return Decimal("".join(str(_CHINESE_DIGITS[each]) for each in numeral))
    total = section = digit = 0
    for each in numeral:
        if each in _CHINESE_DIGITS:
            digit = _CHINESE_DIGITS[each]
        elif each in _CHINESE_LARGE:
            section, digit = section + (digit or 1) * _CHINESE_LARGE[each], 0
        else:
            total, section, digit = (total + section + digit or 1) * _SCALES[each], 0, 0
    return Decimal(total + section + digit)


@lru_cache(maxsize=1024)  # descriptions of arguments, above all
def unit_named(text: str) -> str:
    """The one unit of time that a normalised text names as a word; empty if it names none, or several."""
    found = {_unit(each) for each in _UNIT_ALONE.finditer(text)}
    return found.pop() if len(found) == 1 else ""


def converted(quantity: Quantity, unit: str) -> Decimal | None:
    """So much in another unit of time; None where neither tells the other."""
    for kind in (_SECONDS, _MONTHS):
        if quantity.unit in kind and unit in kind:
            return quantity.amount * kind[quantity.unit] / kind[unit]
    return None
