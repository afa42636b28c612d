"""How questions to the service are read and answered: JSON of frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import orjson
from pydantic import ValidationError

from schemas.canonical import read_json
from schemas.errors import ProtocolError
from schemas.tools import Value

QUESTION_BYTES = 1024 * 1024
ANSWER_BYTES = 512 * 1024

ValueT = TypeVar("ValueT", bound=Value)


def read(kind: type[ValueT], raw: bytes) -> ValueT:
    """What was asked. Raises ProtocolError."""
    try:
        return kind.model_validate(read_json(raw, limit=QUESTION_BYTES))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error


def within(values: Sequence[ValueT], limit: int = ANSWER_BYTES) -> list[ValueT]:
    """As many of them, from the first, as an answer may carry; the first one always."""
    kept: list[ValueT] = []
    for value in values:
        limit -= len(value.model_dump_json().encode())
        if kept and limit < 0:
            break
        kept.append(value)
    return kept


def write(values: Sequence[Value]) -> bytes:
    """A list as it is answered."""
    return orjson.dumps([value.model_dump(mode="json") for value in values])
