"""Row level security: a service's role sees the rows of the tenant that its transaction names, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.effects import PostgresEffectLedger
from infra.postgres.engine import connect, transaction
from services.tools.ledger import Claimed, Intent

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

_TENANT_TABLES = text("""
    SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'tenant'
""")
_PUT = text("""
    INSERT INTO documents (id, tenant, collection, source) VALUES (:tenant || :source, :tenant, 'default', :source)
""")


@pytest.fixture
async def service(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(postgres_url, role="milepost_service")
    yield engine
    await engine.dispose()


@pytest.fixture
async def keeper(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(postgres_url, role="milepost_keeper")
    yield engine
    await engine.dispose()


async def sources(engine: AsyncEngine, tenant: str | None) -> list[str]:
    async with transaction(engine, tenant) as connection:
        return sorted((await connection.execute(text("SELECT source FROM documents"))).scalars())


async def put(engine: AsyncEngine, tenant: str, source: str, as_tenant: str | None = None) -> None:
    async with transaction(engine, as_tenant or tenant) as connection:
        await connection.execute(_PUT, {"tenant": tenant, "source": source})


async def test_every_table_with_a_tenant_is_guarded_even_from_its_owner(keeper: AsyncEngine) -> None:
    async with transaction(keeper) as connection:
        tables = {name: (enabled, forced) for name, enabled, forced in await connection.execute(_TENANT_TABLES)}
    assert {"tool_cards", "documents", "passages", "conversations", "turns", "events", "runs", "effects"} <= tables.keys()
    assert set(tables.values()) == {(True, True)}


async def test_a_tenant_sees_its_own_rows(service: AsyncEngine, keeper: AsyncEngine) -> None:
    await put(service, "acme", "a.md")
    await put(service, "globex", "g.md")
    assert await sources(service, "acme") == ["a.md"]
    assert await sources(service, "globex") == ["g.md"]
    assert await sources(service, None) == []
    assert await sources(keeper, None) == ["a.md", "g.md"]


async def test_what_belongs_to_all_is_read_by_all_and_written_by_none_of_them(service: AsyncEngine) -> None:
    await put(service, "*", "shared.md")
    assert await sources(service, "acme") == ["shared.md"]
    async with transaction(service, "acme") as connection:
        changed = await connection.execute(text("UPDATE documents SET collection = 'mine now'"))
        gone = await connection.execute(text("DELETE FROM documents"))
    assert (changed.rowcount, gone.rowcount) == (0, 0)


async def test_a_tenant_writes_no_row_of_another(service: AsyncEngine) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"):
        await put(service, "globex", "g.md", as_tenant="acme")
    await put(service, "globex", "g.md")
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with transaction(service, "globex") as connection:
            await connection.execute(text("UPDATE documents SET tenant = 'acme'"))


async def test_a_transaction_leaves_no_tenant_behind(postgres_url: str) -> None:
    engine = connect(postgres_url, role="milepost_service", pool=1, overflow=0)
    await put(engine, "acme", "a.md")
    assert await sources(engine, None) == []
    await engine.dispose()


async def test_a_service_may_not_change_the_schema(service: AsyncEngine) -> None:
    for statement in ("DROP TABLE documents", "ALTER TABLE documents DISABLE ROW LEVEL SECURITY", "CREATE TABLE mine (id int)"):
        with pytest.raises(ProgrammingError, match=r"must be owner|permission denied"):
            async with transaction(service, "acme") as connection:
                await connection.execute(text(statement))


async def test_an_effect_of_one_tenant_is_none_of_another(service: AsyncEngine) -> None:
    ledger = PostgresEffectLedger(service)
    intent = Intent(key="k", base="k", tenant="acme", run="r", command="c1", lane="l", tool="t")
    assert await ledger.claim(intent, "t1", NOW, 9.0) == Claimed()
    async with transaction(service, "globex") as connection:
        assert (await connection.execute(text("SELECT key FROM effects"))).all() == []
    await ledger.finish("k", "acme", "c1", {"n": 1}, NOW)
