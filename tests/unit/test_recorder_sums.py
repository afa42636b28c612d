"""What the index holds of runs: counted as they happen, and counted again from the log with the same result."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest

from runtime.log import Raw, Stored
from runtime.memory_broker import MemoryBroker
from schemas.commands import CallTool, Generate, PlanCall
from schemas.envelope import Fact, decode_fact
from schemas.events import Fork, Generated, RunSealed
from schemas.ids import seal_slot
from schemas.messages import Generation, Usage
from schemas.receipts import Receipt
from schemas.sealing import Sealed
from services.recorder import rebuild
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import RunFilter, RunSummary
from services.recorder.rebuild import Batches, Rebuilt, Reindexing
from services.recorder.service import Recorder
from services.recorder.summing import Said, Sum, Sums, rows_of
from tests.support.builders import CLOCK, NOW, RENEW, RunUnderTest, call, fact_of, planned, ready, request_fact, requested, spec
from tests.support.drawn_run import play

RUNS = 8


def sealed(run: RunUnderTest, number: int, part: int = 1) -> Fact:
    receipt = Receipt(
        tenant=run.tenant, run=run.id, part=part, outcome="completed", decider="4", size=len(run.log), root="0" * 64,
        number=number, sealed=NOW, key="k",
    )  # fmt: skip
    return fact_of(RunSealed(receipt=receipt, signature=""), run.id, seal_slot(part))


def schedule(seed: int) -> Iterator[Fact]:
    """The facts of many runs as they stand in one log, each run's with its receipt behind it."""
    draw = random.Random(seed)
    runs = [play(seed * RUNS + number) for number in range(RUNS)]
    waiting = [[*(stored.fact for stored in run.log), sealed(run, number + 1)] for number, run in enumerate(runs)]
    while waiting:
        facts = draw.choice(waiting)
        yield facts.pop(0)
        waiting = [each for each in waiting if each]


async def recorded(broker: MemoryBroker, index: MemoryRunIndex, count: int) -> None:
    """Let a recorder index so many facts more, and then die."""
    recorder = Recorder(broker, index)
    task = asyncio.create_task(recorder.record())
    try:
        async with asyncio.timeout(30):
            while recorder.indexed < count:
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def messages(broker: MemoryBroker) -> list[Raw]:
    return sorted((raw for run in broker._raw.values() for raw in run), key=lambda raw: raw.position)


async def stretch(raws: Sequence[Raw], size: int) -> Batches:
    for begin in range(0, len(raws), size):
        yield raws[begin : begin + size]


async def rebuilt(broker: MemoryBroker, index: MemoryRunIndex, size: int, *, drop: bool = True) -> Rebuilt:
    async def opened(raw: Raw) -> Fact:
        return decode_fact(raw.data)

    await index.begin_rebuild(drop=drop)
    moved: list[int] = []
    done = await Reindexing(index, opened, broker.read).add(stretch(messages(broker), size), moved.append)
    await index.end_rebuild()
    assert sum(moved) == len(messages(broker)) == done.events + done.unreadable
    return done


def held(index: MemoryRunIndex) -> tuple[object, ...]:
    return index._events, index._runs, index._uses


@pytest.mark.parametrize("seed", range(2))
async def test_the_index_made_anew_has_the_same_rows(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "OPEN_RUNS", 3)  # so that runs are put away and read from the log again
    broker, index = MemoryBroker(), MemoryRunIndex()
    facts = list(schedule(seed))
    middle = len(facts) // 3
    for fact in facts[:middle]:
        assert await broker.append(fact)
    await recorded(broker, index, middle)
    for fact in facts[middle:]:
        assert await broker.append(fact)
    await recorded(broker, index, len(facts) - middle)
    before = held(index)
    assert len(index._events) == len(facts) and len(index._runs) == RUNS

    for size in (1, 7, 10_000):
        again = MemoryRunIndex()
        assert await rebuilt(broker, again, size) == Rebuilt(events=len(facts), receipts=RUNS)
        assert held(again) == before
    index._runs.popitem()
    index._events.popitem()
    await rebuilt(broker, index, 50, drop=False)
    assert held(index) == before


async def test_what_was_erased_stays_erased_when_the_log_still_tells_it() -> None:
    broker, index = MemoryBroker(), MemoryRunIndex()
    facts = list(schedule(0))
    for fact in facts:
        await broker.append(fact)
    await recorded(broker, index, len(facts))
    await index.forget("acme", "ann")
    before = held(index)
    await rebuilt(broker, index, 100)
    assert held(index) == before
    assert all(run.erased and not run.tools for run in index._runs.values())


async def test_messages_that_cannot_be_read_are_passed_over() -> None:
    broker, index = MemoryBroker(), MemoryRunIndex()
    for fact in schedule(1):
        await broker.append(fact)
    run = next(iter(broker._raw))
    broker._raw[run][0] = replace(broker._raw[run][0], data=b"{}")
    assert (await rebuilt(broker, index, 100)).unreadable == 1


def counted(run: RunUnderTest) -> RunSummary:
    total = Sum(run.id)
    for stored in (*run.log, *run.log):
        total.add(stored)
    found = total.summary()
    assert found
    return found


def test_a_summary_says_what_a_run_cost() -> None:
    run = ready(spec(approval="never"), CLOCK, RENEW)
    usage = Usage(prompt_tokens=100, cached_tokens=40, completion_tokens=9)
    said = Generation(text="", calls=(call("renew"),), model="qwen", usage=usage)
    run.answer(Generated(command=run.one(Generate), generation=said))
    assert (counted(run).writes, counted(run).money) == (0, {})
    run.plans(planned(run.one(PlanCall), price="888.00", currency="CNY"))
    run.returns(run.one(CallTool))
    found = counted(run)
    assert (found.events, found.tools, found.models, found.status) == (len(run.log), ("renew",), ("qwen",), "open")
    assert (found.tokens, found.cached, found.writes, found.money) == (109, 40, 1, {"CNY": "888.00"})
    assert (found.receipt, found.parent, found.fork_of, found.seq) == (None, None, None, len(run.log))


async def test_receipts_need_no_fold_where_their_run_was_told_of_and_else_the_log_is_read() -> None:
    run = play(5)
    asked: list[str] = []
    everything = [*run.log, Stored(sealed(run, 9), len(run.log) + 1), Stored(sealed(run, 12, 2), len(run.log) + 2)]

    async def read(of: str, after: int) -> list[Stored]:
        asked.append(of)
        return [stored for stored in everything if stored.position > after]

    said = [Said(stored, 10) for stored in everything]
    sums = Sums(read)
    first = await rows_of(sums, said[: len(run.log)])
    assert [each.receipt for each in first.runs] == [None] and len(sums) == 0
    then = await rows_of(sums, said[len(run.log) :])
    assert (then.runs, then.receipts, asked) == ([], {run.id: 12}, [])
    elsewhere = await rows_of(Sums(read), said[-1:])
    assert [(each.receipt, each.events) for each in elsewhere.runs] == [(12, len(run.log))] and asked == [run.id]
    assert [each.bytes for each in then.events] == [10, 10]


def test_a_fork_costs_nothing_that_its_origin_paid() -> None:
    run = RunUnderTest()
    fork = Fork(run="202611-" + "0" * 32, at=3, event="e" * 32, root="0" * 64, copied=0, began=NOW)
    total = Sum(run.id)
    total.add(Stored(request_fact(requested().model_copy(update={"fork": fork})), 1))
    total.folded.state = replace(total.folded.state, writes=2)
    found = total.summary()
    assert found and (found.fork_of, found.writes, found.money) == (fork.run, 0, {})


async def test_a_run_whose_request_nobody_can_open_has_no_summary() -> None:
    fact = request_fact()
    closed = replace(fact, body=Sealed(nonce="", ciphertext=""), header=fact.header.model_copy(update={"datakey": "d1"}))
    rows = await rows_of(Sums(MemoryBroker().read), [Said(Stored(closed, 1), 5)], gap=False)  # type: ignore[arg-type]
    assert rows.runs == [] and [each.summary for each in rows.events] == ["erased on request"]


async def test_of_runs_that_have_ended_nothing_is_kept() -> None:
    broker, index = MemoryBroker(), MemoryRunIndex()
    recorder = Recorder(broker, index)
    facts = list(schedule(2))
    for fact in facts:
        await broker.append(fact)
    task = asyncio.create_task(recorder.record())
    async with asyncio.timeout(30):
        while recorder.indexed < len(facts):
            await asyncio.sleep(0.005)
    task.cancel()
    assert not recorder._sums
    assert {run.receipt for run in await index.list_runs(RunFilter(), 100)} == set(range(1, RUNS + 1))


async def test_a_fact_that_the_index_cannot_hold_stops_neither_the_others_nor_the_recorder() -> None:
    """One that the store refuses, however often it is asked, is left out; what came with it is indexed."""
    runs = [play(seed) for seed in range(3)]
    poison = runs[1].log[-1].fact.id

    class Refusing(MemoryRunIndex):
        async def record(self, events, runs, watermark=None, uses=(), receipts=None) -> None:  # type: ignore[no-untyped-def]
            if any(event.id == poison for event in events):
                raise ValueError("integer out of range")
            await super().record(events, runs, watermark, uses, receipts or {})

    broker, index = MemoryBroker(), Refusing()
    for run in runs:
        for stored in run.log:
            await broker.append(stored.fact)
    await recorded(broker, index, sum(len(run.log) for run in runs))
    for run in runs:
        shown = await index.show(run.id)
        assert shown is not None
        assert [event.id for event in shown.events] == [each.fact.id for each in run.log if each.fact.id != poison]
