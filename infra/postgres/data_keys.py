"""Data keys in Postgres, each wrapped under the master key; and the record of who was forgotten when."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.master_key import MasterKey
from infra.postgres.at_once import at_once
from infra.postgres.engine import StoreUnavailable, transaction
from infra.postgres.tables import data_keys, forgettings
from runtime.keyring import BeingForgotten
from runtime.sealing import DataKey
from services.memory.forgetting import Forgetting, Report
from services.memory.keys import new_key

_TRIES = 5
_THERE = """
SELECT key.id, key.wrapped FROM data_keys AS key WHERE key.tenant = %(tenant)s AND key."user" = %(user)s
    AND NOT EXISTS (SELECT FROM forgettings AS f WHERE f.tenant = %(tenant)s AND f."user" = %(user)s)
"""


class PostgresKeyStore:
    """KeyStore over the table data_keys."""

    def __init__(self, engine: AsyncEngine, master: MasterKey) -> None:
        self._engine, self._master = engine, master

    async def key_of(self, tenant: str, user: str) -> DataKey:
        """Every run waits for it before it begins, so what is nearly always there is asked for in one round trip."""
        if rows := await at_once(self._engine, tenant, _THERE, {"tenant": tenant, "user": user}, durable=False):
            id, wrapped = rows[0]["id"], rows[0]["wrapped"]
            if isinstance(id, str) and isinstance(wrapped, bytes):
                return DataKey(id, self._master.unwrap(tenant, id, wrapped))
        return await self._make(tenant, user)

    async def _make(self, tenant: str, user: str) -> DataKey:
        made, table = new_key(), data_keys.c
        wrapped = self._master.wrap(tenant, made.id, made.secret or b"")
        add = upsert(data_keys).values(id=made.id, tenant=tenant, user=user, wrapped=wrapped).on_conflict_do_nothing()
        there = select(table.id, table.wrapped).where(table.tenant == tenant, table.user == user)
        leaving = select(forgettings.c.id).where(forgettings.c.tenant == tenant, forgettings.c.user == user)
        for _ in range(_TRIES):
            async with transaction(self._engine, tenant) as connection:
                if await connection.scalar(leaving) is not None:
                    raise BeingForgotten
                row = (await connection.execute(there)).one_or_none()
                if row is not None:
                    return DataKey(row.id, self._master.unwrap(tenant, row.id, row.wrapped))
                if (await connection.execute(add)).rowcount == 1:
                    return made
        raise StoreUnavailable(f"The data key of a user of {tenant} is made and destroyed again and again elsewhere.")

    async def key(self, tenant: str, id: str) -> DataKey | None:
        found = select(data_keys.c.wrapped).where(data_keys.c.tenant == tenant, data_keys.c.id == id)
        async with transaction(self._engine, tenant) as connection:
            row = (await connection.execute(found)).one_or_none()
        if row is None:
            return None
        return DataKey(id, None if row.wrapped is None else self._master.unwrap(tenant, id, row.wrapped))

    async def destroy(self, tenant: str, user: str) -> tuple[str, ...]:
        mine = (data_keys.c.tenant == tenant, data_keys.c.user == user)
        gone = update(data_keys).where(*mine).values(wrapped=None, user=None, destroyed=func.now()).returning(data_keys.c.id)
        async with transaction(self._engine, tenant) as connection:
            return tuple((await connection.execute(gone)).scalars())


class PostgresForgettings:
    """ForgettingStore over the table forgettings. engine: one that sees every tenant's rows."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin(self, wanted: Forgetting) -> Forgetting:
        row = {**_row(wanted), "report": wanted.report.model_dump(mode="json")}
        mine = (forgettings.c.tenant == wanted.tenant, forgettings.c.user == wanted.user)
        for _ in range(_TRIES):
            async with transaction(self._engine, wanted.tenant) as connection:
                await connection.execute(upsert(forgettings).values(**row).on_conflict_do_nothing())
                there = (await connection.execute(select(forgettings).where(*mine))).mappings().one_or_none()
            if there is not None:  # the one that was there may have been finished in between
                return _read(there)
        raise StoreUnavailable("Requests to forget the same user come and go.")

    async def get(self, tenant: str, id: str) -> Forgetting | None:
        mine = (forgettings.c.tenant == tenant, forgettings.c.id == id)
        async with transaction(self._engine, tenant) as connection:
            row = (await connection.execute(select(forgettings).where(*mine))).mappings().one_or_none()
        return _read(row) if row else None

    async def unfinished(self) -> list[Forgetting]:
        open_ones = select(forgettings).where(forgettings.c.finished.is_(None)).order_by(forgettings.c.asked)
        async with transaction(self._engine) as connection:
            return [_read(row) for row in (await connection.execute(open_ones)).mappings()]

    async def save(self, tenant: str, id: str, report: Report, finished: datetime | None = None) -> None:
        values: dict[str, object] = {"report": report.model_dump(mode="json")}
        if finished:
            values |= {"finished": finished, "user": None}
        mine = (forgettings.c.tenant == tenant, forgettings.c.id == id, forgettings.c.finished.is_(None))
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(update(forgettings).where(*mine).values(**values))


def _row(forgetting: Forgetting) -> dict[str, object]:
    return {name: getattr(forgetting, name) for name in ("id", "tenant", "user", "subject", "asked_by", "asked", "finished")}


def _read(row: RowMapping) -> Forgetting:
    return Forgetting(**{**row, "report": Report.model_validate(row["report"])})
