"""Facts about users in Postgres."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tables import user_facts
from schemas.events import UserFact
from services.memory.facts import MOST, too_many


class PostgresFactStore:
    """FactStore over the table user_facts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def remember(self, tenant: str, user: str, fact: UserFact, now: datetime) -> None:
        table = user_facts.c
        row = upsert(user_facts).values(tenant=tenant, user=user, since=now, **fact.model_dump())
        changed = {"text": fact.text, "source": fact.source, "since": now}
        others = select(func.count()).where(table.tenant == tenant, table.user == user, table.key != fact.key)
        async with transaction(self._engine, tenant) as connection:
            if (await connection.execute(others)).scalar_one() >= MOST:
                raise too_many(user)
            await connection.execute(row.on_conflict_do_update(index_elements=["tenant", "user", "key"], set_=changed))

    async def forget(self, tenant: str, user: str, key: str) -> bool:
        table = user_facts.c
        gone = delete(user_facts).where(table.tenant == tenant, table.user == user, table.key == key)
        async with transaction(self._engine, tenant) as connection:
            return (await connection.execute(gone)).rowcount > 0

    async def facts(self, tenant: str, user: str, limit: int | None = None) -> list[UserFact]:
        async with transaction(self._engine, tenant) as connection:
            return await known(connection, tenant, user, limit)


async def known(connection: AsyncConnection, tenant: str, user: str, limit: int | None) -> list[UserFact]:
    """The user's facts by key; with a limit only those stated last."""
    table = user_facts.c
    chosen = select(table.key, table.text, table.source).where(table.tenant == tenant, table.user == user)
    rows = await connection.execute(chosen.order_by(table.since.desc(), table.key.desc()).limit(limit))
    found = [UserFact(key=key, text=text, source=source) for key, text, source in rows]
    return sorted(found, key=lambda fact: fact.key)
