"""Where the archive is made from: the streams of the log, and the payloads beside them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from infra.archive.layout import NOBODY
from infra.archive.member import placed
from infra.exports.references import references
from infra.jetstream import streams
from infra.jetstream.connection import Connection
from infra.jetstream.log import JetStreamLog
from infra.jetstream.payloads import JetStreamBlobs
from infra.jetstream.streams import SegmentState
from runtime.log import Raw
from runtime.payloads import name_of
from runtime.receipts import is_seal, receipt_hash
from runtime.sealing import Keyring, Sealing
from schemas import subjects
from schemas.envelope import Fact
from schemas.errors import ProtocolError
from schemas.events import RunRequested, RunSealed, ToolInDoubt
from schemas.ids import END_SLOT, RunId, checked_run, settled_slot
from schemas.receipts import NO_HASH

AT_ONCE = 8
"""So many runs are asked for at the same time."""
_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class SegmentRun:
    """A run with all its messages, each with its fact if it can be read. position: of its request in the stream."""

    run: RunId
    tenant: str
    position: int
    messages: tuple[tuple[Raw, Fact | None], ...]

    @property
    def raws(self) -> list[Raw]:
        """The messages alone."""
        return [raw for raw, _ in self.messages]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a run, as its messages tell it without their content."""

    ended: bool
    in_doubt: int
    receipt: str


class Source:
    """A segment of the log, read in order and never as a whole."""

    def __init__(self, connection: Connection, log: JetStreamLog, keyring: Keyring) -> None:
        self.connection, self._log = connection, log
        self._sealing, self.blobs = Sealing(keyring), JetStreamBlobs(connection)
        self._requested: OrderedDict[RunId, bool] = OrderedDict()

    async def state(self, segment: str) -> SegmentState | None:
        """The segment's stream; None if there is none. Raises Unreachable."""
        return await streams.state(self.connection, segment)

    async def runs(self, segment: str, after: int = 0) -> AsyncIterator[SegmentRun]:
        """Every run of a segment that was requested, in the order of the requests, from the one after that position."""
        ahead: list[Raw] = []
        async for raw in self._log.messages(segment, subjects.request_subjects(segment), after):
            ahead.append(raw)
            if len(ahead) == AT_ONCE:
                for found in await self._requested_by(ahead):
                    yield found
                ahead = []
        for found in await self._requested_by(ahead):
            yield found

    async def _requested_by(self, requests: Sequence[Raw]) -> list[SegmentRun]:
        """Each run once, by the request that counts, however many name it."""
        found = await asyncio.gather(*(self.run(subjects.parse_fact(raw.subject).run) for raw in requests))
        pairs = zip(requests, found, strict=True)
        return [run for raw, run in pairs if run is not None and run.position == raw.position]

    async def run(self, run: RunId) -> SegmentRun | None:
        """One run; None if nobody requested it. Raises Unreachable."""
        messages = tuple((raw, placed(raw)) for raw in await self._log.read_raw(run))
        first = next(((raw, fact) for raw, fact in messages if fact and fact.kind == RunRequested.__name__), None)
        return None if first is None else SegmentRun(run, first[1].tenant, first[0].position, messages)

    async def strays(self, segment: str) -> AsyncIterator[Raw]:
        """Every message that belongs to no run that was requested."""
        async for raw in self._log.messages(segment, subjects.segment_subjects(segment)):
            if not await self._belongs(raw):
                yield raw

    async def _belongs(self, raw: Raw) -> bool:
        run = run_of(raw.subject)
        if run is None:
            return False
        known = self._requested.get(run)
        if known is None:
            known = self._requested[run] = await self.run(run) is not None
            if len(self._requested) > _KNOWN:
                self._requested.popitem(last=False)
        return known

    async def payloads_of(self, run: SegmentRun) -> list[str]:
        """The names of the payloads that a run's results refer to; none if its content was erased. Raises Unreachable."""
        facts = [await self._sealing.fact(fact) for _, fact in run.messages if fact is not None and fact.role == "tools"]
        return [name_of(ref) for ref in references(facts)]


def run_of(subject: str) -> RunId | None:
    """The run under whose subjects a message stands, whatever follows there."""
    tokens = subject.split(".")
    try:
        run = checked_run(tokens[4]) if len(tokens) > 5 else None
    except ProtocolError:
        return None
    return run if run and subject.startswith(subjects.run_subjects(run).removesuffix(">")) else None


def tenant_of(subject: str) -> str:
    """The tenant that a message's subject names; NOBODY if it names none."""
    try:
        return subjects.parse_fact(subject).tenant
    except ProtocolError:
        return NOBODY


def fate_of(facts: Sequence[Fact | None]) -> Fate:
    """What became of a run, from what its facts say of themselves."""
    there = [fact for fact in facts if fact is not None]
    slots = {fact.slot for fact in there}
    doubts = sum(fact.kind == ToolInDoubt.__name__ and settled_slot(fact.slot) not in slots for fact in there)
    seals = [fact.body for fact in there if isinstance(fact.body, RunSealed) and is_seal(fact.role, fact.slot)]
    last = max(seals, key=lambda each: each.receipt.part, default=None)
    receipt = receipt_hash(last.receipt) if last is not None else NO_HASH
    return Fate(any(fact.slot == END_SLOT and fact.role == "conductor" for fact in there), doubts, receipt)
