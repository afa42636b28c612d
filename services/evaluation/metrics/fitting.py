"""Whether a call is valid at all: of a tool that was offered, with arguments that fit its schema. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from schemas.canonical import JsonObject
from schemas.tools import ToolCall, ToolCard

if TYPE_CHECKING:
    import jsonschema_rs


def invalid(calls: Iterable[ToolCall], cards: Sequence[ToolCard], offered: Collection[str] | None = None) -> str:
    """Why one of these calls is not valid; empty if all are. A schema that is none itself refuses nothing.

    offered: the names of the tools that could be called, where they are not those of the cards.
    """
    known = {card.name: card for card in cards}
    names = known.keys() if offered is None else offered
    for call in calls:
        if call.name not in names:
            return f"there is no {call.name}"[:300]
        validator = _validator(known[call.name].written) if call.name in known else None
        if validator is None:
            continue
        try:
            wrong = next(iter(validator.iter_errors(call.arguments)), None)
        except (ValueError, TypeError, RecursionError, OverflowError) as error:  # what is no JSON value
            return f"{call.name}: {error}"[:300]
        if wrong is not None:
            place = ".".join(str(part) for part in wrong.instance_path)
            return f"{call.name}: {place}: {wrong.message}"[:300] if place else f"{call.name}: {wrong.message}"[:300]
    return ""


def _nothing(uri: str) -> JsonObject:
    raise ValueError(f"{uri} is outside the card, and nothing is fetched")


@lru_cache(maxsize=4_096)
def _validator(written: bytes) -> jsonschema_rs.Draft202012Validator | None:
    import jsonschema_rs

    schema = ToolCard.model_validate_json(written).parameters
    try:
        return jsonschema_rs.Draft202012Validator(schema, retriever=_nothing)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return None
