"""Whose turn it is, in Postgres: guarded by a lock on the conversation's row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.postgres.tables import conversations, turns
from services.memory.ports import Begun, Ended, EndedTurn, NewTurn, OtherConversation, Queued, Refused, TurnBegin
from services.memory.words import words

_KEEP_WORDS = text("""
INSERT INTO turn_words (tenant, conversation, word, ended)
SELECT :tenant, :conversation, unnest(CAST(:words AS text[])), :ended
""")


class _Turn(NamedTuple):
    conversation: str
    state: str
    began: int | None
    behind: str | None
    interrupts: bool
    released: str | None
    history_tokens: int | None


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
    last: datetime | None

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
        values = {"open_run": self.open_run, "open_deadline": self.open_deadline, "clock": self.clock, "last": self.last}
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


async def begin(connection: AsyncConnection, tenant: str, asked: NewTurn, now: datetime) -> TurnBegin:
    """ConversationStore.begin_turn, within a transaction."""
    talk = await lock(connection, tenant, asked.conversation)
    turn = await talk.turn(asked.run)
    if turn is None:
        turn = await _arrive(talk, asked, now)
    elif turn.state == "waiting" and talk.free(now):
        following = await talk.next_waiting(now)
        if following and following.run == asked.run:
            turn = turn._replace(began=talk.open(following))
            await talk.change(asked.run, state="open", began=turn.began)
            await talk.save()
    if turn.state == "refused":
        return Refused(by=turn.behind or "")
    return Queued(behind=turn.behind or "", interrupts=turn.interrupts) if turn.began is None else Begun()


async def end(connection: AsyncConnection, tenant: str, said: EndedTurn, now: datetime) -> Ended:
    """ConversationStore.end_turn, within a transaction."""
    talk = await lock(connection, tenant, said.conversation)
    turn = await talk.turn(said.run)
    if turn is None:
        await talk.add(said.run, user=said.user, state="waiting", arrived=talk.tick(), since=now)
    elif turn.state in ("ended", "refused"):
        return Ended(released=turn.released, history_tokens=turn.history_tokens)
    ended = talk.tick()
    results = [each.model_dump(mode="json") for each in said.results] or None
    kept = {"task": said.task, "answer": said.answer, "outcome": said.outcome, "results": results}
    await talk.change(said.run, state="ended", ended=ended, since=now, **kept)
    if said.answer is not None:
        talk.last = now
        found = words(f"{said.task}\n{said.answer}")
        place = {"tenant": tenant, "conversation": said.conversation, "ended": ended}
        await connection.execute(_KEEP_WORDS, {**place, "words": found})
    released = await _release(talk, said.run, now) if talk.open_run == said.run else None
    await talk.save()
    return Ended(released=released, history_tokens=turn.history_tokens if turn else None)


async def lock(connection: AsyncConnection, tenant: str, conversation: str) -> _Locked:
    """The conversation with its row locked; it is made if need be."""
    table = conversations.c
    made = upsert(conversations).values(tenant=tenant, conversation=conversation)
    locked = made.on_conflict_do_update(index_elements=["tenant", "conversation"], set_={"clock": table.clock})
    row = (await connection.execute(locked.returning(table.open_run, table.open_deadline, table.clock, table.last))).one()
    return _Locked(connection, tenant, conversation, *row)


async def _arrive(talk: _Locked, asked: NewTurn, now: datetime) -> _Turn:
    """A turn that was not there before: it begins, waits or is refused."""
    free = talk.free(now)
    arrived, behind = talk.tick(), None if free else talk.open_run
    state = "open" if free else "refused" if asked.when_busy == "refuse" else "waiting"
    began = talk.open(_Waiting(asked.run, asked.deadline)) if free else None
    turn = _Turn(talk.conversation, state, began, behind, asked.when_busy == "interrupt", None, None)
    await talk.add(
        asked.run, user=asked.user, state=state, arrived=arrived, began=began, deadline=asked.deadline,
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
