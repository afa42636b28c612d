"""Conversations in Postgres: whose turn it is, what was said, what a turn is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Row, Select, any_, bindparam, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres import forgetting, recollection, summaries, turn_taking
from infra.postgres.engine import array_of, transaction
from infra.postgres.tables import turn_vectors, turns
from schemas.events import Summary, Turn
from services.memory.budget import embedded_text
from services.memory.ports import (
    Ended,
    EndedTurn,
    Forgotten,
    NewTurn,
    PastTurn,
    Recollection,
    Scope,
    Talk,
    TurnBegin,
    Unembedded,
    Wanted,
)
from services.memory.similar import Meaning, Place
from services.memory.summaries import UNSUMMARISED

SEARCHED = 500
"""Of a user with more conversations than this the newest are searched."""

_PAST = (turns.c.conversation, turns.c.user, turns.c.ended, turns.c.since, *recollection.SAID)

_TALKS = text("""
SELECT c.conversation, t.users, t.turns, c.last, newest.task
FROM conversations AS c
CROSS JOIN LATERAL (
    SELECT array_agg(DISTINCT "user" ORDER BY "user") AS users, count(*) AS turns FROM turns
    WHERE tenant = c.tenant AND conversation = c.conversation AND answer IS NOT NULL
) AS t
CROSS JOIN LATERAL (
    SELECT task FROM turns
    WHERE tenant = c.tenant AND conversation = c.conversation AND answer IS NOT NULL ORDER BY ended DESC LIMIT 1
) AS newest
WHERE c.tenant = :tenant AND c.last < :before AND (
    CAST(:user AS text) IS NULL OR EXISTS (
        SELECT FROM turns
        WHERE tenant = c.tenant AND conversation = c.conversation AND "user" = :user AND answer IS NOT NULL
    )
)
ORDER BY c.last DESC, c.conversation DESC LIMIT :limit
""")


class PostgresConversationStore:
    """ConversationStore over the tables conversations, turns, turn_words, turn_vectors, summaries and user_facts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin_turn(self, tenant: str, turn: NewTurn, now: datetime) -> TurnBegin:
        async with transaction(self._engine, tenant) as connection:
            return await turn_taking.begin(connection, tenant, turn, now)

    async def recall(self, tenant: str, wanted: Wanted) -> Recollection:
        async with transaction(self._engine, tenant) as connection:
            return await recollection.recall(connection, tenant, wanted)

    async def end_turn(self, tenant: str, turn: EndedTurn, now: datetime) -> Ended:
        async with transaction(self._engine, tenant) as connection:
            return await turn_taking.end(connection, tenant, turn, now)

    # --- looking things up ---

    async def turns(self, tenant: str, conversation: str, limit: int, before: int | None = None) -> list[PastTurn]:
        chosen = _answered(tenant).where(turns.c.conversation == conversation)
        if before is not None:
            chosen = chosen.where(turns.c.ended < before)
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(chosen.order_by(turns.c.ended.desc()).limit(max(limit, 0)))
            return [_past(row) for row in reversed(rows.all())]

    async def talks(self, tenant: str, user: str | None, limit: int, before: datetime | None = None) -> list[Talk]:
        values = {"tenant": tenant, "user": user, "limit": limit, "before": before or "infinity"}
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(_TALKS, values)
            return [Talk.model_validate(dict(row)) for row in rows.mappings()]

    async def search(self, tenant: str, scope: Scope, query: str, meaning: Meaning | None, k: int) -> list[PastTurn]:
        async with transaction(self._engine, tenant) as connection:
            conversations = await _conversations(connection, tenant, scope)
            found = dict(await recollection.near(connection, tenant, conversations, query, meaning, k))
            if not found:
                return []
            rows = await connection.execute(_answered(tenant).where(tuple_(turns.c.conversation, turns.c.ended).in_(found)))
            past = {Place(each.conversation, each.ended): each for each in map(_past, rows)}
        return [past[place].model_copy(update={"score": score}) for place, score in found.items() if place in past]

    # --- vectors ---

    async def unembedded(self, tenant: str, embedder: str | None, limit: int) -> list[Unembedded]:
        table = turns.c
        chosen = select(table.run, table.task, table.answer).where(
            table.tenant == tenant, table.answer.is_not(None), _other_than(embedder)
        )
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(chosen.limit(limit))
            return [Unembedded(run, embedded_text(task or "", answer)) for run, task, answer in rows]

    async def embedded(self, tenant: str, vectors: Mapping[str, Meaning]) -> None:
        table = turns.c
        mine = (table.tenant == tenant, table.run == any_(array_of(list(vectors))), table.ended.is_not(None))
        async with transaction(self._engine, tenant) as connection:
            chosen = select(table.run, table.conversation, table.ended).where(*mine).with_for_update()
            places = (await connection.execute(chosen)).all()
            rows = [
                {"tenant": tenant, "conversation": conversation, "ended": ended, "embedder": vectors[run].embedder,
                 "vector": list(vectors[run].vector)}
                for run, conversation, ended in places
            ]  # fmt: skip
            if not rows:
                return
            kept = upsert(turn_vectors)
            newer = {name: kept.excluded[name] for name in ("embedder", "vector")}
            replaced = kept.on_conflict_do_update(index_elements=["tenant", "conversation", "ended"], set_=newer)
            await connection.execute(replaced, rows)
            marked = update(turns).where(table.tenant == tenant, table.run == bindparam("marked"))
            names = [{"marked": run, "by": vectors[run].embedder} for run, _, _ in places]
            await connection.execute(marked.values(embedder=bindparam("by")), names)

    # --- summaries ---

    async def unsummarised(self, tenant: str, conversation: str) -> tuple[Summary | None, list[Turn]]:
        async with transaction(self._engine, tenant) as connection:
            last = await summaries.told(connection, tenant, conversation, 1)
            after = last[0][0] if last else 0
            here = (turns.c.tenant == tenant, turns.c.conversation == conversation, turns.c.ended > after)
            chosen = select(*recollection.SAID).where(*here, turns.c.answer.is_not(None))
            rows = await connection.execute(chosen.order_by(turns.c.ended).limit(UNSUMMARISED))
            return last[0][1] if last else None, [recollection.said(row) for row in rows]

    async def want_summary(
        self, tenant: str, conversation: str, upto: str, run: str, now: datetime, beginning: str = ""
    ) -> bool:
        async with transaction(self._engine, tenant) as connection:
            return await summaries.want(connection, tenant, conversation, upto, run, now, beginning)

    async def summarised(self, tenant: str, run: str, text: str | None) -> bool:
        async with transaction(self._engine, tenant) as connection:
            return await summaries.keep(connection, tenant, run, text)

    async def last_summary(self, tenant: str, conversation: str) -> Summary | None:
        async with transaction(self._engine, tenant) as connection:
            last = await summaries.told(connection, tenant, conversation, 1)
            return last[0][1] if last else None

    async def forget_user(self, tenant: str, user: str) -> Forgotten:
        async with transaction(self._engine, tenant) as connection:
            return await forgetting.forget_user(connection, tenant, user)


def _answered(tenant: str) -> Select[tuple[object, ...]]:
    return select(*_PAST).where(turns.c.tenant == tenant, turns.c.answer.is_not(None), turns.c.ended.is_not(None))


def _past(row: Row[tuple[object, ...]]) -> PastTurn:
    conversation, user, ended, since, *said = tuple(row)
    return PastTurn.model_validate(
        {"conversation": conversation, "user": user, "ended": ended, "since": since, "turn": recollection.said(said)}
    )


def _other_than(embedder: str | None) -> ColumnElement[bool]:
    """As ranges, so that the index finds the few turns among many."""
    column = turns.c.embedder
    return column.is_(None) if embedder is None else or_(column.is_(None), column < embedder, column > embedder)


async def _conversations(connection: AsyncConnection, tenant: str, scope: Scope) -> list[str]:
    if scope.conversation is not None:
        return [scope.conversation]
    mine = turns.c.tenant == tenant if scope.user is None else (turns.c.tenant == tenant) & (turns.c.user == scope.user)
    newest = select(turns.c.conversation).where(mine).group_by(turns.c.conversation).order_by(func.max(turns.c.since).desc())
    return list(await connection.scalars(newest.limit(SEARCHED)))
