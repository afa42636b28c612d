"""The effect ledger in Postgres: the unique key decides who may act."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import JSON, Text, any_, case, cast, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import StoreUnavailable, array_of, transaction
from infra.postgres.tables import effects
from schemas.canonical import JsonObject
from services.tools.ledger import CHANGES, FORGOTTEN, Claim, Claimed, EffectState, answer, not_yours

_TRIES = 5


class PostgresEffectLedger:
    """EffectLedger over the table effects."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(
        self,
        key: str,
        tenant: str,
        run: str,
        command: str,
        tool: str,
        arguments: JsonObject,
        planned_state: str,
        now: datetime,
    ) -> Claim:
        claimed = {"run": run, "command": command, "state": "committed", "since": now, "error": None}
        first = upsert(effects).values(
            key=key, tenant=tenant, tool=tool, arguments=arguments, planned_state=planned_state, **claimed
        )
        entry = first.on_conflict_do_update(index_elements=["key"], set_=claimed, where=effects.c.state == "failed").returning(
            effects.c.key
        )
        table = effects.c
        there = select(table.state, table.command, table.since, table.receipt).where(table.key == key)
        for _ in range(_TRIES):
            async with transaction(self._engine, tenant) as connection:
                if await connection.scalar(entry) is not None:
                    return Claimed()
                state, owner, since, receipt = (await connection.execute(there)).one()
            if state != "failed":
                return answer(state, owner, command, since, receipt)
        raise StoreUnavailable(f"The effect {key} fails again and again elsewhere.")

    async def finish(self, key: str, tenant: str, command: str, receipt: JsonObject) -> None:
        await self._change(key, tenant, command, "done", receipt=receipt)

    async def fail(self, key: str, tenant: str, command: str, error: JsonObject) -> None:
        await self._change(key, tenant, command, "failed", error=error)

    async def doubt(self, key: str, tenant: str, command: str, error: JsonObject) -> None:
        await self._change(key, tenant, command, "in_doubt", error=error)

    async def forget(self, tenant: str, runs: Sequence[str]) -> int:
        table, gone = effects.c, json.dumps(FORGOTTEN)
        receipt = case((table.receipt.is_not(None), cast(cast(gone, Text), JSON)))
        blank = {"arguments": {}, "planned_state": "", "error": null(), "receipt": receipt}
        own = (table.tenant == tenant, table.run == any_(array_of(list(runs))))
        says = or_(
            cast(table.arguments, Text) != "{}", table.planned_state != "", table.error.is_not(None),
            cast(table.receipt, Text) != gone,
        )  # fmt: skip
        async with transaction(self._engine, tenant) as connection:
            return int((await connection.execute(update(effects).where(*own, says).values(**blank))).rowcount)

    async def _change(self, key: str, tenant: str, command: str, state: EffectState, **values: JsonObject) -> None:
        table = effects.c
        mine = (table.tenant == tenant, table.key == key, table.command == command)
        change = update(effects).where(*mine, table.state.in_(CHANGES[state] - {state})).values(state=state, **values)
        async with transaction(self._engine, tenant) as connection:
            if (await connection.execute(change)).rowcount == 1:
                return
            if await connection.scalar(select(table.state).where(*mine)) != state:
                raise not_yours(key, command, state)
