"""Replay: every decision of a run computed again from its log alone, and compared with what was recorded.

Facts are read once, one after another, and none is kept: a log may be longer than memory, only what the run still waits for
and what was said in it counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from runtime.advance import Decision
from runtime.divergence import Divergence, differs, ends_otherwise, misplaced
from runtime.ending import ending_event
from runtime.fold import Folded
from runtime.log import Stored
from runtime.state import RunState
from schemas.commands import EndRun
from schemas.envelope import DECIDER, Fact
from schemas.events import AnswerCopied, Answered
from schemas.ids import END_SLOT, CommandId, EventId, RunId

CLOCK_S = 1.0
"""Services have clocks of their own; what is less is not worth a word."""

__all__ = ["Divergence", "Note", "Replayed", "replay"]

Odd: TypeAlias = Literal["open", "clock", "second"]


@dataclass(frozen=True, slots=True)
class Note:
    """What is odd in a log though every decision may be the same. event: where first, from 1; detail: how much, or how often.

    open: the log ends before the run does; clock: a clock went back, by so many seconds at most; second: an answer to what
    was answered before, which counts for nothing.
    """

    kind: Odd
    event: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to. answered: decisions whose recorded answer is in the log; all of them were recomputed.

    decider: the version of the rules that the run began with. erased: nothing could be decided, its content is gone.
    """

    run: RunId
    events: int
    decisions: int
    answered: int
    outcome: str
    divergence: Divergence | None
    answer: str | None = None
    decider: str = DECIDER
    erased: bool = False
    notes: tuple[Note, ...] = ()

    @property
    def same(self) -> bool:
        return self.divergence is None


def replay(run: RunId, facts: Iterable[Stored]) -> Replayed:
    """Fold a run again; every recorded answer must answer a decision that is made again, id for id."""
    again = _Again(run)
    for stored in facts:
        again.add(stored)
    return again.result()


class _Again:
    """A run on its way through its log. unanswered: what was decided and not answered yet; events: their numbers, by id."""

    def __init__(self, run: RunId) -> None:
        self._run, self._folded = run, Folded(RunState(run=run))
        self._unanswered: dict[CommandId, Decision] = {}
        self._events: dict[EventId, tuple[int, str]] = {}
        self._answers: set[str] = set()
        self._count = self._decided = self._answered = 0
        self._divergence: Divergence | None = None
        self._odd: dict[Odd, tuple[int, float]] = {}
        self._latest: datetime | None = None

    def add(self, stored: Stored) -> None:
        fact = stored.fact
        self._count += 1
        self._clock(fact)
        said = fact.body.answer if isinstance(fact.body, AnswerCopied) else fact.body
        self._answered += isinstance(said, Answered)
        if self._divergence is None:
            self._divergence = misplaced(fact, self._count, self._folded.state, self._events)
        if self._divergence is None and isinstance(said, Answered):
            self._divergence = self._check(fact, said)
        self._events.setdefault(fact.id, (self._count, fact.kind))
        for decision in self._folded.add(stored):
            self._unanswered[decision.id] = decision
            self._decided += 1

    def result(self) -> Replayed:
        state = self._folded.state
        notes = [Note(kind, event, f"{size:g}") for kind, (event, size) in self._odd.items()]
        if state.phase != "ended" and not state.erased and self._divergence is None:
            notes.append(Note("open", self._count))
        return Replayed(
            self._run, self._count, self._decided, self._answered, state.outcome, self._divergence, state.answer,
            state.decider, state.erased, tuple(notes),
        )  # fmt: skip

    def _check(self, fact: Fact, said: Answered) -> Divergence | None:
        if fact.slot == END_SLOT and isinstance(said.command, EndRun):
            return self._check_end(fact, said, said.command)
        decision = self._unanswered.get(CommandId(fact.slot))
        if decision is not None and decision.command == said.command:
            del self._unanswered[decision.id]
            self._answers.add(fact.slot)
            return None
        if fact.slot in self._answers:
            self._note("second")
            return None
        return differs(fact, said.command, self._count, self._folded.state, self._unanswered.values(), self._events)

    def _check_end(self, fact: Fact, said: Answered, command: EndRun) -> Divergence | None:
        state, number = self._folded.state, self._count
        decision = next((each for each in self._unanswered.values() if each.command == command), None)
        if decision is None:
            return differs(fact, command, number, state, self._unanswered.values(), self._events)
        del self._unanswered[decision.id]
        event = ending_event(command, state)
        return None if event == said else ends_otherwise(fact, said, event, number, state, self._events[decision.cause])

    def _clock(self, fact: Fact) -> None:
        if self._latest is None or fact.time >= self._latest:
            self._latest = fact.time
            return
        back = (self._latest - fact.time).total_seconds()
        if back >= CLOCK_S:
            first, most = self._odd.get("clock", (self._count, 0.0))
            self._odd["clock"] = (first, max(most, back))

    def _note(self, kind: Odd) -> None:
        first, times = self._odd.get(kind, (self._count, 0.0))
        self._odd[kind] = (first, times + 1)
