"""Schemas of OpenAPI documents as plain JSON Schema (draft 2020-12) without references, as deep as a model can read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from schemas.canonical import MAX_INTEGER
from tool_adapters.openapi.document import Document, Object, text_of

LARGEST = 8_000
"""Characters of one tool's parameters; deeper parts are cut until they fit."""

DEPTHS = (8, 6, 5, 4, 3, 2)
MOST = 500
_TEXT = 160
_CHOICES = 64
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_KEPT = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "format", "default")


@dataclass(slots=True)
class _Cut:
    """How deep to go, and how many parts there may be at all."""

    depth: int
    left: int = MOST


def plain(document: Document, schema: Object) -> dict[str, object]:
    """The schema with references put in place and cycles cut, as deep as it stays within LARGEST characters."""
    for depth in DEPTHS:
        made = _schema(document, schema, _Cut(depth), 0, ())
        if len(orjson.dumps(made, default=str)) <= LARGEST:
            return made
    return made


def _schema(document: Document, value: object, cut: _Cut, depth: int, above: tuple[int, ...]) -> dict[str, object]:
    said = document.followed(value)
    if id(said) in above or depth >= cut.depth or cut.left <= 0:
        return _shallow(said)
    cut.left -= 1
    above = (*above, id(said))
    made = _shallow(said)
    properties = said.get("properties")
    if isinstance(properties, Mapping):
        inner = {
            str(name): _schema(document, each, cut, depth + 1, above)
            for name, each in properties.items() if document.followed(each).get("readOnly") is not True
        }  # fmt: skip
        required = said.get("required")
        needed = [name for name in required if isinstance(name, str) and name in inner] if isinstance(required, list) else []
        made |= {"type": "object", "properties": inner} | ({"required": needed} if needed else {})
    if "items" in said:
        made |= {"type": "array", "items": _schema(document, said["items"], cut, depth + 1, above)}
    if isinstance(said.get("additionalProperties"), Mapping):
        made["additionalProperties"] = _schema(document, said["additionalProperties"], cut, depth + 1, above)
    for key in ("allOf", "anyOf", "oneOf"):
        parts = said.get(key)
        if isinstance(parts, list) and parts:
            made[key] = [_schema(document, each, cut, depth + 1, above) for each in parts]
    return made


def _shallow(said: Object) -> dict[str, object]:
    """What is said of a value itself, without its parts."""
    made: dict[str, object] = {}
    kinds = said.get("type")
    known = [each for each in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(each, str) and each in _TYPES]
    if kinds == "file":
        known = ["string"]
    if known and said.get("nullable") is True:
        known.append("null")
    if known:
        made["type"] = known[0] if len(known) == 1 else list(dict.fromkeys(known))
    text = " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text_of(said.get("description"))).split())
    if text:
        made["description"] = text if len(text) <= _TEXT else text[:_TEXT].rsplit(" ", 1)[0]
    choices = said.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= _CHOICES and all(_is_scalar(choice) for choice in choices):
        made["enum"] = list(dict.fromkeys(choices))
    return made | {key: said[key] for key in _KEPT if key in said and _fits(key, said[key])}


def _fits(key: str, value: object) -> bool:
    if key == "format":
        return isinstance(value, str)
    if key == "default":
        return value is not None and _is_scalar(value) and (not isinstance(value, str) or len(value) <= _TEXT)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_scalar(value):
        return False
    return key in ("minimum", "maximum") or (value >= 0 and int(value) == value)


def _is_scalar(value: object) -> bool:
    """Whether JSON carries it exactly."""
    if isinstance(value, int | float):
        return isinstance(value, bool) or abs(value) <= MAX_INTEGER
    return value is None or isinstance(value, str)
