"""The wire form of a call: what a model writes to call a tool, and the schema that says what it may write.

One call is one line of JSON with fixed spaces: {"name": "...", "arguments": {...}}. Required arguments come first, as their
card lists them, then the others by name: an order that can be told from the card alone, so that a call reads the same in
the prompt of the next step as it was written, whatever store it went through in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from schemas.canonical import read_json
from schemas.errors import ProtocolError
from schemas.tools import ToolCall, ToolCard

LIMIT = 65_536


def call_text(name: str, arguments: Mapping[str, object], card: ToolCard | None) -> str:
    """The line that calls a tool."""
    order = argument_names(card) if card else []
    ordered = {key: arguments[key] for key in [*order, *sorted(set(arguments) - set(order))] if key in arguments}
    return json.dumps({"name": name, "arguments": ordered}, ensure_ascii=False)


def read_call(text: str, *, id: str) -> ToolCall:
    """The call of a line. ProtocolError if the line is none."""
    value = read_json(text, limit=LIMIT)
    match value:
        case {"name": str(name), "arguments": dict(arguments), **rest} if not rest:
            return ToolCall(id=id, name=name, arguments=dict(arguments))
    raise ProtocolError("The model's text is no call.", why=text[:200])


def argument_names(card: ToolCard) -> list[str]:
    """The arguments of a tool in the order in which calls have them."""
    properties, required = _properties(card.parameters), _required(card.parameters)
    first = [name for name in required if name in properties]
    return [*first, *sorted(set(properties) - set(first))]


def call_schema(cards: Sequence[ToolCard]) -> dict[str, object]:
    """JSON Schema of a call of one of these tools."""
    return {"anyOf": [_one_call(card) for card in cards]}


def _one_call(card: ToolCard) -> dict[str, object]:
    properties = _properties(card.parameters)
    arguments = {
        **card.parameters,
        "type": "object",
        "properties": {name: properties[name] for name in argument_names(card)},
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"name": {"const": card.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _properties(parameters: Mapping[str, object]) -> Mapping[str, object]:
    properties = parameters.get("properties", {})
    return properties if isinstance(properties, Mapping) else {}


def _required(parameters: Mapping[str, object]) -> list[str]:
    required = parameters.get("required", [])
    return [str(name) for name in required] if isinstance(required, list | tuple) else []
