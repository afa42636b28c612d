"""One card an operation: named by its operationId, its effect told by its HTTP method; and beside it how it is called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from schemas.canonical import JsonObject
from schemas.tools import Effect, ToolCard
from tool_adapters.names import tool_name
from tool_adapters.openapi.arguments import Arguments, arguments_of
from tool_adapters.openapi.call import Call, Override
from tool_adapters.openapi.document import Document, InvalidDocument, Object, Operation, text_of
from tool_adapters.openapi.operations import call_of
from tool_adapters.openapi.schema import plain
from tool_adapters.openapi.servers import own_server

EFFECTS: Mapping[str, Effect] = {
    "get": "read", "head": "read", "options": "read", "trace": "read", "delete": "destructive",
}  # fmt: skip
_WEIGHTS: Mapping[Effect, int] = {"read": 0, "write": 1, "destructive": 2}
_TEXT = 700


@dataclass(frozen=True, slots=True)
class OpenApiTool:
    """An operation as it is stored. group: its first tag."""

    card: ToolCard
    call: JsonObject
    group: str


def lane_of(document: Document) -> str:
    """The lane in which the API's tools stand if nobody names another: its title, fit for a subject."""
    return re.sub(r"[^a-z0-9]+", "-", document.title.lower()).strip("-")[:64].strip("-") or "openapi"


def cards(document: Document, *, lane: str = "", prefix: str = "") -> Iterator[ToolCard]:
    """The cards alone."""
    return (each.card for each in tools(document, lane=lane, prefix=prefix))


def tools(
    document: Document, *, lane: str = "", prefix: str = "", effects: Mapping[str, Override] | None = None, server: str = "",
    variables: Mapping[str, str] | None = None,
) -> Iterator[OpenApiTool]:  # fmt: skip
    """The tools of all operations, in the order of the document; names are unique in it. Raises InvalidDocument.

    effects: what the operator says, by operationId, by the tool's name, or by `METHOD /path`. What `x-milepost` in the document
    says is heeded too, except that it cannot make an operation look more harmless than its method does. server: where the API
    stands, for operations with a server of their own, and variables for its address; empty: all go to the same.
    """
    taken: set[str] = set()
    for operation in document.operations():
        place = f"{operation.method.upper()} {operation.path}"
        spoken = text_of(operation.said.get("operationId"))
        named = prefix + (spoken or f"{operation.method} {operation.path}".replace("{", "").replace("}", ""))
        name = tool_name(named)
        if name in taken:
            name = tool_name(named, unlike=f"{operation.method} {operation.path}")
        taken.add(name)
        said = _said(operation, _first(effects or {}, (spoken, name, place)))
        try:
            elsewhere = own_server(operation.servers, server, variables) if server else None
            yield _tool(document, operation, name, lane or lane_of(document), said, elsewhere)
        except ValidationError as error:
            raise InvalidDocument(f"{place} of {document.title} cannot become a tool.", why=str(error)[:300]) from error


def _tool(document: Document, operation: Operation, name: str, lane: str, said: Override, server: str | None) -> OpenApiTool:
    effect = said.effect or EFFECTS.get(operation.method, "write")
    given = arguments_of(operation, effect)
    call = call_of(document, operation, given, said, server)
    tags = operation.said.get("tags")
    named = [text_of(tag) for tag in tags[:5] if text_of(tag)] if isinstance(tags, list) else []
    deprecated = ["deprecated"] if operation.said.get("deprecated") is True else []
    card = ToolCard(
        name=name, title=_line(operation.said.get("summary"))[:200], description=_described(document, operation),
        parameters=_parameters(document, operation, given), effect=effect, lane=lane,
        tags=(document.title, *named, *deprecated), timeout_s=said.timeout_s or (30 if effect == "read" else 60),
        undo=said.undo, rate_per_min=said.rate_per_min,
        **_writes(call, said) if effect != "read" else {},
    )  # fmt: skip
    return OpenApiTool(card, call.model_dump(mode="json", exclude_defaults=True), named[0] if named else "")


def _writes(call: Call, said: Override) -> dict[str, str]:
    """How a repeat is told apart, and how it is tried before."""
    asked = "query" if call.look and call.method in ("PUT", "PATCH", "DELETE") else "none"
    tried = "provider" if call.dry_run else "look" if call.look else "none"
    return {
        "idempotency": said.idempotency or ("key" if call.key_header else asked), "dry_run": said.dry_run or tried
    }  # fmt: skip


def _said(operation: Operation, given: Override | None) -> Override:
    """The operator's word, then the document's as far as it may be believed."""
    extension = operation.said.get("x-milepost")
    try:
        own = Override.model_validate(extension) if isinstance(extension, Mapping) else Override()
    except ValidationError:
        own = Override()
    plain_effect = EFFECTS.get(operation.method, "write")
    if own.effect and _WEIGHTS[own.effect] < _WEIGHTS[plain_effect]:
        own = own.model_copy(update={"effect": None})
    if own.idempotency == "key":
        own = own.model_copy(update={"idempotency": None})  # a claim that would let a write be repeated
    if given is None:
        return own
    return own.model_copy(update=given.model_dump(exclude_none=True))


def _first(effects: Mapping[str, Override], names: tuple[str, ...]) -> Override | None:
    return next((effects[name] for name in names if name in effects), None)


def _described(document: Document, operation: Operation) -> str:
    summary, text = _line(operation.said.get("summary")), _line(operation.said.get("description"))
    told = summary if text.startswith(summary) and len(summary) == len(text) else f"{summary}. {text}".strip(". ")
    told = told or f"{operation.method.upper()} {operation.path}"
    cut = told if len(told) <= _TEXT else told[:_TEXT].rsplit(" ", 1)[0]
    return f"{document.title}: {cut}{' (deprecated)' if operation.said.get('deprecated') is True else ''}"


def _parameters(document: Document, operation: Operation, given: Arguments) -> dict[str, object]:
    """Arguments by their names; what is sent as the body stands under one of its own."""
    properties: dict[str, object] = {}
    needed: list[str] = []
    for argument, each in given.parameters:
        properties[argument] = _parameter(each)
        if each.get("required") is True or each.get("in") == "path":
            needed.append(argument)
    if operation.body is not None:
        properties[given.body] = operation.body
        if operation.body_needed:
            needed.append(given.body)
    schema: dict[str, object] = {"type": "object", "properties": properties, "required": needed}
    return {"type": "object", "properties": {}} | plain(document, schema) | {"additionalProperties": False}


def _parameter(each: Object) -> dict[str, object]:
    """Its schema (3.x), or what stands beside its name (2.0), with its text."""
    schema = each.get("schema")
    content = each.get("content")
    if isinstance(content, dict) and content and not isinstance(schema, dict):
        first = next(iter(content.values()))
        schema = first.get("schema") if isinstance(first, dict) else None
    text = {"description": each["description"]} if each.get("description") else {}
    if isinstance(schema, dict):
        return {"allOf": [schema], **text} if "$ref" in schema and text else {**schema, **text}
    return {key: value for key, value in each.items() if key not in ("name", "in", "required")}


def _line(value: object) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|</?[A-Za-z][^>]*>", r"\1", text_of(value))
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", text).split())
