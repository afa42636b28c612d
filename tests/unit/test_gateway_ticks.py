"""That something happened: one ear a tenant, told to all who listen, and closed with the last of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from runtime.errors import Unreachable
from runtime.memory_broker import MemoryBroker
from schemas import subjects
from schemas.ids import run_id, segment_of
from services.gateway import ticks as module
from services.gateway.ticks import Ticks

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.01)


async def happens(bus: MemoryBroker, tenant: str, key: str) -> str:
    run = run_id(tenant, key, segment_of(NOW))
    await bus.tell(str(subjects.fact(run, tenant, "client", "request")), b"{}")
    return run


async def test_all_listeners_of_a_tenant_hear_and_nobody_elses() -> None:
    bus, counted = MemoryBroker(), []

    async def count(tenant: str) -> int:
        counted.append(tenant)
        return len(counted)

    ticks = Ticks(bus, count)
    async with aclosing(ticks.of("acme")) as one, aclosing(ticks.of("acme")) as two, aclosing(ticks.of("rival")) as other:
        async with asyncio.timeout(5):
            assert (await anext(one)).waiting == (await anext(two)).waiting == 1
            await anext(other)
            run = await happens(bus, "acme", "k")
            assert (await anext(one)).runs == (await anext(two)).runs == {run}
        waits = asyncio.ensure_future(anext(other))
        done, _ = await asyncio.wait({waits}, timeout=0.1)
        assert not done and counted.count("acme") == 2  # once a change, however many listen
        waits.cancel()
        await asyncio.wait({waits})
    assert not ticks._ears


async def test_who_is_slow_gets_several_changes_together_and_a_recorder_that_is_away_stops_nothing() -> None:
    bus, away = MemoryBroker(), asyncio.Event()

    async def count(_: str) -> int:
        if away.is_set():
            raise Unreachable("Away.")
        return 3

    ticks = Ticks(bus, count)
    async with aclosing(ticks.of("acme")) as slow, aclosing(ticks.of("acme")) as quick, asyncio.timeout(5):
        assert (await anext(slow)).waiting == 3
        await anext(quick)
        away.set()
        runs = set()
        for number in range(3):
            runs.add(await happens(bus, "acme", f"k{number}"))
            await anext(quick)
        tick = await anext(slow)
        assert tick.runs == runs and tick.waiting == 3
