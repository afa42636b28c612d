"""What a run asked for, and what it was told: each answer of a log with the state in which it was asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.advance import Decision
from runtime.fold import Folded
from runtime.log import Log, Stored
from runtime.recording import Answer, answer_in
from runtime.state import RunState
from schemas.commands import AnyCommand
from schemas.envelope import Fact
from schemas.ids import CommandId, RunId

KEPT = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer of a log. state: in which it was asked for; began: the fact that led to it, if it is known."""

    decision: Decision
    state: RunState
    answer: Answer
    began: Fact | None

    @property
    def seconds(self) -> float:
        """From the decision to the answer."""
        return (self.answer.at - self.began.time).total_seconds() if self.began else 0.0


def asked_in(run: RunId, facts: Sequence[Stored], kind: type[AnyCommand]) -> Iterator[Asked]:
    """The answers to commands of one kind, in the order of the log."""
    folded = Folded(RunState(run=run))
    open_: dict[CommandId, tuple[Decision, RunState, Fact]] = {}
    for number, stored in enumerate(facts, start=1):
        answer = answer_in(stored.fact, number)
        found = open_.pop(CommandId(stored.fact.slot), None) if answer else None
        if answer and found:
            decision, state, began = found
            yield Asked(decision, state, answer, began)
        for decision in folded.add(stored):
            if isinstance(decision.command, kind):
                open_[decision.id] = (decision, folded.state, stored.fact)


class Runs:
    """The logs of the runs that were looked at last, read on from where they were."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[RunId, tuple[Stored, ...]] = OrderedDict()

    async def upto(self, fact: Fact) -> tuple[Stored, ...]:
        """A run's facts from its first one to this one; empty if the log does not hold it. Raises Unreachable."""
        known = self._kept.get(fact.run, ())
        if not _holds(known, fact):
            known = (*known, *await self._log.read(fact.run, known[-1].position if known else 0))
            self._kept[fact.run] = known
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        place = next((place for place, each in enumerate(known, start=1) if each.fact.id == fact.id), 0)
        return known[:place]

    def forget(self, keys: frozenset[str]) -> None:
        """Keys were destroyed: what was opened with them is dropped."""
        for run, facts in list(self._kept.items()):
            if any(each.fact.header.datakey in keys for each in facts[:1]):
                del self._kept[run]


def _holds(facts: Sequence[Stored], fact: Fact) -> bool:
    return any(each.fact.id == fact.id for each in reversed(facts))
