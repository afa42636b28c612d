"""Operations of an OpenAPI 3 document as cards: what goes into path, query, headers and body are the arguments of one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.cards import card

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
LONGEST = 200  # characters of a description
_DEEPEST = 6  # references within references; what lies deeper takes anything


def operations(document: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Method and path of each operation, in the order of the document."""
    for path, item in _mapping(document.get("paths")).items():
        yield from ((method, path) for method in METHODS if isinstance(_mapping(item).get(method), Mapping))


def operation_card(document: Mapping[str, object], method: str, path: str, name: str) -> ToolCard:
    """The card of an operation under a name. Raises ValueError if the document has no such operation."""
    item = _mapping(_mapping(document.get("paths")).get(path))
    operation = item.get(method.lower())
    if not isinstance(operation, Mapping):
        raise ValueError(f"no operation {method} {path}")
    properties: dict[str, object] = {}
    required: list[str] = []
    for told in (*_parameters(document, item), *_parameters(document, operation)):
        properties[str(told["name"])] = _described(_resolved(document, told.get("schema", told)), told)
        if told.get("required") is True or told.get("in") == "path":
            required.append(str(told["name"]))
    body = _body(document, operation)
    properties |= _mapping(body.get("properties"))
    required += [str(each) for each in cast("list[object]", body.get("required") or [])]
    texts = (operation.get(key) for key in ("summary", "description"))
    description = ". ".join(dict.fromkeys(_short(text).strip(" .") for text in texts if isinstance(text, str) and text.strip()))
    parameters = {"type": "object", "properties": properties, "required": [*dict.fromkeys(required)]}
    made = card({"name": name, "description": description, "parameters": parameters})
    return made.model_copy(update={"effect": "read" if method.lower() in ("get", "head", "options") else "write"})


def _parameters(document: Mapping[str, object], told: Mapping[str, object]) -> Iterator[JsonObject]:
    """Parameters that are of a path or an operation, references followed. What only says who asks is none of the model's."""
    for each in cast("list[object]", told.get("parameters") or []):
        found = _mapping(_followed(document, each))
        if "name" in found and found.get("in") != "header":
            yield found


def _described(schema: object, told: Mapping[str, object]) -> JsonObject:
    described = _mapping(schema)
    plain = {key: value for key, value in described.items() if key not in ("name", "in", "required") or described is not told}
    text = told.get("description", described.get("description"))
    return {**plain, **({"description": _short(text)} if isinstance(text, str) and text.strip() else {})}


def _short(text: str) -> str:
    """The first line of a description, which may be a page of it."""
    first = text.strip().splitlines()[0]
    return first if len(first) <= LONGEST else f"{first[:LONGEST].rsplit(' ', 1)[0]} ..."


def _body(document: Mapping[str, object], operation: Mapping[str, object]) -> JsonObject:
    """The schema of the body, if it is an object; its properties are arguments beside the others."""
    content = _mapping(_mapping(_followed(document, operation.get("requestBody"))).get("content"))
    for media in (content.get("application/json"), *content.values()):
        if isinstance(media, Mapping):
            return _mapping(_resolved(document, media.get("schema")))
    return {}


def _resolved(document: Mapping[str, object], schema: object, depth: int = 0) -> object:
    """A schema with what it refers to in it, down to a depth, and the parts of an `allOf` as one."""
    if depth > _DEEPEST:
        return {}
    if isinstance(schema, list):
        return [_resolved(document, each, depth + 1) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = _mapping(_followed(document, schema))
    made = {key: _resolved(document, value, depth + 1) for key, value in found.items() if key not in ("allOf", "example")}
    for part in cast("list[object]", found.get("allOf") or []):
        resolved = _mapping(_resolved(document, part, depth + 1))
        properties = {**_mapping(made.get("properties")), **_mapping(resolved.get("properties"))}
        made = {**resolved, **made, **({"properties": properties} if properties else {})}
    return made


def _followed(document: Mapping[str, object], value: object) -> object:
    """What a reference within the document stands for; anything else as it is."""
    for _ in range(_DEEPEST):
        reference = _mapping(value).get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return value
        value = document
        for step in reference[2:].split("/"):
            value = _mapping(value).get(step.replace("~1", "/").replace("~0", "~"))
    return value


def _mapping(value: object) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, Mapping) else {}
