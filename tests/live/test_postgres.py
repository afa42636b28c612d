"""The stores on a PostgreSQL that is new, is being migrated, or goes away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.embedded import Server, postgres
from infra.postgres.effects import PostgresEffectLedger
from infra.postgres.engine import StoreRefused, StoreUnavailable, connect, migrate, transaction
from infra.postgres.run_index import PostgresRunIndex
from infra.postgres.tables import metadata
from infra.postgres.tool_index import PostgresToolIndex
from schemas.tools import ToolCard
from services.recorder.ports import RunFilter
from services.tools.ledger import Claimed, Intent

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CARD = ToolCard(name="tool", description="a tool", parameters={})


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(postgres_url)
    yield engine
    await engine.dispose()


async def test_the_migrations_make_the_tables_that_the_adapters_use(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with transaction(engine) as connection:
        assert await connection.run_sync(differences) == []


async def test_several_processes_may_migrate_at_once(postgres_url: str, engine: AsyncEngine) -> None:
    async with transaction(engine) as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await asyncio.gather(*(migrate(postgres_url) for _ in range(4)))
    assert await PostgresRunIndex(engine).list_runs(RunFilter()) == []


async def test_no_server_is_one_retryable_error(tmp_path: Path) -> None:
    engine = connect(f"postgresql://postgres@/nothing?host={tmp_path}")
    with pytest.raises(StoreUnavailable) as error:
        await PostgresRunIndex(engine).watermark("s")
    assert error.value.why and error.value.hint
    await engine.dispose()


async def test_a_value_that_postgres_cannot_hold_is_refused_for_good(engine: AsyncEngine) -> None:
    with pytest.raises(StoreRefused):
        await PostgresToolIndex(engine, "e").embedded({"text": [1.0, 2.0]})
    with pytest.raises(StoreRefused):
        await PostgresRunIndex(engine).watermark("a\x00b")


async def test_every_connection_taken_is_a_retryable_error(postgres_url: str) -> None:
    engine = connect(postgres_url, pool=1, overflow=0, patience=0.1)
    async with transaction(engine):
        with pytest.raises(StoreUnavailable):
            await PostgresRunIndex(engine).watermark("s")
    assert await PostgresRunIndex(engine).watermark("s") is None
    await engine.dispose()


@pytest.fixture
async def own_server(home: Path) -> AsyncIterator[Server]:
    server = await postgres.start(home)
    await migrate(server.url)
    yield server
    await postgres.stop(await postgres.start(home))


async def test_the_stores_recover_by_themselves_when_postgres_was_killed(own_server: Server, home: Path) -> None:
    engine = connect(own_server.url)
    ledger = PostgresEffectLedger(engine)
    assert await ledger.claim(intent("k1", "c1"), "t1", NOW, 9.0) == Claimed()
    assert await succeeded_at_once(lambda: ledger.finish("k1", "acme", "c1", {"n": 1}, NOW))
    await ledger.claim(intent("k0", "c0"), "t0", NOW, 9.0)
    assert await ledger.hold("k0", "acme", "t0", 9.0, sending=True)  # on disk, and with it what was before

    own_server.process.send(signal.SIGKILL)
    await own_server.process.gone()
    assert not await succeeded_at_once(lambda: ledger.claim(intent("k2", "c2"), "t2", NOW, 9.0))

    await postgres.start(home)
    done = await ledger.claim(intent("k1", "c3"), "t3", NOW + timedelta(hours=1), 9.0)
    assert done.model_dump() == {"receipt": {"n": 1}, "by": "c1"}
    await engine.dispose()


def intent(key: str, command: str) -> Intent:
    return Intent(key=key, base=key, tenant="acme", run="r", command=command, lane="l", tool="t")


async def test_a_connection_that_dies_in_a_transaction_is_a_retryable_error(engine: AsyncEngine) -> None:
    with pytest.raises(StoreUnavailable):
        async with transaction(engine) as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert await PostgresRunIndex(engine).list_runs(RunFilter()) == []


async def succeeded_at_once(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        await call()
    except StoreUnavailable:
        return False
    return True
