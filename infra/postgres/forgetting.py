"""Forgetting a user in Postgres: every row that holds what the user said, or was told about."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.memory.ports import Forgotten

_MINE = 'SELECT DISTINCT conversation FROM turns WHERE tenant = :tenant AND "user" = :user'
_ENDS = 'SELECT conversation, ended FROM turns WHERE tenant = :tenant AND "user" = :user AND ended IS NOT NULL'

_LOCK = text(f"SELECT FROM conversations WHERE tenant = :tenant AND conversation IN ({_MINE}) ORDER BY conversation FOR UPDATE")
# Before the vectors go: whoever makes one for a turn holds that turn, and is waited for, or finds it gone.
_TURNS_LOCK = text('SELECT FROM turns WHERE tenant = :tenant AND "user" = :user ORDER BY run FOR UPDATE')
# What others were told of these conversations in short may tell of the user.
_TOLD = text(f"""
UPDATE turns SET recalled = NULL
WHERE tenant = :tenant AND conversation IN ({_MINE}) AND "user" <> :user AND recalled IS NOT NULL
""")
_FACTS = text('DELETE FROM user_facts WHERE tenant = :tenant AND "user" = :user')
_SUMMARIES = text(f"DELETE FROM summaries WHERE tenant = :tenant AND conversation IN ({_MINE})")
_VECTORS = text(f"DELETE FROM turn_vectors WHERE tenant = :tenant AND (conversation, ended) IN ({_ENDS})")
_WORDS = text(f"DELETE FROM turn_words WHERE tenant = :tenant AND (conversation, ended) IN ({_ENDS})")
_CLOSE = text("""
UPDATE conversations SET open_run = NULL, open_deadline = NULL
WHERE tenant = :tenant AND open_run IN (SELECT run FROM turns WHERE tenant = :tenant AND "user" = :user)
""")
_TURNS = text('DELETE FROM turns WHERE tenant = :tenant AND "user" = :user RETURNING conversation')
_EMPTY = text("""
DELETE FROM conversations AS c WHERE tenant = :tenant AND conversation = ANY (CAST(:conversations AS text[]))
    AND NOT EXISTS (SELECT FROM turns WHERE tenant = c.tenant AND conversation = c.conversation)
""")


async def forget_user(connection: AsyncConnection, tenant: str, user: str) -> Forgotten:
    """ConversationStore.forget_user, within a transaction."""
    whose = {"tenant": tenant, "user": user}
    for each in (_LOCK, _TURNS_LOCK, _TOLD):
        await connection.execute(each, whose)
    facts, summaries, vectors = [(await connection.execute(each, whose)).rowcount for each in (_FACTS, _SUMMARIES, _VECTORS)]
    await connection.execute(_WORDS, whose)
    await connection.execute(_CLOSE, whose)
    turns = list(await connection.scalars(_TURNS, whose))
    await connection.execute(_EMPTY, {"tenant": tenant, "conversations": sorted(set(turns))})
    return Forgotten(turns=len(turns), facts=facts, summaries=summaries, vectors=vectors)
