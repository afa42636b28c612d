"""What a server asks in the middle of a call (elicitation) as a question to a person, and the answer for the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from schemas.canonical import JsonObject, digest
from schemas.tools import Question
from tool_adapters.mcp.words import seen, seen_in

if TYPE_CHECKING:
    from mcp_types import ElicitRequestParams, ElicitResult

TEXT = 4_000
FIELDS = 32
FIELD_KEYS = frozenset({
    "type", "title", "description", "default", "enum", "enumNames", "const", "oneOf", "anyOf", "items", "format",
    "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems",
})  # fmt: skip
"""What a field may say of itself. A reference would be fetched by whoever checks the answer, a pattern could take for ever."""


HELD, ROUND = "q-", "r-"
"""How the ids of questions begin: of a server that holds the call open, and of one that has ended this round of it."""


def question_of(params: ElicitRequestParams, call: str, times: int, *, held: bool = True) -> Question:
    """The question, with an id that a repeated call finds again. times: how often the same was asked in this call before;
    held: whether the call stands still half done until the answer comes."""
    from mcp_types import ElicitRequestURLParams

    message = seen(params.message).strip()
    if isinstance(params, ElicitRequestURLParams):
        text = f"{message}\nOpen this address, then answer: {seen(params.url)}"
        content, fields = params.url, {}
    else:
        text, fields = message, _fields(params.requested_schema)
        content = str(sorted(fields.items(), key=str))
    id = digest("mcp", call, message, content, str(times))
    return Question(id=f"{HELD if held else ROUND}{id}", text=text[:TEXT], fields=fields)


def held_open(answers: Iterable[str]) -> bool:
    """Whether one of these questions was asked in the middle of a call, so that an earlier try got as far as that."""
    return any(id.startswith(HELD) for id in answers)


def content_key(params: ElicitRequestParams) -> str:
    """What two equal questions have in common."""
    return params.model_dump_json(by_alias=True, exclude={"elicitation_id", "task", "meta"})


def answer_of(params: ElicitRequestParams, answer: Mapping[str, object] | None) -> ElicitResult:
    """accept with what the person said, or decline."""
    from mcp_types import ElicitRequestURLParams, ElicitResult

    if answer is None:
        return ElicitResult(action="decline")
    if isinstance(params, ElicitRequestURLParams):
        return ElicitResult(action="accept")
    asked = params.requested_schema.get("properties")
    known = asked if isinstance(asked, dict) else {}
    return ElicitResult(action="accept", content={
        name: _value(value, known.get(name)) for name, value in answer.items() if not known or name in known
    })  # fmt: skip


def _fields(schema: Mapping[str, object]) -> JsonObject:
    """A flat object of a few simple values is all that the protocol lets a server ask for."""
    made = seen_in({key: value for key, value in schema.items() if key in ("type", "properties", "required")})
    assert isinstance(made, dict)
    properties = made.get("properties")
    if isinstance(properties, dict):
        made["properties"] = {name: _field(each) for name, each in list(properties.items())[:FIELDS]}
    fields: JsonObject = {"type": "object", "properties": {}}
    return fields | made


def _field(schema: object) -> object:
    if isinstance(schema, list):
        return [_field(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    said = {key: value for key, value in schema.items() if key in FIELD_KEYS}
    return {key: _field(value) if key in ("oneOf", "anyOf", "items") else value for key, value in said.items()}


def _value(value: object, schema: object) -> str | int | float | bool | list[str] | None:
    """As the schema wants it, where the answer was typed as text."""
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if isinstance(value, str):
        if kind == "boolean":
            return value.strip().lower() in ("y", "yes", "true", "1", "on", "是")
        try:
            return int(value) if kind == "integer" else float(value) if kind == "number" else value
        except ValueError:
            return value
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return value if isinstance(value, bool | int | float) or value is None else str(value)
