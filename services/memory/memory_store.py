"""Conversations in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

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


@dataclass
class _Turn:
    run: str
    conversation: str
    state: Literal["open", "waiting", "refused", "ended"]
    arrived: int
    deadline: datetime | None
    began: int | None = None
    ended: int | None = None
    behind: str = ""
    interrupts: bool = False
    task: str = ""
    answer: str | None = None
    released: str | None = None


@dataclass
class _Conversation:
    clock: int = 0
    open: _Turn | None = None
    turns: list[_Turn] = field(default_factory=list)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def next_waiting(self, now: datetime) -> _Turn | None:
        waiting = [turn for turn in self.turns if turn.state == "waiting" and turn.deadline and turn.deadline > now]
        return min(waiting, key=lambda turn: (not turn.interrupts, turn.arrived), default=None)

    def free(self, now: datetime) -> bool:
        return self.open is None or (self.open.deadline is not None and self.open.deadline <= now)

    def begin(self, turn: _Turn) -> None:
        turn.state, turn.began, self.open = "open", self.tick(), turn

    def answered(self, before: int | None = None) -> list[Turn]:
        ended = [turn for turn in self.turns if turn.ended is not None and turn.answer is not None]
        ended.sort(key=lambda turn: turn.ended or 0)
        seen = [turn for turn in ended if before is None or (turn.ended or 0) < before]
        return [Turn(run=turn.run, task=turn.task, answer=turn.answer or "") for turn in seen]


class MemoryConversationStore:
    """Conversations in a dictionary."""

    def __init__(self) -> None:
        self._conversations: dict[tuple[str, str], _Conversation] = {}
        self._turns: dict[tuple[str, str], _Turn] = {}

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
        talk = self._conversations.setdefault((tenant, conversation), _Conversation())
        turn = self._turns.get((tenant, run))
        if turn is None:
            turn = _Turn(run, conversation, "waiting", talk.tick(), deadline, interrupts=when_busy == "interrupt")
            self._keep(tenant, talk, turn)
            self._admit(talk, turn, when_busy, now)
        elif turn.conversation != conversation:
            raise OtherConversation(f"Run {run} has its turn in conversation {turn.conversation}.")
        elif turn.state == "waiting" and talk.free(now) and talk.next_waiting(now) is turn:
            talk.begin(turn)
        if turn.state == "refused":
            return Refused(by=turn.behind)
        if turn.began is None:
            return Queued(behind=turn.behind, interrupts=turn.interrupts)
        return Begun(history=within(talk.answered(turn.began)[-HISTORY_TURNS:], history_tokens))

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
        talk = self._conversations.setdefault((tenant, conversation), _Conversation())
        turn = self._turns.get((tenant, run))
        if turn is None:
            turn = _Turn(run, conversation, "waiting", talk.tick(), None)
            self._keep(tenant, talk, turn)
        elif turn.conversation != conversation:
            raise OtherConversation(f"Run {run} has its turn in conversation {turn.conversation}.")
        if turn.ended is not None:
            return turn.released
        if turn.state == "refused":
            return None
        turn.state, turn.ended, turn.task, turn.answer = "ended", talk.tick(), task, answer
        if talk.open is turn:
            talk.open = None
            following = talk.next_waiting(now)
            if following:
                talk.begin(following)
                turn.released = following.run
        return turn.released

    async def history(self, tenant: str, conversation: str, limit: int) -> list[Turn]:
        talk = self._conversations.get((tenant, conversation), _Conversation())
        return talk.answered()[-limit:] if limit > 0 else []

    def _keep(self, tenant: str, talk: _Conversation, turn: _Turn) -> None:
        self._turns[tenant, turn.run] = turn
        talk.turns.append(turn)

    def _admit(self, talk: _Conversation, turn: _Turn, when_busy: WhenBusy, now: datetime) -> None:
        if talk.open is None or talk.free(now):
            talk.begin(turn)
            return
        turn.behind = talk.open.run
        if when_busy == "refuse":
            turn.state = "refused"
