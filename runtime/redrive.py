"""Redrive: a recorded run driven again from its request, with some of it exchanged and the rest answered from its log.

Nothing leaves the process but what the answerer asks. A run that is driven again unchanged comes to the very same events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias, cast

from runtime.advance import Decision
from runtime.ending import ending_event
from runtime.fold import Folded
from runtime.log import Stored
from runtime.recording import Answer, Recording, restated
from runtime.state import RunState
from schemas.commands import EndRun, Role, StartTimer
from schemas.envelope import Fact, new_fact, source_of
from schemas.events import Answered, AnyEvent, CancelRequested, EffectSettled, RunRequested, TurnReleased
from schemas.ids import END_SLOT

MOST_FACTS = 20_000


@dataclass(frozen=True, slots=True)
class Said:
    """What is said to a question, and how long it took to say so."""

    body: AnyEvent
    took: timedelta = timedelta()


Answerer: TypeAlias = Callable[[Decision, RunState, Answer | None], Awaitable["Said | Answer | None"]]
"""Answers a decision of the driven run: with the recorded answer that it is given (None: there is none), with something
else, or not at all."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a run came to when it was driven again.

    facts: all of them, positions from 1. fresh: ids of the facts that the recording does not hold. unanswered: decisions
    for which there was no answer; the run did not end if one of them mattered.
    """

    facts: tuple[Stored, ...]
    state: RunState
    fresh: frozenset[str]
    unanswered: tuple[Decision, ...]


async def from_the_log(decision: Decision, state: RunState, recorded: Answer | None) -> Answer | None:
    """The answerer that has nothing but the log."""
    return recorded


async def redrive(recording: Recording, answer: Answerer = from_the_log, request: RunRequested | None = None) -> Redriven:
    """Drive a run again. request: in place of the recorded one, with the same key.

    Questions are answered in the order in which the log answers them; those that it does not know come after. Raises
    ValueError for a recording without a request, and what the answerer raises.
    """
    return await _Drive(recording, answer, request).through()


class _Drive:
    def __init__(self, recording: Recording, answer: Answerer, request: RunRequested | None) -> None:
        first = next((each.fact for each in recording.facts if isinstance(each.fact.body, RunRequested)), None)
        if first is None:
            raise ValueError("a recording without a request cannot be driven again")
        self._recording, self._answer = recording, answer
        self._folded = Folded(RunState(run=recording.run))
        self._facts: list[Stored] = []
        self._fresh: set[str] = set()
        self._waiting: dict[str, Decision] = {}
        self._unsaid = [each for each in recording.facts if isinstance(each.fact.body, _UNASKED)]
        self._first, self._request = first, request
        self._now = first.time

    async def through(self) -> Redriven:
        begun = self._first if self._request is None else replace(self._first, body=self._request)
        self._add(begun, fresh=begun.body != self._first.body)
        refused: list[Decision] = []
        while self._waiting and len(self._facts) < MOST_FACTS:
            decision = self._next()
            del self._waiting[decision.id]
            if isinstance(decision.command, EndRun):
                self._end(decision, decision.command)
                break
            self._say_what_came_before(decision)
            if decision.id not in self._folded.open:
                continue
            if not await self._answered(decision):
                refused.append(decision)
        left = tuple(each for each in refused if not isinstance(each.command, StartTimer))
        return Redriven(tuple(self._facts), self._folded.state, frozenset(self._fresh), left)

    async def _answered(self, decision: Decision) -> bool:
        recorded = self._recording.take(decision.id, decision.command)
        said = await self._answer(decision, self._folded.state, recorded)
        if said is None:
            return False
        if isinstance(said, Answer):
            self._now = max(self._now, said.at)
            self._add(self._restated(said, decision), fresh=said.fact.slot != decision.id)
        else:
            self._now += said.took
            self._add(self._new(said.body, decision.command.role, decision.id), fresh=True)
        return True

    def _restated(self, said: Answer, decision: Decision) -> Fact:
        """The recorded fact itself where it answers this very decision, else the same in this decision's place."""
        answered = cast("Answered", said.body)
        if said.fact.slot == decision.id and answered.command == decision.command and said.fact.body is answered:
            return said.fact
        return self._new(restated(said.body, decision.command), said.fact.role, decision.id)  # type: ignore[arg-type]

    def _next(self) -> Decision:
        def place(decision: Decision) -> tuple[int, int]:
            recorded = self._recording.peek(decision.id, decision.command)
            late = isinstance(decision.command, StartTimer)
            return (recorded.number if recorded else MOST_FACTS + late, 0)

        return next((each for each in self._waiting.values() if isinstance(each.command, EndRun)), None) or min(
            self._waiting.values(), key=place
        )

    def _say_what_came_before(self, decision: Decision) -> None:
        """What nobody was asked for - a cancel, a released turn - is said where the recording has it."""
        recorded = self._recording.peek(decision.id, decision.command)
        while recorded and self._unsaid and self._number(self._unsaid[0]) < recorded.number:
            self._add(self._unsaid.pop(0).fact, fresh=False)

    def _number(self, stored: Stored) -> int:
        return self._recording.facts.index(stored) + 1

    def _end(self, decision: Decision, command: EndRun) -> None:
        event = ending_event(command, self._folded.state)
        self._add(self._new(event, "conductor", END_SLOT, cause=decision.cause), fresh=event != self._recorded_end())

    def _recorded_end(self) -> object:
        return next((each.fact.body for each in self._recording.facts if each.fact.slot == END_SLOT), None)

    def _new(self, body: AnyEvent, role: Role, slot: str, cause: str = "") -> Fact:
        first = self._first
        return new_fact(
            body, run=first.run, tenant=first.tenant, slot=slot, source=source_of(role, "redrive"), time=self._now,
            causes=(cause,) if cause else (), decider=first.header.decider, datakey=first.header.datakey,
        )  # fmt: skip

    def _add(self, fact: Fact, *, fresh: bool) -> None:
        stored = Stored(fact, len(self._facts) + 1)
        self._facts.append(stored)
        self._fresh.update({fact.id} if fresh else ())
        decisions = self._folded.add(stored)
        self._waiting.update((each.id, each) for each in decisions)
        self._waiting = {id: each for id, each in self._waiting.items() if id in self._folded.open}


_UNASKED = (CancelRequested, TurnReleased, EffectSettled)
