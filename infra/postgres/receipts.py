"""Receipts, their chain and checkpoints in Postgres: one advisory lock a tenant numbers them without a gap."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import all_, any_, func, insert, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.engine import array_of, transaction
from infra.postgres.tables import checkpoints, receipts, receipts_due
from runtime.receipts import SignedCheckpoint, receipt_hash
from schemas.events import RunSealed
from schemas.ids import RunId
from schemas.receipts import NO_HASH, Receipt
from services.recorder.receipt_ports import Due, Make

_LOCK = 0x52435054  # "RCPT": with the tenant's hash, one advisory lock
_ALONE = text("SELECT pg_advisory_xact_lock(:lock, hashtext(:tenant))")
_STRIKE = text("""
    DELETE FROM receipts_due AS d USING unnest(CAST(:runs AS text[]), CAST(:positions AS bigint[])) AS r (run, position)
    WHERE d.tenant = :tenant AND d.run = r.run AND d.position <= r.position
""")


class PostgresReceiptStore:
    """ReceiptStore over the tables receipts, receipts_due and checkpoints. engine: as milepost_keeper, who sees all tenants."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    # --- what is to be done ---

    async def note(self, due: Sequence[Due]) -> None:
        row = upsert(receipts_due)
        old, new = receipts_due.c, row.excluded
        both = {"position": func.greatest(old.position, new.position), "at": func.least(old.at, new.at)}
        row = row.on_conflict_do_update(index_elements=["tenant", "run"], set_=both)
        async with transaction(self._engine) as connection:
            ordered = sorted(due, key=lambda each: (each.tenant, each.run))
            if ordered:
                await connection.execute(row, [each.model_dump() for each in ordered])

    async def due(self, now: datetime, limit: int, *, but: Collection[str] = ()) -> list[Due]:
        table = receipts_due.c
        ripe = select(receipts_due).where(table.at <= now, table.tenant != all_(array_of([*but])))
        chosen = ripe.order_by(table.at, table.tenant, table.run).limit(limit)
        async with transaction(self._engine) as connection:
            return [Due.model_validate(dict(row)) for row in (await connection.execute(chosen)).mappings()]

    # --- the chain ---

    async def add(self, tenant: str, makes: Mapping[RunId, Make], read: Mapping[RunId, int]) -> list[RunSealed]:
        made: list[RunSealed] = []
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(_ALONE, {"lock": _LOCK, "tenant": tenant})
            number, head = await _head(connection, tenant)
            before = await _last_parts(connection, tenant, [*makes])
            for run, make in makes.items():
                event = make(before.get(run), number + 1, head)
                if event is not None:
                    number, head = number + 1, receipt_hash(event.receipt)
                    made.append(event)
            if made:
                await connection.execute(insert(receipts), [_row(each, published=False) for each in made])
            if read:
                asked = {"tenant": tenant, "runs": [*read], "positions": [*read.values()]}
                await connection.execute(_STRIKE, asked)
        return made

    async def restore(self, rows: Sequence[RunSealed]) -> list[RunSealed]:
        if not rows:
            return []
        table = receipts.c
        wanted = sorted((_row(each, published=True) for each in rows), key=lambda row: (str(row["tenant"]), row["number"]))
        places = [(row["tenant"], row["number"], row["hash"]) for row in wanted]
        async with transaction(self._engine) as connection:
            await connection.execute(upsert(receipts).on_conflict_do_nothing(), wanted)
            kept = select(table.tenant, table.number, table.hash).where(
                tuple_(table.tenant, table.number, table.hash).in_(places)
            )
            there = {tuple(row) for row in await connection.execute(kept)}
        return [
            each for each in rows
            if (each.receipt.tenant, each.receipt.number, receipt_hash(each.receipt)) not in there
        ]  # fmt: skip

    async def unpublished(self, limit: int, *, but: Collection[str] = ()) -> list[RunSealed]:
        table = receipts.c
        left = select(table.sealed).where(~table.published, table.run != all_(array_of([*but])))
        chosen = left.order_by(table.tenant, table.number).limit(limit)
        async with transaction(self._engine) as connection:
            return [RunSealed.model_validate(row) for row in (await connection.execute(chosen)).scalars()]

    async def published(self, rows: Sequence[RunSealed]) -> None:
        table = receipts.c
        places = [(each.receipt.tenant, each.receipt.number) for each in rows]
        if not places:
            return
        async with transaction(self._engine) as connection:
            mark = update(receipts).where(tuple_(table.tenant, table.number).in_(places)).values(published=True)
            await connection.execute(mark)

    async def chain(self, tenant: str, after: int = 0, limit: int = 500) -> list[RunSealed]:
        table = receipts.c
        chosen = select(table.sealed).where(table.tenant == tenant, table.number > after).order_by(table.number).limit(limit)
        async with transaction(self._engine, tenant) as connection:
            return [RunSealed.model_validate(row) for row in (await connection.execute(chosen)).scalars()]

    async def of_run(self, tenant: str, run: str) -> list[RunSealed]:
        table = receipts.c
        chosen = select(table.sealed).where(table.tenant == tenant, table.run == run).order_by(table.part)
        async with transaction(self._engine, tenant) as connection:
            return [RunSealed.model_validate(row) for row in (await connection.execute(chosen)).scalars()]

    async def heads(self) -> dict[str, tuple[int, str]]:
        table = receipts.c
        newest = select(table.tenant, func.max(table.number).label("number")).group_by(table.tenant).subquery()
        both = select(table.tenant, table.number, table.hash).join(
            newest, (newest.c.tenant == table.tenant) & (newest.c.number == table.number)
        )
        async with transaction(self._engine) as connection:
            return {tenant: (number, hash) for tenant, number, hash in await connection.execute(both)}

    # --- checkpoints ---

    async def keep(self, signed: SignedCheckpoint) -> None:
        said = signed.checkpoint
        row = upsert(checkpoints).values(
            tenant=said.tenant, number=said.number, at=said.at, checkpoint=signed.model_dump(mode="json")
        )
        async with transaction(self._engine, said.tenant) as connection:
            await connection.execute(row.on_conflict_do_nothing())

    async def checkpoint(self, tenant: str) -> SignedCheckpoint | None:
        table = checkpoints.c
        newest = select(table.checkpoint).where(table.tenant == tenant).order_by(table.number.desc(), table.at.desc()).limit(1)
        async with transaction(self._engine, tenant) as connection:
            found = await connection.scalar(newest)
            return SignedCheckpoint.model_validate(found) if found else None


async def _head(connection: AsyncConnection, tenant: str) -> tuple[int, str]:
    table = receipts.c
    newest = select(table.number, table.hash).where(table.tenant == tenant).order_by(table.number.desc()).limit(1)
    found = (await connection.execute(newest)).first()
    return (found.number, found.hash) if found else (0, NO_HASH)


async def _last_parts(connection: AsyncConnection, tenant: str, runs: Sequence[RunId]) -> dict[str, Receipt]:
    """The last receipt of each of these runs that has one."""
    table = receipts.c
    own = select(table.sealed).where(table.tenant == tenant, table.run == any_(array_of(runs))).order_by(table.part)
    found = [RunSealed.model_validate(row).receipt for row in (await connection.execute(own)).scalars()]
    return {receipt.run: receipt for receipt in found}


def _row(event: RunSealed, *, published: bool) -> dict[str, object]:
    receipt = event.receipt
    return {
        "tenant": receipt.tenant, "number": receipt.number, "run": receipt.run, "part": receipt.part,
        "hash": receipt_hash(receipt), "sealed": event.model_dump(mode="json"), "published": published,
    }  # fmt: skip
