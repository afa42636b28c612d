"""JSON in one strict reading and one canonical writing, and the digests made over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, NoReturn, TypeAlias

import rfc8785
from pydantic import AfterValidator

from schemas.errors import ProtocolError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_DEPTH = 32
ID_LENGTH = 32


def digest(*parts: str | bytes) -> str:
    """SHA-256 over length-prefixed parts, as 32 hex digits (128 bits).

    The prefix keeps ("ab", "c") and ("a", "bc") apart.
    """
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        sha.update(len(raw).to_bytes(8, "big"))
        sha.update(raw)
    return sha.hexdigest()[:ID_LENGTH]


def canonical(value: object) -> bytes:
    """RFC 8785 bytes of a JSON value.

    Raises ProtocolError for what that form cannot hold: NaN, integers beyond 2^53, lone surrogates.
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # it checks the value itself, at run time
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise ProtocolError("The value has no canonical JSON form.", why=str(error)) from error


def read_json(raw: bytes | str, *, limit: int) -> Json:
    """Parse JSON as strictly as RFC 8259 and RFC 8785 together ask.

    Refuses more than `limit` bytes, nesting over 32, NaN and Infinity, duplicate keys, lone
    surrogates and NUL (Postgres text cannot hold it). Raises ProtocolError.
    """
    if len(raw) > limit:
        raise ProtocolError(f"The JSON text has {len(raw)} bytes, the limit is {limit}.")
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value: Json = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProtocolError("The message is no valid JSON.", why=str(error)[:200]) from error
    return checked(value)


def checked(value: Json) -> Json:
    """The value itself, if its depth and its strings can be stored and sent; ProtocolError if not."""
    stack: list[tuple[Json, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ProtocolError(f"The JSON value is nested deeper than {MAX_DEPTH}.")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, Mapping):
            for key, inner in item.items():
                _check_text(key)
                stack.append((inner, depth + 1))
        elif isinstance(item, Sequence):
            stack.extend((inner, depth + 1) for inner in item)
    return value


def _check_text(text: str) -> None:
    if text.isascii():
        if "\x00" in text:
            raise ProtocolError("A text holds NUL, which Postgres cannot store.")
        return
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise ProtocolError("A text holds NUL or a lone surrogate, which cannot be stored.")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ProtocolError("A JSON object has the same key twice.")
    return result


def _constant(name: str) -> NoReturn:
    raise ProtocolError(f"{name} is no JSON number.")


def _checked_object(value: dict[str, object]) -> dict[str, object]:
    try:
        checked(value)  # type: ignore[arg-type]  # any JSON object
    except ProtocolError as error:
        raise ValueError(error.what) from error
    return value


JsonObject = Annotated[dict[str, object], AfterValidator(_checked_object)]
