"""What `fork --answer EVENT=...` says, and the console's dialog: other content for an answer, in words that fit its kind."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.forking import BeyondTheEnd, NoAnswer, Original, Told, UnfittingContent
from schemas.canonical import JsonObject, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.events import (
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    Generated,
    PersonAnswered,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
)

LIMIT = 1024 * 1024
FORM = "--answer EVENT=approve, EVENT=refuse:WHY, EVENT=TEXT or EVENT=JSON"
_OUTCOMES = ("allow", "ask", "dry_run", "deny")


class BadAnswer(MilepostError):
    """An --answer that cannot be understood."""


def contents_of(original: Original, asked: Sequence[str], by: str) -> dict[int, JsonObject]:
    """Other content by the event's number. Raises BadAnswer, NoAnswer, BeyondTheEnd, UnfittingContent."""
    found: dict[int, JsonObject] = {}
    for each in asked:
        place, equals, text = each.partition("=")
        if not equals or not place.strip().isdecimal():
            raise BadAnswer(f"{each!r} names no event and what it says instead.", hint=FORM)
        number = int(place)
        if number in found:
            raise BadAnswer(f"Event {number} is answered twice.", hint=FORM)
        if not 1 <= number <= len(original.told):
            raise BeyondTheEnd(f"Run {original.run} has no event {number}.", hint=f"milepost runs show {original.run}")
        found[number] = _content(original.told[number - 1], text, by, original.run)
    return found


def _content(told: Told, text: str, by: str, run: str) -> JsonObject:
    body, given = told.body, _json(text)
    if not isinstance(body, Answered):
        raise NoAnswer(
            f"Event {told.number} of run {run} is no answer.", why=f"{type(body).__name__} answers nothing",
            hint=f"milepost runs show {run}",
        )  # fmt: skip
    match body:
        case ApprovalGranted() | ApprovalRefused():
            return _approval(body, text, given, by)
        case ToolReturned() | ToolFailed() | ToolInDoubt() | ToolAsked() if body.command.kind == "CallTool":
            return _result(text, given)
        case Generated():
            return _generation(body, text, given)
        case CallJudged() if text in _OUTCOMES:
            return {"verdict": {"outcome": text, "rule": "fork", "why": f"said {by}, who forked"}}
        case PersonAnswered():
            return _reply(text, given, by)
    if not isinstance(given, dict) and told.copied:
        raise UnfittingContent(f"{type(body).__name__} cannot say {text[:80]!r}.", hint="give a JSON object with its fields")
    return given if isinstance(given, dict) else {}  # which is refused for what it is no answer to


def _json(text: str) -> object:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return read_json(text.encode(), limit=LIMIT)
    except ProtocolError as error:
        raise BadAnswer("What an event is to say instead is no JSON.", why=error.why or error.what, hint=FORM) from error


def _approval(body: ApprovalGranted | ApprovalRefused, text: str, given: object, by: str) -> JsonObject:
    word, _, reason = text.partition(":")
    if isinstance(given, dict):
        return given
    if word == "approve" and not reason:
        asked = body.command
        granted = getattr(asked, "approval_hash", "")
        return {"kind": "ApprovalGranted", "by": by, "approval_hash": granted, "scope": "once"}
    if word == "refuse":
        return {"kind": "ApprovalRefused", "by": by, "reason": reason.strip()}
    raise UnfittingContent(f"An approval cannot say {text[:80]!r}.", hint="approve, refuse or refuse:WHY")


def _result(text: str, given: object) -> JsonObject:
    if isinstance(given, dict) and ("kind" in given or given.keys() <= {"result", "failure", "question", "repeated"}):
        return given
    parts = [] if given is None else [{"kind": "json", "json_value": given, "media_type": "application/json"}]
    return {"kind": "ToolReturned", "result": {"text": text, "parts": parts}}


def _generation(body: Generated, text: str, given: object) -> JsonObject:
    generation = body.generation.model_dump(mode="json")
    if isinstance(given, dict) and "generation" in given:
        return given
    if isinstance(given, dict) and isinstance(given.get("calls"), list):
        calls = [{"id": f"forked-{n}", **call} for n, call in enumerate(given["calls"], start=1) if isinstance(call, dict)]
        said = {"text": str(given.get("text", "")), "calls": calls}
    else:
        said = {"text": text, "calls": []}
    return {"generation": {**generation, **said, "malformed": type(body.generation).model_fields["malformed"].default}}


def _reply(text: str, given: object, by: str) -> JsonObject:
    if isinstance(given, dict):
        return given if "content" in given or "accepted" in given else {"by": by, "accepted": True, "content": given}
    if text == "refuse":
        return {"by": by, "accepted": False, "content": {}}
    raise UnfittingContent(f"An answer to a tool's question cannot say {text[:80]!r}.", hint="refuse, or JSON by its fields")
