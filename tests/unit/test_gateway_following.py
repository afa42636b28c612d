"""A run followed: what is heard is read from the log, also where the log has it much later than it was heard."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from runtime.client import Client
from runtime.clock import SystemClock
from runtime.memory_broker import MemoryBroker
from schemas import subjects
from services.gateway.runs.following import followed


class LateLog(MemoryBroker):
    """Facts may be heard on the bus before they are in it. reads: how often it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def read(self, run, after=0):  # type: ignore[no-untyped-def]
        self.reads += 1
        return await super().read(run, after)


async def test_a_fact_that_the_log_has_late_is_not_missed() -> None:
    log = LateLog()
    client = Client(log, log, SystemClock())
    run = (await client.ask("hello")).run
    async with aclosing(followed(client, run)) as facts, asyncio.timeout(10):
        assert [each.fact.kind for each in await anext(facts)] == ["RunRequested"]
        following = asyncio.ensure_future(anext(facts))
        await asyncio.sleep(0)
        await log.tell(str(subjects.fact(run, "default", "client", "cancel")), b"{}")
        done, _ = await asyncio.wait({following}, timeout=0.8)  # a disk that is busy for so long
        assert not done
        looked = log.reads
        await client.cancel(run)
        assert [each.fact.kind for each in await following] == ["CancelRequested"]
        assert looked < 30  # it looks less and less often


async def test_nothing_is_read_while_nothing_is_heard() -> None:
    log = LateLog()
    client = Client(log, log, SystemClock())
    run = (await client.ask("hello")).run
    async with aclosing(followed(client, run)) as facts, asyncio.timeout(10):
        await anext(facts)
        following = asyncio.ensure_future(anext(facts))
        done, _ = await asyncio.wait({following}, timeout=0.3)
        assert not done and log.reads <= 2
        following.cancel()
        await asyncio.wait({following})


async def test_who_is_called_off_when_something_was_just_heard_ends() -> None:
    """Facts that come while others are told: the follower is cancelled at the moment in which it would look again."""
    log = LateLog()
    client = Client(log, log, SystemClock())
    run = (await client.ask("hello")).run
    told = asyncio.Event()

    async def follow() -> None:
        async with aclosing(followed(client, run)) as facts:
            async for _ in facts:
                await log.tell(str(subjects.fact(run, "default", "client", "request")), b"{}")  # heard, and known already
                told.set()

    for _ in range(20):
        told.clear()
        following = asyncio.create_task(follow())
        await told.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        following.cancel()
        done, _ = await asyncio.wait({following}, timeout=2)
        assert done and following.cancelled()
