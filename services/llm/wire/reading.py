"""Reading JSON out of a reply: a value that stands at a place in a text, however the text goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from schemas.canonical import Json, read_json
from schemas.errors import ProtocolError
from services.llm.wire.form import Asked, Malformed

LIMIT = 262_144
_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"\s*")


def skip_blanks(text: str, at: int) -> int:
    """The place of the next character that is no blank."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def value_at(text: str, at: int) -> tuple[Json, int]:
    """The JSON value that begins at a place, and where it ends. Raises Malformed."""
    begin = skip_blanks(text, at)
    try:
        _, end = _DECODER.raw_decode(text, begin)
        return read_json(text[begin:end].encode(), limit=LIMIT), end
    except (ValueError, RecursionError) as error:
        raise Malformed(f"It has no readable JSON where a call should stand: {str(error)[:100]}.") from error
    except ProtocolError as error:
        raise Malformed(f"Its JSON cannot be taken: {error.what} {error.why}".rstrip()[:200]) from error


def object_at(text: str, at: int) -> tuple[dict[str, object], int]:
    """The JSON object that begins at a place, and where it ends. Raises Malformed."""
    value, end = value_at(text, at)
    if not isinstance(value, Mapping):
        raise Malformed("It has JSON that is no object where a call should stand.")
    return dict(value), end


def asked(value: object, *, name: str = "name", arguments: str = "arguments") -> Asked:
    """A call from its JSON object; arguments may stand in it as a text of JSON, too. Raises Malformed."""
    if not isinstance(value, Mapping):
        raise Malformed("A call must be a JSON object.")
    called, given = value.get(name), value.get(arguments)
    if isinstance(given, str):
        given, _ = value_at(given, 0)
    if not isinstance(called, str) or not isinstance(given, Mapping):
        raise Malformed(f'A call must be a JSON object with "{name}", a tool\'s name, and "{arguments}", an object.')
    return Asked(called, dict(given))
