"""Arguments of calls: their order, their JSON, and the JSON Schema that says what a model may write.

Required arguments come first, as their card lists them, then the others by name: an order that can be told from the card
alone, so that a call reads the same in the prompt of the next step as it was written, whatever store it went through in
between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from schemas.canonical import MAX_INTEGER
from schemas.tools import ToolCard

# Keywords of JSON Schema whose values are schemas: one, a list of them, or a mapping to them.
ONE = ("additionalProperties", "unevaluatedProperties", "unevaluatedItems", "not", "if", "then", "else", "contains")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
MAPPINGS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
COMBINING = ("$ref", "$dynamicRef", "anyOf", "oneOf", "allOf", "not", "if", "dependentSchemas")

# Of JSON (llguidance, x-guidance): fixed spaces, for then a third of a call's tokens are forced and cost no decoding; no
# escapes by number, for they could spell NUL and halves of characters; keywords that no grammar has are left to the check
# of the whole call.
FORM: Mapping[str, object] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'nrt\\"',
    "lenient": True,
}

Schema = Mapping[str, object]


def written(value: object) -> str:
    """JSON as models write it: a blank after each colon and comma, and characters as themselves."""
    return json.dumps(value, ensure_ascii=False)


def ordered(arguments: Mapping[str, object], card: ToolCard | None) -> dict[str, object]:
    """Arguments in the order in which calls have them."""
    names = argument_names(card) if card else []
    return {key: arguments[key] for key in [*names, *sorted(set(arguments) - set(names))] if key in arguments}


def argument_names(card: ToolCard) -> list[str]:
    """The arguments of a tool in the order in which calls have them."""
    properties, required = _properties(card.parameters), required_names(card)
    first = [name for name in required if name in properties]
    return [*first, *sorted(set(properties) - set(first))]


def required_names(card: ToolCard) -> list[str]:
    """The arguments that a call must have."""
    required = card.parameters.get("required", [])
    return [str(name) for name in required] if isinstance(required, list | tuple) else []


def arguments_schema(card: ToolCard) -> dict[str, object]:
    """What may stand in a call's arguments: the card's own schema, tightened, with its properties in a call's order."""
    parameters = dict(card.parameters)
    properties = _properties(parameters)
    names = [*argument_names(card), *(name for name in required_names(card) if name not in properties)]
    if names:
        parameters["properties"] = {name: properties.get(name, {}) for name in names}
    arguments = tightened({**parameters, "type": "object"})
    if not any(word in parameters for word in COMBINING):
        _close(arguments)
    return arguments


def tightened(schema: Schema) -> dict[str, object]:
    """A schema that leaves less open; what fits it fits the original.

    Objects have the properties that are listed, unless the schema allows others in so many words or combines parts. Integers
    end where JSON can carry them no more exactly (2^53).
    """
    return _tightened(schema, close=not any(_mixes(each) for each in _schemas(schema)))


def modern(schema: Schema) -> Schema:
    """A schema whose tuples stand as they do since 2020: what was a list of items is prefixItems."""
    if not isinstance(schema.get("items"), list | tuple):
        return schema
    changed = {key: value for key, value in schema.items() if key not in ("items", "additionalItems")}
    changed["prefixItems"] = schema["items"]
    return {**changed, "items": schema["additionalItems"]} if "additionalItems" in schema else changed


def json_rule(schema: Schema) -> str:
    """A Lark expression (llguidance) of the JSON that a schema allows."""
    return f"%json {json.dumps({**schema, 'x-guidance': FORM})}"


def _tightened(schema: Schema, *, close: bool) -> dict[str, object]:
    """A copy with bounded integers and, if wanted, closed objects, as deep as it goes."""
    schema = modern(schema)
    copy = {
        key: [_inner(each, close) for each in value] if isinstance(value, list | tuple) and key in LISTS
        else {name: _inner(each, close) for name, each in value.items()} if isinstance(value, Mapping) and key in MAPPINGS
        else _inner(value, close) if key == "items" or key in ONE
        else value
        for key, value in schema.items()
    }  # fmt: skip
    kind = copy.get("type")
    kinds = kind if isinstance(kind, list | tuple) else (kind,)
    if "integer" in kinds and "number" not in kinds:
        _bound(copy)
    if close and isinstance(copy.get("properties"), Mapping):
        _close(copy)
    return copy


def _inner(value: object, close: bool) -> object:
    return _tightened(value, close=close) if isinstance(value, Mapping) else value


def _bound(schema: dict[str, object]) -> None:
    if "enum" in schema or "const" in schema:  # bounded already, and simpler so
        return
    if "minimum" not in schema and "exclusiveMinimum" not in schema:
        schema["minimum"] = -MAX_INTEGER
    if "maximum" not in schema and "exclusiveMaximum" not in schema:
        schema["maximum"] = MAX_INTEGER


def _close(schema: dict[str, object]) -> None:
    if not {"additionalProperties", "patternProperties", "unevaluatedProperties"} & set(schema):
        schema["additionalProperties"] = False


def _mixes(schema: Schema) -> bool:
    """Whether what a schema allows is more than its own properties say, so that closing one part may shut out another."""
    combining = sum(word in schema for word in COMBINING)
    return "allOf" in schema or combining > 1 or (combining == 1 and "properties" in schema)


def _schemas(schema: Schema) -> Iterator[Schema]:
    """A schema and all that stand in it."""
    waiting: list[object] = [schema]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, Mapping):
            continue
        yield each
        for key, value in each.items():
            if key in MAPPINGS and isinstance(value, Mapping):
                waiting += value.values()
            elif key in (*LISTS, "items") and isinstance(value, list | tuple):
                waiting += value
            elif key in (*ONE, "items"):
                waiting.append(value)


def _properties(parameters: Mapping[str, object]) -> Mapping[str, object]:
    properties = parameters.get("properties", {})
    return properties if isinstance(properties, Mapping) else {}
