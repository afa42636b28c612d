"""What the model gives for an operation, and what Milepost fills in itself: keys, conditions, tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.tools import Effect
from tool_adapters.openapi.document import Object, Operation, text_of

UNSPOKEN = frozenset({"accept", "content-type", "authorization", "user-agent"})
"""Headers that the caller sets, not the model."""

KEYS = frozenset({"idempotency-key", "x-idempotency-key"})
"""Headers by which an API tells a repeated write from a new one."""

TRIES = frozenset({"dryrun", "dry_run", "dry-run"})
"""Query parameters with which an API tries a write."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """parameters: those that the model gives, by the argument's name. body: the name of the argument that is sent as such.

    key_header, match, dry_run: as in Call.
    """

    parameters: tuple[tuple[str, Object], ...]
    body: str = "body"
    key_header: str | None = None
    match: bool = False
    dry_run: tuple[str, str] | None = None


def arguments_of(operation: Operation, effect: Effect) -> Arguments:
    """The arguments of an operation; two parameters of one name in different places get different ones."""
    named: dict[str, Object] = {}
    key_header, match, dry_run = None, False, None
    for each in operation.parameters:
        name, where = text_of(each.get("name")), text_of(each.get("in"))
        lower = name.lower()
        if not name or (where == "cookie" and each.get("required") is not True) or (where == "header" and lower in UNSPOKEN):
            continue
        if effect != "read" and where == "header" and lower in KEYS:
            key_header = name
        elif effect != "read" and where == "header" and lower == "if-match":
            match = True
        elif effect != "read" and where == "query" and lower in TRIES:
            dry_run = name, _yes(each)
        else:
            named[name if name not in named else f"{name}_in_{where}"] = each
    body = "body" if "body" not in named else "request_body"
    return Arguments(tuple(named.items()), body, key_header, match, dry_run)


def _yes(parameter: Object) -> str:
    """What turns a try on: `All` as Kubernetes has it, where it is no truth value."""
    schema = parameter.get("schema")
    said = schema if isinstance(schema, Mapping) else parameter
    return "true" if said.get("type") == "boolean" else "All"
