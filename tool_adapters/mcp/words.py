"""Text that a server wrote, before people or models read it: what cannot be seen is taken out, what gives orders is told."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

from schemas.tools import Value

HIDDEN = (
    ("tag characters", ((0xE0000, 0xE007F),)),
    ("bidirectional controls", ((0x061C, 0x061C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069))),
    ("zero-width characters", (
        (0x00AD, 0x00AD), (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200D),
        (0x2060, 0x2064), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0),
    )),
    ("variation selectors", ((0xFE00, 0xFE0E), (0xE0100, 0xE01EF))),
)  # fmt: skip
"""Characters that people do not see and models read, by kind (Unicode 16 code points)."""

_WANTED = r"(instructions?|prompts?|rules?|directions?|guidelines?)"
_TELL = r"(tell|mention|inform|show|reveal|notify|informing|telling|asking)"
_PERSON = r"(users?|persons?|humans?|anyone|customers?)"
_SECRET = r"(\.ssh|id_rsa|\.env\b|/etc/passwd|private keys?|api[ _-]?keys?|passwords?)"
_GIVE = r"\b(pass|send|include|read|provide|put|attach)\b"

ORDERS = (
    ("tells its reader to forget instructions", rf"\b(ignore|disregard|forget|override)\b.{{0,60}}\b{_WANTED}\b"),
    ("wants something kept from the person", rf"\b(do not|don't|never|without)\b.{{0,30}}\b{_TELL}\b.{{0,30}}\b{_PERSON}\b"),
    ("speaks as if it were the system", r"<\s*/?\s*(important|system|instructions?|secret|hidden|admin|critical)\b[^>]*>"),
    ("speaks as if it were the system", r"\[\s*(system|inst)\s*\]|<\|im_start\|>"),
    ("puts itself before other tools", r"\b(before|instead of) (using|calling) (any|every|all|other)\b"),
    ("puts itself before other tools", r"\b(must|always)\b.{0,30}\b(call|use) this tool\b"),
    ("asks for secrets", rf"{_GIVE}.{{0,80}}{_SECRET}|{_SECRET}.{{0,80}}{_GIVE}"),
    ("tells its reader to forget instructions", r"(忽略|无视|忘记).{0,20}(之前|以上|先前|所有).{0,20}(指令|提示|规则|说明)"),
    ("wants something kept from the person", r"(不要|不得|切勿|别).{0,12}(告诉|告知|透露|提醒).{0,8}(用户|使用者|客户)"),
)
"""Texts that a description of a tool has no need of: what they do, and how they look."""

_ORDERS = tuple((what, re.compile(pattern, re.I | re.S)) for what, pattern in ORDERS)
_PLAIN = re.compile(r"[\n\t -~]*")
_EXCERPT = 120


class Finding(Value):
    """Something in a server's text that a person should know before approving it."""

    tool: str
    where: str
    what: str
    excerpt: str = ""


def hidden_in(text: str) -> Counter[str]:
    """How many characters of each kind a reader would not see."""
    found: Counter[str] = Counter()
    if _PLAIN.fullmatch(text):
        return found
    for character in text:
        if kind := _hidden(character):
            found[kind] += 1
    return found


def seen(text: str) -> str:
    """The text as a person would read it: composed, without hidden and control characters but line breaks and tabs."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(each for each in unicodedata.normalize("NFC", text) if not _hidden(each))


def orders_in(text: str) -> Iterator[tuple[str, str]]:
    """What the text tells its reader to do beyond describing itself: (what it does, an excerpt)."""
    for what, pattern in _ORDERS:
        if found := pattern.search(text):
            yield what, " ".join(found.group(0).split())[:_EXCERPT]


def findings(tool: str, where: str, text: str) -> Iterator[Finding]:
    """All that is wrong with a text that stands somewhere in a tool."""
    for kind, count in hidden_in(text).items():
        yield Finding(tool=tool, where=where, what=f"{count} hidden ({kind}), taken out")
    for what, excerpt in orders_in(seen(text)):
        yield Finding(tool=tool, where=where, what=what, excerpt=excerpt)


def texts_of(schema: object, place: str = "") -> Iterator[tuple[str, str, bool]]:
    """Every text in a schema: where it stands, what it says, and whether it only describes (True) or is sent as it is."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            yield f"{place}.{key}".strip("."), str(key), False
            if isinstance(value, str):
                yield f"{place}.{key}".strip("."), value, key in ("description", "title", "$comment")
            else:
                yield from texts_of(value, f"{place}.{key}".strip("."))
    elif isinstance(schema, list):
        for each in schema:
            if isinstance(each, str):
                yield place, each, False
            else:
                yield from texts_of(each, place)


def seen_in(schema: object) -> object:
    """The schema with its describing texts cleaned."""
    if isinstance(schema, Mapping):
        return {
            key: seen(value) if isinstance(value, str) and key in ("description", "title", "$comment") else seen_in(value)
            for key, value in schema.items()
        }
    return [seen_in(each) for each in schema] if isinstance(schema, list) else schema


def _hidden(character: str) -> str | None:
    if character in "\n\t" or 0x20 <= ord(character) < 0x7F:
        return None
    code = ord(character)
    for kind, ranges in HIDDEN:
        if any(first <= code <= last for first, last in ranges):
            return kind
    category = unicodedata.category(character)
    return {"Cc": "control characters", "Cf": "format characters", "Co": "private characters", "Cs": "surrogates"}.get(category)
