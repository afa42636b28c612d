"""One card an operation: named by its operationId, its effect told by its HTTP method."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from schemas.tools import Effect, ToolCard
from tool_adapters.names import tool_name
from tool_adapters.openapi.document import Document, InvalidDocument, Object, Operation, text_of
from tool_adapters.openapi.schema import plain

EFFECTS: Mapping[str, Effect] = {
    "get": "read", "head": "read", "options": "read", "trace": "read", "delete": "destructive",
}  # fmt: skip
UNSPOKEN = frozenset({"accept", "content-type", "authorization", "user-agent"})
"""Headers that the caller sets, not the model."""

_TEXT = 700


def lane_of(document: Document) -> str:
    """The lane in which the API's tools stand if nobody names another: its title, fit for a subject."""
    return re.sub(r"[^a-z0-9]+", "-", document.title.lower()).strip("-")[:64].strip("-") or "openapi"


def cards(document: Document, *, lane: str = "", prefix: str = "") -> Iterator[ToolCard]:
    """The cards of all operations, in the order of the document; names are unique in it. Raises InvalidDocument."""
    taken: set[str] = set()
    for operation in document.operations():
        place = f"{operation.method} {operation.path}"
        named = prefix + (text_of(operation.said.get("operationId")) or place.replace("{", "").replace("}", ""))
        name = tool_name(named)
        if name in taken:
            name = tool_name(named, unlike=place)
        taken.add(name)
        try:
            yield _card(document, operation, name, lane or lane_of(document))
        except ValidationError as error:
            raise InvalidDocument(f"{place} of {document.title} cannot become a tool.", why=str(error)[:300]) from error


def _card(document: Document, operation: Operation, name: str, lane: str) -> ToolCard:
    said = operation.said
    effect = EFFECTS.get(operation.method, "write")
    tags = said.get("tags")
    named = [text_of(tag) for tag in tags[:5] if text_of(tag)] if isinstance(tags, list) else []
    return ToolCard(
        name=name,
        title=_line(said.get("summary"))[:200],
        description=_described(document, operation),
        parameters=_parameters(document, operation),
        effect=effect,
        lane=lane,
        tags=(document.title, *named, *(["deprecated"] if said.get("deprecated") is True else [])),
        timeout_s=30 if effect == "read" else 60,
    )


def _described(document: Document, operation: Operation) -> str:
    summary, text = _line(operation.said.get("summary")), _line(operation.said.get("description"))
    told = summary if text.startswith(summary) and len(summary) == len(text) else f"{summary}. {text}".strip(". ")
    told = told or f"{operation.method.upper()} {operation.path}"
    cut = told if len(told) <= _TEXT else told[:_TEXT].rsplit(" ", 1)[0]
    return f"{document.title}: {cut}{' (deprecated)' if operation.said.get('deprecated') is True else ''}"


def _parameters(document: Document, operation: Operation) -> dict[str, object]:
    """Parameters of path, query and headers by their names; what is sent as the body stands under `body`."""
    properties: dict[str, object] = {}
    needed: list[str] = []
    for each in operation.parameters:
        name, where = text_of(each.get("name")), each.get("in")
        if not name or where == "cookie" or (where == "header" and name.lower() in UNSPOKEN):
            continue
        properties.setdefault(name, _parameter(each))
        if (each.get("required") is True or where == "path") and name not in needed:
            needed.append(name)
    if operation.body is not None:
        properties["body"] = operation.body
        if operation.body_needed:
            needed.append("body")
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
