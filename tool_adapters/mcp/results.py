"""What a server answered, as parts: text, JSON, bytes that are kept, and links."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import jsonschema_rs
import structlog

from schemas.canonical import JsonObject, checked
from schemas.errors import MilepostError, ProtocolError
from schemas.tools import Part, PartKind, ToolResult
from tool_adapters.tool import CallContext, InvalidResult

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

log = structlog.get_logger("tool_adapters.mcp")

TEXT_BYTES = 60_000
"""Of a result's text that the model is given; what is longer is kept as a file."""

NOTE_BYTES = 200

INLINE_BYTES = 100_000
"""Of all parts together that stand in the log themselves; what goes beyond is kept as files."""

PARTS = 200


def said(result: CallToolResult) -> str:
    """The texts of a result, as one."""
    return "\n".join(block.text for block in result.content if block.type == "text")


async def result_of(result: CallToolResult, output: JsonObject | None, context: CallContext, *, reading: bool) -> ToolResult:
    """The result with its bytes kept, if there is where to keep them. output: the schema that its structured content must fit.

    Raises InvalidResult for a read whose structured content does not fit; of a write, which has happened, the text says so.
    """
    parts: list[Part] = []
    lines: list[str] = []
    structured, room = result.structured_content, _Room()
    wrong = misfit(structured, output)
    if wrong and reading:
        raise InvalidResult("The server's answer is not what its tool promises.", why=wrong)
    for block in result.content[:PARTS]:
        part, line = await _part(block, context, room)
        parts.append(part)
        lines.append(line)
    if structured is not None and not wrong:
        part, line = await _json_part(structured, context, room)
        parts.append(part)
        if not any(block.type == "text" for block in result.content):
            lines.append(line)
    if wrong:
        lines.append(f"[it was done; its structured answer is left out: {wrong}]")
    text = "\n".join(line for line in lines if line) or "done"
    return ToolResult(
        text=text if len(text.encode("utf-8", "replace")) <= TEXT_BYTES + NOTE_BYTES else cut(text), parts=tuple(parts)
    )


def misfit(structured: object, output: JsonObject | None) -> str:
    """Why structured content is not what the schema says; empty when it is, or nothing was promised."""
    if output is None:
        return ""
    if structured is None:
        return "it has none, and its tool promises one"
    try:
        checked(structured)  # type: ignore[arg-type]  # it checks the value itself, at run time
        _validator(json.dumps(output, sort_keys=True)).validate(structured)
    except jsonschema_rs.ValidationError as error:
        return str(error.message)[:300]
    except (ProtocolError, ValueError, jsonschema_rs.ReferencingError) as error:
        return str(error)[:300]
    return ""


def cut(text: str) -> str:
    """As much of a text as a model is given."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= TEXT_BYTES:
        return text
    return f"{raw[:TEXT_BYTES].decode('utf-8', 'ignore')}\n[the beginning of {len(raw):,} bytes]"


@dataclass(slots=True)
class _Room:
    """How much more may stand in the result itself."""

    left: int = INLINE_BYTES

    def takes(self, size: int) -> bool:
        if size > min(self.left, TEXT_BYTES):
            return False
        self.left -= size
        return True


async def _part(block: ContentBlock, context: CallContext, room: _Room) -> tuple[Part, str]:
    """The part, and the line about it that the model reads."""
    match block.type:
        case "text":
            return await _text_part(block.text, "text/plain", None, context, room)
        case "image":
            return await _bytes_part(block.data, "image", block.mime_type, None, context)
        case "audio":
            return await _bytes_part(block.data, "audio", block.mime_type, None, context)
        case "resource_link":
            name = block.title or block.name
            part = Part(
                kind="file", ref=block.uri, media_type=block.mime_type, name=name, size=block.size, text=block.description
            )
            return part, f"[link to {name}: {block.uri}]"
        case "resource":
            inside = block.resource
            kind = inside.mime_type or ""
            if hasattr(inside, "text"):
                part, line = await _text_part(str(inside.text), kind or "text/plain", inside.uri, context, room)
                return part, f"[{inside.uri}]\n{line}"
            return await _bytes_part(str(getattr(inside, "blob", "")), "file", kind, inside.uri, context)
    return Part(kind="text", text=f"[{block.type}]"), f"[{block.type}, which is not known]"


async def _text_part(
    text: str, media_type: str, name: str | None, context: CallContext, room: _Room
) -> tuple[Part, str]:  # fmt: skip
    raw = text.replace("\x00", "").encode("utf-8", "replace")
    text = raw.decode()
    if room.takes(len(raw)):
        return Part(kind="text", text=text, media_type=media_type, name=name), text
    return await kept(raw, "file", media_type, name, context), cut(text)


async def _json_part(value: Mapping[str, object], context: CallContext, room: _Room) -> tuple[Part, str]:
    line = json.dumps(value, ensure_ascii=False)
    raw = line.encode("utf-8", "replace")
    if room.takes(len(raw)):
        return Part(kind="json", json_value=dict(value)), line
    return await kept(raw, "file", "application/json", None, context), cut(line)


async def _bytes_part(
    encoded: str, kind: PartKind, media_type: str, name: str | None, context: CallContext
) -> tuple[Part, str]:  # fmt: skip
    media_type = (media_type or "application/octet-stream")[:200]
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return Part(kind="text", text=f"[{kind} that cannot be read]"), f"[{kind}: its base64 cannot be read]"
    line = f"[{kind} {media_type}, {len(data):,} bytes{f', {name}' if name else ''}]"
    return await kept(data, kind, media_type, name, context), line


async def kept(data: bytes, kind: PartKind, media_type: str, name: str | None, context: CallContext) -> Part:
    """The part that refers to bytes; one without a reference if they could not be kept: the call has been made by now."""
    if context.keep is not None:
        try:
            return await context.keep(data, kind=kind, media_type=media_type, name=name)
        except MilepostError as error:
            log.warning("bytes of a result were not kept", why=error.what, size=len(data))
    return Part(kind=kind, text="its bytes were not kept", media_type=media_type, name=name, size=len(data))


@lru_cache(maxsize=256)
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads(schema), retriever=_nothing)


def _nothing(uri: str) -> dict[str, object]:
    raise ValueError(f"{uri} is outside the schema, and nothing is fetched")
