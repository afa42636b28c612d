"""Results too large or too binary for a fact: their bytes are kept beside the log, and the model reads what they are."""

from __future__ import annotations

import json

from schemas.canonical import checked
from schemas.errors import MilepostError, ProtocolError
from schemas.tools import Part, PartKind, ToolResult
from tool_adapters.tool import RESULT_LIMIT, InvalidResult, Keep, checked_result

KEPT_BYTES = 64 * 1024 * 1024
SHOWN_CHARACTERS = 2_000
PART_BYTES = 16 * 1024
"""Parts up to this size stay in the result."""


async def storable(result: ToolResult, keep: Keep | None) -> ToolResult:
    """The result as a fact can hold it. Raises InvalidResult for what is too large where nothing can be kept."""
    try:
        return checked_result(result)
    except InvalidResult:
        if keep is None:
            raise
    parts = [part if _small(part) else await _kept(part, keep) for part in result.parts]
    text, extra = result.text, []
    if len(text.encode(errors="replace")) > RESULT_LIMIT // 4 or not _sayable(text):
        extra = [await _put(keep, text, "text", "text/plain")] if not _said_by(parts) else []
        text = _short(text)
    notes = [f"[{part.name or part.kind}, {part.media_type}, {part.size:,} bytes, kept as {part.ref}]"
             for part in (*parts, *extra) if part.ref and part.size]  # fmt: skip
    return checked_result(ToolResult(text="\n".join((text, *notes)), parts=(*parts, *extra)))


async def _kept(part: Part, keep: Keep) -> Part:
    if part.text is not None:
        return await _put(keep, part.text, part.kind, part.media_type or "text/plain", part.name)
    if part.json_value is not None:
        return await _put(keep, json.dumps(part.json_value, ensure_ascii=False), part.kind, "application/json", part.name)
    return part


async def _put(keep: Keep, text: str, kind: PartKind, media_type: str, name: str | None = None) -> Part:
    data = text.encode(errors="surrogatepass")
    if len(data) > KEPT_BYTES:
        raise InvalidResult(
            f"The tool's answer has {len(data)} bytes, the limit is {KEPT_BYTES}.",
            hint="ask for less: a filter, a page, or a shorter text",
        )
    if not _sayable(text):
        media_type, kind = "application/octet-stream", "file"
    return await keep(data, kind=kind, media_type=media_type, name=name)


def _small(part: Part) -> bool:
    try:
        return len(json.dumps(checked(part.model_dump(mode="json")), ensure_ascii=False).encode()) <= PART_BYTES
    except (ProtocolError, ValueError):
        return False


def _said_by(parts: list[Part]) -> bool:
    """Whether what the text says is kept already."""
    return any(part.ref and part.size and part.size > PART_BYTES for part in parts)


def _sayable(text: str) -> bool:
    try:
        checked(text)
    except ProtocolError:
        return False
    return True


def _short(text: str) -> str:
    """The beginning, as far as it can be said."""
    plain = text[:SHOWN_CHARACTERS].encode(errors="replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return f"{plain} ... ({len(text) - SHOWN_CHARACTERS:,} more characters)" if len(text) > SHOWN_CHARACTERS else plain


async def after_the_fact(result: ToolResult, keep: Keep | None) -> ToolResult:
    """As `storable`, for a write: it has happened, whatever becomes of its answer."""
    try:
        return await storable(result, keep)
    except MilepostError as error:
        return ToolResult(text=f"It was done; its answer could not be kept. {error.what}")
