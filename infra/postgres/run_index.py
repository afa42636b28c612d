"""The index of the log in Postgres: events, run summaries and watermarks, written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    Column,
    ColumnElement,
    RowMapping,
    and_,
    any_,
    delete,
    false,
    or_,
    select,
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
    RunFilter,
    RunRecord,
    RunSummary,
    Use,
    Used,
    Watermark,
)


class PostgresRunIndex:
    """RunIndex over the tables events, runs, run_uses and watermarks."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(
        self, events: Sequence[EventRow], runs: Sequence[RunSummary], watermark: Watermark | None = None,
        uses: Sequence[Use] = (),
    ) -> None:  # fmt: skip
        async with transaction(self._engine) as connection:
            if runs:
                summary = upsert(tables.runs)
                newer = {name: summary.excluded[name] for name in RunSummary.model_fields if name != "run"}
                summary = summary.on_conflict_do_update(
                    index_elements=["run"], set_=newer,
                    where=and_(tables.runs.c.seq <= summary.excluded.seq, tables.runs.c.erased.is_(False)),
                )  # fmt: skip
                ordered = sorted(runs, key=lambda run: (run.run, run.seq))
                await connection.execute(summary, [run.model_dump() | {"tools": list(run.tools)} for run in ordered])
            # after the runs: whoever erases one of them now waits for these events and uses too
            erased = await _erased(connection, {event.run for event in events} | {use.run for use in uses})
            if events:
                ordered_events = sorted(events, key=lambda event: event.id)
                rows = [event.model_dump() | ({"summary": ERASED} if event.run in erased else {}) for event in ordered_events]
                await connection.execute(upsert(tables.events).on_conflict_do_nothing(), rows)
            if kept := [use for use in uses if use.run not in erased]:
                kept.sort(key=lambda use: (use.run, use.kind, use.id, use.how, use.hash))
                await connection.execute(upsert(tables.run_uses).on_conflict_do_nothing(), [use.model_dump() for use in kept])
            if watermark:
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

    async def watermark(self, stream: str) -> Watermark | None:
        async with transaction(self._engine) as connection:
            rows = await connection.execute(select(tables.watermarks).where(tables.watermarks.c.stream == stream))
            row = rows.mappings().one_or_none()
            return Watermark.model_validate(dict(row)) if row else None

    async def list_runs(self, which: RunFilter, limit: int = 50) -> list[RunSummary]:
        newest = select(tables.runs).where(*_conditions(which)).order_by(tables.runs.c.started.desc(), tables.runs.c.run.desc())
        async with transaction(self._engine) as connection:
            rows = await connection.execute(newest.limit(limit))
            return [RunSummary.model_validate(dict(row)) for row in rows.mappings()]

    async def show(self, run: str, tenant: str | None = None) -> RunRecord | None:
        async with transaction(self._engine) as connection:
            found = (await connection.execute(select(tables.runs).where(tables.runs.c.run == run))).mappings().one_or_none()
            if found is None or tenant not in (None, found["tenant"]):
                return None
            rows = await connection.execute(
                select(tables.events).where(tables.events.c.run == run).order_by(tables.events.c.seq)
            )
            said = tuple(EventRow.model_validate(dict(row)) for row in rows.mappings())
            return RunRecord(summary=RunSummary.model_validate(dict(found)), events=said)

    async def runs_of(self, tenant: str, user: str, *, after: str = "", limit: int = 500, open: bool = False) -> list[str]:
        own = [tables.runs.c.tenant == tenant, tables.runs.c.user == user, tables.runs.c.run > after]
        if open:
            own.append(tables.runs.c.status.in_(OPEN))
        async with transaction(self._engine, tenant) as connection:
            found = await connection.execute(select(tables.runs.c.run).where(*own).order_by(tables.runs.c.run).limit(limit))
            return list(found.scalars())

    async def forget(self, tenant: str, user: str) -> Erasure:
        runs, events = tables.runs, tables.events
        own = (runs.c.tenant == tenant, runs.c.user == user, runs.c.erased.is_(False))
        blank = update(runs).where(*own).values(task=ERASED, answer=None, tools=[], erased=True)
        async with transaction(self._engine, tenant) as connection:
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
            select(tables.run_uses, tables.runs)
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


def _conditions(which: RunFilter) -> list[ColumnElement[bool]]:
    exact = which.model_dump(include={"tenant", "status", "agent", "user"}, exclude_none=True)
    conditions: list[ColumnElement[bool]] = [tables.runs.c[name] == value for name, value in exact.items()]
    if which.text is not None:
        part = pattern(which.text)
        conditions.append(or_(tables.runs.c.task.ilike(part), tables.runs.c.answer.ilike(part)))
    if which.before is not None:
        conditions.append(tables.runs.c.started < which.before)
    return conditions
