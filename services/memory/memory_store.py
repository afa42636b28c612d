"""Conversations in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.events import Summary, Turn, TurnResult, UserFact
from services.memory.budget import HISTORY_TURNS, embedded_text, shortened, within
from services.memory.facts import MOST, facts_for, too_many
from services.memory.ports import (
    Begun,
    Ended,
    EndedTurn,
    Forgotten,
    NewTurn,
    OtherConversation,
    PastTurn,
    Queued,
    Recollection,
    Refused,
    Scope,
    Talk,
    TurnBegin,
    Unembedded,
    Wanted,
)
from services.memory.similar import COMMON, DEPTH, Meaning, Place, by_words, nearest
from services.memory.summaries import PATIENCE, UNSUMMARISED, fitting, joined, not_told
from services.memory.words import words


@dataclass
class _Turn:
    run: str
    conversation: str
    user: str
    state: Literal["open", "waiting", "refused", "ended"]
    arrived: int
    deadline: datetime | None
    since: datetime
    began: int | None = None
    ended: int | None = None
    behind: str = ""
    interrupts: bool = False
    task: str = ""
    answer: str | None = None
    results: tuple[TurnResult, ...] = ()
    released: str | None = None
    history_tokens: int | None = None
    recalled: Recollection | None = None
    words: frozenset[str] = frozenset()
    meaning: Meaning | None = None

    def said(self) -> Turn:
        return Turn(run=self.run, task=self.task, answer=self.answer or "", results=self.results)

    def past(self, score: float | None = None) -> PastTurn:
        return PastTurn(
            conversation=self.conversation,
            user=self.user,
            ended=self.ended or 0,
            since=self.since,
            turn=self.said(),
            score=score,
        )

    def place(self) -> Place:
        return Place(self.conversation, self.ended or 0)


@dataclass
class _Summary:
    run: str
    state: Literal["wanted", "told", "failed"]
    upto: str
    ended: int
    since: datetime
    text: str = ""

    def told(self) -> Summary:
        return Summary(text=self.text, upto=self.upto, by=self.run)


@dataclass
class _Conversation:
    clock: int = 0
    open: _Turn | None = None
    turns: list[_Turn] = field(default_factory=list)
    summaries: list[_Summary] = field(default_factory=list)

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

    def answered(self, before: int | None = None) -> list[_Turn]:
        ended = [turn for turn in self.turns if turn.ended is not None and turn.answer is not None]
        ended.sort(key=lambda turn: turn.ended or 0)
        return [turn for turn in ended if before is None or (turn.ended or 0) < before]

    def told(self) -> list[_Summary]:
        return sorted((each for each in self.summaries if each.state == "told"), key=lambda each: each.ended)


class MemoryConversationStore:
    """ConversationStore and FactStore in dictionaries."""

    def __init__(self) -> None:
        self._conversations: dict[tuple[str, str], _Conversation] = {}
        self._turns: dict[tuple[str, str], _Turn] = {}
        self._facts: dict[tuple[str, str], dict[str, tuple[datetime, UserFact]]] = {}

    # --- turns ---

    async def begin_turn(self, tenant: str, turn: NewTurn, now: datetime) -> TurnBegin:
        talk = self._talk(tenant, turn.conversation)
        held = self._own(tenant, turn.conversation, turn.run)
        if held is None:
            held = _Turn(
                turn.run, turn.conversation, turn.user, "waiting", talk.tick(), turn.deadline, now,
                interrupts=turn.when_busy == "interrupt",
            )  # fmt: skip
            self._keep(tenant, talk, held)
            self._admit(talk, held, turn.when_busy == "refuse", now)
        elif held.state == "waiting" and talk.free(now) and talk.next_waiting(now) is held:
            talk.begin(held)
        if held.state == "refused":
            return Refused(by=held.behind)
        return Queued(behind=held.behind, interrupts=held.interrupts) if held.began is None else Begun()

    async def end_turn(self, tenant: str, turn: EndedTurn, now: datetime) -> Ended:
        talk = self._talk(tenant, turn.conversation)
        held = self._own(tenant, turn.conversation, turn.run)
        if held is None:
            held = _Turn(turn.run, turn.conversation, turn.user, "waiting", talk.tick(), None, now)
            self._keep(tenant, talk, held)
        if held.ended is None and held.state != "refused":
            held.state, held.ended, held.since = "ended", talk.tick(), now
            held.task, held.answer, held.results = turn.task, turn.answer, turn.results
            held.words = frozenset(words(f"{turn.task}\n{turn.answer}"))
            self._release(talk, held, now)
        return Ended(released=held.released, history_tokens=held.history_tokens)

    async def turns(self, tenant: str, conversation: str, limit: int, before: int | None = None) -> list[PastTurn]:
        answered = self._talk(tenant, conversation).answered(before)
        return [turn.past() for turn in answered[-limit:]] if limit > 0 else []

    async def talks(self, tenant: str, user: str | None, limit: int, before: datetime | None = None) -> list[Talk]:
        found = []
        for (owner, conversation), talk in self._conversations.items():
            answered = talk.answered()
            users = tuple(sorted({turn.user for turn in answered}))
            if owner != tenant or not answered or user not in (None, *users):
                continue
            last = answered[-1]
            if before is None or last.since < before:
                found.append(Talk(conversation=conversation, users=users, turns=len(answered), last=last.since, task=last.task))
        return sorted(found, key=lambda talk: (talk.last, talk.conversation), reverse=True)[:limit]

    # --- recall ---

    async def recall(self, tenant: str, wanted: Wanted) -> Recollection:
        turn = self._turns.get((tenant, wanted.run))
        if turn is None or turn.began is None:
            return Recollection()
        if turn.recalled is None:
            turn.recalled = self._remind(tenant, turn, wanted)
            turn.history_tokens = wanted.history_tokens if wanted.summary else None
        return turn.recalled

    def _remind(self, tenant: str, turn: _Turn, wanted: Wanted) -> Recollection:
        talk = self._talk(tenant, turn.conversation)
        answered = talk.answered(turn.began)[-HISTORY_TURNS - 1 :]
        history = within([each.said() for each in answered[-HISTORY_TURNS:]], wanted.history_tokens)
        missing = answered[-len(history) - 1].ended if len(history) < len(answered) else None
        older = talk.answered((missing or 0) + 1) if wanted.similar else []
        similar = sorted((turn for turn, _ in _nearest(older, wanted.query, wanted.meaning, wanted.similar)), key=_Turn.place)
        told = [(each.ended, each.told()) for each in talk.told()] if wanted.summary else []
        summary = fitting(told, missing)
        return Recollection(
            history=not_told(history, summary), similar=tuple(shortened(each.said()) for each in similar), summary=summary,
            facts=tuple(self._facts_for(tenant, turn.user, wanted)),
        )  # fmt: skip

    async def search(self, tenant: str, scope: Scope, query: str, meaning: Meaning | None, k: int) -> list[PastTurn]:
        def meant(talk: _Conversation) -> bool:
            return scope.user is None or any(turn.user == scope.user for turn in talk.turns)

        turns = [
            turn
            for (owner, conversation), talk in self._conversations.items()
            if owner == tenant and scope.conversation in (None, conversation) and meant(talk)
            for turn in talk.answered()
        ]
        return [turn.past(score) for turn, score in _nearest(turns, query, meaning, k)]

    async def unembedded(self, tenant: str, embedder: str | None, limit: int) -> list[Unembedded]:
        def lacks(turn: _Turn) -> bool:
            return turn.meaning is None or embedder not in (None, turn.meaning.embedder)

        answered = [turn for (owner, _), turn in self._turns.items() if owner == tenant and turn.answer is not None]
        return [Unembedded(turn.run, embedded_text(turn.task, turn.answer or "")) for turn in answered if lacks(turn)][:limit]

    async def embedded(self, tenant: str, vectors: Mapping[str, Meaning]) -> None:
        for run, meaning in vectors.items():
            if turn := self._turns.get((tenant, run)):
                turn.meaning = meaning

    # --- summaries ---

    async def unsummarised(self, tenant: str, conversation: str) -> tuple[Summary | None, list[Turn]]:
        talk = self._talk(tenant, conversation)
        last = talk.told()[-1] if talk.told() else None
        turns = [turn for turn in talk.answered() if last is None or (turn.ended or 0) > last.ended]
        return last.told() if last else None, [turn.said() for turn in turns[:UNSUMMARISED]]

    async def want_summary(
        self, tenant: str, conversation: str, upto: str, run: str, now: datetime, beginning: str = ""
    ) -> bool:
        talk, turn = self._talk(tenant, conversation), self._turns.get((tenant, upto))
        if turn is None or turn.ended is None or turn.conversation != conversation:
            return False
        if any(
            (each.state != "told" and each.since > now - PATIENCE) or (each.state == "told" and each.ended >= turn.ended)
            for each in talk.summaries
        ):
            return False
        talk.summaries.append(_Summary(run, "wanted", upto, turn.ended, now, beginning))
        return True

    async def summarised(self, tenant: str, run: str, text: str | None) -> bool:
        for (owner, _), talk in self._conversations.items():
            for each in talk.summaries:
                if (owner, each.run, each.state) == (tenant, run, "wanted"):
                    each.state, each.text = ("failed", "") if text is None else ("told", joined(each.text, text))
                    return True
        return False

    async def last_summary(self, tenant: str, conversation: str) -> Summary | None:
        told = self._talk(tenant, conversation).told()
        return told[-1].told() if told else None

    # --- facts ---

    async def remember(self, tenant: str, user: str, fact: UserFact, now: datetime) -> None:
        held = self._facts.setdefault((tenant, user), {})
        if fact.key not in held and len(held) >= MOST:
            raise too_many(user)
        held[fact.key] = (now, fact)

    async def forget(self, tenant: str, user: str, key: str) -> bool:
        return self._facts.get((tenant, user), {}).pop(key, None) is not None

    async def facts(self, tenant: str, user: str, limit: int | None = None) -> list[UserFact]:
        return self._known(tenant, user, limit)

    def _known(self, tenant: str, user: str, limit: int | None) -> list[UserFact]:
        return sorted(self._newest(tenant, user)[:limit], key=lambda fact: fact.key)

    def _newest(self, tenant: str, user: str) -> list[UserFact]:
        held = self._facts.get((tenant, user), {}).values()
        return [fact for _, fact in sorted(held, key=lambda each: (each[0], each[1].key), reverse=True)]

    def _facts_for(self, tenant: str, user: str, wanted: Wanted) -> list[UserFact]:
        if wanted.facts_when == "always" or not wanted.facts:
            return self._known(tenant, user, wanted.facts)
        return facts_for(self._newest(tenant, user), wanted.query, wanted.facts)

    # --- forgetting ---

    async def forget_user(self, tenant: str, user: str) -> Forgotten:
        turns = summaries = vectors = 0
        for (owner, _), talk in list(self._conversations.items()):
            mine = [turn for turn in talk.turns if turn.user == user]
            if owner != tenant or not mine:
                continue
            turns, summaries = turns + len(mine), summaries + len(talk.summaries)
            vectors += sum(turn.meaning is not None for turn in mine)
            self._drop(tenant, talk, mine)
        facts = len(self._facts.pop((tenant, user), {}))
        return Forgotten(turns=turns, facts=facts, summaries=summaries, vectors=vectors)

    def _drop(self, tenant: str, talk: _Conversation, turns: Sequence[_Turn]) -> None:
        for turn in turns:
            talk.turns.remove(turn)
            del self._turns[tenant, turn.run]
            if talk.open is turn:
                talk.open = None
        for other in talk.turns:
            other.recalled = None
        talk.summaries.clear()
        if not talk.turns:
            del self._conversations[tenant, turns[0].conversation]

    # --- inside ---

    def _talk(self, tenant: str, conversation: str) -> _Conversation:
        return self._conversations.setdefault((tenant, conversation), _Conversation())

    def _own(self, tenant: str, conversation: str, run: str) -> _Turn | None:
        turn = self._turns.get((tenant, run))
        if turn is not None and turn.conversation != conversation:
            raise OtherConversation(f"Run {run} has its turn in conversation {turn.conversation}.")
        return turn

    def _keep(self, tenant: str, talk: _Conversation, turn: _Turn) -> None:
        self._turns[tenant, turn.run] = turn
        talk.turns.append(turn)

    def _admit(self, talk: _Conversation, turn: _Turn, refuse: bool, now: datetime) -> None:
        if talk.open is None or talk.free(now):
            talk.begin(turn)
            return
        turn.behind = talk.open.run
        if refuse:
            turn.state = "refused"

    def _release(self, talk: _Conversation, turn: _Turn, now: datetime) -> None:
        if talk.open is not turn:
            return
        talk.open = None
        if following := talk.next_waiting(now):
            talk.begin(following)
            turn.released = following.run


def _nearest(turns: Iterable[_Turn], query: str, meaning: Meaning | None, k: int) -> list[tuple[_Turn, float]]:
    placed = {turn.place(): turn for turn in turns}
    asked = words(query)
    newest = sorted(placed, key=lambda place: place.ended, reverse=True)
    holders = {word: [place for place in newest if word in placed[place].words][: COMMON + 1] for word in asked}
    near: dict[Place, float] = {}
    if meaning is not None:
        comparable = {place: turn.meaning.vector for place, turn in placed.items()
                      if turn.meaning is not None and turn.meaning.embedder == meaning.embedder}  # fmt: skip
        cosines = {place: sum(map(float.__mul__, meaning.vector, vector)) for place, vector in comparable.items()}
        near = {place: cosines[place] for place in sorted(cosines, key=lambda place: -cosines[place])[:DEPTH]}
    found = nearest(near, by_words(asked, holders), meaning.fits if meaning else 1.0, k)
    return [(placed[place], score) for place, score in found]
