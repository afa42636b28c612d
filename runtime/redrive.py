"""Redrive: a recorded run driven again from its request, with some of it exchanged and the rest answered from its log.

Nothing leaves the process but what the answerer asks. A run that is driven again unchanged comes to the very same events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias

from runtime.advance import Decision
from runtime.ending import ending_event
from runtime.fold import Folded
from runtime.log import Stored
from runtime.recording import Answer, Recording, answer_in, restated
from runtime.state import RunState
from schemas.commands import EndRun, StartTimer
from schemas.envelope import Fact, new_fact, source_of
from schemas.events import TERMINAL, AnswerCopied, AnyEvent, Recorded, RunRequested, RunSealed
from schemas.ids import END_SLOT, CommandId

MOST_FACTS = 20_000


@dataclass(frozen=True, slots=True)
class Said:
    """What is said to a question in place of what the log says, and how long it took to say so."""

    body: AnyEvent
    took: timedelta = timedelta()


Answerer: TypeAlias = Callable[[Decision, RunState, Answer | None], Awaitable["Said | Answer | None"]]
"""Answers a decision of the driven run: with the recorded answer that it is given (None: the log knows none), with something
else, or not at all."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a run came to when it was driven again.

    facts: all of them, positions from 1. fresh: ids of those that the recording does not hold. unanswered: decisions that
    nobody answered, timers aside; the run did not end if one of them mattered.
    """

    facts: tuple[Stored, ...]
    state: RunState
    fresh: frozenset[str]
    unanswered: tuple[Decision, ...]


class NoRequest(ValueError):
    """A recording that does not say what began the run cannot be driven again."""


async def from_the_log(decision: Decision, state: RunState, recorded: Answer | None) -> Answer | None:
    """The answerer that has nothing but the log."""
    return recorded


async def redrive(recording: Recording, answer: Answerer = from_the_log, request: RunRequested | None = None) -> Redriven:
    """Drive a run again. request: in place of the recorded one, with the same key.

    What the log holds is said in its order; what it does not know is asked for when nothing else is left to say. Answers are
    taken out of the recording. Raises NoRequest, and what the answerer raises.
    """
    drive = _Drive(recording, answer, request)
    await drive.replay()
    await drive.go_on()
    return drive.result()


class _Drive:
    def __init__(self, recording: Recording, answer: Answerer, request: RunRequested | None) -> None:
        begun = recording.request
        if begun is None:
            raise NoRequest(f"run {recording.run} has no request in its log")
        self._recording, self._answer, self._first = recording, answer, begun
        self._request = begun if request is None else replace(begun, body=request)
        self._folded = Folded(RunState(run=recording.run))
        self._facts: list[Stored] = []
        self._fresh: set[str] = set()
        self._passed: list[Decision] = []
        self._early: set[int] = set()
        self._now = begun.time

    async def replay(self) -> None:
        """What the log holds, in its order, as far as it is asked for."""
        for number, stored in enumerate(self._recording.facts, start=1):
            fact = stored.fact
            if self._over:
                return
            answer = answer_in(fact, number)
            if fact.slot == self._first.slot:
                self._add(self._request, fresh=self._request.body != fact.body)
            elif isinstance(fact.body, TERMINAL):
                self._end(fact)
            elif answer is None:
                if not isinstance(fact.body, RunSealed):
                    self._add(fact, fresh=False)
            elif asking := self._asking(answer):
                await self._say(asking)
            else:
                self._early.add(number)
            await self._say_what_came_early()

    async def go_on(self) -> None:
        """What the log does not know: asked for in the order in which it was decided, timers last."""
        while not self._over and len(self._facts) < MOST_FACTS:
            left = [each for each in self._folded.open.values() if each not in self._passed]
            if not left:
                return
            if any(isinstance(each.command, EndRun) for each in left):
                self._end(None)
                return
            await self._say(min(left, key=lambda each: isinstance(each.command, StartTimer)))

    def result(self) -> Redriven:
        """What it came to."""
        unanswered = tuple(each for each in self._passed if each.id in self._folded.open)
        unanswered = tuple(each for each in unanswered if not isinstance(each.command, StartTimer))
        return Redriven(tuple(self._facts), self._folded.state, frozenset(self._fresh), unanswered)

    @property
    def _over(self) -> bool:
        return self._folded.state.phase == "ended"

    def _asking(self, answer: Answer) -> Decision | None:
        """Who asks now for what the log says here."""
        own = self._folded.open.get(CommandId(answer.fact.slot))
        if own and own.command == answer.command:
            return own
        alike = (each for each in self._folded.open.values() if type(each.command) is type(answer.command))
        found = ((each, self._recording.peek(each.id, each.command)) for each in alike if each not in self._passed)
        return next((each for each, recorded in found if recorded and recorded.number == answer.number), None)

    async def _say_what_came_early(self) -> None:
        """What the log said before it is asked for here, since something else came in another order."""
        while self._early and not self._over and (decision := self._asking_late()):
            await self._say(decision)

    def _asking_late(self) -> Decision | None:
        for each in self._folded.open.values():
            recorded = None if each in self._passed else self._recording.peek(each.id, each.command)
            if recorded and recorded.number in self._early:
                return each
        return None

    async def _say(self, decision: Decision) -> bool:
        recorded = self._recording.take(decision.id, decision.command)
        self._early.discard(recorded.number if recorded else 0)
        said = await self._answer(decision, self._folded.state, recorded)
        if said is None:
            self._passed.append(decision)
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
        if said.fact.slot == decision.id and said.command == decision.command:
            return said.fact
        body: AnyEvent | Recorded = restated(said.body, decision.command)
        if isinstance(said.fact.body, AnswerCopied):
            body = said.fact.body.model_copy(update={"answer": body})
        return self._new(body, said.fact.role, decision.id)

    def _end(self, recorded: Fact | None) -> None:
        ending = next((each for each in self._folded.open.values() if isinstance(each.command, EndRun)), None)
        if ending is None or not isinstance(ending.command, EndRun):
            return
        event = ending_event(ending.command, self._folded.state)
        if recorded and recorded.body == event:
            self._add(recorded, fresh=False)
        else:
            self._add(self._new(event, "conductor", END_SLOT, ending.cause), fresh=True)

    def _new(self, body: AnyEvent, role: str, slot: str, cause: str = "") -> Fact:
        first = self._first
        return new_fact(
            body, run=first.run, tenant=first.tenant, slot=slot, source=source_of(role, "redrive"), time=self._now,  # type: ignore[arg-type]
            causes=(cause,) if cause else (), decider=first.header.decider, datakey=first.header.datakey,
        )  # fmt: skip

    def _add(self, fact: Fact, *, fresh: bool) -> None:
        stored = Stored(fact, len(self._facts) + 1)
        self._facts.append(stored)
        if fresh:
            self._fresh.add(fact.id)
        self._folded.add(stored)
