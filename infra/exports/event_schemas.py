"""The JSON Schemas of events, so that an export can be read without this code."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import orjson

from schemas.envelope import type_of
from schemas.events import EVENTS, Event

_BY_TYPE: dict[str, type[Event]] = {type_of(event): event for event in EVENTS}


def types_of(lines: Iterable[bytes]) -> list[str]:
    """The types of the events in these lines, each once, sorted."""
    found: set[str] = set()
    for line in lines:
        try:
            said = orjson.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and isinstance(said.get("type"), str):
            found.add(said["type"])
    return sorted(found)


def schemas_of(types: Iterable[str]) -> dict[str, object]:
    """JSON Schema (2020-12) of the data of each type that is known here."""
    return {type: _schema(type) for type in types if type in _BY_TYPE}


@cache
def _schema(type: str) -> dict[str, object]:
    return _BY_TYPE[type].model_json_schema(mode="serialization")
