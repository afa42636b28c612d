"""Agents in Postgres, a row a version. Every call is idempotent."""

from __future__ import annotations

from sqlalchemy import ColumnElement, RowMapping, Select, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.at_once import at_once
from infra.postgres.engine import transaction
from infra.postgres.tables import agents
from services.gateway.agents.agent import MOST, Agent, taken

_PUBLISHED = "SELECT * FROM agents WHERE tenant = %(tenant)s AND name = %(name)s AND published"  # a request waits for it


class PostgresAgentStore:
    """services.gateway.agents.agent.AgentStore over the table agents."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put(self, agent: Agent) -> None:
        row = agent.model_dump(mode="json") | {"at": agent.at, "published": False}
        newest = select(func.coalesce(func.max(agents.c.version), 0)).where(*_of(agent.tenant, agent.name)).scalar_subquery()
        async with transaction(self._engine, agent.tenant) as connection:
            if (await connection.execute(select(newest))).scalar_one() == agent.version - 1:
                written = upsert(agents).values(row).on_conflict_do_nothing().returning(agents.c.version)
                if (await connection.execute(written)).first() is not None:
                    return
        there = await self.get(agent.tenant, agent.name, agent.version)
        if there is None or there.model_copy(update={"published": agent.published}) != agent:  # else it was put before
            raise taken(agent)

    async def get(self, tenant: str, name: str, version: int | None = None) -> Agent | None:
        which = select(agents).where(*_of(tenant, name)).order_by(agents.c.version.desc()).limit(1)
        found = await self._all(tenant, which if version is None else which.where(agents.c.version == version))
        return next(iter(found), None)

    async def published(self, tenant: str, name: str) -> Agent | None:
        rows = await at_once(self._engine, tenant, _PUBLISHED, {"tenant": tenant, "name": name}, durable=False)
        return _agent(rows[0]) if rows else None

    async def agents(self, tenant: str) -> list[Agent]:
        return await self._all(tenant, _newest(tenant))

    async def serving(self, tenant: str) -> list[Agent]:
        return await self._all(tenant, _newest(tenant).where(agents.c.published))

    async def versions(self, tenant: str, name: str) -> list[Agent]:
        which = select(agents).where(*_of(tenant, name)).order_by(agents.c.version.desc()).limit(MOST)
        return await self._all(tenant, which)

    async def publish(self, tenant: str, name: str, version: int | None) -> bool:
        async with transaction(self._engine, tenant) as connection:
            named = literal_column("true") if version is None else agents.c.version == version
            there = select(agents.c.version).where(*_of(tenant, name), named).limit(1)
            if (await connection.execute(there)).first() is None:
                return False
            serves = literal_column("false") if version is None else agents.c.version == version
            await connection.execute(update(agents).where(*_of(tenant, name)).values(published=serves))
        return True

    async def remove(self, tenant: str, name: str) -> bool:
        async with transaction(self._engine, tenant) as connection:
            return bool((await connection.execute(delete(agents).where(*_of(tenant, name)))).rowcount)

    async def _all(self, tenant: str, which: Select[tuple[object, ...]]) -> list[Agent]:
        async with transaction(self._engine, tenant) as connection:
            return [_agent(row) for row in (await connection.execute(which)).mappings()]


def _of(tenant: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return agents.c.tenant == tenant, agents.c.name == name


def _newest(tenant: str) -> Select[tuple[object, ...]]:
    """One row a name: that of the newest version that is left by further conditions."""
    order = agents.c.name, agents.c.version.desc()
    return select(agents).ext(distinct_on(agents.c.name)).where(agents.c.tenant == tenant).order_by(*order).limit(MOST)


def _agent(row: RowMapping | dict[str, object]) -> Agent:
    return Agent.model_validate(dict(row))
