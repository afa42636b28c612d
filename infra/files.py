"""A run as one file that proves itself anywhere: a header line, then every event as the log holds it, one a line.

Line 1 is {"format": "milepost-run", "version": 1, "run": ..., "created": ..., "events": N}; then N CloudEvents in
structured JSON, byte for byte. Where events are sealed the version is 2, and the line has "key": the run's own key in
base64, which opens this run and no other; it is missing if the run's content was erased. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal

import orjson
from pydantic import AwareDatetime, Field, ValidationError

from runtime.log import Stored
from runtime.sealing import Keyring, run_key, unseal
from schemas.canonical import read_json
from schemas.envelope import MAX_BYTES, Fact, checked_fact, decode_fact
from schemas.errors import MilepostError, ProtocolError
from schemas.events import RunRequested
from schemas.ids import RunId
from schemas.sealing import Sealed
from schemas.tools import Value

FORMAT = "milepost-run"
VERSION = 2
_UNSEALED = 1
_HEADER_BYTES = 4096


class BadExport(ProtocolError):
    """A file is no whole export of a run. line: where, from 1; 0 when it is not about one line."""

    def __init__(self, path: Path, why: str, *, line: int = 0, hint: str = "") -> None:
        place = f"line {line}: " if line else ""
        hint = hint or "export it again: milepost runs export RUN FILE"
        super().__init__(f"{path} is no export of a run that can be read.", why=place + why, hint=hint)
        self.line = line


class CannotWrite(MilepostError):
    """The file that should hold an export cannot be written."""


class ExportHeader(Value):
    """The first line. created: when the export was made; events: how many lines follow, so that none can be missing.

    key: of this run alone, base64.
    """

    format: Literal["milepost-run"]
    version: int = Field(ge=1)
    run: str
    created: AwareDatetime
    events: int = Field(ge=1)
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A run that was read from a file; positions count from 1."""

    run: RunId
    created: datetime
    facts: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """What goes into a file: a run's events as they are stored. sealed: whether some are; key: what opens them."""

    run: RunId
    events: Sequence[bytes]
    sealed: bool = False
    key: bytes | None = field(default=None, repr=False)


async def exported(run: RunId, facts: Sequence[tuple[Stored, bytes]], keyring: Keyring) -> Exported:
    """A run as it is stored, with the key that opens it unless that was destroyed. Raises Unreachable, UnknownKey."""
    events = [raw for _, raw in facts]
    header = next((stored.fact.header for stored, _ in facts if stored.fact.header.datakey), None)
    if header is None or header.datakey is None:
        return Exported(run, events)
    secret = (await keyring.key(header.tenant, header.datakey)).secret
    return Exported(run, events, sealed=True, key=None if secret is None else run_key(secret, run))


def write_export(out: BinaryIO, what: Exported, created: datetime) -> None:
    """Write a run's events as they are stored."""
    version = VERSION if what.sealed else _UNSEALED
    header = {"format": FORMAT, "version": version, "run": what.run, "created": created, "events": len(what.events)}
    if what.key is not None:
        header["key"] = base64.b64encode(what.key).decode()
    out.write(orjson.dumps(header) + b"\n")
    out.writelines(event + b"\n" for event in what.events)


def save_export(path: Path, what: Exported, created: datetime, *, replace: bool = False) -> None:
    """Write a run to a file, whole or not at all. Raises CannotWrite, also for a file that is there unless `replace`."""
    if path.exists() and not replace:
        raise CannotWrite(f"{path} exists already.", hint="name another file, or add --force")
    try:
        handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                write_export(out, what, created)
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written.", why=error.strerror or str(error), hint="name another file") from error


def load_export(path: Path) -> Export:
    """Read a run back, every line checked as strictly as on the bus. Raises BadExport."""
    try:
        with path.open("rb") as file:
            lines = _lines(path, file)
            header = _header(path, next(lines, b""))
            facts = tuple(_facts(path, header, lines))
    except OSError as error:
        raise BadExport(path, error.strerror or str(error), hint="name a file that `milepost runs export` wrote") from error
    if len(facts) < header.events:
        raise BadExport(path, f"it is cut off: {len(facts)} of {header.events} events are there")
    if not any(stored.fact.kind == RunRequested.__name__ for stored in facts):
        raise BadExport(path, "the request that began the run is missing")
    return Export(RunId(header.run), header.created, facts)


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The lines without their ends, none longer than a message may be."""
    number = 0
    while line := file.readline(MAX_BYTES + 1):
        number += 1
        if len(line) > MAX_BYTES:
            raise BadExport(path, f"it is longer than {MAX_BYTES} bytes", line=number)
        yield line.removesuffix(b"\n")


def _header(path: Path, line: bytes) -> ExportHeader:
    try:
        said = read_json(line, limit=_HEADER_BYTES)
    except ProtocolError as error:
        raise BadExport(path, f"the header is no JSON object: {error.why or error.what}", line=1) from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise BadExport(path, f'the header does not say "format": "{FORMAT}"', line=1)
    version = said.get("version")
    if isinstance(version, int) and version > VERSION:
        hint = "read it with the Milepost that wrote it, or a newer one"
        raise BadExport(path, f"it has version {version} of the format, this Milepost reads {VERSION}", line=1, hint=hint)
    try:
        return ExportHeader.model_validate(said)
    except ValidationError as error:
        raise BadExport(path, f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}", line=1) from error


def _facts(path: Path, header: ExportHeader, lines: Iterable[bytes]) -> Iterator[Stored]:
    seen: dict[str, int] = {}
    tenant, key = "", _key(path, header)
    for number, line in enumerate(lines, start=2):
        fact = _fact(path, line, number, key)
        tenant = tenant or fact.tenant
        if (fact.run, fact.tenant) != (header.run, tenant):
            raise BadExport(path, "the event is of another run or tenant", line=number)
        if fact.slot in seen:
            raise BadExport(path, f"the slot {fact.slot} has an event already, in line {seen[fact.slot]}", line=number)
        if number - 1 > header.events:
            raise BadExport(path, f"the header announces {header.events} events, here are more", line=number)
        seen[fact.slot] = number
        yield Stored(fact, number - 1)


def _key(path: Path, header: ExportHeader) -> bytes | None:
    try:
        return None if header.key is None else base64.b64decode(header.key, validate=True)
    except binascii.Error as error:
        raise BadExport(path, "the run's key is no base64", line=1) from error


def _fact(path: Path, line: bytes, number: int, key: bytes | None) -> Fact:
    try:
        fact = decode_fact(line)
        if key is None or not isinstance(fact.body, Sealed):
            return fact
        return checked_fact(unseal(fact, key))  # type: ignore[arg-type]  # its body is Sealed, as just seen
    except ProtocolError as error:
        raise BadExport(path, f"{error.what} {error.why}".strip(), line=number) from error
