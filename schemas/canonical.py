"""JSON in one strict reading and one canonical writing, and the digests made over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isfinite, isinf
from typing import Annotated, NoReturn, TypeAlias

import orjson
import rfc8785
from pydantic import AfterValidator

from schemas.errors import ProtocolError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_DEPTH = 32
OBJECT_DEPTH = 24  # an object of a call stands up to eight levels deep in an envelope
MAX_INTEGER = 2**53 - 1
ID_LENGTH = 32
_SMALL = 64 * 1024
_NUL = b"\\u0000"
_TOO_DEEP = b"\n" + b"  " * MAX_DEPTH
Written = orjson.Fragment
"""Canonical JSON as a value of what is to be written: it is not written again."""
_AS_IT_IS = frozenset({str, int, bool, type(None), Written})  # what orjson writes as RFC 8785 asks; most values are such
_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


def digest(*parts: str | bytes) -> str:
    """SHA-256 over length-prefixed parts, as 32 hex digits (128 bits).

    The prefix keeps ("ab", "c") and ("a", "bc") apart.
    """
    framed = b""
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        framed += len(raw).to_bytes(8, "big") + raw
    return hashlib.sha256(framed).hexdigest()[:ID_LENGTH]


def canonical(value: object) -> bytes:
    """RFC 8785 bytes of a JSON value.

    Raises ProtocolError for what that form cannot hold: NaN, integers beyond 2^53, lone surrogates.
    """
    try:
        try:
            return orjson.dumps(_plain(value), option=_CANONICAL)
        except TypeError:  # orjson would write it otherwise, or not at all
            return rfc8785.dumps(value)  # type: ignore[arg-type]  # it checks the value itself, at run time
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise ProtocolError("The value has no canonical JSON form.", why=str(error)) from error


def _plain(value: object) -> object:
    """The value with its floats already written; TypeError for what orjson does not write as RFC 8785 asks."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is dict:
        pairs: dict[str, object] = value  # type: ignore[assignment]  # join refuses other keys
        if not "".join(pairs).isascii():
            raise TypeError("RFC 8785 sorts keys by UTF-16 units, orjson by code points")
        return {key: inner if type(inner) in _AS_IT_IS else _plain(inner) for key, inner in pairs.items()}
    if isinstance(value, (list, tuple)):
        return [inner if type(inner) in _AS_IT_IS else _plain(inner) for inner in value]
    if isinstance(value, float):
        return _number(value)
    raise TypeError(f"{kind.__name__} is no JSON")


@lru_cache(maxsize=1024)
def _number(value: float) -> orjson.Fragment:
    return orjson.Fragment(rfc8785.dumps(value))


def read_json(raw: bytes | str, *, limit: int) -> Json:
    """Parse JSON as strictly as RFC 8259 and RFC 8785 together ask.

    Refuses more than `limit` bytes, nesting over 32, NaN and Infinity, duplicate keys, lone
    surrogates and NUL (Postgres text cannot hold it). Raises ProtocolError.
    """
    if len(raw) > limit:
        raise ProtocolError(f"The JSON text has {len(raw)} bytes, the limit is {limit}.")
    value = _as_written(raw)
    if value is None or isinstance(raw, str):
        return checked(_parsed(raw))
    return value if len(raw) <= _SMALL and _sound(value, raw) else checked(value)


def _as_written(raw: bytes | str) -> Json:
    """The value, if orjson writes it again in the very same bytes: no key stands in it twice, no integer is too large."""
    try:
        value: Json = orjson.loads(raw)
        return value if orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER) == raw else None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def _sound(value: Json, raw: bytes) -> bool:
    """`checked` of what orjson has written, without a walk in Python: the indentation tells the depth."""
    return _NUL not in raw and _TOO_DEEP not in orjson.dumps(value, option=orjson.OPT_INDENT_2)


def _parsed(raw: bytes | str) -> Json:
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value: Json = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProtocolError("The message is no valid JSON.", why=str(error)[:200]) from error
    return value


def checked(value: Json, depth: int = MAX_DEPTH) -> Json:
    """The value itself, if its depth, strings and numbers can be stored and sent; ProtocolError if not."""
    texts: list[str] = []
    level: list[Json] = [value]
    for _ in range(depth):
        below: list[Json] = []
        for item in level:
            if isinstance(item, str):
                texts.append(item)
            elif isinstance(item, dict):
                texts.extend(item)
                below.extend(item.values())
            elif isinstance(item, (list, tuple)):
                below.extend(item)
            elif isinstance(item, (int, float)) and not -MAX_INTEGER <= item <= MAX_INTEGER:
                _check_number(item)
        if not below:
            _check_texts(texts)
            return value
        level = below
    raise ProtocolError(f"The JSON value is nested deeper than {depth}.")


def _check_number(value: float) -> None:
    if isinstance(value, int) or not isfinite(value):
        raise ProtocolError(f"{str(value)[:40]} is no number that JSON can carry exactly.", why="integers end at 2^53 - 1")


def _check_texts(texts: list[str]) -> None:
    try:
        text = "".join(texts)
        if not text.isascii():
            text.encode()
    except TypeError as error:
        raise ProtocolError("A key of a JSON object is no text.") from error
    except UnicodeEncodeError as error:
        raise ProtocolError("A text holds a lone surrogate, which cannot be stored.") from error
    if "\x00" in text:
        raise ProtocolError("A text holds NUL, which Postgres cannot store.")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ProtocolError("A JSON object has the same key twice.")
    return result


def _constant(name: str) -> NoReturn:
    raise ProtocolError(f"{name} is no JSON number.")


def _finite(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ProtocolError(f"{digits[:40]} is too large for a JSON number.")
    return value


def _checked_object(value: dict[str, object]) -> dict[str, object]:
    try:
        checked(value, OBJECT_DEPTH)  # type: ignore[arg-type]  # any JSON object
    except ProtocolError as error:
        raise ValueError(error.what) from error
    return value


JsonObject = Annotated[dict[str, object], AfterValidator(_checked_object)]
