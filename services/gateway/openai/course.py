"""A run followed for one answer: its text as it comes, until it ends or waits for somebody; each character once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from runtime.children import children_of
from runtime.client import Client
from runtime.fold import Folded, fold
from runtime.log import Stored
from runtime.sealing import Erased
from runtime.speech import Delta, hear_text
from runtime.state import RunState
from schemas.events import TERMINAL, Failure, Generated, RunCancelled, RunCompleted, RunFailed
from schemas.ids import CommandId, RunId
from schemas.messages import Usage
from services.gateway.openai.waiting import Waits, waits_of
from services.gateway.runs.following import followed

Approvals: TypeAlias = Literal["text", "tool", "wait"]
"""How an approval is told: in words, as a call of a tool named approve, or not at all: whoever asks waits."""


@dataclass(frozen=True, slots=True)
class Text:
    """What the model says, as far as it is new. number: of those of its turns in which it says something, from 0."""

    text: str
    number: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """The answer ends here, and the run does not: it waits."""

    waits: Waits


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over. failure: why it has no answer."""

    answer: str
    outcome: Literal["completed", "failed", "cancelled"]
    failure: Failure | None = None


Piece: TypeAlias = Text | Stopped | Ended


@dataclass(slots=True)
class Tally:
    """What the models of an answer read and wrote. cut: the last of them stopped at its limit of tokens."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cut: bool = False

    def add(self, event: Generated) -> None:
        """One turn of a model more."""
        usage: Usage = event.generation.usage
        self.prompt += usage.prompt_tokens
        self.cached += usage.cached_tokens
        self.completion += usage.completion_tokens
        self.cut = event.generation.finish == "length"


@dataclass(slots=True)
class Voice:
    """Puts together what is heard on the way and what the log says in the end.

    What was sent cannot be taken back: another beginning of a text is sent from where it goes beyond what was sent; where it
    says something else, the whole of it follows as a paragraph of its own.
    """

    number: int = -1
    _command: str = ""
    _attempt: int = 0
    _heard: str = ""
    _sent: str = ""
    _done: set[str] = field(default_factory=set)

    def hear(self, delta: Delta) -> str:
        """What is to be sent of a piece that came over the bus."""
        if delta.command in self._done:
            return ""
        self._turn(delta.command)
        if delta.attempt != self._attempt:
            self._attempt, self._heard = delta.attempt, ""
        self._heard += delta.text
        return self._more(self._heard) if self._heard.startswith(self._sent) else ""

    def whole(self, command: str, text: str) -> str:
        """What is still to be sent of a text that the log holds now."""
        if command in self._done:
            return ""
        self._turn(command)
        self._done.add(command)
        return self._more(text) if text.startswith(self._sent) else f"\n\n{text}"

    def pass_over(self, command: str) -> None:
        """A text of before, which nobody wants to hear again."""
        self._done.add(command)

    def _turn(self, command: str) -> None:
        if command != self._command:
            self._command, self._attempt, self._heard, self._sent = command, 0, "", ""

    def _more(self, text: str) -> str:
        if text and not self._sent:
            self.number += 1
        new, self._sent = text[len(self._sent) :], text
        return new


@dataclass(slots=True)
class Course:
    """One answer of a run. since: the answered command from which it goes on; empty: from its beginning.

    finished: whether it came to its end, or whoever listened went away.
    """

    client: Client
    run: RunId
    since: CommandId | Literal[""] = ""
    approvals: Approvals = "text"
    tally: Tally = field(default_factory=Tally)
    finished: bool = False

    async def pieces(self) -> AsyncIterator[Piece]:
        """Text, and in the end Stopped or Ended. Raises Unreachable, Erased."""
        heard: asyncio.Queue[Delta | tuple[RunId, list[Stored]] | Exception] = asyncio.Queue()
        folds: dict[RunId, Folded] = {}
        tasks: list[asyncio.Task[None]] = []
        voice, started = Voice(), not self.since

        def listen(run: RunId) -> None:
            if run not in folds:
                folds[run] = Folded(RunState(run=run))
                tasks.append(asyncio.get_running_loop().create_task(_hear(self.client, run, heard)))

        try:
            async with hear_text(self.client.bus, self.client.tenant, self.run, heard.put_nowait):
                listen(self.run)
                while True:
                    match await heard.get():
                        case Delta() as delta:
                            if new := voice.hear(delta):
                                yield Text(new, voice.number)
                        case (run, facts):
                            for stored in facts:
                                started = started or stored.fact.slot == self.since
                                for piece in self._told(folds[run], stored, voice, started):
                                    yield piece
                                    if not isinstance(piece, Text):
                                        return
                            for child in children_of(folds[run].state).values():
                                listen(child)
                            if started and (waits := self._stops(folds)):
                                self.finished = True
                                yield Stopped(waits)
                                return
                        case Exception() as error:
                            raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _told(self, folded: Folded, stored: Stored, voice: Voice, started: bool) -> list[Piece]:
        """What a fact adds to the answer."""
        folded.add(stored)
        fact, event = stored.fact, stored.fact.body
        if folded.state.erased:
            raise Erased(f"run {fact.run}")
        top = fact.run == self.run
        pieces: list[Piece] = []
        if isinstance(event, Generated) and not started:
            voice.pass_over(fact.slot)
        elif isinstance(event, Generated):
            self.tally.add(event)
            if top and (rest := voice.whole(fact.slot, event.generation.text)):
                pieces.append(Text(rest, voice.number))
        if top and isinstance(event, TERMINAL):
            self.finished = True
            pieces.append(_ended(event, self.run))
        return pieces

    async def now(self) -> list[Piece]:
        """The same as far as the log has it at this moment; without Stopped or Ended at its end, the run is at work."""
        folds = {self.run: Folded(RunState(run=self.run))}
        facts = await self.client.log.read(self.run)
        await self._below(fold(self.run, facts).state, folds)
        voice, started, pieces = Voice(), not self.since, list[Piece]()
        for stored in facts:
            started = started or stored.fact.slot == self.since
            pieces += self._told(folds[self.run], stored, voice, started)
            if self.finished:
                break
            if started and (waits := self._stops(folds)):
                pieces.append(self._stopped_or_over(waits, facts))
                break
        return pieces

    def _stopped_or_over(self, waits: Waits, facts: list[Stored]) -> Piece:
        """Where the run was called off while it waited, nobody waits any more."""
        waited = {each.id for each in waits.all}
        said = any(stored.fact.slot in waited for stored in facts)
        over = next((each.fact.body for each in facts if isinstance(each.fact.body, RunCancelled)), None)
        return Stopped(waits) if said or over is None else _ended(over, self.run)

    async def _below(self, state: RunState, folds: dict[RunId, Folded]) -> None:
        for child in children_of(state).values():
            folds[child] = fold(child, await self.client.log.read(child))
            await self._below(folds[child].state, folds)

    def _stops(self, folds: dict[RunId, Folded]) -> Waits | None:
        """What the answer stops for: nothing goes on by itself, and somebody must say something."""
        waits = waits_of({run: folded.state for run, folded in folds.items()}, self.run)
        if waits.busy or not waits.all or (self.approvals == "wait" and not waits.calls):
            return None
        return waits


async def _hear(client: Client, run: RunId, heard: asyncio.Queue[Delta | tuple[RunId, list[Stored]] | Exception]) -> None:
    try:
        async with aclosing(followed(client, run)) as parts:  # type: ignore[type-var]  # a generator
            async for facts in parts:
                heard.put_nowait((run, facts))
    except Exception as error:
        heard.put_nowait(error)


def _ended(event: object, run: RunId) -> Ended:
    match event:
        case RunCompleted(answer=answer):
            return Ended(answer, "completed")
        case RunFailed(failure=failure):
            return Ended("", "failed", failure)
        case RunCancelled(by=by, reason=reason):
            return Ended("", "cancelled", Failure(type="Cancelled", what=f"The run was cancelled by {by}.", why=reason))
    raise TypeError(f"run {run} ended with {type(event).__name__}")
