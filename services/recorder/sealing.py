"""Sealing: runs that have ended get their receipts, which are chained, put into the log, and vouched for by checkpoints.

Nothing is lost when a recorder dies: that a run is due is noted before its facts are acknowledged; a receipt is committed with
its number before it goes into the log, and goes there again until it is known to be there. Several recorders may do the same
work at once: the store lets one of them number a run, and the log takes one fact a slot.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import orjson
import structlog
from pydantic import Field, ValidationError

from runtime.clock import Clock
from runtime.errors import Retryable
from runtime.fold import Folded, fold
from runtime.log import Log
from runtime.proving import followed
from runtime.receipts import (
    Counted,
    NotAnEnd,
    NotTheSame,
    ReceiptKeys,
    SignedCheckpoint,
    checkpoint_of,
    count,
    fact_of,
    is_seal,
    receipt_hash,
    said_of,
    sealed,
)
from runtime.service import Service
from runtime.signing import is_genuine
from schemas.canonical import read_json
from schemas.commands import EndRun
from schemas.envelope import Fact, encode
from schemas.errors import MilepostError, ProtocolError
from schemas.events import RunSealed
from schemas.ids import END_SLOT, CommandId, RunId, Token, checked_run
from schemas.receipts import NO_HASH, Checkpoint, Receipt
from schemas.subjects import FactSubject
from schemas.tools import Value
from services.recorder.receipt_ports import ChainBehind, CheckpointShelf, Due, Make, ReceiptStore

log = structlog.get_logger("services.recorder")

AT_ONCE = 64
READERS = 8
QUIET_S = 2.0
SWEEP_S = 5.0
RETRY_S = 1.0
STUCK_S = 60.0
EVERY = 1000
EVERY_S = 600.0
KEPT = 20_000

ValueT = TypeVar("ValueT", bound=Value)


class RunGone(MilepostError):
    """The run of a receipt lies in the log no more: its segment was dropped."""


class ReadChain(Value):
    """A question for a tenant's receipts in order of their numbers. run: for those of one run; last: for the last ones."""

    tenant: Token
    after: int = Field(default=0, ge=0)
    limit: int = Field(default=200, ge=1, le=500)
    run: str | None = None
    last: int | None = Field(default=None, ge=1, le=500)


class SealRuns(Value):
    """Runs that are to be looked at again: those of them that have ended and have no receipt get one."""

    tenant: Token
    runs: tuple[str, ...] = Field(min_length=1, max_length=500)


class MakeCheckpoint(Value):
    """How far has the chain come? It is answered with a signed checkpoint, which is kept, too."""

    tenant: Token


class Sealer:
    """Seals runs. quiet_s: how long facts that come after a receipt are waited for, so that several make one amendment.

    every, every_s: a checkpoint after so many receipts, or so many seconds if there are new ones.
    """

    def __init__(
        self, journal: Log, store: ReceiptStore, keys: ReceiptKeys, clock: Clock, shelf: CheckpointShelf, *,
        quiet_s: float = QUIET_S, every: int = EVERY, every_s: float = EVERY_S,
    ) -> None:  # fmt: skip
        self._log, self._store, self._keys, self._clock, self._shelf = journal, store, keys, clock, shelf
        self._quiet, self._every, self._every_s = timedelta(seconds=quiet_s), every, timedelta(seconds=every_s)
        self._known: dict[RunId, dict[CommandId, str]] = {}
        self._own: dict[RunId, datetime] = {}
        self._sound: set[str] = set()
        self._heads: dict[str, tuple[int, str]] | None = None
        self._behind: dict[str, datetime] = {}
        self._stuck: dict[str, datetime] = {}
        self._seen: dict[str, Checkpoint] = {}
        self._wake = asyncio.Event()
        self.sealed = 0

    def answer(self, service: Service) -> None:
        """Answer questions about receipts: receipts, seal, checkpoint."""
        service.answer("receipts")(self._on_receipts)
        service.answer("seal")(self._on_seal)
        service.answer("checkpoint")(self._on_checkpoint)

    # --- what the recorder tells ---

    async def heard(self, facts: Iterable[tuple[Fact, int]], folds: Mapping[RunId, Folded]) -> None:
        """Facts with their positions, and what their runs have come to: note what is to be sealed before they are settled."""
        now = self._clock.now()
        due: dict[RunId, Due] = {}
        told: list[RunSealed] = []
        for fact, position in facts:
            if is_seal(fact.role, fact.slot):
                told += [fact.body] if isinstance(fact.body, RunSealed) else []
                continue
            folded, ends = folds.get(fact.run), fact.slot == END_SLOT
            if not ends and (folded is None or not (folded.state.phase == "ended" or folded.state.erased)):
                continue
            at = now if ends or (fact.run in due and due[fact.run].at == now) else now + self._quiet
            due[fact.run] = Due(tenant=fact.tenant, run=fact.run, position=position, at=at)
            if folded is not None:
                self._know(fact.run, folded)
        if due:
            await self._store.note([*due.values()])
            self._own.update((run, each.at) for run, each in due.items())
            self._wake.set()
        if told:
            await restore(self._store, told, self._keys.trusted())
            for each in told:  # the chain may be whole again
                self._behind.pop(each.receipt.tenant, None)

    def _know(self, run: RunId, folded: Folded) -> None:
        """Keep what the fold has already found, for the moment when the run is sealed."""
        self._known[run] = {} if folded.state.erased else dict(folded.unanswered)
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]

    # --- the work ---

    async def work(self) -> None:
        """Seal what is due and publish what is sealed, for ever; what a dead recorder left is done first."""
        while True:
            try:
                more = await self.step()
            except Retryable as error:
                log.warning("not sealed yet", error=error.what, why=error.why, next=error.hint)
                await asyncio.sleep(RETRY_S)
                continue
            if not more:
                await self._pause()

    async def step(self) -> bool:
        """Do what is there to do at this moment; whether there may be more of it."""
        self._wake.clear()
        published = await self._publish()
        due = await self._due()
        await self._seal(due)
        if due:
            published += await self._publish()
        await self._take_checkpoints()
        return bool(due) or published >= AT_ONCE

    async def _pause(self) -> None:
        """Wait until something is due, or a while."""
        now = self._clock.now()
        next_due = min(((at - now).total_seconds() for at in self._own.values()), default=SWEEP_S)
        try:
            async with asyncio.timeout(min(SWEEP_S, max(0.02, next_due))):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _due(self) -> list[Due]:
        """What this recorder has noted; of others', what they should have sealed by now."""
        now = self._clock.now()
        left, noted = now - timedelta(seconds=SWEEP_S), [run for run, at in self._own.items() if at <= now]
        found = await self._store.due(now, AT_ONCE, but=_until(self._behind, now))
        if len(found) < AT_ONCE:  # what is not among them was sealed by another recorder
            for run in set(noted).difference(each.run for each in found):
                self._drop(RunId(run))
        return [each for each in found if each.run in self._own or each.at <= left]

    async def _seal(self, due: Sequence[Due]) -> None:
        by_tenant: defaultdict[str, list[Due]] = defaultdict(list)
        for each in due:
            by_tenant[each.tenant].append(each)
        behind: list[ChainBehind] = []
        for tenant, runs in by_tenant.items():
            try:
                await self._seal_of(tenant, runs)
            except ChainBehind as error:  # that tenant's trouble is not the others'
                self._behind[tenant] = self._clock.now() + timedelta(seconds=SWEEP_S)
                behind.append(error)
        if behind:
            raise behind[0]

    async def _seal_of(self, tenant: str, runs: Sequence[Due]) -> None:
        await self._check_head(tenant)
        readers = asyncio.Semaphore(READERS)
        counted = await asyncio.gather(*(self._count(each, readers) for each in runs))
        makes = {each.run: self._make(each) for each in counted if each is not None}
        both = zip(runs, counted, strict=True)
        read = {RunId(one.run): max(one.position, each.position if each else 0) for one, each in both}
        made = await self._store.add(tenant, makes, read)
        self.sealed += len(made)
        if made and self._heads is not None:
            last = made[-1].receipt
            self._heads[tenant] = (last.number, receipt_hash(last))
        for run in read:
            self._drop(run)

    def _drop(self, run: RunId) -> None:
        self._own.pop(run, None)
        self._known.pop(run, None)

    async def _count(self, due: Due, readers: asyncio.Semaphore) -> Counted | None:
        run = RunId(due.run)
        async with readers:
            raws = await self._log.read_raw(run)
            unanswered = self._known.get(run)
            if unanswered is None:
                folded = fold(run, await self._log.read(run))
                unanswered = {} if folded.state.erased else folded.unanswered
        try:
            return count(run, raws, unanswered, tenant=due.tenant)  # a stranger's fact tells of no run
        except NotAnEnd as error:
            log.error("a run cannot be sealed", run=run, what=error.what, why=error.why)
            return None

    def _make(self, counted: Counted) -> Make:
        def make(before: Receipt | None, number: int, previous: str) -> RunSealed | None:
            try:
                return sealed(
                    counted, before, number=number, previous=previous, keys=self._keys, now=self._clock.now()
                )  # fmt: skip
            except NotTheSame as error:
                log.error("a sealed run was changed", run=counted.run, what=error.what, why=error.why, next=error.hint)
                return None

        return make

    async def _publish(self) -> int:
        """Put what is sealed into the log; gives how many that were. One that cannot be put there keeps no other one back."""
        rows = await self._store.unpublished(AT_ONCE, but=_until(self._stuck, self._clock.now()))
        ends = await asyncio.gather(*(self._put(row) for row in rows))
        there = [row for row, end in zip(rows, ends, strict=True) if end is None]
        await self._store.published(there)
        away = next((end for end in ends if isinstance(end, Retryable)), None)
        if away and not there:
            raise away
        return len(there)

    async def _put(self, row: RunSealed) -> MilepostError | None:
        """Put one into the log; gives why it is not there."""
        try:
            await self._append(row)
        except MilepostError as error:
            pause = RETRY_S if isinstance(error, Retryable) else STUCK_S
            self._stuck[row.receipt.run] = self._clock.now() + timedelta(seconds=pause)
            log.error("a receipt is not in the log yet", run=row.receipt.run, number=row.receipt.number, what=error.what,
                      why=error.why, next=error.hint)  # fmt: skip
            return error
        return None

    async def _append(self, row: RunSealed) -> None:
        """Where the run is gone, nothing is put: that would begin a dropped segment anew. Raises RunGone."""
        fact = fact_of(row)
        if not await self._log.holds(fact.run, fact.tenant, EndRun.role, END_SLOT):
            raise RunGone(f"The log does not hold run {fact.run} any more.", hint="milepost archive ls")
        if await self._log.append(fact):
            return
        place = str(FactSubject(fact.run, fact.tenant, fact.role, fact.slot))
        stored = [raw.data for raw in await self._log.read_raw(fact.run) if raw.subject == place]
        if stored != [encode(fact)]:
            log.error("something else stands where a receipt belongs", run=fact.run, number=row.receipt.number, slot=fact.slot,
                      next="milepost receipts check")  # fmt: skip

    # --- the chain ---

    async def _check_head(self, tenant: str) -> None:
        """Whether the chain still has what its checkpoints saw; asked once a tenant and process. Raises ChainBehind."""
        if tenant in self._sound:
            return
        for signed in (self._shelf.last(tenant), await self._store.checkpoint(tenant)):
            if signed is None or not signed.checkpoint.number:
                continue
            seen = signed.checkpoint
            there = await self._store.chain(tenant, seen.number - 1, 1)
            if [receipt_hash(each.receipt) for each in there if each.receipt.number == seen.number] != [seen.head]:
                raise ChainBehind(
                    f"The chain of {tenant} does not have receipt {seen.number} as its checkpoint saw it.",
                    why="the database is older than the checkpoint, or was changed", hint="milepost receipts check",
                )  # fmt: skip
        self._sound.add(tenant)

    async def _take_checkpoints(self) -> None:
        """Vouch for the chains as far as this recorder knows them: as they were at its start, and what it has sealed since."""
        if self._heads is None:
            self._heads = await self._store.heads()
        for tenant, (number, head) in [*self._heads.items()]:
            if tenant not in self._seen and (last := await self._store.checkpoint(tenant)):
                self._seen[tenant] = last.checkpoint
            seen = self._seen.get(tenant)
            if seen and (number <= seen.number or not self._is_time(number - seen.number, seen.at)):
                continue
            if tenant in _until(self._behind, self._clock.now()):
                continue
            await self._check_head(tenant)
            await self._checkpoint(tenant, number, head)

    def _is_time(self, more: int, since: datetime) -> bool:
        return more >= self._every or self._clock.now() - since >= self._every_s

    async def _checkpoint(self, tenant: str, number: int, head: str) -> SignedCheckpoint:
        signed = checkpoint_of(tenant, number, head, key=self._keys.signing(), now=self._clock.now())
        await self._store.keep(signed)
        self._seen[tenant] = signed.checkpoint
        try:
            self._shelf.put(signed)
        except OSError as error:
            log.error("a checkpoint is in the database alone", tenant=tenant, number=number, why=str(error))
        return signed

    # --- questions ---

    async def _on_receipts(self, raw: bytes) -> bytes:
        """ReadChain -> RunSealed list without their trees' nodes, in order of their numbers."""
        asked = _read(ReadChain, raw)
        if asked.run:
            rows = await self._store.of_run(asked.tenant, asked.run)
        else:
            number, _ = (await self._store.heads()).get(asked.tenant, (0, NO_HASH)) if asked.last else (0, NO_HASH)
            after = max(0, number - asked.last) if asked.last else asked.after
            rows = await self._store.chain(asked.tenant, after, asked.last or asked.limit)
        return orjson.dumps([row.model_dump(mode="json", exclude={"nodes"}) for row in rows])

    async def _on_seal(self, raw: bytes) -> bytes:
        """SealRuns -> how many were noted; they are sealed in a moment."""
        asked, now = _read(SealRuns, raw), self._clock.now()
        runs = [checked_run(run) for run in asked.runs]
        await self._store.note([Due(tenant=asked.tenant, run=run, position=0, at=now) for run in runs])
        self._own.update((run, now) for run in runs)
        self._wake.set()
        return orjson.dumps({"noted": len(asked.runs)})

    async def _on_checkpoint(self, raw: bytes) -> bytes:
        """MakeCheckpoint -> SignedCheckpoint."""
        tenant = _read(MakeCheckpoint, raw).tenant
        number, head = (await self._store.heads()).get(tenant, (0, NO_HASH))
        await self._check_head(tenant)
        return orjson.dumps((await self._checkpoint(tenant, number, head)).model_dump(mode="json"))


def _until(moments: dict[str, datetime], now: datetime) -> list[str]:
    """Those whose moment is still to come; the others are forgotten. A clock that was set back holds nobody for long."""
    for name, until in [*moments.items()]:
        if not now < until <= now + timedelta(seconds=STUCK_S):
            del moments[name]
    return [*moments]


async def restore(store: ReceiptStore, told: Sequence[RunSealed], trusted: Mapping[str, bytes]) -> None:
    """The log tells of receipts: make the store match, as far as the recorder's own keys have signed them."""
    genuine = [each for each in told if _is_ours(each, trusted)]
    for each in [*(each for each in told if each not in genuine), *await store.restore(genuine)]:
        about = {"run": each.receipt.run, "tenant": each.receipt.tenant, "number": each.receipt.number}
        log.error("a receipt in the log is not of this chain", **about, next="milepost receipts check")


def _is_ours(event: RunSealed, trusted: Mapping[str, bytes]) -> bool:
    known, _ = followed(trusted, event.endorsements)
    public = known.get(event.receipt.key)
    return public is not None and is_genuine(public, event.signature, said_of(event.receipt))


def _read(kind: type[ValueT], raw: bytes) -> ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=64 * 1024))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error
