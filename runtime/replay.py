"""Replay: every decision of a run computed again from its log alone, and compared with what was recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.fold import Folded
from runtime.log import Stored
from runtime.state import RunState
from schemas.commands import EndRun
from schemas.events import Answered
from schemas.ids import END_SLOT, CommandId, RunId


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where today's code decides otherwise than the log tells. event: the fact's position from 1."""

    event: int
    slot: str
    type: str
    why: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to. answered: decisions whose recorded answer is in the log; all of them were recomputed."""

    run: RunId
    events: int
    decisions: int
    answered: int
    outcome: str
    divergence: Divergence | None

    @property
    def same(self) -> bool:
        return self.divergence is None


def replay(run: RunId, facts: Iterable[Stored]) -> Replayed:
    """Fold a run again; every recorded answer must answer a decision that is made again, id for id."""
    folded = Folded(RunState(run=run))
    decided: dict[CommandId, object] = {}
    events = answered = 0
    divergence: Divergence | None = None
    for stored in facts:
        events += 1
        body, slot = stored.fact.body, stored.fact.slot
        if isinstance(body, Answered):
            divergence = divergence or _check(body, slot, events, decided)
            answered += 1
        decided.update((each.id, each.command) for each in folded.add(stored))
    return Replayed(run, events, len(decided), answered, folded.state.outcome, divergence)


def _check(body: Answered, slot: str, number: int, decided: dict[CommandId, object]) -> Divergence | None:
    ends = slot == END_SLOT and isinstance(body.command, EndRun)
    if body.command in decided.values() if ends else decided.get(CommandId(slot)) == body.command:
        return None
    kind = type(body).__name__
    return Divergence(number, slot, kind, f"{kind} answers {body.command.kind}, which is not decided now")
