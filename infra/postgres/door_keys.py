"""The door's API keys in Postgres. Every call is idempotent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tables import door_keys
from services.gateway.keys import DoorKey


class PostgresKeyStore:
    """services.gateway.keys.KeyStore over the table door_keys."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put(self, key: DoorKey) -> None:
        row = key.model_dump() | {"roles": list(key.roles)}
        async with transaction(self._engine, key.tenant) as connection:
            await connection.execute(upsert(door_keys).values(row).on_conflict_do_nothing())

    async def get(self, tenant: str, id: str) -> DoorKey | None:
        which = select(door_keys).where(door_keys.c.tenant == tenant, door_keys.c.id == id)
        async with transaction(self._engine, tenant) as connection:
            row = (await connection.execute(which)).mappings().one_or_none()
        return _key(row) if row is not None else None

    async def keys(self, tenant: str) -> list[DoorKey]:
        which = select(door_keys).where(door_keys.c.tenant == tenant).order_by(door_keys.c.created.desc(), door_keys.c.id)
        async with transaction(self._engine, tenant) as connection:
            return [_key(row) for row in (await connection.execute(which)).mappings()]

    async def revoke(self, tenant: str, id: str, at: datetime) -> bool:
        mine = door_keys.c.tenant == tenant, door_keys.c.id == id, door_keys.c.revoked.is_(None)
        async with transaction(self._engine, tenant) as connection:
            return bool((await connection.execute(update(door_keys).where(*mine).values(revoked=at))).rowcount)


def _key(row: RowMapping) -> DoorKey:
    return DoorKey.model_validate(dict(row))
