"""Channels in Postgres, and what is owed to their chats. Every call is idempotent.

An address that a chat gave is a right to write there: it stands here until the answer was given or the address has expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, RowMapping, delete, literal, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tables import channel_replies as replies
from infra.postgres.tables import channel_seen, channels
from services.gateway.channels.channel import KeptChannel
from services.gateway.channels.store import SEEN_FOR, Owed, changed


class PostgresChannelStore:
    """services.gateway.channels.store.ChannelStore. keeper: an engine whose role sees every tenant."""

    def __init__(self, engine: AsyncEngine, keeper: AsyncEngine) -> None:
        self._engine, self._keeper = engine, keeper

    async def put(self, kept: KeptChannel) -> None:
        row = kept.model_dump(exclude={"channel"}) | {
            "name": kept.channel.name, "channel": kept.channel.model_dump(mode="json")
        }  # fmt: skip
        place = select(channels).where(channels.c.tenant == kept.tenant, channels.c.name == kept.channel.name).with_for_update()
        written = upsert(channels).values(row)
        new = {name: written.excluded[name] for name in ("version", "by", "at", "channel")}
        written = written.on_conflict_do_update(
            index_elements=["tenant", "name"], set_=new, where=channels.c.version == kept.version - 1
        )
        async with transaction(self._engine, kept.tenant) as connection:
            before = (await connection.execute(place)).mappings().one_or_none()
            if before is None and kept.version > 1:
                raise changed(kept)
            if (await connection.execute(written.returning(channels.c.version))).first() is not None:
                return
        if before is None or _kept(before) != kept:
            raise changed(kept)  # else it was put before

    async def get(self, tenant: str, name: str) -> KeptChannel | None:
        which = select(channels).where(channels.c.tenant == tenant, channels.c.name == name)
        async with transaction(self._engine, tenant) as connection:
            row = (await connection.execute(which)).mappings().one_or_none()
        return _kept(row) if row is not None else None

    async def channels(self, tenant: str) -> list[KeptChannel]:
        which = select(channels).where(channels.c.tenant == tenant).order_by(channels.c.name)
        async with transaction(self._engine, tenant) as connection:
            return [_kept(row) for row in (await connection.execute(which)).mappings()]

    async def every(self) -> list[KeptChannel]:
        async with transaction(self._keeper) as connection:
            found = await connection.execute(select(channels).order_by(channels.c.tenant, channels.c.name))
            return [_kept(row) for row in found.mappings()]

    async def remove(self, tenant: str, name: str) -> bool:
        which = delete(channels).where(channels.c.tenant == tenant, channels.c.name == name)
        async with transaction(self._engine, tenant) as connection:
            return bool((await connection.execute(which)).rowcount)

    # --- what is owed ---

    async def owe(self, owed: Owed) -> None:
        row = owed.model_dump(exclude={"target", "told"}) | {
            "target": owed.target.model_dump(mode="json"), "until": owed.target.until, "told": list(owed.told)
        }  # fmt: skip
        async with transaction(self._engine, owed.tenant) as connection:
            await connection.execute(upsert(replies).values(row).on_conflict_do_nothing())

    async def take(self, now: datetime, lease_s: float, limit: int) -> list[Owed]:
        column, place = replies.c, tuple_(replies.c.tenant, replies.c.channel, replies.c.run)
        free = or_(column.leased.is_(None), column.leased < now)
        which = select(column.tenant, column.channel, column.run).where(free).order_by(column.at).limit(limit)
        async with transaction(self._keeper) as connection:
            await connection.execute(delete(replies).where(column.until < now))
            mine = [tuple(row) for row in await connection.execute(which.with_for_update(skip_locked=True))]
            if not mine:
                return []
            leased = update(replies).where(place.in_(mine)).values(leased=now + timedelta(seconds=lease_s)).returning(replies)
            return [_owed(row) for row in (await connection.execute(leased)).mappings()]

    async def hold(self, owed: Sequence[Owed], now: datetime, lease_s: float) -> None:
        place = tuple_(replies.c.tenant, replies.c.channel, replies.c.run)
        mine = place.in_([(each.tenant, each.channel, each.run) for each in owed])
        async with transaction(self._keeper) as connection:
            await connection.execute(update(replies).where(mine).values(leased=now + timedelta(seconds=lease_s)))

    async def told(self, owed: Owed, command: str) -> bool:
        one = literal([command], JSONB)
        which = update(replies).where(*_one(owed), ~replies.c.told.contains(one)).values(told=replies.c.told.concat(one))
        async with transaction(self._engine, owed.tenant) as connection:
            return bool((await connection.execute(which)).rowcount)

    async def settle(self, owed: Owed) -> None:
        async with transaction(self._engine, owed.tenant) as connection:
            await connection.execute(delete(replies).where(*_one(owed)))

    async def owed(self, tenant: str, channel: str, chat: str) -> list[Owed]:
        mine = replies.c.tenant == tenant, replies.c.channel == channel, replies.c.chat == chat
        async with transaction(self._engine, tenant) as connection:
            found = await connection.execute(select(replies).where(*mine).order_by(replies.c.at, replies.c.run).limit(100))
            return [_owed(row) for row in found.mappings()]

    # --- what was read ---

    async def seen(self, tenant: str, channel: str, id: str) -> bool:
        mine = channel_seen.c.tenant == tenant, channel_seen.c.channel == channel, channel_seen.c.id == id
        async with transaction(self._engine, tenant) as connection:
            return (await connection.execute(select(channel_seen.c.id).where(*mine))).first() is not None

    async def see(self, tenant: str, channel: str, id: str, now: datetime) -> bool:
        mine = channel_seen.c.tenant == tenant, channel_seen.c.channel == channel
        row = {"tenant": tenant, "channel": channel, "id": id, "at": now}
        new = upsert(channel_seen).values(row).on_conflict_do_nothing().returning(channel_seen.c.id)
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(delete(channel_seen).where(*mine, channel_seen.c.at < now - SEEN_FOR))
            return (await connection.execute(new)).first() is not None


def _one(owed: Owed) -> tuple[ColumnElement[bool], ...]:
    return replies.c.tenant == owed.tenant, replies.c.channel == owed.channel, replies.c.run == owed.run


def _kept(row: RowMapping) -> KeptChannel:
    return KeptChannel.model_validate({name: row[name] for name in ("tenant", "version", "by", "at", "channel")})


def _owed(row: RowMapping) -> Owed:
    return Owed.model_validate(dict(row))
