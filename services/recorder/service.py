"""The recorder: reads the log and keeps an index of it that people can search. A projection; it can be made anew."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeVar, get_args

import orjson
import structlog
from pydantic import Field, ValidationError

from runtime.errors import Retryable
from runtime.fold import Folded
from runtime.keyring import read_forgotten
from runtime.log import Delivery, Log, Stored
from runtime.service import Service
from runtime.state import RunState
from runtime.timeline import summary
from schemas import subjects
from schemas.canonical import read_json
from schemas.envelope import Fact, encode
from schemas.errors import ProtocolError
from schemas.ids import RunId, Token, segment_of_run
from schemas.tools import Value
from services.recorder.ports import EventRow, RunFilter, RunIndex, RunSummary, Status
from services.recorder.uses import uses_of

log = structlog.get_logger("services.recorder")

GROUP = "recorder"
BATCH = 200
LINGER_S = 0.02
KEPT_RUNS = 20_000

ValueT = TypeVar("ValueT", bound=Value)


class ListRuns(Value):
    """A question for runs."""

    which: RunFilter = RunFilter()
    limit: int = 50


class FindUses(Value):
    """A question for the runs that used a thing, by its ids, names or hashes."""

    tenant: Token = "default"
    names: tuple[str, ...] = Field(min_length=1, max_length=8)
    limit: int = Field(default=200, ge=1, le=500)


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

    def __init__(self, journal: Log, index: RunIndex) -> None:
        self._log, self._index = journal, index
        self._runs: OrderedDict[RunId, Folded] = OrderedDict()
        self.indexed = 0

    def service(self) -> Service:
        """The questions it answers: runs, uses, runs_of, forget."""
        service = Service("recorder", "indexes the log", stats=lambda: {"indexed": self.indexed})
        service.answer("runs")(self.runs)
        service.answer("uses")(self.uses)
        service.answer("runs_of")(self.runs_of)
        service.answer("forget")(self.forget)
        service.hears[subjects.forget("*")] = self.on_forget
        return service

    async def runs(self, raw: bytes) -> bytes:
        """ListRuns -> RunSummary list, newest first."""
        asked = _read(ListRuns, raw)
        return _write(await self._index.list_runs(asked.which, asked.limit))

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
        keys = read_forgotten(raw)
        for run, folded in list(self._runs.items()):
            if folded.state.datakey in keys:
                del self._runs[run]

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
        rows = [_row(delivery) for delivery in batch]
        summaries: dict[RunId, RunSummary] = {}
        for run in dict.fromkeys(delivery.message.run for delivery in batch):
            folded = await self._fold(run, batch)
            if folded.state.request is not None:
                summaries[run] = _summary(folded)
        uses = [use for delivery in batch for use in uses_of(delivery.message)]
        await self._index.record(rows, list(summaries.values()), uses=uses)

    async def _fold(self, run: RunId, batch: list[Delivery[Fact]]) -> Folded:
        """The run's fold from the log itself: another recorder may have had the facts between."""
        folded = self._runs.get(run)
        own = [each for each in batch if each.message.run == run]
        if folded is None or any(each.gap or each.attempt > 1 for each in batch):
            folded = folded or Folded(RunState(run=run))
            for stored in await self._log.read(run, folded.position):
                folded.add(stored)
        else:
            for each in own:
                folded.add(Stored(each.message, each.position))
        if folded.state.phase == "ended":  # what comes late is folded from the log again
            self._runs.pop(run, None)
            return folded
        self._runs[run] = folded
        self._runs.move_to_end(run)
        while len(self._runs) > KEPT_RUNS:
            self._runs.popitem(last=False)
        return folded


def _read(kind: type[ValueT], raw: bytes) -> ValueT:
    try:
        return kind.model_validate(read_json(raw, limit=64 * 1024))
    except ValidationError as error:
        raise ProtocolError(f"The question is no {kind.__name__}.", why=str(error)[:300]) from error


def _write(values: Sequence[Value]) -> bytes:
    return orjson.dumps([each.model_dump(mode="json") for each in values])


def _row(delivery: Delivery[Fact]) -> EventRow:
    fact = delivery.message
    return EventRow(
        id=fact.id, run=fact.run, tenant=fact.tenant, type=fact.kind, role=fact.role, slot=fact.slot,
        time=fact.time, stream=subjects.run_stream(segment_of_run(fact.run)), seq=delivery.position,
        summary=summary(fact), bytes=len(encode(fact)),
    )  # fmt: skip


def _summary(folded: Folded) -> RunSummary:
    state = folded.state
    if state.request is None or state.requested_at is None:
        raise ValueError("a run without a request has no summary")
    status: Status = state.outcome if state.outcome in get_args(Status) else "open"  # type: ignore[assignment]
    return RunSummary(
        run=state.run, tenant=state.tenant, status=status, agent=state.request.agent.name, user=state.request.user,
        conversation=state.request.conversation, task=state.request.task, answer=state.answer, started=state.requested_at,
        ended=state.ended_at, steps=state.steps,
        tools=tuple(dict.fromkeys(call.name for message in state.messages for call in message.calls)), seq=folded.position,
        sealed=state.datakey is not None,
    )  # fmt: skip
