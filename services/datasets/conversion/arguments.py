"""Arguments of a call in the types that the tool's schema asks for: sets often write a number as a text, or the reverse."""

from __future__ import annotations

import math
from collections.abc import Mapping

from schemas.tools import ToolCard

_FLAGS = {"true": True, "false": False, "yes": True, "no": False}


def fitted(arguments: Mapping[str, object], card: ToolCard) -> dict[str, object]:
    """The same arguments, each in its schema's type if it says the same in that; else as it is."""
    properties = card.parameters.get("properties")
    schemas = properties if isinstance(properties, Mapping) else {}
    return {name: _fitted(value, schemas.get(name)) for name, value in arguments.items()}


def _fitted(value: object, schema: object) -> object:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind == "string" and isinstance(value, (bool, int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind in ("integer", "number") and isinstance(value, str):
        return _number(value, whole=kind == "integer")
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "boolean" and isinstance(value, str):
        return _FLAGS.get(value.strip().lower(), value)
    return value


def _number(text: str, whole: bool) -> int | float | str:
    """The number that a text is; the text, if it is none or would not be read back as the same."""
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number) or abs(number) >= 2**53 or "_" in text:
        return text
    if number.is_integer() and (whole or "." not in text):
        return int(number)
    return text if whole else number
