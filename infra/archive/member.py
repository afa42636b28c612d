"""One run as a gzip member: the format of `runs export`, with every message of the run and without its key.

A file of members is itself a gzip file (RFC 1952, section 2.2): `zcat runs-0001.jsonl.gz` shows all of them.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import zlib
from collections.abc import Sequence
from datetime import datetime

import orjson

from infra.archive.layout import BadArchive
from infra.exports.format import FORMAT, SUMMED, WRAPPED
from infra.exports.writing import Exported, wrapped, write_export
from runtime.log import Raw
from runtime.receipts import place_of
from schemas import subjects
from schemas.envelope import Fact, decode_fact
from schemas.errors import ProtocolError
from schemas.ids import RunId

LEVEL = 6
_GZIP = 31  # zlib's window bits for a gzip header and trailer


def placed(raw: Raw) -> Fact | None:
    """The fact of a message, sealed or not, if it can be read and belongs where it stands."""
    try:
        fact = decode_fact(raw.data)
    except ProtocolError:
        return None
    return fact if str(subjects.FactSubject(fact.run, fact.tenant, fact.role, fact.slot)) == raw.subject else None


def packed(run: RunId, tenant: str, raws: Sequence[tuple[Raw, Fact | None]], at: datetime) -> tuple[bytes, int]:
    """The gzip member of a run and how many bytes it holds. raws: its messages in order, each with its fact if it has one."""
    lines = [
        raw.data if fact is not None and fact.tenant == tenant and b"\n" not in raw.data else wrapped(raw.subject, raw.data)
        for raw, fact in raws
    ]
    plain = io.BytesIO()
    write_export(plain, Exported(run, lines, schemas=False), at)
    return gzip.compress(plain.getvalue(), LEVEL, mtime=0), plain.tell()


def unpacked(member: bytes, most: int, name: str) -> tuple[RunId, list[Raw]]:
    """The run of a member and its messages; positions count from 1. most: how many bytes it may hold. Raises BadArchive."""
    unzip = zlib.decompressobj(_GZIP)
    try:
        plain = unzip.decompress(member, most + 1)
    except zlib.error as error:
        raise BadArchive(f"{name} holds no run there.", why=str(error), hint=_HINT) from error
    if len(plain) > most or not unzip.eof or unzip.unused_data:
        raise BadArchive(f"{name} holds more or less there than one run.", hint=_HINT)
    try:
        head, *lines = plain.split(b"\n")
        said = orjson.loads(head)
        if said["format"] != FORMAT or said["version"] < SUMMED or len(lines) < said["events"]:
            raise ValueError("it is no whole export")
        return RunId(said["run"]), [_message(line, number + 1) for number, line in enumerate(lines[: said["events"]])]
    except (ValueError, KeyError, TypeError, ProtocolError) as error:
        raise BadArchive(f"{name} holds no run there.", why=str(error), hint=_HINT) from error


def _message(line: bytes, position: int) -> Raw:
    said = orjson.loads(line)
    if line.startswith(WRAPPED):
        return Raw(said["subject"], _bytes(said["message"]), position)
    run, tenant, role, slot = place_of(said)
    return Raw(str(subjects.FactSubject(RunId(run), tenant, role, slot)), line, position)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("a message is no base64") from error


_HINT = "milepost archive verify SEGMENT"
