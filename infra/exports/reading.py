"""Reading an export: every line is checked as strictly as on the bus, and what is wrong is said with its line."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from infra.exports.causality import broken_causes
from infra.exports.format import (
    FORMAT,
    HEADER_BYTES,
    MESSAGE_BYTES,
    PAYLOAD,
    SCHEMAS,
    SUM,
    SUMMED,
    VERSION,
    WRAPPED,
    BadExport,
    ExportHeader,
    SummedHeader,
    WrappedLine,
)
from infra.exports.lines import Lines, opened
from infra.exports.payload_lines import KeptPayload, read_payload
from infra.exports.references import Reference, references
from runtime.log import Raw, Stored
from runtime.sealing import unseal
from schemas.canonical import read_json
from schemas.envelope import MAX_BYTES, Fact, UnknownType, checked_fact, decode_fact
from schemas.errors import ProtocolError
from schemas.events import RunRequested
from schemas.ids import RunId
from schemas.sealing import Sealed
from schemas.subjects import FactSubject

_NOT_EVENTS = (PAYLOAD, SCHEMAS, SUM.split(b"%")[0])


@dataclass(frozen=True, slots=True)
class Export:
    """A run that was read from a file; positions count its messages from 1.

    facts: opened; messages: all of them as they were stored, which is what a receipt counts. payloads: whose bytes
    `payload_bytes` gives; absent: why others are not there, by reference. key: of this run alone.
    """

    run: RunId
    created: datetime
    facts: tuple[Stored, ...]
    messages: tuple[Raw, ...] = ()
    payloads: tuple[KeptPayload, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    version: int = VERSION
    key: bytes | None = field(default=None, repr=False)

    @property
    def both(self) -> list[tuple[Stored, bytes]]:
        """The facts, each with its bytes as stored: what a log's `read_both` gives."""
        return [(stored, self.messages[stored.position - 1].data) for stored in self.facts]

    @property
    def unread(self) -> int:
        """How many messages are no events of the run."""
        return len(self.messages) - len(self.facts)


def load_export(path: Path) -> Export:
    """Read a run back from a file. Raises BadExport."""
    try:
        with opened(path) as file:
            return read_export(file, path)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadExport(path, why, hint="name a file that `milepost runs export` wrote") from error


def read_export(file: BinaryIO, path: Path) -> Export:
    """Read a run from an open file. path: what it is called in errors. Raises BadExport, and OSError of the file."""
    lines = Lines(path, file)
    header = _header(path, lines)
    run = _Run(path, header)
    for _ in range(header.events):
        run.add(_event(lines, header, len(run.messages)), lines)
    found = references(stored.fact for stored in run.facts)
    payloads = [_payload(lines, found) for _ in range(header.payloads)] if header.version >= SUMMED else []
    _end(lines, header)
    run.check()
    twice = _twice(payloads)
    if twice:
        raise BadExport(path, f"the payload {twice.ref} is there already", line=twice.line)
    kept = tuple(each for each in payloads if each.missing is None)
    told = {each.ref: each.missing for each in payloads if each.missing is not None}
    there = {each.ref for each in kept}
    absent = {ref: told.get(ref, "it was left out") for ref in found if ref not in there}
    facts, messages = tuple(run.facts), tuple(run.messages)
    return Export(RunId(header.run), header.created, facts, messages, kept, absent, header.version, run.key)


def as_raw(fact: Fact, data: bytes, position: int) -> Raw:
    """A fact as the message that lies in the log."""
    return Raw(str(FactSubject(fact.run, fact.tenant, fact.role, fact.slot)), data, position)


# --- the lines ------------------------------------------------------------------------------------


def _header(path: Path, lines: Lines) -> ExportHeader:
    try:
        said = read_json(lines.next(HEADER_BYTES).removesuffix(b"\n"), limit=HEADER_BYTES)
    except BadExport:
        raise
    except ProtocolError as error:
        if path.is_file() and path.stat().st_size == 0:
            raise lines.bad("the file is empty") from error
        raise lines.bad(f"the header is no JSON object: {error.why or error.what}") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise lines.bad(f'the header does not say "format": "{FORMAT}"')
    version = said.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise lines.bad("the header's version is no number")
    if version > VERSION:
        hint = "read it with the Milepost that wrote it, or a newer one"
        raise lines.bad(f"it has version {version} of the format, this Milepost reads 1 to {VERSION}", hint)
    try:
        return (SummedHeader if version >= SUMMED else ExportHeader).model_validate(said)
    except ValidationError as error:
        raise lines.bad(f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error


def _event(lines: Lines, header: ExportHeader, before: int) -> bytes:
    line = lines.next(MESSAGE_BYTES)
    if not line or line.startswith(_NOT_EVENTS):
        raise lines.bad(f"it is cut off: {before} of {header.events} events are there")
    return line.removesuffix(b"\n")


def _payload(lines: Lines, found: dict[str, Reference]) -> KeptPayload:
    kept = read_payload(lines)
    reference = found.get(kept.ref)
    if reference is None:
        raise lines.bad(f"no event refers to {kept.ref[:80]}")
    if kept.missing is None and reference.sha256 not in (None, kept.sha256):
        raise lines.bad(f"the bytes of {kept.ref} are not those that the run's event names")
    return kept


def _twice(payloads: list[KeptPayload]) -> KeptPayload | None:
    seen: set[str] = set()
    for each in payloads:
        if each.ref in seen:
            return each
        seen.add(each.ref)
    return None


def _end(lines: Lines, header: ExportHeader) -> None:
    """The schemas and the checksum where there are any; and nothing after that."""
    if header.version >= SUMMED:
        _schemas(lines)
        sum_ = SUM % lines.sum().encode()
        last = lines.next(len(sum_))
        if last != sum_:
            cut = len(last) < len(sum_) and sum_.startswith(last[:10])
            raise lines.bad("it is cut off" if cut else "the checksum is another one: something before it was changed")
    if lines.next(MESSAGE_BYTES):
        raise lines.bad(f"the header announces {header.events} events, here are more")


def _schemas(lines: Lines) -> None:
    line = lines.next(MAX_BYTES)
    if not line.endswith(b"\n"):
        raise lines.bad("it is cut off")
    try:
        said = read_json(line.removesuffix(b"\n"), limit=MAX_BYTES)
    except ProtocolError as error:
        raise lines.bad(f"the schemas are no JSON object: {error.why or error.what}") from error
    schemas = said.get("schemas") if isinstance(said, dict) and len(said) == 1 else None
    if not isinstance(schemas, dict) or not all(isinstance(each, dict) for each in schemas.values()):
        raise lines.bad("the schemas should stand here: the header announces fewer lines")


# --- the events -----------------------------------------------------------------------------------


class _Run:
    """The events of a file, one after another."""

    def __init__(self, path: Path, header: ExportHeader) -> None:
        self._path, self._header, self.key = path, header, _key(path, header)
        self.facts: list[Stored] = []
        self.messages: list[Raw] = []
        self._lines: dict[str, int] = {}
        self._tenant = ""

    def add(self, line: bytes, lines: Lines) -> None:
        """One more event, or a message in base64 that may be none. Raises BadExport."""
        number = len(self.messages) + 1
        if line.startswith(WRAPPED) and self._header.version >= SUMMED:
            raw, fact = self._wrapped(line, number, lines)
        elif len(line) > MAX_BYTES:
            raise lines.bad(f"it is longer than {MAX_BYTES} bytes")
        else:
            fact = self._fact(line, lines)
            raw = as_raw(fact, line, number)
        self.messages.append(raw)
        if fact is not None:
            self._place(fact, raw, lines)
            self.facts.append(Stored(fact, number))

    def check(self) -> None:
        """What only the whole run tells. Raises BadExport."""
        if not any(stored.fact.kind == RunRequested.__name__ for stored in self.facts):
            raise BadExport(self._path, "the request that began the run is missing")
        unread = len(self.messages) > len(self.facts)
        for broken in broken_causes(self.facts):
            if broken.how != "missing" or not unread:  # what cannot be read has no id that a cause could name
                raise BadExport(
                    self._path, str(broken), line=broken.stored.position + 1, hint="look at the log: milepost verify RUN"
                )

    def _fact(self, line: bytes, lines: Lines) -> Fact:
        try:
            fact = self._opened(line)
        except UnknownType as error:
            raise lines.bad(error.what, "read it with the Milepost that wrote it, or a newer one") from error
        except ProtocolError as error:
            raise lines.bad(f"{error.what} {error.why}".strip()) from error
        self._tenant = self._tenant or fact.tenant
        if not self._is_ours(fact):
            raise lines.bad("the event is of another run or tenant")
        return fact

    def _opened(self, data: bytes) -> Fact:
        fact = decode_fact(data)
        if self.key is None or not isinstance(fact.body, Sealed):
            return fact
        return checked_fact(unseal(fact, self.key))  # type: ignore[arg-type]  # its body is Sealed, as just seen

    def _is_ours(self, fact: Fact) -> bool:
        return (fact.run, fact.tenant) == (self._header.run, self._tenant)

    def _wrapped(self, line: bytes, number: int, lines: Lines) -> tuple[Raw, Fact | None]:
        try:
            said = WrappedLine.model_validate(read_json(line, limit=MESSAGE_BYTES))
            raw = Raw(said.subject, base64.b64decode(said.message, validate=True), number)
        except (ProtocolError, ValidationError, binascii.Error, ValueError) as error:
            raise lines.bad("this is no message in base64") from error
        try:
            fact = self._opened(raw.data)
        except ProtocolError:
            return raw, None
        return raw, fact if self._is_ours(fact) and as_raw(fact, raw.data, number) == raw else None

    def _place(self, fact: Fact, raw: Raw, lines: Lines) -> None:
        before = self._lines.setdefault(fact.id, lines.number)
        if before == lines.number:
            return
        if self.messages[before - 2].data == raw.data:
            raise lines.bad(f"the event of line {before} stands here again")
        raise lines.bad(
            f"the slot {fact.slot} has an event of {fact.role} already, in line {before}: there were two writers",
            "a log takes one event a slot: export the run again from the log that is to be trusted",
        )


def _key(path: Path, header: ExportHeader) -> bytes | None:
    try:
        return None if header.key is None else base64.b64decode(header.key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadExport(path, "the run's key is no base64", line=1) from error
