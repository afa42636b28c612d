"""Sections of documents on their way in, in Postgres: any retrieval worker can go on with what another began."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tables import uploads


class PostgresUploads:
    """Uploads over the table of this name."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def numbers(self, tenant: str, upload: str) -> set[int]:
        chosen = select(uploads.c.number).where(uploads.c.tenant == tenant, uploads.c.upload == upload)
        async with transaction(self._engine, tenant) as connection:
            return set(await connection.scalars(chosen))

    async def put(self, tenant: str, upload: str, number: int, data: bytes, now: datetime) -> None:
        new = upsert(uploads).values(tenant=tenant, upload=upload, number=number, data=data, added=now)
        async with transaction(self._engine, tenant) as connection:
            changed = {"data": data, "added": now}
            await connection.execute(new.on_conflict_do_update(index_elements=["tenant", "upload", "number"], set_=changed))

    async def get(self, tenant: str, upload: str, number: int) -> bytes | None:
        this = (uploads.c.tenant == tenant, uploads.c.upload == upload, uploads.c.number == number)
        async with transaction(self._engine, tenant) as connection:
            found: bytes | None = await connection.scalar(select(uploads.c.data).where(*this))
            return found

    async def drop(self, tenant: str, upload: str, before: datetime) -> None:
        mine = uploads.c.tenant == tenant
        stale = select(uploads.c.upload).where(mine).group_by(uploads.c.upload).having(func.max(uploads.c.added) < before)
        gone = delete(uploads).where(mine, or_(uploads.c.upload == upload, uploads.c.upload.in_(stale)))
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(gone)
