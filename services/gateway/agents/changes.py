"""What is different between two versions of an agent: fields, and long texts line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Literal

from schemas.canonical import Json
from schemas.tools import Value
from services.gateway.agents.draft import Draft

_LONG = 80
_LINES = 2000
_UNSEEN = frozenset({"version"})


class Line(Value):
    """A line of a long text, as it was, as it is, or in both."""

    kind: Literal["same", "out", "in"]
    text: str


class FieldChange(Value):
    """A field that is other than before. before, after: JSON, None where it is not said; lines: of a long text."""

    field: str
    before: object = None
    after: object = None
    lines: tuple[Line, ...] = ()


def changes(before: Draft, after: Draft) -> tuple[FieldChange, ...]:
    """The fields that differ, in the order of the form."""
    old, new = _flat(before), _flat(after)
    names = list(dict.fromkeys((*new, *old)))
    return tuple(_change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name))


def _flat(draft: Draft) -> dict[str, Json]:
    """Everything that is not as usual, groups such as the budget field by field."""
    said: dict[str, Json] = draft.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    spec = said.pop("spec", {})
    return dict(_leaves({**said, **(spec if isinstance(spec, Mapping) else {})}))


def _leaves(values: Mapping[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif name not in _UNSEEN:
            yield prefix + name, value


def _change(field: str, before: Json, after: Json) -> FieldChange:
    lines = _lines(before or "", after or "") if _long(before) or _long(after) else ()
    return FieldChange(field=field, before=before, after=after, lines=lines)


def _long(value: Json) -> bool:
    return isinstance(value, str) and ("\n" in value or len(value) > _LONG) and not value.startswith("data:")


def _lines(before: Json, after: Json) -> tuple[Line, ...]:
    kinds: dict[str, Literal["same", "out", "in"]] = {" ": "same", "-": "out", "+": "in"}
    compared = difflib.ndiff(str(before).splitlines(), str(after).splitlines())
    found = (Line(kind=kinds[line[0]], text=line[2:]) for line in compared if line[0] in kinds)
    return tuple(islice(found, _LINES))
