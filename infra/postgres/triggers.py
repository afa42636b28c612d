"""Triggers in Postgres, and what came of what fired them. Every call is idempotent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import RowMapping, Select, Update, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tables import trigger_firings as firings
from infra.postgres.tables import triggers
from services.gateway.answers import NotThere
from services.gateway.triggers.memory_store import PENDING, changed, judged, same
from services.gateway.triggers.store import FIRINGS_KEPT, Claim
from services.gateway.triggers.trigger import Firing, Kept, Outcome


class PostgresTriggerStore:
    """services.gateway.triggers.store.TriggerStore. keeper: an engine whose role sees every tenant."""

    def __init__(self, engine: AsyncEngine, keeper: AsyncEngine) -> None:
        self._engine, self._keeper = engine, keeper

    async def put(self, kept: Kept) -> None:
        trigger = kept.trigger
        row = kept.model_dump(exclude={"trigger", "scheduled"}) | {
            "name": trigger.name, "trigger": trigger.model_dump(mode="json", by_alias=True), "enabled": trigger.enabled,
            "kind": trigger.source.kind,
        }  # fmt: skip
        written = upsert(triggers).values(row)
        if kept.version > 1:
            new = {name: written.excluded[name] for name in ("version", "by", "at", "trigger", "enabled", "kind")}
            earlier = triggers.c.version == kept.version - 1
            written = written.on_conflict_do_update(index_elements=["tenant", "name"], set_=new, where=earlier)
        else:
            written = written.on_conflict_do_nothing()
        async with transaction(self._engine, kept.tenant) as connection:
            place = select(triggers).where(triggers.c.tenant == kept.tenant, triggers.c.name == trigger.name).with_for_update()
            before = (await connection.execute(place)).mappings().one_or_none()
            if before is None and kept.version > 1:
                raise changed(kept)
            if (await connection.execute(written.returning(triggers.c.version))).first() is not None:
                return
            now = (await connection.execute(place)).mappings().one_or_none()
        if now is None or _kept(now).model_copy(update={"scheduled": None}) != kept.model_copy(update={"scheduled": None}):
            raise changed(kept)  # else it was put before

    async def get(self, tenant: str, name: str) -> Kept | None:
        which = select(triggers).where(triggers.c.tenant == tenant, triggers.c.name == name)
        async with transaction(self._engine, tenant) as connection:
            row = (await connection.execute(which)).mappings().one_or_none()
        return _kept(row) if row is not None else None

    async def triggers(self, tenant: str) -> list[Kept]:
        which = select(triggers).where(triggers.c.tenant == tenant).order_by(triggers.c.name)
        async with transaction(self._engine, tenant) as connection:
            return [_kept(row) for row in (await connection.execute(which)).mappings()]

    async def watched(self) -> list[Kept]:
        which = select(triggers).where(triggers.c.enabled, triggers.c.kind.in_(("cron", "subject")))
        async with transaction(self._keeper) as connection:
            found = await connection.execute(which.order_by(triggers.c.tenant, triggers.c.name))
            return [_kept(row) for row in found.mappings()]

    async def remove(self, tenant: str, name: str) -> bool:
        which = delete(triggers).where(triggers.c.tenant == tenant, triggers.c.name == name)
        async with transaction(self._engine, tenant) as connection:
            return bool((await connection.execute(which)).rowcount)

    async def scheduled(self, tenant: str, name: str, moment: datetime) -> None:
        which = update(triggers).where(triggers.c.tenant == tenant, triggers.c.name == name)
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(which.values(scheduled=moment))

    # --- what came of it ---

    async def claim(self, claim: Claim) -> Firing:
        column, mine = firings.c, (firings.c.tenant == claim.tenant, firings.c.trigger == claim.trigger)
        locked = select(triggers.c.name).where(triggers.c.tenant == claim.tenant, triggers.c.name == claim.trigger)
        keyed = select(firings).where(
            *mine, or_(column.key == claim.key, column.key.startswith(f"{claim.key}@", autoescape=True))
        )
        begun = or_(column.outcome == "begun", (column.outcome == "pending") & (column.at > claim.at - PENDING))
        counted = select(func.max(column.at), func.count().filter(~column.ended)).where(*mine, begun)
        async with transaction(self._engine, claim.tenant) as connection:
            if (await connection.execute(locked.with_for_update())).first() is None:
                raise NotThere(f"There is no trigger {claim.trigger}.", hint="milepost triggers ls")
            before = same(claim, [_firing(row) for row in (await connection.execute(keyed)).mappings()])
            if before is not None:
                return before
            last, open_runs = (await connection.execute(counted)).one()
            firing = judged(claim, last, open_runs)
            await connection.execute(upsert(firings).values(firing.model_dump()).on_conflict_do_nothing())
            oldest = select(column.at).where(*mine).order_by(column.at.desc()).offset(FIRINGS_KEPT).limit(1).scalar_subquery()
            await connection.execute(delete(firings).where(*mine, column.at <= oldest))
        return firing

    async def settle(self, firing: Firing, outcome: Outcome, run: str | None = None, why: str = "") -> Firing:
        values: dict[str, object] = {"outcome": outcome, "run": run, "why": why[:1000]}
        async with transaction(self._engine, firing.tenant) as connection:
            await connection.execute(_one(firing.tenant, firing.trigger, firing.key, values))
        return firing.model_copy(update=values)

    async def open(self, tenant: str, name: str, limit: int = 200) -> list[Firing]:
        mine = firings.c.tenant == tenant, firings.c.trigger == name
        which = select(firings).where(*mine, firings.c.run.is_not(None), ~firings.c.ended)
        return await self._all(tenant, which.order_by(firings.c.at, firings.c.key).limit(limit))

    async def ended(self, tenant: str, name: str, key: str) -> None:
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(_one(tenant, name, key, {"ended": True}))

    async def firings(self, tenant: str, name: str | None = None, limit: int = 100) -> list[Firing]:
        which = select(firings).where(firings.c.tenant == tenant)
        which = which if name is None else which.where(firings.c.trigger == name)
        return await self._all(tenant, which.order_by(firings.c.at.desc(), firings.c.key.desc()).limit(limit))

    async def _all(self, tenant: str, which: Select[tuple[object, ...]]) -> list[Firing]:
        async with transaction(self._engine, tenant) as connection:
            return [_firing(row) for row in (await connection.execute(which)).mappings()]


def _one(tenant: str, name: str, key: str, values: dict[str, object]) -> Update:
    mine = firings.c.tenant == tenant, firings.c.trigger == name, firings.c.key == key
    return update(firings).where(*mine).values(**values)


def _kept(row: RowMapping) -> Kept:
    return Kept.model_validate({name: row[name] for name in ("tenant", "version", "by", "at", "trigger", "scheduled")})


def _firing(row: RowMapping) -> Firing:
    return Firing.model_validate(dict(row))
