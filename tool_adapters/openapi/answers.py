"""What an API answered, as a result or as an error that says what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from schemas.tools import Part, PartKind, ToolResult
from tool_adapters.openapi.call import Call
from tool_adapters.tool import CallContext, OutcomeUnknown, ToolError, ToolRefused, ToolUnavailable
from tool_adapters.web import Answer

RESULT_BYTES = 96 * 1024
"""Of one result's JSON: twice as much may be stored, since text and part both hold it."""

TEXT_CHARS = 60_000
MESSAGE_CHARS = 500
_KINDS: Mapping[str, PartKind] = {"image": "image", "audio": "audio", "video": "video"}


async def result_of(call: Call, answer: Answer, context: CallContext, notes: tuple[str, ...] = ()) -> ToolResult:
    """A successful answer. notes: what the model shall know of it. Raises ToolRefused, or OutcomeUnknown for a write that was
    answered by something that is not the API."""
    if not answer.body or answer.status == 303:
        where = f": see {answer.headers['location']}" if "location" in answer.headers else ""
        return ToolResult(text=_noted(f"done (HTTP {answer.status}){where}", notes))
    kind = answer.media_type
    if _is_json(kind) or (not kind and answer.body[:1] in b"{["):
        return _json(call, answer, notes)
    if kind == "text/html" and call.expects and not any("html" in each for each in call.expects):
        raise _strange(
            call, f"a web page (HTTP {answer.status})", f"expected was {call.expects[0]}; is this its right address?"
        )
    if kind.startswith("text/") or kind.endswith(("xml", "yaml", "javascript")):
        text = answer.text()
        if len(text) > TEXT_CHARS or answer.cut:
            text, notes = text[:TEXT_CHARS], (*notes, f"the first {min(len(text), TEXT_CHARS):,} characters")
        return ToolResult(text=_noted(text, notes), parts=(Part(kind="text", text=text, media_type=kind),))
    return await _bytes(call, answer, context, notes)


def error_of(call: Call, answer: Answer, lane_hint: str) -> ToolError:
    """The error that an answer of 400 and above is. lane_hint: how its credentials are looked after."""
    status, writes = answer.status, call.method not in ("GET", "HEAD", "OPTIONS")
    message = message_of(answer) or f"HTTP {status}"
    what, code = f"The API answered: {message}", f"HTTP{status}"
    later = retry_after(answer)
    if status in (408, 425, 429) or (status == 403 and _is_throttled(answer)):
        return ToolUnavailable(what, why="too many requests" if status in (403, 429) else f"HTTP {status}", retry_after_s=later)
    if status == 503 and "retry-after" in answer.headers:
        return ToolUnavailable(what, why="it is not there for now", retry_after_s=later)
    if status == 501:
        return ToolRefused(what, code=code, why="the API does not offer it")
    if status >= 500:
        if writes:
            return OutcomeUnknown(what, why=f"HTTP {status} after it was sent", hint="look whether it was done")
        return ToolUnavailable(what, why=f"HTTP {status}", retry_after_s=later)
    if status == 401:
        return ToolRefused(what, code=code, why="the API does not know who asks", hint=lane_hint)
    if status == 403:
        return ToolRefused(
            what, code=code, why="whose key this is may not do it", hint=f"give the key that right, or {lane_hint}"
        )
    return ToolRefused(
        what, code=code, why=_REASONS.get(status, f"HTTP {status}"), hint=_HINTS.get(status, "check the arguments")
    )


_REASONS = {
    400: "it does not take the request as it is", 404: "there is no such thing, or it may not be seen",
    405: "it cannot be done to this", 409: "it does not fit what is there now", 410: "it is gone for good",
    412: "what it is about has changed since it was looked at", 413: "it is too large",
    415: "it does not take this kind of body", 422: "it does not take these values",
}  # fmt: skip
_HINTS = {
    404: "look up the right name or id first",
    409: "read its present state, then decide",
    412: "read its present state, then decide",
}


def message_of(answer: Answer) -> str:
    """What an error says: problem+json (RFC 9457), or the fields in which APIs usually put it."""
    if not _is_json(answer.media_type):
        text = " ".join(answer.text()[:2000].split())
        return "" if answer.media_type == "text/html" else text[:MESSAGE_CHARS]
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return " ".join(answer.text()[:MESSAGE_CHARS].split())
    return _message(said)[:MESSAGE_CHARS]


def retry_after(answer: Answer) -> float | None:
    """Seconds until it may be tried again, if it says so: by Retry-After, or by GitHub's x-ratelimit-reset."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isdigit():
        return float(said)
    now = datetime.now(UTC)
    if said:
        try:
            return max(0.0, (parsedate_to_datetime(said) - now).total_seconds())
        except (ValueError, TypeError):
            return None
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(0.0, float(reset) - now.timestamp())
    return None


def fitted(value: object, limit: int = RESULT_BYTES) -> tuple[object, str]:
    """The value, with its longest list cut so that it fits into so many bytes; and what was left out, in words."""
    size = len(orjson.dumps(value))
    if size <= limit:
        return value, ""
    place, items = _longest(value)
    if not items:
        text = json.dumps(value, ensure_ascii=False)
        return text[: limit // 4], f"cut: {size:,} bytes are too many; ask for less"
    sizes = [len(orjson.dumps(each)) + 1 for each in items]
    room, kept = limit - (size - sum(sizes)), 0
    while kept < len(items) and room >= sizes[kept]:
        room -= sizes[kept]
        kept += 1
    if kept == 0:
        text = json.dumps(value, ensure_ascii=False)
        return text[: limit // 4], f"cut: {size:,} bytes are too many; ask for less"
    return _with(
        value, place, items[:kept]
    ), f"the first {kept:,} of {len(items):,}{' ' + place if place else ''}: more do not fit"


def _json(call: Call, answer: Answer, notes: tuple[str, ...]) -> ToolResult:
    if answer.cut:
        raise _too_large(call, answer)
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise _strange(call, "what it calls JSON and is none", str(error)[:200]) from error
    value, cut = fitted(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return ToolResult(text=_noted(text, (*notes, cut) if cut else notes), parts=(Part(kind="json", json_value=value),))


async def _bytes(call: Call, answer: Answer, context: CallContext, notes: tuple[str, ...]) -> ToolResult:
    if answer.cut:
        raise _too_large(call, answer)
    kind = _KINDS.get(answer.media_type.partition("/")[0], "file")
    media_type = answer.media_type or "application/octet-stream"
    said = f"{len(answer.body):,} bytes of {media_type}"
    if context.keep is None:
        return ToolResult(text=_noted(f"{said}, which cannot be kept here", notes))
    part = await context.keep(answer.body, kind=kind, media_type=media_type, name=_file_name(answer))
    return ToolResult(text=_noted(f"{said}: {part.ref}", notes), parts=(part,))


def _too_large(call: Call, answer: Answer) -> ToolError:
    what = f"The answer is larger than {len(answer.body):,} bytes."
    if call.method in ("GET", "HEAD", "OPTIONS"):
        return ToolRefused(what, code="TooLarge", hint="ask for less: a filter, a page, or fewer fields")
    return OutcomeUnknown(what, why="it was read no further", hint="look whether it was done")


def _strange(call: Call, said: str, why: str) -> ToolError:
    what = f"The server answered {said}."
    if call.method in ("GET", "HEAD", "OPTIONS"):
        return ToolRefused(what, code="UnexpectedAnswer", why=why, hint="milepost tools sources ls")
    return OutcomeUnknown(what, why=why, hint="look whether it was done")


def _message(said: object) -> str:
    if isinstance(said, str):
        return " ".join(said.split())
    if isinstance(said, list):
        return "; ".join(filter(None, (_message(each) for each in said[:5])))
    if not isinstance(said, Mapping):
        return ""
    parts = [_message(said[name]) for name in ("title", "message", "error_description", "detail") if said.get(name)]
    parts += [_message(said["error"])] if not parts and said.get("error") else []
    inner = said.get("errors")
    if inner:
        parts.append(_message(list(inner.values()) if isinstance(inner, Mapping) else inner))
    if not any(parts) and (field := said.get("field")):
        parts.append(f"{field}: {said.get('code', 'wrong')}")
    return ": ".join(dict.fromkeys(part for part in parts if part))


def _is_throttled(answer: Answer) -> bool:
    return "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0"


def _longest(value: object) -> tuple[str, list[object]]:
    """The list itself, or the longest one among the fields of an object."""
    if isinstance(value, list):
        return "", value
    lists = [(str(name), each) for name, each in value.items() if isinstance(each, list)] if isinstance(value, Mapping) else []
    return max(lists, key=lambda each: len(orjson.dumps(each[1])), default=("", []))


def _with(value: object, place: str, items: list[object]) -> object:
    return {**value, place: items} if place and isinstance(value, Mapping) else items


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json") or kind == "text/json"


def _file_name(answer: Answer) -> str | None:
    said = answer.headers.get("content-disposition", "").partition("filename=")[2].partition(";")[0].strip(' "')
    return said.replace("/", "_")[:200] or None


def _noted(text: str, notes: tuple[str, ...]) -> str:
    return "\n".join((text, *(f"[{note}]" for note in notes)))
