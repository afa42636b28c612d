"""Verification of a run where it lies: in a file of `runs export`, or in the log.

A file is read strictly first. If that fails, what can be read of it is held against its receipts nevertheless: the checksum
tells that something was changed, the receipts tell where.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from infra.exports.format import FORMAT, HEADER_BYTES, MESSAGE_BYTES, PAYLOAD, SCHEMAS, SUM, VERSION, WRAPPED, BadExport
from infra.exports.reading import Export, load_export
from runtime.log import Log, Raw, Stored
from runtime.proving import Finding, Line, Proof, check_content, prove
from runtime.sealing import Erased, Tampered
from schemas.errors import ProtocolError
from schemas.ids import RunId
from schemas.sealing import Sealed

_REST = (PAYLOAD, SCHEMAS, SUM.split(b"%")[0])


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of it. opened: whether the content was looked into, too, rather than its bytes alone."""

    proof: Proof
    opened: bool
    absent: tuple[str, ...] = ()


def verify_file(path: Path, trusted: Mapping[str, bytes]) -> Verified:
    """Verify a file of `runs export`, with nothing else at hand. Raises BadExport if it is no such file."""
    try:
        export = load_export(path)
    except BadExport as error:
        lines = list(_left(path, error))
        about = Finding("file", error.why.partition(f"line {error.line}: ")[2] or error.why, error.line or None)
        proof = prove(lines, trusted)
        return Verified(_with_first(proof, about), opened=False)
    return _verified(export, trusted)


def _verified(export: Export, trusted: Mapping[str, bytes]) -> Verified:
    known = {stored.position for stored in export.facts}
    messages = export.messages
    proof = prove((Line(raw.position + 1, raw.data, "" if raw.position in known else raw.subject) for raw in messages), trusted)
    opened = not export.unread and not any(isinstance(stored.fact.body, Sealed) for stored in export.facts)
    if opened:
        lines = [stored.position + 1 for stored in export.facts]
        proof = proof.and_also(check_content(export.run, export.facts, lines, proof.receipts))
    return Verified(proof, opened, tuple(export.absent))


async def verify_run(log: Log, run: RunId, trusted: Mapping[str, bytes]) -> Verified | None:
    """Verify a run as the log holds it; None if there is nothing. Raises Unreachable."""
    raws = await log.read_raw(run)
    if not raws:
        return None
    try:
        facts = await log.read(run)
    except (Erased, Tampered):
        facts = []
    return verified(run, raws, facts, trusted)


def verified(run: RunId, raws: Sequence[Raw], facts: Sequence[Stored], trusted: Mapping[str, bytes]) -> Verified:
    """Verify messages as the log has them. facts: what they say, as far as they can be read."""
    proof = prove(as_lines(raws), trusted)
    if len(facts) != len(raws) or any(isinstance(stored.fact.body, Sealed) for stored in facts):
        return Verified(proof, opened=False)
    return Verified(proof.and_also(check_content(run, facts, _numbers(raws, facts), proof.receipts)), opened=True)


def as_lines(raws: Sequence[Raw]) -> Iterator[Line]:
    """A run's messages in the log, numbered as they stand there."""
    return (Line(number, raw.data, raw.subject) for number, raw in enumerate(raws, start=1))


def _numbers(raws: Sequence[Raw], facts: Iterable[Stored]) -> list[int]:
    numbers = {raw.position: number for number, raw in enumerate(raws, start=1)}
    return [numbers[stored.position] for stored in facts]


def _with_first(proof: Proof, finding: Finding) -> Proof:
    return Proof(proof.run, proof.tenant, proof.events, proof.receipts, (finding, *proof.findings))


# --- a file that is not whole ---------------------------------------------------------------------


def _left(path: Path, error: BadExport) -> Iterator[Line]:
    """The events of a file that cannot be read strictly. Raises that error if it is no export at all, or a newer one."""
    try:
        with path.open("rb") as file:
            first = file.readline(HEADER_BYTES)
            if FORMAT.encode() not in first or _version(first) > VERSION:
                raise error
            number, most = 1, _events(first)
            while line := file.readline(MESSAGE_BYTES):
                number += 1
                if line.startswith(_REST) or (most is not None and number > most + 1):
                    return
                yield _line(number, line.removesuffix(b"\n"))
    except OSError:
        raise error from None


def _line(number: int, line: bytes) -> Line:
    if line.startswith(WRAPPED):
        try:
            said = orjson.loads(line)
            return Line(number, base64.b64decode(said["message"], validate=True), str(said["subject"]))
        except (ValueError, KeyError, TypeError, binascii.Error, ProtocolError):
            pass
    return Line(number, line)


def _version(header: bytes) -> int:
    return _number(header, "version") or 0


def _events(header: bytes) -> int | None:
    return _number(header, "events")


def _number(header: bytes, name: str) -> int | None:
    try:
        said = orjson.loads(header)[name]
    except (ValueError, KeyError, TypeError):
        return None
    return said if isinstance(said, int) else None
