"""The effect ledger in Postgres: the unique key decides who may act, the database's clock for how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import LiteralString

from sqlalchemy import (
    JSON,
    ColumnElement,
    Double,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    extract,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.engine import Row, RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.at_once import at_once
from infra.postgres.engine import StoreUnavailable, array_of, pattern, transaction
from infra.postgres.tables import effects
from schemas.canonical import JsonObject
from services.tools.ledger import (
    CHANGES,
    FIRST_LOOK_S,
    FORGOTTEN,
    GRACE_S,
    LONGEST_PAUSE_S,
    Claim,
    Claimed,
    Done,
    Effect,
    EffectFilter,
    EffectState,
    InProgress,
    Intent,
    Mine,
    UnknownEffect,
    not_open,
    not_yours,
    settled_otherwise,
)

_TRIES = 5
_TABLE = effects.c
_OPEN = ("committed", "in_doubt")
_SHOWN = [column for column in effects.columns if column.name in Effect.model_fields]
_HIDDEN_DIGITS = 8

# What every write waits for, each in one round trip. Nothing is sent on a claim before `hold`, which is on disk when it
# returns, and with it the claim before it in the log of the database: a claim that a crash loses was never acted on, and
# its token is nobody else's. So a claim need not be on disk by itself, unless it is a hold as well.
_FIRST_CLAIM: LiteralString = """
INSERT INTO effects (
    key, base, round, tenant, run, conversation, "user", command, approval, datakey, lane, tool, arguments, planned_state,
    state, since, token, lease, look, first_sent, last_sent
) VALUES (
    %(key)s, %(base)s, %(round)s, %(tenant)s, %(run)s, %(conversation)s, %(user)s, %(command)s, %(approval)s, %(datakey)s,
    %(lane)s, %(tool)s, %(arguments)s, %(planned_state)s, 'committed', %(now)s, %(token)s,
    now() + make_interval(secs => %(lease)s), now() + make_interval(secs => %(look)s),
    CASE WHEN %(sending)s THEN now() END, CASE WHEN %(sending)s THEN now() END
)
ON CONFLICT (key) DO UPDATE SET
    run = excluded.run, conversation = excluded.conversation, "user" = excluded."user", command = excluded.command,
    approval = excluded.approval, datakey = excluded.datakey, lane = excluded.lane, tool = excluded.tool,
    arguments = excluded.arguments, planned_state = excluded.planned_state, state = 'committed', since = excluded.since,
    token = excluded.token, lease = excluded.lease, look = excluded.look, attempts = 1, looks = 0, price = NULL,
    currency = NULL, receipt = NULL, error = NULL, first_sent = excluded.first_sent, last_sent = excluded.last_sent,
    finished = NULL, settled_by = NULL,
    note = '', told = true, undone_by = NULL
    WHERE effects.state = 'failed' AND effects.told
RETURNING key
"""
_NEXT_CLAIM: LiteralString = """
UPDATE effects SET token = %(token)s, lease = now() + make_interval(secs => %(lease)s),
    look = now() + make_interval(secs => %(look)s), attempts = attempts + 1
WHERE key = %(key)s AND command = %(command)s AND state = 'committed' AND (lease <= now() OR token = %(token)s)
RETURNING since, extract(epoch FROM now() - first_sent)::float8 AS first_s,
    extract(epoch FROM now() - last_sent)::float8 AS last_s
"""
_HOLD: LiteralString = """
UPDATE effects SET lease = now() + make_interval(secs => %(lease)s), look = now() + make_interval(secs => %(look)s),
    first_sent = CASE WHEN %(sending)s THEN coalesce(first_sent, now()) ELSE first_sent END,
    last_sent = CASE WHEN %(sending)s THEN now() ELSE last_sent END,
    price = coalesce(%(price)s, price), currency = coalesce(%(currency)s, currency)
WHERE key = %(key)s AND token = %(token)s AND state IN ('committed', 'in_doubt')
RETURNING key
"""
_FINISH: LiteralString = """
UPDATE effects SET state = 'done', finished = %(now)s, receipt = %(receipt)s, lease = now(), look = NULL, looks = 0
WHERE key = %(key)s AND command = %(command)s AND state <> 'done'
RETURNING key
"""
_LAST_DONE: LiteralString = """
SELECT key, base, round, tenant, run, conversation, command, lane, tool, state, since, finished, receipt
FROM effects WHERE tenant = %(tenant)s AND base = %(base)s AND state = 'done' ORDER BY round DESC LIMIT 1
"""


class PostgresEffectLedger:
    """EffectLedger over the table effects. keeper: an engine that sees all tenants; without it nothing is looked after."""

    def __init__(self, engine: AsyncEngine, keeper: AsyncEngine | None = None, *, grace_s: float = GRACE_S) -> None:
        self._engine, self._keeper, self._grace_s = engine, keeper or engine, grace_s

    async def claim(self, intent: Intent, token: str, now: datetime, lease_s: float, *, sending: bool = False) -> Claim:
        said = {**intent.model_dump(), "arguments": json.dumps(intent.arguments), "token": token, "now": now}
        said |= {"lease": lease_s, "look": lease_s + self._grace_s, "sending": sending}
        for _ in range(_TRIES):
            if await at_once(self._engine, intent.tenant, _FIRST_CLAIM, said, durable=sending):
                return Claimed(sending=sending)
            mine = await at_once(self._engine, intent.tenant, _NEXT_CLAIM, said)
            if mine:
                return _mine(**mine[0])  # type: ignore[arg-type]  # the columns it returns
            async with transaction(self._engine, intent.tenant) as connection:
                row = (await connection.execute(_there(intent.key))).one()
            if row.state != "failed" or not row.told:
                return _answer(row)
        raise StoreUnavailable(f"The effect {intent.key} fails again and again elsewhere.")

    async def hold(
        self, key: str, tenant: str, token: str, lease_s: float, *, sending: bool,
        price: str | None = None, currency: str | None = None,
    ) -> bool:  # fmt: skip
        said = {"key": key, "token": token, "lease": lease_s, "look": lease_s + self._grace_s, "sending": sending}
        return bool(await at_once(self._engine, tenant, _HOLD, {**said, "price": price, "currency": currency}))

    async def release(self, key: str, tenant: str, token: str) -> None:
        held = (_TABLE.key == key, _TABLE.token == token, _TABLE.state == "committed")
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(update(effects).where(*held).values(**self._lease(0.0)))

    async def finish(self, key: str, tenant: str, command: str, receipt: JsonObject, now: datetime) -> None:
        said = {"key": key, "command": command, "receipt": json.dumps(receipt), "now": now}
        # Not awaited on disk: the run's log is, and a receipt that a crash loses is found there (services.tools.settling).
        if not await at_once(self._engine, tenant, _FINISH, said, durable=False):
            await self._become(key, tenant, "done", now, _TABLE.command == command, receipt=receipt)

    async def fail(self, key: str, tenant: str, token: str, error: JsonObject, now: datetime) -> None:
        await self._become(key, tenant, "failed", now, _TABLE.token == token, error=error)

    async def doubt(self, key: str, tenant: str, token: str, error: JsonObject, now: datetime) -> None:
        await self._become(key, tenant, "in_doubt", now, _TABLE.token == token, error=error)

    async def settle(
        self, key: str, tenant: str, now: datetime, *, happened: bool, by: str, note: str = "",
        receipt: JsonObject | None = None, token: str = "",
    ) -> Effect:  # fmt: skip
        state: EffectState = "done" if happened else "failed"
        free = or_(
            _TABLE.state == "in_doubt",
            and_(_TABLE.state == "committed", or_(_TABLE.lease <= func.now(), _TABLE.token == token)),
        )
        change = update(effects).where(_TABLE.tenant == tenant, _TABLE.key == key, free).values(
            state=state, finished=now, settled_by=by, note=note, receipt=receipt or null(), told=False, look=func.now(), looks=0
        )  # fmt: skip
        async with transaction(self._engine, tenant) as connection:
            changed = (await connection.execute(change)).rowcount == 1
            effect = await _one(connection, tenant, key)
        if not changed and effect.state not in ("done", "failed"):
            raise not_yours(key, state)
        if effect.state != state:
            raise settled_otherwise(effect)
        return effect

    async def look_after(self, lane: str, token: str, limit: int, lease_s: float) -> list[Effect]:
        due = (
            select(_TABLE.key).where(_TABLE.lane == lane, _TABLE.look <= func.now())
            .order_by(_TABLE.look).limit(limit).with_for_update(skip_locked=True)
        )  # fmt: skip
        async with transaction(self._keeper) as connection:
            rows = await connection.execute(_taking(token, lease_s).where(_TABLE.key.in_(due)).returning(*_columns()))
            return [_effect(row) for row in rows.mappings()]

    async def take(self, key: str, tenant: str, token: str, lease_s: float) -> Effect:
        free = (_TABLE.tenant == tenant, _TABLE.key == key, _TABLE.state.in_(_OPEN), _TABLE.lease <= func.now())
        async with transaction(self._engine, tenant) as connection:
            taking = _taking(token, lease_s).where(*free).returning(*_columns())
            row = (await connection.execute(taking)).mappings().one_or_none()
            if row is None:
                await _one(connection, tenant, key)
                raise not_open(key)
        return _effect(row)

    async def told(self, key: str, tenant: str) -> None:
        await self._note(key, tenant, told=True, look=null())

    async def undone(self, key: str, tenant: str, run: str) -> None:
        await self._note(key, tenant, undone_by=run)

    async def last_done(self, tenant: str, base: str) -> Effect | None:
        rows = await at_once(self._engine, tenant, _LAST_DONE, {"base": base, "tenant": tenant}, durable=False)
        return Effect.model_validate(rows[0]) if rows else None

    async def show(self, tenant: str, key: str) -> Effect | None:
        begins = _TABLE.key.like(pattern(key).removeprefix("%")) if len(key) >= _HIDDEN_DIGITS else false()
        found = select(*_columns()).where(_TABLE.tenant == tenant, or_(_TABLE.key == key, begins)).limit(2)
        async with transaction(self._engine, tenant) as connection:
            rows = (await connection.execute(found)).mappings().all()
        if len(rows) > 1:
            raise UnknownEffect(key)
        return _effect(rows[0]) if rows else None

    async def list_effects(self, tenant: str, which: EffectFilter, limit: int) -> list[Effect]:
        found = select(*_columns()).where(_TABLE.tenant == tenant, *_fits(which))
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(found.order_by(_TABLE.since.desc(), _TABLE.key.desc()).limit(limit))
            return [_effect(row) for row in rows.mappings()]

    async def forget(self, tenant: str, runs: Sequence[str]) -> int:
        gone = json.dumps(FORGOTTEN)
        receipt = case((_TABLE.receipt.is_not(None), cast(cast(gone, Text), JSON)))
        blank = {
            "arguments": {}, "planned_state": "", "error": null(), "receipt": receipt, "user": "", "note": "",
            "conversation": "",
        }  # fmt: skip
        own = (_TABLE.tenant == tenant, _TABLE.run == any_(array_of(list(runs))))
        says = or_(
            cast(_TABLE.arguments, Text) != "{}", _TABLE.planned_state != "", _TABLE.error.is_not(None),
            cast(_TABLE.receipt, Text) != gone, _TABLE.user != "", _TABLE.note != "", _TABLE.conversation != "",
        )  # fmt: skip
        async with transaction(self._engine, tenant) as connection:
            return int((await connection.execute(update(effects).where(*own, says).values(**blank))).rowcount)

    # --- rows ---

    def _lease(self, seconds: float) -> dict[str, object]:
        """A lease from now on, and when its claim is looked after if nobody takes it up again."""
        return {"lease": _after(seconds), "look": _after(seconds + self._grace_s)}

    async def _become(
        self, key: str, tenant: str, state: EffectState, now: datetime, whose: ColumnElement[bool], **values: JsonObject
    ) -> None:
        doubted = state == "in_doubt"
        at = {
            "lease": func.now(),
            "finished": null() if doubted else now,
            "look": _after(FIRST_LOOK_S) if doubted else null(),
            "looks": 0,
        }
        mine = (_TABLE.tenant == tenant, _TABLE.key == key, whose)
        change = update(effects).where(*mine, _TABLE.state.in_(CHANGES[state])).values(state=state, **at, **values)
        async with transaction(self._engine, tenant) as connection:
            if (await connection.execute(change)).rowcount == 1:
                return
            if await connection.scalar(select(_TABLE.state).where(*mine)) != state:
                raise not_yours(key, state)

    async def _note(self, key: str, tenant: str, **values: object) -> None:
        change = update(effects).where(_TABLE.tenant == tenant, _TABLE.key == key).values(**values)
        async with transaction(self._engine, tenant) as connection:
            if (await connection.execute(change)).rowcount != 1:
                raise UnknownEffect(key)


def _after(seconds: float) -> ColumnElement[datetime]:
    return func.now() + literal(timedelta(seconds=seconds))


def _there(key: str) -> Select[tuple[str, str, datetime, JsonObject | None, bool]]:
    return select(_TABLE.state, _TABLE.command, _TABLE.since, _TABLE.receipt, _TABLE.told).where(_TABLE.key == key)


def _taking(token: str, lease_s: float):  # type: ignore[no-untyped-def]
    """An update that gives rows to whoever looks after them, and lets them come again later."""
    doubling = literal(FIRST_LOOK_S) * func.power(2.0, func.least(_TABLE.looks, 20))
    pause = func.greatest(func.least(doubling, LONGEST_PAUSE_S), lease_s)
    look = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, pause)
    return update(effects).values(token=token, lease=_after(lease_s), look=look, looks=_TABLE.looks + 1)


def _ago(moment: ColumnElement[datetime | None]) -> ColumnElement[float]:
    return cast(extract("epoch", func.now() - moment), Double).label(f"{moment.key}_s")


def _columns() -> list[ColumnElement[object]]:
    return [*_SHOWN, _ago(_TABLE.first_sent)]


def _effect(row: RowMapping) -> Effect:
    said = {str(name): value for name, value in row.items()}
    return Effect.model_validate({**said, "sent_s": said.pop("first_sent_s")})


async def _one(connection: AsyncConnection, tenant: str, key: str) -> Effect:
    found = select(*_columns()).where(_TABLE.tenant == tenant, _TABLE.key == key)
    row = (await connection.execute(found)).mappings().one_or_none()
    if row is None:
        raise UnknownEffect(key)
    return _effect(row)


def _mine(since: datetime, first_s: float | None, last_s: float | None) -> Claim:
    if first_s is None or last_s is None:
        return Claimed(again=True)
    return Mine(since=since, first_s=first_s, last_s=last_s)


def _answer(row: Row[tuple[str, str, datetime, JsonObject | None, bool]]) -> Claim:
    if row.state == "done":
        return Done(receipt=row.receipt or {}, by=row.command)
    return InProgress(by=row.command, since=row.since, in_doubt=row.state == "in_doubt")


def _fits(which: EffectFilter) -> list[ColumnElement[bool]]:
    asked = {"tool": which.tool, "run": which.run, "conversation": which.conversation}
    found = [_TABLE[name] == value for name, value in asked.items() if value is not None]
    return [
        *found, _TABLE.state.in_(which.states) if which.states else true(),
        _TABLE.since < which.before if which.before else true(),
    ]  # fmt: skip
