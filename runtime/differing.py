"""What differs between two JSON values, place by place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.aligning import aligned, words_changed
from schemas.canonical import canonical, read_json
from schemas.errors import ProtocolError

_WORTH_WORDS = 12
_MOST_JSON = 1_000_000


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. path: a JSON Pointer (RFC 6901) into the old value, of something added into the new one.

    After a # a second pointer leads into JSON that stands as a text there. how: a value is another one now, is gone, or has
    come; old is None for what has come, new for what is gone.
    """

    path: str
    how: Literal["changed", "removed", "added"]
    old: object = None
    new: object = None

    @property
    def words(self) -> list[tuple[Literal["=", "-", "+"], str]] | None:
        """The two texts word by word, where both are texts that are long enough for it and have something in common."""
        if self.how != "changed" or not isinstance(self.old, str) or not isinstance(self.new, str):
            return None
        if min(len(self.old), len(self.new)) < _WORTH_WORDS:
            return None
        words = words_changed(self.old, self.new)
        kept = sum(len(text) for how, text in words if how == "=")
        return words if kept * 4 >= min(len(self.old), len(self.new)) else None


def changes(old: object, new: object, path: str = "") -> Iterator[Change]:
    """All places in which two JSON values differ, in the order of the old one. 1, 1.0 and true are three values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in (*old, *(name for name in new if name not in old)):
            place = f"{path}/{pointer(str(name))}"
            if name not in new:
                yield Change(place, "removed", old=old[name])
            elif name not in old:
                yield Change(place, "added", new=new[name])
            else:
                yield from changes(old[name], new[name], place)
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        yield from _in_lists(old, new, path)
    elif type(old) is not type(new) or old != new:
        yield from _in_texts(old, new, path)


def _in_texts(old: object, new: object, path: str) -> Iterator[Change]:
    """A tool's result is often JSON that stands as a text; what differs in it is told place by place, too."""
    inner = (_json(old), _json(new))
    if inner[0] is None or inner[1] is None or type(inner[0]) is not type(inner[1]) or "#" in path:
        yield Change(path, "changed", old, new)
        return
    found = list(changes(*inner, f"{path}#"))
    yield from found or (Change(path, "changed", old, new),)


def _json(value: object) -> object:
    """The object or array that a text is, if it is one."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")) or len(value) > _MOST_JSON:
        return None
    try:
        return read_json(value.encode(), limit=_MOST_JSON * 4)
    except (ProtocolError, UnicodeError):
        return None


def pointer(name: str) -> str:
    """A name as one part of a JSON Pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _in_lists(old: Sequence[object], new: Sequence[object], path: str) -> Iterator[Change]:
    """Items are paired by their longest common subsequence, and what stands between two pairs in its order."""
    for stretch in aligned([_name(each) for each in old], [_name(each) for each in new]):
        if stretch.same:
            continue
        paired = min(len(stretch.a), len(stretch.b))
        for a, b in zip(stretch.a, stretch.b, strict=False):
            yield from changes(old[a], new[b], f"{path}/{a}")
        for a in stretch.a[paired:]:
            yield Change(f"{path}/{a}", "removed", old=old[a])
        for b in stretch.b[paired:]:
            yield Change(f"{path}/{b}", "added", new=new[b])


def _name(value: object) -> str:
    return f"{type(value).__name__} {canonical(value).decode()}"
