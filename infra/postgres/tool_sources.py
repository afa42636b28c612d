"""Sources of tools in Postgres. A hundred specs are one statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from hashlib import sha256

import orjson
from sqlalchemy import any_, delete, func, not_, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import array_of, transaction
from infra.postgres.tables import tool_sources, tool_specs
from services.tools.sources import DROPPED, Source, Spec, Stored

_PAGE = 500
_PUT = text("""
    INSERT INTO tool_specs (tenant, lane, name, card, call, digest)
    SELECT :tenant, :lane, given.name, given.card, given.call, given.digest
    FROM json_to_recordset(CAST(:specs AS json)) AS given (name text, card json, call json, digest text)
    LEFT JOIN tool_specs AS known ON (known.tenant, known.lane, known.name) = (:tenant, :lane, given.name)
    WHERE known.digest IS DISTINCT FROM given.digest
    ORDER BY given.name
    ON CONFLICT (tenant, lane, name)
    DO UPDATE SET card = excluded.card, call = excluded.call, digest = excluded.digest
    RETURNING xmax = 0
""")  # what is as before is not even locked; xmax: 0 in a row that was inserted, not updated


class PostgresSourceStore:
    """SourceStore over the tables tool_sources and tool_specs. keeper: an engine whose role sees every tenant."""

    def __init__(self, engine: AsyncEngine, keeper: AsyncEngine) -> None:
        self._engine, self._keeper = engine, keeper

    async def put(self, source: Source) -> None:
        values = source.model_dump(mode="json") | {"since": source.since}
        changed = {name: value for name, value in values.items() if name not in ("tenant", "lane")}
        row = upsert(tool_sources).values(values)
        async with transaction(self._engine, source.tenant) as connection:
            await connection.execute(row.on_conflict_do_update(index_elements=["tenant", "lane"], set_=changed))

    async def put_specs(self, tenant: str, lane: str, specs: Sequence[Spec]) -> Stored:
        last = {spec.card.name: (spec.card.model_dump_json().encode(), orjson.dumps(spec.call)) for spec in specs}
        rows = [
            {
                "name": name,
                "card": orjson.Fragment(card),
                "call": orjson.Fragment(call),
                "digest": sha256(card + call).hexdigest(),
            }
            for name, (card, call) in last.items()
        ]
        given = {"tenant": tenant, "lane": lane, "specs": orjson.dumps(rows).decode()}
        async with transaction(self._engine, tenant) as connection:
            fresh = list(await connection.scalars(_PUT, given))
        return Stored(new=sum(fresh), changed=len(fresh) - sum(fresh))

    async def keep_only(
        self, tenant: str, lane: str, names: Sequence[str], after: str = "", upto: str | None = None
    ) -> list[str]:
        table = tool_specs.c
        own = (table.tenant == tenant, table.lane == lane)
        where = [*own, table.name > after, not_(table.name == any_(array_of(names)))]
        if upto is not None:
            where.append(table.name <= upto)
        some = select(table.name).where(*where).order_by(table.name).limit(DROPPED)
        gone = delete(tool_specs).where(*own, table.name.in_(some)).returning(table.name)
        async with transaction(self._engine, tenant) as connection:
            return sorted(await connection.scalars(gone))

    async def spec(self, tenant: str, lane: str, name: str) -> Spec | None:
        table = tool_specs.c
        one = select(table.card, table.call).where(table.tenant == tenant, table.lane == lane, table.name == name)
        async with transaction(self._engine, tenant) as connection:
            row = (await connection.execute(one)).one_or_none()
        return Spec(card=row.card, call=row.call) if row else None

    async def specs(self, tenant: str, lane: str) -> AsyncIterator[Spec]:
        table, after = tool_specs.c, ""
        while True:
            page = (
                select(table.name, table.card, table.call)
                .where(table.tenant == tenant, table.lane == lane, table.name > after)
                .order_by(table.name)
                .limit(_PAGE)
            )
            async with transaction(self._engine, tenant) as connection:
                rows = (await connection.execute(page)).all()
            for row in rows:
                yield Spec(card=row.card, call=row.call)
            if len(rows) < _PAGE:
                return
            after = rows[-1].name

    async def count(self, tenant: str, lane: str) -> int:
        own = (tool_specs.c.tenant == tenant, tool_specs.c.lane == lane)
        async with transaction(self._engine, tenant) as connection:
            return int(await connection.scalar(select(func.count()).where(*own)) or 0)

    async def sources(self) -> list[Source]:
        every = select(tool_sources).order_by(tool_sources.c.tenant, tool_sources.c.lane)
        async with transaction(self._keeper) as connection:
            return [Source.model_validate(dict(row._mapping)) for row in await connection.execute(every)]

    async def drop(self, tenant: str, lane: str) -> None:
        async with transaction(self._engine, tenant) as connection:
            for table in (tool_specs, tool_sources):
                await connection.execute(delete(table).where(table.c.tenant == tenant, table.c.lane == lane))
