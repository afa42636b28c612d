"""Tools of public sets as cards: their names, types and lists of parameters are written in many ways, a card in one.

A name that had to change keeps what it was in the card's title, so that a set's own name can still be told (`own_name`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from schemas.canonical import JsonObject
from schemas.tools import ToolCard

_TYPES = {
    "string": "str string text char character date time datetime date-time timestamp url uri email file path uuid regex enum",
    "integer": "int integer long short byte int32 int64 integers",
    "number": "float double number decimal numeric real",
    "boolean": "bool boolean",
    "array": "list array tuple set arraylist sequence",
    "object": "dict object map hashmap json dictionary",
    "null": "null none nonetype",
}
_JSON_TYPE = {name: kind for kind, names in _TYPES.items() for name in names.split()}
_NUMBERS = {"minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength"}
_DEEPEST = 12  # levels of a schema; what lies deeper takes anything


def tool_name(name: str) -> str:
    """A name that fits a card: [A-Za-z0-9_-], at most the last 64; the same for the same name, in every example."""
    fitting = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if not re.search(r"[A-Za-z0-9]", fitting):
        return f"tool_{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"
    return fitting if len(fitting) <= 64 else fitting[-64:].lstrip("_-")


def own_name(card: ToolCard) -> str:
    """What its set calls the tool."""
    return card.title or card.name


def card(function: Mapping[str, object]) -> ToolCard:
    """A card of {"name", "description", "parameters"}, as OpenAI and most sets have it, or of {"type", "function"}.

    Parameters: a JSON Schema, a mapping of names to schemas or descriptions, or a list of {"name", ...}; "required" as a list
    beside them, or a flag in each. Raises ValueError for what has no name.
    """
    inner = function.get("function")
    if isinstance(inner, Mapping):
        function = cast("Mapping[str, object]", inner)
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError("a tool has no name")
    name, fitting = name.strip(), tool_name(name.strip())
    said = function.get("description")
    description = said.strip()[:4000] if isinstance(said, str) and said.strip() else name
    parameters = arguments_schema(function.get("parameters"), function.get("required"))
    return ToolCard(name=fitting, description=description, parameters=parameters, title="" if fitting == name else name)


def cards(functions: Iterable[Mapping[str, object]]) -> tuple[ToolCard, ...]:
    """A card of each, no two of one name: equal ones are offered once, others get _2, _3 ... in their order."""
    found: dict[str, ToolCard] = {}
    for each in map(card, functions):
        if any(own_name(each) == own_name(other) and each.parameters == other.parameters for other in found.values()):
            continue
        name = next(name for name in _numbered(each.name) if name not in found)
        found[name] = each if name == each.name else each.model_copy(update={"name": name, "title": own_name(each)})
    return tuple(found.values())


def names(offered: Iterable[ToolCard]) -> dict[str, str]:
    """The card's name of each tool, by what its set calls it; of several, the first."""
    return {own_name(each): each.name for each in reversed(tuple(offered))}


def arguments_schema(parameters: object, required: object = None) -> JsonObject:
    """The JSON Schema of a call's arguments, from any of the forms that `card` names; nothing: no arguments."""
    if not isinstance(parameters, (Mapping, list, tuple)):
        parameters = {}
    if isinstance(parameters, Mapping):
        whole = cast("Mapping[str, object]", parameters)
        if isinstance(whole.get("properties"), (Mapping, list)):
            return _object(whole["properties"], whole.get("required", required), _extra(whole), 0)
        if _is_empty_schema(whole):
            parameters = {}
    return _object(parameters, required, {}, 0)


def _is_empty_schema(whole: Mapping[str, object]) -> bool:
    """Whether it is a schema without properties rather than a parameter that is called "type"."""
    return isinstance(whole.get("type"), str) and _json_type(whole["type"])[0] == "object" and set(whole) <= {
        "type", "required", "properties", "additionalProperties", "description", "title", "$schema", "optional",
    }  # fmt: skip


def _extra(whole: Mapping[str, object]) -> JsonObject:
    said = whole.get("additionalProperties")
    return {"additionalProperties": said} if isinstance(said, bool) else {}


def _object(properties: object, required: object, extra: JsonObject, depth: int) -> JsonObject:
    schemas: JsonObject = {}
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, (list, tuple)) else set()
    for name, each in _named(properties):
        schemas[name] = _schema(each, depth + 1)
        if isinstance(each, Mapping) and _is_flagged(each.get("required")):
            needed.add(name)
    asked = [name for name in schemas if name in needed]
    return {"type": "object", "properties": schemas, **({"required": asked} if asked else {}), **extra}


def _named(properties: object) -> Iterator[tuple[str, object]]:
    """Names and schemas of a mapping, or of a list of schemas that carry their names."""
    if isinstance(properties, Mapping):
        yield from ((str(name), each) for name, each in properties.items())
    elif isinstance(properties, (list, tuple)):
        for each in properties:
            if isinstance(each, str):
                yield each, {}
            elif isinstance(each, Mapping) and isinstance(each.get("name"), str):
                yield each["name"], {key: value for key, value in each.items() if key != "name"}


def _is_flagged(flag: object) -> bool:
    return flag is True or (isinstance(flag, str) and flag.strip().lower() in ("true", "yes", "required"))


def _schema(foreign: object, depth: int) -> JsonObject:
    """The JSON Schema of one value. A text is its description; what cannot be read takes anything."""
    if isinstance(foreign, str):
        kind = _JSON_TYPE.get(foreign.strip().lower())
        return {"type": kind} if kind else {"type": "string", "description": foreign.strip()}
    if not isinstance(foreign, Mapping) or depth > _DEEPEST:
        return {}
    kind, note = _json_type(foreign.get("type", foreign.get("param_type")))
    made: JsonObject = {"type": kind} if kind else {}
    description = next((foreign[key] for key in ("description", "desc", "desciption") if key in foreign), "")
    words = [description.strip() if isinstance(description, str) else "", note]
    if any(words):
        made["description"] = " ".join(filter(None, words))
    if isinstance(foreign.get("enum"), (list, tuple)) and foreign["enum"]:
        made["enum"] = [*dict.fromkeys(foreign["enum"])] if all(map(_hashable, foreign["enum"])) else [*foreign["enum"]]
    made.update({key: foreign[key] for key in _NUMBERS if _is_number(foreign.get(key))})
    made.update({key: foreign[key] for key in ("default", "format", "pattern") if _is_plain(foreign.get(key))})
    return {**made, **_within(foreign, kind, depth)}


def _within(foreign: Mapping[str, object], kind: str, depth: int) -> JsonObject:
    """What an object or a list holds."""
    if kind == "array" and isinstance(foreign.get("items"), (Mapping, str)):
        return {"items": _schema(foreign["items"], depth + 1)}
    if isinstance(foreign.get("properties"), (Mapping, list)) and kind in ("object", ""):
        return _object(foreign["properties"], foreign.get("required"), _extra(foreign), depth)
    unions = {key: foreign[key] for key in ("anyOf", "oneOf") if isinstance(foreign.get(key), list)}
    return {key: [_schema(each, depth + 1) for each in cast("list[object]", several)] for key, several in unions.items()}


def _json_type(foreign: object) -> tuple[str, str]:
    """The JSON type of a type as somebody wrote it, and what is worth a note of one that JSON has not."""
    if isinstance(foreign, (list, tuple)):
        kinds = [kind for kind, _ in map(_json_type, foreign) if kind and kind != "null"]
        return (kinds[0] if len(set(kinds)) == 1 else "", "")
    if not isinstance(foreign, str):
        return "", ""
    first = re.split(r"[\[<(,|\s]", foreign.strip().lower(), maxsplit=1)[0].removeprefix("typing.")
    kind = _JSON_TYPE.get(first, "")
    plain = first in ("any", "object", "") or first == foreign.strip().lower()
    return kind, "" if (kind and plain) or first in ("any", "") else f"({foreign.strip()})"


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name[: 64 - len(str(number)) - 1]}_{number}"
        number += 1


def _hashable(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, type(None)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))
