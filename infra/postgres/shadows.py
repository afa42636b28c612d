"""Shadows in Postgres. Every call is idempotent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tables import shadow_differences, shadows
from infra.shadow.shadow import Compared, Shadow, Told, UnknownShadow


class PostgresShadowStore:
    """ShadowStore over the tables shadows and shadow_differences. keeper: an engine whose role sees every tenant."""

    def __init__(self, engine: AsyncEngine, keeper: AsyncEngine) -> None:
        self._engine, self._keeper = engine, keeper

    async def add(self, shadow: Shadow) -> bool:
        row = shadow.model_dump(exclude={"candidate"})
        row["swap"] = shadow.candidate.model_dump(mode="json", by_alias=True)
        new = upsert(shadows).values(row).on_conflict_do_nothing().returning(shadows.c.name)
        same = select(shadows.c.created).where(shadows.c.tenant == shadow.tenant, shadows.c.name == shadow.name)
        async with transaction(self._engine, shadow.tenant) as connection:
            if await connection.scalar(new) is not None:
                return True
            return bool(await connection.scalar(same) == shadow.created)  # asked again

    async def shadows(self, tenant: str, name: str | None = None) -> list[Told]:
        own = [shadows.c.tenant == tenant, *([shadows.c.name == name] if name is not None else [])]
        rows = shadow_differences.c
        counted = (
            select(rows.shadow, rows.risk, func.count(), func.max(rows.at))
            .where(rows.tenant == tenant, *([rows.shadow == name] if name is not None else []))
            .group_by(rows.shadow, rows.risk)
        )
        async with transaction(self._engine, tenant) as connection:
            found = (await connection.execute(select(shadows).where(*own).order_by(shadows.c.name))).mappings().all()
            counts = (await connection.execute(counted)).all()
        return [_told(row, [each for each in counts if each[0] == row["name"]]) for row in found]

    async def running(self) -> list[Shadow]:
        async with transaction(self._keeper) as connection:
            found = await connection.execute(select(shadows).where(shadows.c.state == "running"))
            return [_shadow(row) for row in found.mappings()]

    async def change(self, tenant: str, name: str, values: dict[str, object], expected: str | None = None) -> bool:
        which = [shadows.c.tenant == tenant, shadows.c.name == name]
        which += [shadows.c.state == expected] if expected is not None else []
        async with transaction(self._engine, tenant) as connection:
            return bool((await connection.execute(update(shadows).where(*which).values(**values))).rowcount)

    async def drop(self, tenant: str, name: str) -> None:
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(delete(shadows).where(shadows.c.tenant == tenant, shadows.c.name == name))

    async def keep(self, tenant: str, name: str, compared: Compared) -> None:
        row: dict[str, Any] = compared.model_dump(exclude={"result"})
        row["result"] = compared.result.model_dump(mode="json", exclude_defaults=True)
        once = upsert(shadow_differences).values(tenant=tenant, shadow=name, **row).on_conflict_do_nothing()
        try:
            async with transaction(self._engine, tenant) as connection:
                await connection.execute(once)
        except IntegrityError as error:
            raise UnknownShadow(f"There is no shadow {name}.", hint="milepost shadow ls") from error

    async def tokens(self, tenant: str, name: str, since: datetime) -> int:
        rows = shadow_differences.c
        spent = select(func.sum(rows.tokens)).where(rows.tenant == tenant, rows.shadow == name, rows.at > since)
        async with transaction(self._engine, tenant) as connection:
            return int(await connection.scalar(spent) or 0)

    async def results(self, tenant: str, name: str, after: tuple[str, int], limit: int) -> list[Compared]:
        rows = shadow_differences.c
        page = (
            select(shadow_differences)
            .where(rows.tenant == tenant, rows.shadow == name, tuple_(rows.run, rows.event) > after)
            .order_by(rows.run, rows.event)
            .limit(limit)
        )
        async with transaction(self._engine, tenant) as connection:
            return [Compared.model_validate(dict(row)) for row in (await connection.execute(page)).mappings()]


def _shadow(row: RowMapping) -> Shadow:
    return Shadow.model_validate({**row, "candidate": row["swap"]})


def _told(row: RowMapping, counts: list[Any]) -> Told:
    last = max((each[3] for each in counts), default=None)
    return Told(shadow=_shadow(row), counts={each[1]: each[2] for each in counts}, last=last)
