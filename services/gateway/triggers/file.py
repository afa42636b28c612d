"""A trigger in a file that people read, write and keep in git: YAML (or JSON), and only what is not as usual."""

from __future__ import annotations

from pydantic import ValidationError

from schemas.errors import MilepostError, ProtocolError
from services.gateway.agents.fields import first_unknown
from services.gateway.agents.file import read_yaml, write_yaml
from services.gateway.triggers.trigger import Trigger

LIMIT = 64 * 1024
_EXAMPLES = "docs/triggers.md has examples"


class BadTrigger(MilepostError):
    """A text holds no trigger that can be used."""


def read_trigger(raw: bytes, called: str = "the text") -> Trigger:
    """The trigger that a text holds. Raises BadTrigger, which names the field."""
    name = "The text" if called == "the text" else called
    if len(raw) > LIMIT:
        raise BadTrigger(f"{name} is too long.", why=f"it has {len(raw)} bytes, {LIMIT} may be")
    try:
        values = read_yaml(raw)
    except ProtocolError as error:
        raise BadTrigger(f"{name} holds no trigger.", why=error.why or error.what, hint=_EXAMPLES) from error
    if not isinstance(values, dict):
        raise BadTrigger(f"{name} holds no trigger.", why="it has no fields", hint=_EXAMPLES)
    plain = {field: value for field, value in values.items() if field not in ("source", "agent")}
    if found := first_unknown(plain, Trigger):
        hint = f"did you mean {found.close}?" if found.close else f"it may have {', '.join(Trigger.model_fields)}"
        raise BadTrigger(f"{name} has a field {found.field} that no trigger has.", hint=hint)
    try:
        return Trigger.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        why = f"{place}: {fault['msg']}" if place else fault["msg"]
        raise BadTrigger(f"The trigger in {called} is not valid.", why=why, hint=_EXAMPLES) from error


def write_trigger(trigger: Trigger) -> str:
    """The trigger as YAML: only what differs from one of which nothing is said; `enabled` is no part of a file."""
    said = trigger.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"enabled"})
    source = {"kind": trigger.source.kind, **said.pop("source", {})}
    head: dict[str, object] = {name: said.pop(name) for name in ("name", "description") if name in said}
    return write_yaml(head | {"source": source} | said)
