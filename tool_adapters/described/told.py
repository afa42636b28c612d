"""An answer of any API as a result: what a model can read of it, and the whole for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from schemas.tools import Part, ToolResult
from tool_adapters.tool import CallContext, ToolError

TEXT_LIMIT = 6_000
"""Characters that a model reads of an answer."""
JSON_LIMIT = 120_000
"""Characters of an answer that travel inside a result; a larger one is kept beside it."""

_NOISE = frozenset({"RequestId", "requestId", "request_id", "ResponseMetadata"})


async def told(answer: object, notes: Sequence[str], context: CallContext) -> ToolResult:
    """The result. Bytes, and answers too large to travel, are kept where the context can keep them, else cut."""
    if isinstance(answer, bytes):
        part = await _kept(answer, "application/octet-stream", context)
        return ToolResult(text=f"{len(answer)} bytes.", parts=(part,) if part else ())
    if isinstance(answer, Mapping) and any(isinstance(value, bytes) for value in answer.values()):
        return await _with_bytes(answer, notes, context)
    body = {name: value for name, value in answer.items() if name not in _NOISE} if isinstance(answer, Mapping) else answer
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)
    parts: tuple[Part, ...] = ()
    if len(text) <= JSON_LIMIT:
        parts = (Part(kind="text", text=text),) if isinstance(body, str) else (Part(kind="json", json_value=json.loads(text)),)
    elif kept := await _kept(text.encode(), "text/plain" if isinstance(body, str) else "application/json", context):
        parts = (kept,)
    if len(text) > TEXT_LIMIT:
        whole = "; the whole is kept with the result" if parts else ""
        text = f"{text[:TEXT_LIMIT]} ... (cut: {len(text)} characters{whole}; ask for less)"
    shown = text if text not in ("{}", "") else ""
    return ToolResult(text="\n".join((*notes, shown)).strip() or "(an empty answer)", parts=parts)


async def _with_bytes(answer: Mapping[str, object], notes: Sequence[str], context: CallContext) -> ToolResult:
    """A body among the fields: kept beside the result, and short text of it shown."""
    rest = {name: value for name, value in answer.items() if not isinstance(value, bytes)}
    parts: list[Part] = []
    for name, data in answer.items():
        if isinstance(data, bytes):
            media_type = str(answer.get("ContentType") or "application/octet-stream")
            kept = await _kept(data, media_type, context)
            parts += [kept] if kept else []
            rest[name] = _text_of(data) or f"({len(data)} bytes{', kept with the result' if kept else ''})"
    result = await told(rest, notes, context)
    return result.model_copy(update={"parts": (*parts, *result.parts)})


def _text_of(data: bytes) -> str | None:
    """Short text; what only happens to be UTF-8 has control characters."""
    try:
        text = data.decode() if len(data) <= TEXT_LIMIT // 2 else None
    except UnicodeDecodeError:
        return None
    return text if text is not None and all(char.isprintable() or char in "\n\r\t" for char in text) else None


async def _kept(data: bytes, media_type: str, context: CallContext) -> Part | None:
    if context.keep is None:
        return None
    try:
        return await context.keep(data, kind="file", media_type=media_type)
    except ToolError:
        return None
