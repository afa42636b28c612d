"""The recorder's part of a fork: it copies once however often it is asked, and calls off what cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from runtime.forking import Original
from runtime.log import Stored
from runtime.memory_broker import MemoryBroker
from runtime.service import Context
from schemas.commands import CallTool
from schemas.envelope import Fact, decode_fact, encode
from schemas.events import AnswerCopied, CancelRequested, Fork, RunRequested, ToolFailed, ToolReturned
from schemas.ids import RunId
from schemas.subjects import run_subjects
from services.recorder.forking import Forker, Past
from services.recorder.recorded_lane import recorded_answer, recorded_lane
from tests.support.builders import RunUnderTest, call, order_for, ready
from tests.support.forked_run import ForkUnderTest, original_of, past
from tests.support.simulation import LoopClock, in_virtual_time
from tests.unit.test_forks import GRANTED, original, renewed


def holding(*runs: RunUnderTest) -> Past:
    async def found(run: RunId) -> Sequence[tuple[Stored, bytes]]:
        return next((past(each.log) for each in runs if each.id == run), [])

    return found


def by_subject(*runs: RunUnderTest) -> Past:
    """As a log on a server, which needs a subject to ask for."""
    there = holding(*runs)

    async def found(run: RunId) -> Sequence[tuple[Stored, bytes]]:
        return await there(run) if run_subjects(run) else ()

    return found


async def recorded(broker: MemoryBroker, where: Past, *requests: Fact, recorders: int = 1) -> None:
    """Let recorders see these requests, until nothing happens any more."""
    for request in requests:
        await broker.append(decode_fact(encode(request)))
    forkers = [Forker(broker, where, LoopClock(), name=f"r{number}") for number in range(recorders)]
    tasks = [asyncio.create_task(each.run()) for each in forkers]
    await asyncio.sleep(60)  # virtual
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@in_virtual_time
async def test_what_is_copied_is_what_the_client_computed_however_many_recorders_do_it() -> None:
    fork, broker = ForkUnderTest(original(), GRANTED), MemoryBroker()
    await recorded(broker, holding(renewed()), fork.first, recorders=3)
    await recorded(broker, holding(renewed()))
    there = [stored.fact for stored in await broker.read(fork.id)]
    assert [fact.body for fact in there[1:]] == [fact.body for fact in fork.copied]
    assert [fact.slot for fact in there[1:]] == [fact.slot for fact in fork.copied]


@in_virtual_time
async def test_a_fork_whose_past_is_gone_or_another_is_called_off_with_the_reason() -> None:
    fork = ForkUnderTest(original(), GRANTED)
    other = renewed()
    stored = other.log[3]
    header = stored.fact.header.model_copy(update={"traceparent": "00-changed"})
    other.log[3] = replace(stored, fact=replace(stored.fact, header=header))
    for where, why in ((holding(), "has no request"), (holding(other), "another root")):
        broker = MemoryBroker()
        await recorded(broker, where, fork.first)
        (_, off) = [each.fact.body for each in await broker.read(fork.id)]
        assert isinstance(off, CancelRequested) and off.by == "the recorder" and why in off.reason
        assert not [each for each in await broker.read(fork.id) if isinstance(each.fact.body, AnswerCopied)]


@in_virtual_time
async def test_whatever_a_request_says_the_next_fork_gets_its_copies() -> None:
    """One is of what is no run, one began when no clock can tell."""
    bad = [ForkUnderTest(original(), GRANTED, key=f"bad-{n}").first for n in range(2)]
    asked = [cast("RunRequested", each.body) for each in bad]
    forks = [cast("Fork", each.fork) for each in asked]
    odd = [forks[0].model_copy(update={"run": "../x"}), forks[1].model_copy(update={"began": datetime.max.replace(tzinfo=UTC)})]
    requests = [
        replace(each, body=said.model_copy(update={"fork": fork})) for each, said, fork in zip(bad, asked, odd, strict=True)
    ]
    good, broker = ForkUnderTest(original(), GRANTED), MemoryBroker()
    await recorded(broker, by_subject(renewed()), *requests, good.first)
    for each in requests:
        assert isinstance((await broker.read(each.run))[-1].fact.body, CancelRequested)
    assert len(await broker.read(good.id)) == 1 + len(good.copied)


@in_virtual_time
async def test_a_run_that_is_no_fork_is_left_alone() -> None:
    run, broker = renewed(), MemoryBroker()
    await recorded(broker, holding(run), run.log[0].fact)
    assert len(await broker.read(run.id)) == 1


def test_equal_calls_get_their_answers_in_order_and_reads_the_last_one_again() -> None:
    run = ready()
    for number, text in enumerate(("one", "two"), start=1):
        run.say(call("clock", id=f"c{number}", zone="utc"))
        run.returns(run.one(CallTool), text)
    past_run = original_of(run)
    asked = next(each.command for told in past_run.told for each in told.decided if isinstance(each.command, CallTool))
    said = [recorded_answer(past_run, asked, place) for place in (0, 1, 2)]
    assert [each.result.text for each in said if isinstance(each, ToolReturned)] == ["one", "two", "two"]
    other = asked.model_copy(update={"call": call("clock", zone="mars")})
    assert recorded_answer(past_run, other, 0) is None


def test_a_write_that_is_asked_for_more_often_is_not_answered_again() -> None:
    past_run = original()
    asked = next(
        each.command for told in past_run.told for each in told.decided
        if isinstance(each.command, CallTool) and each.command.write_key
    )  # fmt: skip
    assert isinstance(recorded_answer(past_run, asked, 0), ToolReturned)
    assert recorded_answer(past_run, asked, 1) is None


@pytest.mark.parametrize("forks", [True, False])
async def test_only_calls_of_forks_are_answered_from_a_log(forks: bool) -> None:
    parent, broker = renewed(), MemoryBroker()
    run = ForkUnderTest(Original(parent.id, past(parent.log)), GRANTED) if forks else ready()
    if not forks:
        run.say(call("clock"))
    for stored in run.log:
        await broker.append(stored.fact)
    command = run.one(CallTool)
    order = order_for(command, run=run.id, id=run.id_of(command), tenant=run.tenant)
    service = recorded_lane(broker, holding(parent))
    said = await service.handlers[CallTool](command, Context(order, 1, None, None))  # type: ignore[arg-type]
    if forks:
        assert isinstance(said, ToolReturned) and said.result.text == "renewed" and said.command == command
    else:
        assert isinstance(said, ToolFailed) and said.failure.type == "NoFork"
