"""Whether a run's messages are what the recorder signed; and if not, what is wrong where.

It works on the bytes alone and needs nothing but the public keys that the asker trusts. What it finds are values: each has a
kind, the place, and the rest of the sentence.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, TypeAlias, get_args

import orjson

from runtime.fold import Folded
from runtime.log import Stored
from runtime.merkle import leaf_hash, level_of, root_of
from runtime.receipts import (
    NODES,
    NotAnEnd,
    SignedCheckpoint,
    fact_of,
    is_seal,
    leaf_of,
    nodes_of,
    place_of,
    receipt_hash,
    said_of,
    said_of_checkpoint,
    said_of_endorsement,
    told_by,
)
from runtime.receipts import PURPOSE as RECEIPT_KEY
from runtime.replay import replay
from runtime.signing import is_genuine, public_key
from runtime.state import RunState
from schemas.commands import EndRun
from schemas.envelope import decode_fact, encode
from schemas.errors import MilepostError, ProtocolError
from schemas.events import RunSealed
from schemas.ids import END_SLOT, RunId, event_id
from schemas.receipts import NO_HASH, Endorsement, Receipt, Unanswered
from schemas.sealing import Sealed
from schemas.subjects import FactSubject, parse_fact

Wrong: TypeAlias = Literal[
    "file", "malformed", "foreign", "misplaced", "repeated", "edited", "shifted", "missing", "root", "seal", "signature",
    "part", "number", "previous", "outcome", "unanswered", "undecided", "absent", "differs", "unlisted", "cut", "rewritten",
]  # fmt: skip
Unproved: TypeAlias = Literal["unsealed", "later", "unvouched"]
Kind: TypeAlias = Wrong | Unproved
WRONG: frozenset[str] = frozenset(get_args(Wrong))
Placed: TypeAlias = tuple[str, str, str, str, str]
"""Run, tenant, role, slot and id of a message."""

SHOWN = 5
"""So many places of one receipt are named one by one."""

_BEGIN = re.compile(
    rb'\{"specversion":"1\.0","id":"([0-9a-f]{32})","source":"/milepost/([a-z]+)/[^"\\/]*","type":"[^"\\]*",'
    rb'"subject":"([\w-]+)","time":"[^"\\]*","datacontenttype":"[^"\\]*","tenant":"([\w-]+)","run":"([0-9]{6}-[0-9a-f]{32})"'
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or that nobody proves. kind: names the sentence; detail: what is put into it.

    line: in the file, from 1; event: its number among those that are counted; receipt: its part in the run, or its number in
    the chain.
    """

    kind: Kind
    detail: str = ""
    line: int | None = None
    event: int | None = None
    receipt: int | None = None

    @property
    def wrong(self) -> bool:
        """Whether something was changed, rather than not proved."""
        return self.kind in WRONG


@dataclass(frozen=True, slots=True)
class Line:
    """A message as it is stored, and where: its line in a file, or its number in the log.

    subject: under which it lies in the log; "" if its own attributes are all that tells.
    """

    number: int
    data: bytes
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of a verification. events: how many are counted; receipts: those that are genuine, by part."""

    run: str
    tenant: str
    events: int
    receipts: tuple[Receipt, ...]
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Literal["proved", "unproved", "tampered"]:
        """unproved: nothing was changed as far as one can tell, and nobody who is trusted says so."""
        if any(each.wrong for each in self.findings):
            return "tampered"
        return "unproved" if self.findings else "proved"

    def and_also(self, findings: Iterable[Finding]) -> Proof:
        """The same with more findings."""
        return replace(self, findings=(*self.findings, *findings))


@dataclass(frozen=True, slots=True)
class _Seal:
    """A line in which a receipt stands. before: how many counted events stand before it."""

    line: Line
    before: int
    event: RunSealed


class _Reading:
    """The lines of one run, read once: leaf hashes of what is counted, seals, and what is wrong with single lines."""

    def __init__(self, places: Callable[[Line], Placed]) -> None:
        self._placed = places
        self.run = self.tenant = ""
        self.hashes: list[bytes] = []
        self.lines: list[int] = []
        self.seals: list[_Seal] = []
        self.ending: Line | None = None
        self.findings: list[Finding] = []

    def read(self, lines: Iterable[Line]) -> None:
        """Read them all; one that cannot be read is counted under a name that no event has."""
        seen: dict[str, int] = {}
        for line in lines:
            try:
                run, tenant, role, slot, id = self._placed(line)
            except (ValueError, KeyError, TypeError, ProtocolError) as error:
                self._wrong("malformed", line, _brief(error))
                self._count(line, "")
                continue
            if not self.run:
                self.run, self.tenant = run, tenant
            own = run == self.run and tenant == self.tenant
            if not own and (not line.subject or run != self.run):
                self._wrong("foreign", line, f"{run[:64]} of {tenant[:64]}")
            place = event_id(RunId(run), tenant, role, slot)
            if id not in ("", place):
                self._wrong("misplaced", line, id[:64])
            if place in seen:
                self._wrong("repeated", line, str(seen[place]))
            seen.setdefault(place, line.number)
            if is_seal(role, slot):
                self._seal(line)
                continue
            self._count(line, id or place)
            if own and slot == END_SLOT and role == EndRun.role:
                self.ending = line

    def _count(self, line: Line, id: str) -> None:
        self.lines.append(line.number)
        self.hashes.append(leaf_hash(leaf_of(len(self.hashes) + 1, id, line.data)))

    def _seal(self, line: Line) -> None:
        """A receipt's line is what the recorder would write for what it says, byte for byte."""
        try:
            event = RunSealed.model_validate(orjson.loads(line.data)["data"])
            if encode(fact_of(event)) == line.data:
                self.seals.append(_Seal(line, len(self.hashes), event))
                return
        except (MilepostError, ValueError, KeyError, TypeError):
            pass
        self.findings.append(Finding("seal", _why_no_receipt(line.data), line=line.number))

    def _wrong(self, kind: Wrong, line: Line, detail: str) -> None:
        self.findings.append(Finding(kind, detail, line.number, len(self.hashes) + 1))

    def event(self, number: int) -> int | None:
        """The line of an event."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else None


def _why_no_receipt(data: bytes) -> str:
    try:
        decode_fact(data)
    except (MilepostError, ValueError) as error:
        return _brief(error)
    return "it is in other bytes"


def _begun(line: Line) -> Placed:
    """As `_placed`, from how the bytes begin if they begin as all do that Milepost writes; the rest is not looked at."""
    found = _BEGIN.match(line.data)
    if found is None:
        return _placed(line)
    id, role, slot, tenant, run = [each.decode() for each in found.groups()]
    if line.subject and line.subject != str(FactSubject(RunId(run), tenant, role, slot)):
        return _placed(line)
    return run, tenant, role, slot, id


def _placed(line: Line) -> Placed:
    """Run, tenant, role, slot and id of a message; an id that nobody told is "". Raises ValueError and others."""
    if not line.subject:
        header = orjson.loads(line.data)
        return (*place_of(header), str(header["id"]))
    place = parse_fact(line.subject)
    try:
        id = orjson.loads(line.data)["id"]
    except (ValueError, KeyError, TypeError):
        id = ""  # what lies there is no event; it was counted nevertheless
    return place.run, place.tenant, place.role, place.slot, id if isinstance(id, str) else ""


def prove(lines: Iterable[Line], trusted: Mapping[str, bytes]) -> Proof:
    """Verify a run's messages in the log's order. trusted: public keys by id; nothing in the lines adds to them by itself.

    A first reading parses none of them: a signature is over bytes and places. Only if it finds anything, a second one parses
    every message, to say what is wrong.
    """
    kept = [*lines]
    proof = _proved(kept, trusted, _begun)
    return _proved(kept, trusted, _placed) if proof.findings else proof


def _proved(lines: Sequence[Line], trusted: Mapping[str, bytes], placed: Callable[[Line], Placed]) -> Proof:
    reading = _Reading(placed)
    reading.read(lines)
    seals = sorted(reading.seals, key=lambda seal: seal.event.receipt.part)
    findings = list(reading.findings)
    before: Receipt | None = None
    for seal in seals:
        findings += _check_seal(reading, seal, before, trusted)
        before = seal.event.receipt
    told = seals[0].event.receipt if seals else None
    if before is None:
        findings.append(Finding("unsealed", "not ended" if reading.ending is None else "ended"))
    elif before.size < len(reading.hashes):
        rest = before.size + 1
        findings.append(Finding("later", str(len(reading.hashes) - before.size), reading.event(rest), rest, before.part))
    run, tenant = (reading.run, reading.tenant) if reading.run else (told.run, told.tenant) if told else ("", "")
    return Proof(run, tenant, len(reading.hashes), tuple(each.event.receipt for each in seals), tuple(_once(findings)))


def _check_seal(reading: _Reading, seal: _Seal, before: Receipt | None, trusted: Mapping[str, bytes]) -> Iterator[Finding]:
    receipt, line = seal.event.receipt, seal.line.number
    yield from _about(line, receipt.part, _check_signature(seal.event, trusted))
    if (receipt.run, receipt.tenant) != (reading.run, reading.tenant):
        yield Finding("foreign", f"{receipt.run} of {receipt.tenant}", line, receipt=receipt.part)
    wanted = before.part + 1 if before else 1
    amends = receipt_hash(before) if before else NO_HASH
    if receipt.part != wanted:
        yield Finding("part", str(wanted), line, receipt=receipt.part)
    elif receipt.amends != amends or (before and (receipt.size <= before.size or receipt.number <= before.number)):
        yield Finding("part", str(receipt.part - 1), line, receipt=receipt.part)
    yield from _check_tree(reading, seal)
    yield from _check_ending(reading, receipt, line)


def _check_signature(event: RunSealed, trusted: Mapping[str, bytes]) -> Iterator[Finding]:
    known, wrong = followed(trusted, event.endorsements)
    if wrong:
        yield Finding("signature", f"endorsement of {wrong}")
    public = known.get(event.receipt.key)
    if public is None:
        yield Finding("unvouched", event.receipt.key)
    elif not is_genuine(public, event.signature, said_of(event.receipt)):
        yield Finding("signature", event.receipt.key)


def followed(trusted: Mapping[str, bytes], endorsements: Sequence[Endorsement]) -> tuple[dict[str, bytes], str]:
    """The trusted keys and those that they lead to; and the first key whose endorsement by one of them is forged, or ""."""
    known = dict(trusted)
    for each in endorsements:
        by, public = known.get(each.by), public_key(RECEIPT_KEY, each.key, each.public)
        if by is None:
            continue
        if public is None or not is_genuine(by, each.signature, said_of_endorsement(each)):
            return known, each.key
        known.setdefault(each.key, public)
    return known, ""


# --- the tree -------------------------------------------------------------------------------------


def _check_tree(reading: _Reading, seal: _Seal) -> Iterator[Finding]:
    receipt, line = seal.event.receipt, seal.line.number
    own = reading.hashes[: receipt.size]
    same = len(own) == receipt.size and root_of(own).hex() == receipt.root
    if same:
        if seal.before < receipt.size:
            yield Finding("seal", f"it counts {receipt.size} events and stands after {seal.before}", line, receipt=receipt.part)
        if seal.event.nodes != nodes_of(own):
            yield Finding("seal", "its nodes are not those of its tree", line, receipt=receipt.part)
        return
    if len(own) < receipt.size:
        yield Finding("missing", f"{len(reading.hashes)}/{receipt.size}", line, receipt=receipt.part)
    nodes = _nodes(seal.event)
    if nodes is None:
        yield Finding("root", str(receipt.size), line, receipt=receipt.part)
        return
    yield from _changed(reading, own, nodes, receipt)


def _nodes(event: RunSealed) -> list[bytes] | None:
    """The nodes that a receipt carries, if they lead to its root."""
    try:
        raw = base64.b64decode(event.nodes, validate=True)
    except (binascii.Error, ValueError):
        return None
    nodes = [raw[at : at + 32] for at in range(0, len(raw), 32)]
    return nodes if nodes and root_of(nodes).hex() == event.receipt.root else None


def _changed(reading: _Reading, own: Sequence[bytes], nodes: Sequence[bytes], receipt: Receipt) -> Iterator[Finding]:
    """Where the leaves differ from those that were signed: single places, or all from one on."""
    covers, _ = level_of([b""] * receipt.size, NODES)
    mine = [root_of(own[at : at + covers]) for at in range(0, len(own), covers)]
    wrong = [at for at, (one, other) in enumerate(zip(mine, nodes, strict=False)) if one != other]
    if not wrong:
        return  # they end too early, which was said
    spans = [[at for _, at in span] for _, span in groupby(enumerate(wrong), lambda pair: pair[1] - pair[0])]
    last = min(len(mine), len(nodes)) - 1
    moved = len(spans) == 1 and len(wrong) > 1 and wrong[-1] == last
    for span in spans[:SHOWN]:
        first, until = span[0] * covers + 1, min((span[-1] + 1) * covers, receipt.size)
        where = str(first) if first == until else f"{first}-{until}"
        yield Finding("shifted" if moved else "edited", where, reading.event(first), first, receipt.part)
    if len(spans) > SHOWN:
        yield Finding("root", str(receipt.size), None, receipt=receipt.part)


def _check_ending(reading: _Reading, receipt: Receipt, line: int) -> Iterator[Finding]:
    """What the receipt says of the run's end is what its last event says."""
    if reading.ending is None:
        yield Finding("outcome", receipt.outcome, line, receipt=receipt.part)
        return
    try:
        told = told_by(reading.ending.data)
    except NotAnEnd:
        told = ("", "")
    if told != (receipt.outcome, receipt.decider):
        yield Finding("outcome", receipt.outcome, reading.ending.number, receipt=receipt.part)


# --- what it says ---------------------------------------------------------------------------------


def check_content(run: RunId, facts: Sequence[Stored], lines: Sequence[int], receipts: Sequence[Receipt]) -> Iterator[Finding]:
    """Whether answers answer what is decided, and whether the receipts tell rightly what nobody answered.

    facts: of all messages, opened; lines: where each stands. What cannot be opened is not looked into.
    """
    if any(isinstance(stored.fact.body, Sealed) for stored in facts):
        return
    counted = [
        (stored, line) for stored, line in zip(facts, lines, strict=True) if not is_seal(stored.fact.role, stored.fact.slot)
    ]
    again = replay(run, [stored for stored, _ in counted])
    if again.divergence is not None:
        at = again.divergence.event
        yield Finding("undecided", again.divergence.why, counted[at - 1][1], at)
    folded = Folded(RunState(run=run))
    ends = {receipt.size: receipt for receipt in receipts}
    answered: set[str] = set()
    for number, (stored, _) in enumerate(counted, start=1):
        folded.add(stored)
        answered.add(stored.fact.slot)
        receipt = ends.get(number)
        left = {Unanswered(id=id, kind=kind) for id, kind in folded.unanswered.items() if id not in answered}
        if receipt is not None and left != set(receipt.unanswered):
            yield Finding("unanswered", ", ".join(sorted(each.kind for each in left)), receipt=receipt.part)


# --- the chain ------------------------------------------------------------------------------------


def check_chain(receipts: Iterable[RunSealed], trusted: Mapping[str, bytes], *, tenant: str) -> Iterator[Finding]:
    """Whether a tenant's receipts, in order of their numbers, follow one another without a gap, each genuine."""
    number, previous = 0, NO_HASH
    for event in receipts:
        receipt = event.receipt
        number += 1
        if receipt.number != number:
            yield Finding("number", str(number), receipt=receipt.number)
            number = receipt.number
        elif receipt.previous != previous:
            yield Finding("previous", str(number - 1), receipt=number)
        if receipt.tenant != tenant:
            yield Finding("foreign", f"{receipt.run} of {receipt.tenant}", receipt=number)
        yield from _about(None, number, _check_signature(event, trusted))
        previous = receipt_hash(receipt)


def check_checkpoint(
    signed: SignedCheckpoint, heads: Mapping[int, str], trusted: Mapping[str, bytes], *, tenant: str
) -> Iterator[Finding]:
    """Whether a chain still has what a checkpoint saw. heads: hashes of its receipts by number."""
    seen = signed.checkpoint
    if seen.tenant != tenant:
        yield Finding("foreign", f"a checkpoint of {seen.tenant}", receipt=seen.number)
    public = trusted.get(seen.key)
    if public is None:
        yield Finding("unvouched", seen.key, receipt=seen.number)
    elif not is_genuine(public, signed.signature, said_of_checkpoint(seen)):
        yield Finding("signature", seen.key, receipt=seen.number)
    if seen.number and seen.number not in heads:
        yield Finding("cut", str(max(heads, default=0)), receipt=seen.number)
    elif seen.number and heads[seen.number] != seen.head:
        yield Finding("rewritten", receipt=seen.number)


def _about(line: int | None, receipt: int, findings: Iterable[Finding]) -> Iterator[Finding]:
    return (replace(each, line=line, receipt=receipt) for each in findings)


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """Two receipts that count the same events find the same thing wrong; it is told once."""
    found: dict[tuple[object, ...], Finding] = {}
    for each in findings:
        place = (each.kind, each.detail, each.line, each.event) if each.event else (each,)
        found.setdefault(place, each)
    return list(found.values())


def _brief(error: Exception) -> str:
    if isinstance(error, MilepostError):
        return f"{error.what} {error.why}".strip()[:200]
    return f"{type(error).__name__}: {error}"[:200]
