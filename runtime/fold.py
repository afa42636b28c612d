"""Folding a whole log: the state it comes to and the decisions that are still open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.advance import Decision, advance
from runtime.log import Stored
from runtime.state import RunState
from schemas.ids import CommandId, RunId


@dataclass(slots=True)
class Folded:
    """A run folded up to a position, with the decisions behind its outstanding commands."""

    state: RunState
    position: int = 0
    open: dict[CommandId, Decision] = field(default_factory=dict)

    def add(self, stored: Stored) -> tuple[Decision, ...]:
        """Fold one more fact (older ones are passed over); gives what that fact caused."""
        if stored.position <= self.position:
            return ()
        self.position = stored.position
        self.state, decisions = advance(self.state, stored.fact)
        self.open.update((each.id, each) for each in decisions)
        self.open = {id: each for id, each in self.open.items() if id in self.state.outstanding}
        return decisions


def fold(run: RunId, facts: Iterable[Stored]) -> Folded:
    """Fold a run from its beginning."""
    folded = Folded(RunState(run=run))
    for stored in facts:
        folded.add(stored)
    return folded
