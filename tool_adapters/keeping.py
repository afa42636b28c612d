"""What a tool gives back as the result that is stored: bytes are kept aside, and the model reads what they are."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping

from runtime.errors import Retryable
from runtime.payloads import Payloads, TooLarge, is_ref
from schemas.errors import MilepostError
from schemas.tools import Part, PartKind, ToolCard, ToolResult
from tool_adapters.media import File, Image, Media, Picture, Table, amount, is_frame, media_of
from tool_adapters.tool import (
    RESULT_LIMIT,
    CallContext,
    InvalidArguments,
    InvalidResult,
    Keep,
    Load,
    ToolError,
    ToolUnavailable,
    result_of,
)

KEPT_LIMIT = 64 * 1024 * 1024
"""A result that is larger than a fact may be is taken apart and kept by its host."""

TABLE_ROWS = 20
"""How many rows of a table the model reads."""
TABLE_BYTES = 64 * 1024
"""A table that is longer as JSON is kept as CSV."""


def keeper(payloads: Payloads, tenant: str, datakey: str | None) -> Keep:
    """What a call context's `keep` is: bytes go to the payload store, sealed under the run's data key."""

    async def keep(data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
        ref = await payloads.put(data, tenant=tenant, datakey=datakey)
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        return Part(kind=kind, ref=ref, media_type=media_type, name=name, size=len(data), sha256=sha256)

    return keep


def loader(payloads: Payloads, tenant: str) -> Load:
    """What a call context's `load` is."""

    async def load(ref: str) -> bytes:
        return await payloads.get(ref, tenant=tenant)

    return load


async def result_from(card: ToolCard, value: object, context: CallContext) -> ToolResult:
    """A tool's answer as a result.

    Media, tables, Pillow images and DataFrames may stand alone, in a list or tuple with text and JSON, or inside JSON, where
    their references take their places. Raises InvalidResult and ToolUnavailable for a read; a write that has happened is
    never an error for what it answered.
    """
    try:
        return within(await _told(value, context), context)
    except ToolError as error:
        if card.effect == "read":
            raise
        return ToolResult(text=f"{card.name} was done. Its answer could not be kept: {error.what}")


def within(value: object, context: CallContext) -> ToolResult:
    """`result_of`, as large as the host can keep. Raises InvalidResult."""
    return result_of(value, limit=RESULT_LIMIT if context.keep is None else KEPT_LIMIT)


async def with_media(arguments: Mapping[str, object], names: frozenset[str], context: CallContext) -> dict[str, object]:
    """The arguments, those of these names with media in place of references. Raises InvalidArguments, ToolUnavailable."""
    return {name: await _loaded(value, context) if name in names else value for name, value in arguments.items()}


def holds_media(value: object) -> bool:
    """Whether there is anything in it that is neither text nor JSON but can be kept."""
    value = _shaped(value)
    if isinstance(value, Mapping):
        return any(map(holds_media, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_media, value))
    return isinstance(value, Media | Table)


def each_of(value: object, plain: Callable[[object], object]) -> object:
    """The same value with `plain` applied to what it holds beside media."""
    value = _shaped(value)
    if isinstance(value, Media | Table):
        return value
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


async def _told(value: object, context: CallContext) -> object:
    """The value if it is text or JSON; a result if there is anything else in it."""
    value = _shaped(value)
    if isinstance(value, Media | Table):
        text, part = await _one(value, context)
        return ToolResult(text=text, parts=(part,))
    if isinstance(value, list | tuple) and any(isinstance(_shaped(each), Media | Table) for each in value):
        pieces = [await _piece(each, context) for each in value]
        return ToolResult(text="\n".join(text for text, _ in pieces), parts=tuple(part for _, part in pieces))
    found: list[Part] = []
    plain = await _without_media(value, context, found)
    if not found:
        return plain
    result = within(plain, context)
    return ToolResult(text=result.text, parts=(*result.parts, *found))


async def _piece(value: object, context: CallContext) -> tuple[str, Part]:
    value = _shaped(value)
    if isinstance(value, Media | Table):
        return await _one(value, context)
    result = within(value, context)
    return result.text, result.parts[0]


async def _without_media(value: object, context: CallContext, found: list[Part]) -> object:
    """JSON with references in place of the media that were in it; found: gets their parts."""
    value = _shaped(value)
    if isinstance(value, Table):
        return value.as_json()
    if isinstance(value, Media):
        _, part = await _one(value, context)
        found.append(part)
        return part.ref or value.described()
    if isinstance(value, Mapping):
        return {key: await _without_media(each, context, found) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [await _without_media(each, context, found) for each in value]
    return value


def _shaped(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return media_of(bytes(value))
    if is_frame(value):
        return Table.of(value)
    if isinstance(value, Picture) and not isinstance(value, Media):
        return Image(value)
    return value


async def _one(value: Media | Table, context: CallContext) -> tuple[str, Part]:
    """A piece as the model reads it, and the part that a program reads."""
    if isinstance(value, Table):
        return await _table(value, context)
    part = await kept(value, context)
    return f"{await asyncio.to_thread(value.described)}{_where(part)}", part


def _where(part: Part) -> str:
    return f": {part.ref}" if part.ref else " (not kept)"


async def _table(table: Table, context: CallContext) -> tuple[str, Part]:
    text, said = table.as_text(TABLE_ROWS), table.as_json()
    csv = await asyncio.to_thread(table.as_csv)
    if len(csv) <= TABLE_BYTES:
        return text, Part(kind="table", json_value=said)
    part = await kept(File(csv, media_type="text/csv; charset=utf-8", name="table.csv"), context, kind="table")
    return f"{text}\na table, CSV, {len(table.rows)} rows, {amount(len(csv))}{_where(part)}", part


async def kept(media: Media, context: CallContext, kind: PartKind | None = None) -> Part:
    """Stored, if there is a store: a result never refers to bytes that are nowhere."""
    data = await asyncio.to_thread(lambda: media.data)
    kind = kind or media.kind
    if context.keep is None:
        return Part(kind=kind, media_type=media.media_type, name=media.name, size=len(data))
    try:
        return await context.keep(data, kind=kind, media_type=media.media_type, name=media.name)
    except Retryable as error:
        raise ToolUnavailable("The bytes could not be kept now.", why=error.what) from error
    except TooLarge as error:
        raise InvalidResult(error.what, why=error.why, hint=error.hint) from error
    except MilepostError as error:
        raise InvalidResult("The bytes could not be kept.", why=error.what) from error


async def _loaded(value: object, context: CallContext) -> object:
    if isinstance(value, list):
        return [await _loaded(each, context) for each in value]
    if not is_ref(value):
        return value
    assert isinstance(value, str)
    if context.load is None:
        raise InvalidArguments(f"{value[:80]} cannot be read here.", why="this call has no payload store")
    try:
        return await asyncio.to_thread(media_of, await context.load(value))
    except Retryable as error:
        raise ToolUnavailable("The bytes of an argument could not be read now.", why=error.what) from error
    except MilepostError as error:
        raise InvalidArguments(error.what, why=error.why, hint="give the reference of an earlier result") from error
