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
