"""What fires a trigger: what it says, when, and what tells it from others."""

from __future__ import annotations

import hashlib
from datetime import datetime
from urllib.parse import parse_qsl

from schemas.canonical import JsonObject, read_json
from schemas.errors import ProtocolError
from schemas.tools import Value

LARGEST = 256 * 1024
LONGEST_KEY = 120
_FIELDS = 200


class Event(Value):
    """key: what tells it from others, within window_s (None: for ever). kind: what GitHub calls it; empty elsewhere."""

    payload: JsonObject
    key: str
    at: datetime
    window_s: float | None = None
    kind: str = ""


def read_payload(body: bytes, content_type: str = "") -> JsonObject:
    """What a body says: a JSON object as it is, anything else of JSON under `body`, a form's fields, or text under `text`.

    Raises ProtocolError for more than LARGEST bytes, and for JSON that is none.
    """
    if len(body) > LARGEST:
        raise ProtocolError(f"The event has {len(body)} bytes.", why=f"the limit is {LARGEST}", hint="send a reference to it")
    text = body.decode("utf-8", "replace").replace("\0", "")
    if content_type.startswith("application/x-www-form-urlencoded"):
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS))
        except ValueError as error:
            raise ProtocolError("The form cannot be read.", why=str(error)) from error
    if "json" not in content_type and not text.lstrip().startswith(("{", "[")):
        return {"text": text}
    said = read_json(body, limit=LARGEST)
    return dict(said) if isinstance(said, dict) else {"body": said}


def digest_of(*parts: str | bytes) -> str:
    """A key for what has no name of its own."""
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        sha.update(len(raw).to_bytes(8, "big") + raw)
    return sha.hexdigest()[:32]


def short_key(key: str) -> str:
    """A key that fits everywhere, and is still another for another."""
    one = " ".join(key.replace("\0", "").split())
    return one if one == key and len(one) <= LONGEST_KEY and one.isprintable() else f"{one[:40]}~{digest_of(key)}"
