"""The state of what a write is about: as it was looked at, and whether a write whose answer was lost shows in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import orjson

from schemas.canonical import canonical, digest
from schemas.errors import ProtocolError
from tool_adapters.tool import Outcome
from tool_adapters.web import Answer

PASSING = frozenset({"resourceVersion", "managedFields", "generation", "uid", "creationTimestamp", "selfLink"})
"""What Kubernetes writes into the metadata of its objects by itself; `status` beside it is its own as well."""


def state_of(answer: Answer) -> dict[str, object]:
    """What a look found: nothing there, something with this hash and this ETag, or something that may not be read."""
    if answer.status in (404, 410):
        return {"there": False}
    if answer.status >= 300:
        return {"unseen": answer.status}
    state: dict[str, object] = {"there": True, "hash": _hash(answer)}
    if etag := answer.headers.get("etag"):
        state["etag"] = etag
    return state


def text_of(state: Mapping[str, object]) -> str:
    """A state as a plan has it."""
    return canonical(dict(state)).decode()


def etag_of(planned: str | None) -> str | None:
    """The strong ETag that a planned state has; a weak one says nothing of equal bytes and cannot be a condition."""
    try:
        state = orjson.loads(planned or "{}")
    except orjson.JSONDecodeError:
        return None
    etag = state.get("etag") if isinstance(state, dict) else None
    return etag if isinstance(etag, str) and etag.startswith('"') else None


def outcome_of(method: str, sent: object, planned: str | None, now: Answer) -> Outcome:
    """Whether a write happened, by what is there now: gone after a DELETE, with what was sent after a PUT or PATCH; as it was
    before means that it did not; anything else tells nothing."""
    state = state_of(now)
    if "unseen" in state:
        return "unknown"
    if text_of(state) == planned:
        return "not_happened"
    if method == "DELETE":
        return "happened" if not state["there"] else "unknown"
    if method in ("PUT", "PATCH") and isinstance(sent, Mapping) and state["there"]:
        return "happened" if _holds(_settled(_read(now)), _settled(sent)) else "unknown"
    return "unknown"


def _hash(answer: Answer) -> str:
    value = _read(answer)
    if value is not None:
        try:
            return digest("state", canonical(_settled(value)))
        except ProtocolError:
            pass  # JSON that canonical JSON does not have, such as very large numbers
    return hashlib.sha256(answer.body).hexdigest()


def _read(answer: Answer) -> object:
    try:
        value: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return value


def _settled(value: object) -> object:
    """An object of Kubernetes without what passes; any other value as it is."""
    if not (isinstance(value, Mapping) and "apiVersion" in value and "kind" in value):
        return value
    made = {name: each for name, each in value.items() if name != "status"}
    metadata = value.get("metadata")
    if isinstance(metadata, Mapping):
        made["metadata"] = {name: each for name, each in metadata.items() if name not in PASSING}
    return made


def _holds(now: object, sent: object) -> bool:
    """Whether all that was sent is there; null is what was taken out."""
    if isinstance(sent, Mapping):
        return isinstance(now, Mapping) and all(
            (now.get(name) is None) if each is None else (name in now and _holds(now[name], each))
            for name, each in sent.items()
        )
    if isinstance(sent, list):
        return isinstance(now, list) and len(now) == len(sent) and all(map(_holds, now, sent))
    return now == sent
