"""The index dropped and made anew from the log of a real server, while a recorder lives: every table has the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.jetstream.log import JetStreamLog
from infra.postgres.engine import connect, transaction
from infra.rebuilding import rebuild_index
from infra.settings import load
from infra.wiring import BUILDERS, World, open_run_index, open_world
from services.recorder.ports import RunFilter
from tests.support.brokers import Place
from tests.support.builders import RunUnderTest
from tests.support.drawn_run import play
from tests.support.servers import RealNats

TABLES = {"events": "id", "runs": "run", "run_uses": "run, kind, id, how, hash", "receipts": "tenant, number"}


@pytest.fixture
async def keeper(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(postgres_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def world(nats: Place, nats_alone: RealNats, postgres_url: str, tmp_path: Path) -> AsyncIterator[World]:
    settings = load({"home": str(tmp_path), "nats.url": nats_alone.url, "postgres.url": postgres_url}).settings
    world = await open_world(settings, "test")
    yield world
    await world.connection.close()


async def rows(engine: AsyncEngine) -> dict[str, list[dict[str, object]]]:
    async with transaction(engine) as connection:
        return {
            table: [dict(row) for row in (await connection.execute(text(f"SELECT * FROM {table} ORDER BY {key}"))).mappings()]
            for table, key in TABLES.items()
        }


async def everything_indexed(world: World, engine: AsyncEngine, runs: int) -> dict[str, list[dict[str, object]]]:
    """Wait until every run has its receipt, and every message of the log is a row."""
    async with asyncio.timeout(60):
        while True:
            found = await rows(engine)
            stored = (await world.connection.jetstream.stream_info("RUNS_202611")).state.messages
            sealed = sum(run["receipt"] is not None for run in found["runs"])
            if sealed == runs and len(found["events"]) == stored and all(row["published"] for row in found["receipts"]):
                return found
            await asyncio.sleep(0.05)


def of_bob() -> RunUnderTest:
    run = RunUnderTest(key="bob's")
    run.request = run.request.model_copy(update={"user": "bob"})
    run.begin()
    run.gather()
    run.say(text="It is noon.")
    run.end()
    return run


async def test_an_index_dropped_and_made_anew_has_the_same_rows(world: World, keeper: AsyncEngine) -> None:
    runs, log = [*(play(seed) for seed in range(8)), of_bob()], JetStreamLog(world.connection)
    for place in range(max(len(run.log) for run in runs)):
        for run in runs:
            if place < len(run.log):
                assert await log.append(run.log[place].fact)
    recorder = asyncio.gather(*await BUILDERS["recorder"](world))
    try:
        await everything_indexed(world, keeper, len(runs))
        index = open_run_index(world)
        await index.forget("acme", "bob")
        before = await rows(keeper)
        assert [run["task"] for run in before["runs"] if run["user"] == "bob"] == ["erased on request"]
        seen: list[tuple[int, int]] = []

        async with transaction(keeper) as connection:
            await connection.execute(text("DELETE FROM receipts"))
        done = await rebuild_index(world, drop=True, processes=2, moved=lambda read, total: seen.append((read, total)))
        assert (done.events, done.unreadable, done.receipts) == (len(before["events"]), 0, len(runs))
        assert seen[-1] == (done.events, done.events)
        assert await rows(keeper) == before

        async with transaction(keeper) as connection:
            await connection.execute(text("DELETE FROM events WHERE role = 'tools'"))
            await connection.execute(text("DELETE FROM run_uses WHERE kind = 'tool'"))
            await connection.execute(text("UPDATE runs SET tokens = 1, status = 'open' WHERE NOT erased"))
        await rebuild_index(world)
        assert await rows(keeper) == before
        assert len(await index.list_runs(RunFilter(tenant="acme", user="ann"))) == 8
    finally:
        recorder.cancel()
        await asyncio.gather(recorder, return_exceptions=True)
