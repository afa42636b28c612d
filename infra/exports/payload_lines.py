"""Reading the payloads of an export, a piece at a time."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from infra.exports.format import PAYLOAD, PAYLOAD_HEAD_BYTES, BadExport, MissingLine, PayloadLine
from infra.exports.lines import Lines, opened
from schemas.canonical import read_json
from schemas.errors import ProtocolError

PIECE = 1024 * 1024
_DATA = b',"data":"'
_END = b'"}\n'


@dataclass(frozen=True, slots=True)
class KeptPayload:
    """A payload in a file. at: where its base64 begins; missing: why there are no bytes, if there are none."""

    ref: str
    line: int
    media_type: str | None = None
    bytes: int = 0
    sha256: str = ""
    at: int = 0
    missing: str | None = None


def read_payload(lines: Lines) -> KeptPayload:
    """The next line, checked: its bytes have the length and the digest that it says. Raises BadExport."""
    beginning = lines.begin(PAYLOAD_HEAD_BYTES)
    if not beginning.startswith(PAYLOAD):
        cut = PAYLOAD.startswith(beginning)
        raise lines.bad("it is cut off" if cut else "a payload should stand here: the header announces more of them")
    head, has_data, rest = beginning.partition(_DATA)
    if not has_data:
        said = _missing(lines, beginning)
        return KeptPayload(said.payload, lines.number, missing=said.missing)
    told, at = _head(lines, head + b"}"), lines.offset - len(rest)
    sha, size = hashlib.sha256(), 0
    for piece in _decoded(lines, rest):
        sha.update(piece)
        size += len(piece)
        if size > told.bytes:
            break
    if (size, sha.hexdigest()) != (told.bytes, told.sha256):
        raise lines.bad(f"the bytes of {told.payload} are not those that the line tells of")
    return KeptPayload(told.payload, lines.number, told.media_type, told.bytes, told.sha256, at)


def payload_bytes(path: Path, kept: KeptPayload) -> Iterator[bytes]:
    """The bytes of a payload in a file that was read before, in pieces. Raises BadExport."""
    try:
        with opened(path) as file:
            file.seek(kept.at)
            lines = Lines(path, file)
            lines.number = kept.line
            yield from _decoded(lines, lines.more(PIECE))
    except OSError as error:
        raise BadExport(path, error.strerror or str(error)) from error


def _decoded(lines: Lines, piece: bytes) -> Iterator[bytes]:
    """What the base64 says, from the piece that was read on to the line's end."""
    held = b""
    while not piece.endswith(b"\n"):
        if not piece and not (piece := lines.more(PIECE)):
            raise lines.bad("it is cut off")
        if piece.endswith(b"\n"):
            break
        held += piece
        whole = (len(held) - len(_END)) // 4 * 4
        if whole > 0:
            yield _base64(lines, held[:whole], last=False)
            held = held[whole:]
        piece = b""
    held += piece
    if not held.endswith(_END):
        raise lines.bad("the data of a payload must be its last field")
    yield _base64(lines, held.removesuffix(_END), last=True)


def _base64(lines: Lines, text: bytes, *, last: bool) -> bytes:
    try:
        if not last and b"=" in text:
            raise binascii.Error("it ends before its end")
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise lines.bad(f"the data is no base64: {error}") from error


def _head(lines: Lines, text: bytes) -> PayloadLine:
    try:
        return PayloadLine.model_validate(read_json(text, limit=PAYLOAD_HEAD_BYTES + 1))
    except (ProtocolError, ValidationError) as error:
        raise lines.bad("this is no line of a payload") from error


def _missing(lines: Lines, text: bytes) -> MissingLine:
    if not text.endswith(b"\n"):
        raise lines.bad("it is cut off" if len(text) < PAYLOAD_HEAD_BYTES else "this is no line of a payload")
    try:
        return MissingLine.model_validate(read_json(text, limit=PAYLOAD_HEAD_BYTES))
    except (ProtocolError, ValidationError) as error:
        raise lines.bad("this is no line of a payload") from error
