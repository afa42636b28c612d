"""Summaries in Postgres: one expected at a time a conversation, and what was told."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.postgres.tables import summaries, turns
from infra.postgres.turn_taking import lock
from schemas.events import Summary
from services.memory.summaries import PATIENCE, joined

LAST = 20
"""A turn sees the last twenty summaries: one of them ends where its history begins."""


async def told(connection: AsyncConnection, tenant: str, conversation: str, limit: int = LAST) -> list[tuple[int, Summary]]:
    """The last summaries of a conversation, each with the end of the last turn that it covers, ascending."""
    table = summaries.c
    mine = (table.tenant == tenant, table.conversation == conversation, table.state == "told")
    chosen = select(table.ended, table.text, table.upto, table.run).where(*mine).order_by(table.ended.desc()).limit(limit)
    rows = (await connection.execute(chosen)).all()
    return [(ended, Summary(text=text, upto=upto, by=run)) for ended, text, upto, run in reversed(rows)]


async def want(
    connection: AsyncConnection, tenant: str, conversation: str, upto: str, run: str, now: datetime, beginning: str
) -> bool:
    """ConversationStore.want_summary, within a transaction."""
    await lock(connection, tenant, conversation)
    of_turn = select(turns.c.ended).where(
        turns.c.tenant == tenant, turns.c.run == upto, turns.c.conversation == conversation, turns.c.ended.is_not(None)
    )
    ended = (await connection.execute(of_turn)).scalar_one_or_none()
    table = summaries.c
    in_the_way = or_(
        and_(table.state != "told", table.since > now - PATIENCE), and_(table.state == "told", table.ended >= (ended or 0))
    )
    others = select(table.run).where(table.tenant == tenant, table.conversation == conversation, in_the_way).limit(1)
    if ended is None or (await connection.execute(others)).first():
        return False
    row = {"tenant": tenant, "run": run, "conversation": conversation, "upto": upto, "ended": ended, "since": now}
    await connection.execute(insert(summaries).values(state="wanted", text=beginning, **row))
    return True


async def keep(connection: AsyncConnection, tenant: str, run: str, text: str | None) -> bool:
    """ConversationStore.summarised, within a transaction."""
    expected = (summaries.c.tenant == tenant, summaries.c.run == run, summaries.c.state == "wanted")
    chosen = select(summaries.c.text).where(*expected).with_for_update()
    beginning = (await connection.execute(chosen)).scalar_one_or_none()
    if beginning is None:
        return False
    values = {"state": "failed", "text": None} if text is None else {"state": "told", "text": joined(beginning, text)}
    await connection.execute(update(summaries).where(*expected).values(**values))
    return True
