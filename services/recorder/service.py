"""The recorder: reads the log and keeps an index of it that people can search. A projection; it can be made anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import orjson
import structlog
from pydantic import Field, ValidationError

from runtime.errors import Retryable
from runtime.keyring import read_forgotten
from runtime.log import Delivery, Log, Stored
from runtime.service import Service
from schemas import subjects
from schemas.canonical import read_json
from schemas.envelope import Fact
from schemas.errors import ProtocolError
from schemas.ids import Token
from schemas.runs import FindLines, FindUses, ListRuns
from schemas.tools import Value
from services.recorder.ports import RunIndex
from services.recorder.sealing import Sealer
from services.recorder.summing import Said, Sums, rows_of

log = structlog.get_logger("services.recorder")

GROUP = "recorder"
BATCH = 200
LINGER_S = 0.02

ValueT = TypeVar("ValueT", bound=Value)


class RunsOf(Value):
    """A question for the ids of a user's runs."""

    tenant: Token
    user: Token
    after: str = ""
    limit: int = Field(default=500, ge=1, le=1000)
    open: bool = False


class ForgetRuns(Value):
    """A user whose runs are to say nothing any more."""

    tenant: Token
    user: Token


class Recorder:
    """Indexes facts in batches; a run's summary is its fold."""

    def __init__(self, journal: Log, index: RunIndex, sealer: Sealer | None = None) -> None:
        self._log, self._index, self._sealer = journal, index, sealer
        self._sums = Sums(journal.read)
        self.indexed = 0

    def service(self) -> Service:
        """The questions it answers: runs, lines, uses, runs_of, forget."""
        service = Service("recorder", "indexes the log", stats=lambda: {"indexed": self.indexed})
        service.answer("runs")(self.runs)
        service.answer("lines")(self.lines)
        service.answer("uses")(self.uses)
        service.answer("runs_of")(self.runs_of)
        service.answer("forget")(self.forget)
        service.hears[subjects.forget("*")] = self.on_forget
        if self._sealer:
            self._sealer.answer(service)
        return service

    async def runs(self, raw: bytes) -> bytes:
        """ListRuns -> RunSummary list, newest first."""
        asked = _read(ListRuns, raw)
        return _write(await self._index.list_runs(asked.which, asked.limit, asked.after))

    async def lines(self, raw: bytes) -> bytes:
        """FindLines -> EventRow list, by run and in each in the log's order."""
        asked = _read(FindLines, raw)
        return _write(await self._index.lines(asked.tenant, asked.runs, asked.text, asked.each))

    async def uses(self, raw: bytes) -> bytes:
        """FindUses -> Used list, newest runs first."""
        asked = _read(FindUses, raw)
        return _write(await self._index.uses(asked.tenant, asked.names, asked.limit))

    async def runs_of(self, raw: bytes) -> bytes:
        """RunsOf -> their ids, in order."""
        asked = _read(RunsOf, raw)
        found = await self._index.runs_of(asked.tenant, asked.user, after=asked.after, limit=asked.limit, open=asked.open)
        return orjson.dumps(found)

    async def forget(self, raw: bytes) -> bytes:
        """ForgetRuns -> Erasure."""
        asked = _read(ForgetRuns, raw)
        return orjson.dumps((await self._index.forget(asked.tenant, asked.user)).model_dump(mode="json"))

    async def on_forget(self, subject: str, raw: bytes) -> None:
        """Keys were destroyed: their runs leave this process's memory."""
        self._sums.forget(read_forgotten(raw))

    async def record(self) -> None:
        """Index every fact, for ever; what is not stored comes again."""
        waiting: asyncio.Queue[Delivery[Fact]] = asyncio.Queue(maxsize=4 * BATCH)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._gather(waiting))
            group.create_task(self._store(waiting))

    async def _gather(self, waiting: asyncio.Queue[Delivery[Fact]]) -> None:
        async for delivery in self._log.facts(GROUP):
            await waiting.put(delivery)

    async def _store(self, waiting: asyncio.Queue[Delivery[Fact]]) -> None:
        while True:
            batch = [await waiting.get()]
            await asyncio.sleep(LINGER_S)  # let a batch gather: one transaction for many facts
            while len(batch) < BATCH and not waiting.empty():
                batch.append(waiting.get_nowait())
            try:
                await self._index_batch(batch)
                for delivery in batch:
                    await delivery.ack()
                self.indexed += len(batch)
            except Retryable as error:
                log.warning("not indexed yet", facts=len(batch), error=error.what)
                for delivery in batch:
                    await delivery.again(1.0)

    async def _index_batch(self, batch: list[Delivery[Fact]]) -> None:
        facts = [Said(Stored(each.message, each.position), each.size) for each in batch]
        gap = any(each.gap or each.attempt > 1 for each in batch)  # then another recorder may have had facts between
        rows = await rows_of(self._sums, facts, gap=gap)
        try:
            await self._index.record(rows.events, rows.runs, uses=rows.uses, receipts=rows.receipts)
        except Retryable:
            raise
        except Exception as error:  # a value that the index cannot hold: the other facts are none the worse for it
            if len(batch) > 1:
                for each in batch:
                    await self._index_batch([each])
                return
            fact = batch[0].message
            log.error("a fact cannot be indexed", run=fact.run, event_id=fact.id, type=fact.kind, error=str(error)[:300])
        if self._sealer:
            await self._sealer.heard([(each.message, each.position) for each in batch], rows.over)


def _read(kind: type[ValueT], raw: bytes) -> ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=64 * 1024))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error


def _write(values: Sequence[Value]) -> bytes:
    return orjson.dumps([each.model_dump(mode="json") for each in values])
