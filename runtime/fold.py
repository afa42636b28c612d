"""Folding a whole log: the state it comes to and the decisions that are still open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from runtime.advance import Decision, advance
from runtime.log import Stored
from runtime.state import RunState
from schemas.ids import CommandId, RunId

UNCOUNTED = ("StartTimer", "EndRun")
"""Commands that nobody owes an answer: a timer of a run that is over, and the end itself."""


@dataclass(slots=True)
class Folded:
    """A run folded up to a position, with the decisions behind its outstanding commands.

    unanswered: kinds of all commands that were decided and have no answer yet, given up or not; timers and the end aside.
    """

    state: RunState
    position: int = 0
    open: dict[CommandId, Decision] = field(default_factory=dict)
    unanswered: dict[CommandId, str] = field(default_factory=dict)

    def add(self, stored: Stored) -> tuple[Decision, ...]:
        """Fold one more fact (older ones are passed over); gives what that fact caused."""
        if stored.position <= self.position:
            return ()
        self.position = stored.position
        self.state, decisions = advance(self.state, stored.fact)
        self.unanswered.pop(CommandId(stored.fact.slot), None)
        for each in decisions:
            self.open[each.id] = each
            if each.command.kind not in UNCOUNTED:
                self.unanswered[each.id] = each.command.kind
        outstanding = self.state.outstanding  # no id in it is missing in `open`, so that equal lengths are equal ids
        if (slot := CommandId(stored.fact.slot)) not in outstanding:
            self.open.pop(slot, None)
        if len(self.open) != len(outstanding):
            self.open = {id: each for id, each in self.open.items() if id in outstanding}
        return decisions


def fold(run: RunId, facts: Iterable[Stored]) -> Folded:
    """Fold a run from its beginning."""
    folded = Folded(RunState(run=run))
    for stored in facts:
        folded.add(stored)
    return folded
