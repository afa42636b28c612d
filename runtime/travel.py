"""Time travel: what a run had come to after one of its events, and what it would do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.advance import Decision
from runtime.fold import Folded
from runtime.log import Stored
from runtime.numbering import numbered
from runtime.prompt import build
from runtime.sealing import Erased
from runtime.state import RunState
from schemas.commands import Generate
from schemas.envelope import Fact
from schemas.errors import MilepostError
from schemas.ids import RunId
from schemas.messages import Prompt


class NoSuchEvent(MilepostError):
    """The run has no event of this number."""

    def __init__(self, run: str, event: int, events: int) -> None:
        super().__init__(f"Run {run} has no event {event}.", why=f"it has {events}", hint=f"milepost runs show {run}")


class NoModelTurn(MilepostError):
    """No prompt was made at this event."""

    def __init__(self, run: str, event: int, turns: Sequence[int]) -> None:
        near = ", ".join(str(each) for each in sorted(turns, key=lambda each: abs(each - event))[:3])
        super().__init__(
            f"Event {event} of run {run} is no turn of a model, so there is no prompt to show.",
            why=f"near it are the turns {near}" if near else "the run has none",
            hint=f"milepost runs show {run}",
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """A run after one event. decided: what that event caused; answered: the numbers of the events that answer what is
    outstanding, by command, as far as they came."""

    number: int
    fact: Fact
    state: RunState
    decided: tuple[Decision, ...]
    answered: dict[str, int]


def moment_of(run: RunId, facts: Sequence[Stored], number: int) -> Moment:
    """The state after event `number`, as its receipt counts. Raises NoSuchEvent."""
    listed = [(each, stored) for each, stored in numbered(facts) if each]
    if not 1 <= number <= len(listed):
        raise NoSuchEvent(run, number, len(listed))
    folded, decided = Folded(RunState(run=run)), tuple[Decision, ...]()
    for _, stored in listed[:number]:
        decided = folded.add(stored)
    state = folded.state
    answered = {str(stored.fact.slot): each for each, stored in listed[number:] if stored.fact.slot in state.outstanding}
    return Moment(number, listed[number - 1][1].fact, state, decided, answered)


@dataclass(frozen=True, slots=True)
class Asked:
    """A model's turn: the event in which it was answered (None: not yet), since when it was asked, and its prompt."""

    number: int | None
    command: Generate
    since: datetime
    prompt: Prompt


def prompt_at(run: RunId, facts: Sequence[Stored], number: int) -> Asked:
    """The prompt as it was made for the model's turn that event `number` answers, or that it asked for.

    Raises NoSuchEvent, NoModelTurn, Erased.
    """
    listed = [(each, stored) for each, stored in numbered(facts) if each]
    if not 1 <= number <= len(listed):
        raise NoSuchEvent(run, number, len(listed))
    folded = Folded(RunState(run=run))
    answered = {stored.fact.slot: each for each, stored in listed}
    turns: list[int] = []
    for each, stored in listed:
        for decision in folded.add(stored):
            if not isinstance(decision.command, Generate):
                continue
            answer = answered.get(decision.id)
            turns.append(answer or each)
            if number in (answer, each):
                return Asked(answer, decision.command, stored.fact.time, build(folded.state))
    if folded.state.erased:
        raise Erased(f"run {run}")
    raise NoModelTurn(run, number, turns)
