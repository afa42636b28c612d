"""Conversations in Postgres: one open turn each, guarded by a lock on the conversation's row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.engine import transaction
from infra.postgres.tables import conversations, turns
from schemas.agent import WhenBusy
from schemas.events import Turn
from services.memory.ports import (
    HISTORY_TURNS,
    Begun,
    OtherConversation,
    Outcome,
    Queued,
    Refused,
    TurnBegin,
    within,
)


class _Turn(NamedTuple):
    conversation: str
    state: str
    began: int | None
    behind: str | None
    interrupts: bool
    released: str | None


class _Waiting(NamedTuple):
    run: str
    deadline: datetime | None


@dataclass
class _Locked:
    """A conversation whose row this transaction holds: nobody else begins or ends a turn of it meanwhile."""

    connection: AsyncConnection
    tenant: str
    conversation: str
    open_run: str | None
    open_deadline: datetime | None
    clock: int

    def free(self, now: datetime) -> bool:
        return self.open_run is None or (self.open_deadline is not None and self.open_deadline <= now)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def open(self, turn: _Waiting) -> int:
        """Make this the open turn; returns when it began, by the conversation's clock."""
        self.open_run, self.open_deadline = turn
        return self.tick()

    async def save(self) -> None:
        mine = (conversations.c.tenant == self.tenant, conversations.c.conversation == self.conversation)
        values = {"open_run": self.open_run, "open_deadline": self.open_deadline, "clock": self.clock}
        await self.connection.execute(update(conversations).where(*mine).values(**values))

    async def turn(self, run: str) -> _Turn | None:
        """The run's turn; OtherConversation if it has it elsewhere."""
        chosen = select(*(turns.c[name] for name in _Turn._fields)).where(turns.c.tenant == self.tenant, turns.c.run == run)
        row = (await self.connection.execute(chosen)).one_or_none()
        if row is None:
            return None
        turn = _Turn(*row)
        if turn.conversation != self.conversation:
            raise OtherConversation(f"Run {run} has its turn in conversation {turn.conversation}.")
        return turn

    async def next_waiting(self, now: datetime) -> _Waiting | None:
        table = turns.c
        here = (table.tenant == self.tenant, table.conversation == self.conversation)
        chosen = select(table.run, table.deadline).where(*here, table.state == "waiting", table.deadline > now)
        first = chosen.order_by(table.interrupts.desc(), table.arrived).limit(1)
        row = (await self.connection.execute(first)).one_or_none()
        return None if row is None else _Waiting(*row)

    async def add(self, run: str, **values: object) -> None:
        here = {"tenant": self.tenant, "conversation": self.conversation}
        await self.connection.execute(insert(turns).values(run=run, **here, **values))

    async def change(self, run: str, **values: object) -> None:
        mine = (turns.c.tenant == self.tenant, turns.c.run == run)
        await self.connection.execute(update(turns).where(*mine).values(**values))


class PostgresConversationStore:
    """ConversationStore over the tables conversations and turns."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin_turn(
        self,
        tenant: str,
        conversation: str,
        run: str,
        user: str,
        when_busy: WhenBusy,
        deadline: datetime,
        now: datetime,
        history_tokens: int,
    ) -> TurnBegin:
        async with transaction(self._engine) as connection:
            talk = await _lock(connection, tenant, conversation)
            turn = await talk.turn(run)
            if turn is None:
                turn = await _arrive(talk, _Waiting(run, deadline), user, when_busy, now)
            elif turn.state == "waiting" and talk.free(now):
                following = await talk.next_waiting(now)
                if following and following.run == run:
                    turn = turn._replace(began=talk.open(following))
                    await talk.change(run, state="open", began=turn.began)
                    await talk.save()
            if turn.state == "refused":
                return Refused(by=turn.behind or "")
            if turn.began is None:
                return Queued(behind=turn.behind or "", interrupts=turn.interrupts)
            earlier = await _answered(connection, tenant, conversation, turn.began, HISTORY_TURNS)
            return Begun(history=within(earlier, history_tokens))

    async def end_turn(
        self,
        tenant: str,
        conversation: str,
        run: str,
        user: str,
        task: str,
        answer: str | None,
        outcome: Outcome,
        now: datetime,
    ) -> str | None:
        async with transaction(self._engine) as connection:
            talk = await _lock(connection, tenant, conversation)
            turn = await talk.turn(run)
            if turn is None:
                await talk.add(run, user=user, state="waiting", arrived=talk.tick(), since=now)
            elif turn.state in ("ended", "refused"):
                return turn.released
            said = {"task": task, "answer": answer, "outcome": outcome, "since": now}
            await talk.change(run, state="ended", ended=talk.tick(), **said)
            released = await _release(talk, run, now) if talk.open_run == run else None
            await talk.save()
            return released

    async def history(self, tenant: str, conversation: str, limit: int) -> list[Turn]:
        async with transaction(self._engine) as connection:
            return await _answered(connection, tenant, conversation, None, limit)


async def _arrive(talk: _Locked, who: _Waiting, user: str, when_busy: WhenBusy, now: datetime) -> _Turn:
    """A turn that was not there before: it begins, waits or is refused."""
    free = talk.free(now)
    arrived, behind = talk.tick(), None if free else talk.open_run
    state = "open" if free else "refused" if when_busy == "refuse" else "waiting"
    began = talk.open(who) if free else None
    turn = _Turn(talk.conversation, state, began, behind, when_busy == "interrupt", None)
    await talk.add(
        who.run, user=user, state=state, arrived=arrived, began=began, deadline=who.deadline,
        behind=behind, interrupts=turn.interrupts, since=now,
    )  # fmt: skip
    await talk.save()
    return turn


async def _release(talk: _Locked, run: str, now: datetime) -> str | None:
    """Close the open turn of the run and open the next one."""
    talk.open_run = talk.open_deadline = None
    following = await talk.next_waiting(now)
    if following is None:
        return None
    await talk.change(following.run, state="open", began=talk.open(following))
    await talk.change(run, released=following.run)
    return following.run


async def _lock(connection: AsyncConnection, tenant: str, conversation: str) -> _Locked:
    place = {"tenant": tenant, "conversation": conversation}
    await connection.execute(upsert(conversations).values(**place).on_conflict_do_nothing())
    table = conversations.c
    chosen = select(table.open_run, table.open_deadline, table.clock).where(
        table.tenant == tenant, table.conversation == conversation
    )
    row = (await connection.execute(chosen.with_for_update())).one()
    return _Locked(connection, tenant, conversation, *row)


async def _answered(connection: AsyncConnection, tenant: str, conversation: str, before: int | None, limit: int) -> list[Turn]:
    """The last answered turns that ended before a moment of the conversation's clock, newest last."""
    table = turns.c
    chosen = select(table.run, table.task, table.answer).where(
        table.tenant == tenant,
        table.conversation == conversation,
        table.answer.is_not(None),
        table.ended < before if before is not None else table.ended.is_not(None),
    )
    rows = await connection.execute(chosen.order_by(table.ended.desc()).limit(max(limit, 0)))
    return [Turn(run=run, task=task, answer=answer) for run, task, answer in reversed(rows.all())]
