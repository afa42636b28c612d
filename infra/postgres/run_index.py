"""The index of the log in Postgres: events, run summaries, uses and watermarks, written in one transaction."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import orjson
from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    Column,
    ColumnElement,
    RowMapping,
    Select,
    Table,
    and_,
    any_,
    delete,
    false,
    func,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres import tables
from infra.postgres.engine import array_of, pattern, transaction
from services.recorder.ports import (
    ERASED,
    OPEN,
    SHORTEST,
    Erasure,
    EventRow,
    Place,
    Rebuilding,
    RunFilter,
    RunRecord,
    RunSummary,
    Use,
    Used,
    Watermark,
)

_RUN = [tables.runs.c[name] for name in RunSummary.model_fields]
_MANY = 5_000
"""More runs than these whose events hold a text are not listed first: newer runs are looked at one by one."""

_REBUILD = "rebuild"
"""The watermark that stands as long as the index is incomplete."""


def _from_json(table: Table, columns: Iterable[str], conflict: str) -> str:
    """Rows as one JSON array: one value to send, whatever their number and types."""
    names = ", ".join(f'"{name}"' for name in columns)
    source = f"json_populate_recordset(NULL::{table.name}, CAST(:rows AS json))"
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source} ON CONFLICT {conflict}"


_EVENTS = text(_from_json(tables.events, EventRow.model_fields, "DO NOTHING"))
_USES = text(_from_json(tables.run_uses, Use.model_fields, """(run, kind, id, how, hash)
    DO UPDATE SET time = excluded.time, name = excluded.name, detail = excluded.detail
    WHERE excluded.time < run_uses.time"""))  # fmt: skip
_RENEWED = [name for name in (*RunSummary.model_fields, "cost") if name not in ("run", "receipt")]
_NEWER = ", ".join(f'"{name}" = excluded."{name}"' for name in _RENEWED)
_RUNS = text(_from_json(tables.runs, [*RunSummary.model_fields, "cost"], f"""(run)
    DO UPDATE SET {_NEWER}, receipt = greatest(runs.receipt, excluded.receipt)
    WHERE runs.seq <= excluded.seq AND NOT runs.erased"""))  # fmt: skip
_RECEIPTS = text("""
    UPDATE runs SET receipt = given.value::bigint FROM json_each_text(CAST(:receipts AS json)) AS given
    WHERE runs.run = given.key AND given.value::bigint > coalesce(runs.receipt, 0)""")


class PostgresRunIndex:
    """RunIndex over the tables events, runs, run_uses and watermarks."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(
        self, events: Sequence[EventRow], runs: Sequence[RunSummary], watermark: Watermark | None = None,
        uses: Sequence[Use] = (), receipts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        async with transaction(self._engine) as connection:
            if runs:
                newest = {run.run: run for run in sorted(runs, key=lambda run: (run.run, run.seq))}
                await connection.execute(_RUNS, {"rows": _json(_with_cost(run) for run in newest.values())})
            if receipts:
                await connection.execute(_RECEIPTS, {"receipts": orjson.dumps(dict(sorted(receipts.items()))).decode()})
            # after the runs: whoever erases one of them now waits for these events and uses too
            erased = await _erased(connection, {event.run for event in events} | {use.run for use in uses})
            if events:
                said = (vars(event) | ({"summary": ERASED} if event.run in erased else {}) for event in _ordered(events))
                await connection.execute(_EVENTS, {"rows": _json(said)})
            if first := _first(use for use in uses if use.run not in erased):
                await connection.execute(_USES, {"rows": _json(vars(use) for use in first)})
            if watermark:
                await _mark(connection, watermark)

    async def watermark(self, stream: str) -> Watermark | None:
        async with transaction(self._engine) as connection:
            rows = await connection.execute(select(tables.watermarks).where(tables.watermarks.c.stream == stream))
            row = rows.mappings().one_or_none()
            return Watermark.model_validate(dict(row)) if row else None

    async def list_runs(self, which: RunFilter, limit: int = 50, after: Place | None = None) -> list[RunSummary]:
        async with transaction(self._engine) as connection:
            texts = await _text_conditions(connection, which)
            rows = await connection.execute(newest(which, limit, after).where(*texts))
            return [RunSummary.model_validate(dict(row)) for row in rows.mappings()]

    async def lines(self, tenant: str, runs: Sequence[str], text: str, each: int = 3) -> list[EventRow]:
        events = tables.events
        place = func.row_number().over(partition_by=events.c.run, order_by=events.c.seq).label("place")
        asked = (events.c.tenant == tenant, events.c.run == any_(array_of(runs)), events.c.summary.ilike(pattern(text)))
        found = select(events, place).where(*asked).subquery()
        first = select(found).where(found.c.place <= each).order_by(found.c.run, found.c.seq)
        async with transaction(self._engine) as connection:
            return [_event(row) for row in (await connection.execute(first)).mappings()]

    async def show(self, run: str, tenant: str | None = None) -> RunRecord | None:
        async with transaction(self._engine) as connection:
            found = (await connection.execute(select(*_RUN).where(tables.runs.c.run == run))).mappings().one_or_none()
            if found is None or tenant not in (None, found["tenant"]):
                return None
            rows = await connection.execute(
                select(tables.events).where(tables.events.c.run == run).order_by(tables.events.c.seq)
            )
            said = tuple(_event(row) for row in rows.mappings())
            return RunRecord(summary=RunSummary.model_validate(dict(found)), events=said)

    async def runs_of(self, tenant: str, user: str, *, after: str = "", limit: int = 500, open: bool = False) -> list[str]:
        own = [tables.runs.c.tenant == tenant, tables.runs.c.user == user, tables.runs.c.run > after]
        if open:
            own.append(tables.runs.c.status.in_(OPEN))
        async with transaction(self._engine, tenant) as connection:
            await _whole(connection)
            found = await connection.execute(select(tables.runs.c.run).where(*own).order_by(tables.runs.c.run).limit(limit))
            return list(found.scalars())

    async def forget(self, tenant: str, user: str) -> Erasure:
        runs, events = tables.runs, tables.events
        own = (runs.c.tenant == tenant, runs.c.user == user, runs.c.erased.is_(False))
        blank = update(runs).where(*own).values(task=ERASED, answer=None, tools=[], models=[], erased=True)
        async with transaction(self._engine, tenant) as connection:
            await _whole(connection)
            gone = (await connection.execute(blank.returning(runs.c.run, runs.c.sealed))).all()
            names = array_of([run for run, _ in gone])
            told = update(events).where(events.c.run == any_(names)).values(summary=ERASED)
            used = delete(tables.run_uses).where(tables.run_uses.c.run == any_(names))
            said, uses = [(await connection.execute(each)).rowcount for each in (told, used)] if gone else (0, 0)
        return Erasure(runs=len(gone), events=said, unsealed=sum(not sealed for _, sealed in gone), uses=uses)

    async def uses(self, tenant: str, names: Sequence[str], limit: int = 200) -> list[Used]:
        table, runs = tables.run_uses.c, tables.runs.c
        asked = [name for name in names if name]
        exactly = or_(*(column == any_(array_of(asked)) for column in (table.id, table.name, table.hash)))
        begun = [_begins(column, name) for name in asked if len(name) >= SHORTEST for column in (table.id, table.hash)]
        newest = (
            select(tables.run_uses, *_RUN)
            .join(tables.runs, runs.run == table.run)
            .where(table.tenant == tenant)
            .order_by(runs.started.desc(), runs.run.desc(), table.time, table.kind, table.id)
            .limit(limit)
            .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
        )
        async with transaction(self._engine, tenant) as connection:
            for condition in (exactly, or_(false(), *begun)):
                if rows := (await connection.execute(newest.where(condition))).mappings().all():
                    return [_used(row) for row in rows]
        return []

    async def begin_rebuild(self, *, drop: bool) -> None:
        async with transaction(self._engine) as connection:
            await _mark(connection, Watermark(stream=_REBUILD, seq=0, created=datetime.now(UTC)))
            if drop:
                await connection.execute(text("TRUNCATE events, run_uses"))
                await connection.execute(delete(tables.runs).where(tables.runs.c.erased.is_(False)))

    async def end_rebuild(self) -> None:
        async with transaction(self._engine) as connection:
            await connection.execute(delete(tables.watermarks).where(tables.watermarks.c.stream == _REBUILD))


async def _whole(connection: AsyncConnection) -> None:
    """Raises Rebuilding; no rebuild begins until this transaction ends."""
    await connection.execute(text("LOCK TABLE watermarks IN SHARE MODE"))
    found = await connection.execute(select(tables.watermarks.c.stream).where(tables.watermarks.c.stream == _REBUILD))
    if found.first():
        raise Rebuilding


async def _mark(connection: AsyncConnection, watermark: Watermark) -> None:
    mark = upsert(tables.watermarks).values(**watermark.model_dump())
    moved = mark.on_conflict_do_update(
        index_elements=["stream"],
        set_={"seq": mark.excluded.seq, "created": mark.excluded.created},
        where=or_(
            tables.watermarks.c.seq < mark.excluded.seq,
            tables.watermarks.c.created.is_distinct_from(mark.excluded.created),
        ),
    )
    await connection.execute(moved)


def _json(rows: Iterable[Mapping[str, object]]) -> str:
    return orjson.dumps(list(rows)).decode()


def _with_cost(run: RunSummary) -> dict[str, object]:
    """A price is what a tool says that it is: one that no float can hold is written as the largest that there is."""
    return vars(run) | {"cost": min(max(map(float, run.money.values()), default=0.0), sys.float_info.max)}


def _ordered(events: Sequence[EventRow]) -> list[EventRow]:
    return sorted(events, key=lambda event: event.id)


def _first(uses: Iterable[Use]) -> list[Use]:
    """Of uses with one key the first, all in the order of their keys: two recorders never wait for each other."""
    earliest: dict[tuple[str, ...], Use] = {}
    for use in sorted(uses, key=lambda use: (use.run, use.kind, use.id, use.how, use.hash, use.time)):
        earliest.setdefault((use.run, use.kind, use.id, use.how, use.hash), use)
    return list(earliest.values())


def _event(row: RowMapping) -> EventRow:
    return EventRow.model_validate({name: row[name] for name in EventRow.model_fields})


def _begins(column: Column[str], name: str) -> ColumnElement[bool]:
    return and_(column >= name, column < name + chr(0x10FFFF))


def _used(row: RowMapping) -> Used:
    use = {name: row[f"run_uses_{name}"] for name in Use.model_fields}
    run = {name: row[f"runs_{name}"] for name in RunSummary.model_fields}
    return Used(use=Use.model_validate(use), run=RunSummary.model_validate(run))


async def _erased(connection: AsyncConnection, runs: set[str]) -> set[str]:
    if not runs:
        return set()
    table = tables.runs.c
    found = await connection.execute(select(table.run).where(table.run == any_(array_of(sorted(runs))), table.erased))
    return set(found.scalars())


def newest(which: RunFilter, limit: int, after: Place | None = None) -> Select[tuple[object, ...]]:
    """The query for the newest runs, but for what the filter says of texts."""
    runs = tables.runs.c
    wanted = select(*_RUN).where(*_conditions(which)).order_by(runs.started.desc(), runs.run.desc()).limit(limit)
    return wanted.where(tuple_(runs.started, runs.run) < (after.started, after.run)) if after else wanted


def _conditions(which: RunFilter) -> list[ColumnElement[bool]]:
    runs = tables.runs.c
    exact = which.model_dump(include={"tenant", "agent", "user", "conversation", "fork_of"}, exclude_none=True)
    conditions: list[ColumnElement[bool]] = [runs[name] == value for name, value in exact.items()]
    if which.statuses:
        conditions.append(runs.status.in_(which.statuses))
    if which.runs is not None:
        conditions.append(runs.run.in_(which.runs))
    if which.tool is not None:
        conditions.append(runs.tools.contains([which.tool]))
    if which.model is not None:
        conditions.append(runs.models.contains([which.model]))
    if which.tokens_over is not None:
        conditions.append(runs.tokens > which.tokens_over)
    if which.cost_over is not None:
        conditions.extend((runs.cost > 0, runs.cost > which.cost_over))  # the first for the index of those that cost anything
    if which.since is not None:
        conditions.append(runs.started >= which.since)
    if which.before is not None:
        conditions.append(runs.started < which.before)
    if which.forks is not None and which.fork_of is None:
        conditions.append(runs.fork_of.is_not(None) if which.forks else runs.fork_of.is_(None))
    return conditions


async def _text_conditions(connection: AsyncConnection, which: RunFilter) -> list[ColumnElement[bool]]:
    """Where a text has to stand. With `deep` the runs whose events hold it are looked up first, if they are not too many."""
    if which.text is None:
        return []
    runs, events, part = tables.runs.c, tables.events.c, pattern(which.text)
    said: list[ColumnElement[bool]] = [runs.task.ilike(part), runs.answer.ilike(part)]
    if which.deep:
        tenant = events.tenant == which.tenant if which.tenant is not None else true()
        holding = select(events.run).where(tenant, events.summary.ilike(part))
        found = list((await connection.execute(holding.limit(_MANY + 1))).scalars())
        few = len(found) <= _MANY
        said.append(runs.run == any_(array_of(sorted(set(found)))) if few else holding.where(events.run == runs.run).exists())
    return [or_(*said)]
