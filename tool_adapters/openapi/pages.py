"""Pages: where the next one begins, and several of them as one answer.

A read collects pages by itself until it has ITEMS items or PAGES pages, unless the caller names a page; what is left is told
with how to get it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import orjson

from tool_adapters.openapi.call import Call
from tool_adapters.web import Answer

PAGES = 5
ITEMS = 100

NAMED = frozenset({"page", "offset", "after", "before", "since_id", "starting_after", "start"})
"""Parameters with which a caller chooses a page."""

_LINK = re.compile(r"""<([^<>]*)>((?:\s*;\s*(?:[^,;"]|"[^"]*")+)*)""")


@dataclass(frozen=True, slots=True)
class Next:
    """Where the next page is: an address, or the value of an argument."""

    url: str = ""
    argument: str = ""
    value: str = ""

    def told(self) -> str:
        """How a caller gets it."""
        if self.argument:
            return f'{self.argument}="{self.value}"'
        said = [f"{name}={value}" for name, value in parse_qsl(urlsplit(self.url).query) if name in NAMED or "cursor" in name]
        return ", ".join(said) or "the next page"


def chosen(call: Call, arguments: Mapping[str, object]) -> bool:
    """Whether the caller has named a page, and wants that one alone."""
    names = {each.argument: each.name for each in call.parameters if each.place == "query"}
    own = call.paging.argument if call.paging else None
    return any(name == own or names.get(name) in NAMED for name, value in arguments.items() if value not in (None, ""))


def next_of(call: Call, answer: Answer, value: object) -> Next | None:
    """The page after this one: by a Link header (RFC 8288), or by a field of the body."""
    for url, parameters in _LINK.findall(answer.headers.get("link", "")):
        if re.search(r"""\brel\s*=\s*"?[^",;]*\bnext\b""", parameters):
            return Next(url=url)
    if call.paging:
        for place in call.paging.fields:
            token = _field(value, place)
            if isinstance(token, str | int) and not isinstance(token, bool) and token not in ("", 0):
                return Next(argument=call.paging.argument, value=str(token))
    return None


def items_of(value: object) -> tuple[str, list[object]] | None:
    """The list of a page, and the field that holds it; None when there is none, or more than one."""
    if isinstance(value, list):
        return "", value
    if not isinstance(value, Mapping):
        return None
    lists = [(str(name), each) for name, each in value.items() if isinstance(each, list)]
    named = [each for each in lists if each[0] == "items"]
    return named[0] if named else lists[0] if len(lists) == 1 else None


class Pages:
    """Pages of one answer, put together. The first one's other fields are kept."""

    def __init__(self, call: Call, answer: Answer) -> None:
        self.first = answer
        self.value: object = _read(answer)
        self.next = next_of(call, answer, self.value) if answer.status == 200 else None
        self.count = 1
        self._call = call

    def wants_more(self) -> bool:
        """Whether another page is to be fetched."""
        found = items_of(self.value)
        return bool(self.next and found and len(found[1]) < ITEMS and self.count < PAGES)

    def add(self, answer: Answer) -> bool:
        """Take a further page in; False when it is none."""
        value = _read(answer) if answer.status == 200 else None
        there, more = items_of(self.value), items_of(value)
        if there is None or more is None or there[0] != more[0]:
            return False
        joined = [*there[1], *more[1]]
        self.value = joined if not there[0] else {**(self.value if isinstance(self.value, Mapping) else {}), there[0]: joined}
        self.next = next_of(self._call, answer, value)
        self.count += 1
        return bool(more[1])

    def answer(self) -> Answer:
        """All of it as one answer."""
        if self.count == 1:
            return self.first
        first = self.first
        return Answer(first.status, first.headers, orjson.dumps(self.value), first.url)

    def notes(self) -> tuple[str, ...]:
        """What is left out, and how to get it."""
        found = items_of(self.value)
        if not self.next or found is None:
            return ()
        return (f"the first {len(found[1]):,} in {self.count} page(s); there are more: {self.next.told()}",)


def _read(answer: Answer) -> object:
    if answer.cut or "json" not in answer.media_type:
        return None
    try:
        value: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return value


def _field(value: object, place: str) -> object:
    for name in place.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value
