"""What a run and the runs below it wait for, and whether anything else is still on its way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from runtime.children import children_of
from runtime.client import Client
from runtime.fold import Folded
from runtime.sealing import Erased
from runtime.state import OpenCall, RunState
from runtime.steps import CALLER_LANE
from schemas.commands import AskPerson, RequestApproval, StartTimer
from schemas.ids import CommandId, RunId
from services.gateway.openai.ids import mark_of


@dataclass(frozen=True, slots=True)
class Waiting:
    """A command that a person or the client answers, and the run that waits for it."""

    run: RunId
    id: CommandId
    command: RequestApproval | AskPerson
    state: RunState

    @property
    def open_call(self) -> OpenCall | None:
        """The call that it is about, as the run holds it."""
        return self.state.open_calls.get(self.command.call.id)

    @property
    def of_the_client(self) -> bool:
        """Whether it is a call of a tool that the client brought."""
        return isinstance(self.command, AskPerson) and bool(self.open_call and self.open_call.card.lane == CALLER_LANE)


@dataclass(slots=True)
class Waits:
    """All that a tree of runs waits for. busy: whether something goes on by itself."""

    run: RunId
    calls: list[Waiting] = field(default_factory=list)
    approvals: list[Waiting] = field(default_factory=list)
    questions: list[Waiting] = field(default_factory=list)
    busy: bool = False

    @property
    def all(self) -> tuple[Waiting, ...]:
        """In the order: the client's calls, approvals, questions of other tools."""
        return (*self.calls, *self.approvals, *self.questions)

    def marked(self, mark: str) -> Waiting | None:
        """What waits under this mark."""
        return next((each for each in self.all if mark_of(each.id) == mark), None)


def waits_of(states: Mapping[RunId, RunState], run: RunId) -> Waits:
    """What waits in a run and in those below it, as far as their states are known."""
    waits = Waits(run)
    _gather(states, run, waits)
    return waits


def _gather(states: Mapping[RunId, RunState], run: RunId, waits: Waits) -> None:
    state = states.get(run)
    if state is None or state.phase in ("new", "queued"):
        waits.busy = True
        return
    children = children_of(state)
    for id, command in state.outstanding.items():
        if isinstance(command, RequestApproval | AskPerson):
            waiting = Waiting(run, id, command, state)
            kind = waits.approvals if isinstance(command, RequestApproval) else waits.questions
            (waits.calls if waiting.of_the_client else kind).append(waiting)
        elif id in children:
            _gather(states, children[id], waits)
        elif not isinstance(command, StartTimer):
            waits.busy = True


@dataclass(frozen=True, slots=True)
class Tree:
    """A run and those below it, read from the log. answered: the commands that persons have answered in them."""

    state: RunState
    waits: Waits
    answered: tuple[CommandId, ...]

    def last_answered(self, marks: Collection[str]) -> CommandId | None:
        """Of the commands of these marks, the one that was answered last; None if none was."""
        return next((id for id in reversed(self.answered) if mark_of(id) in marks), None)


async def read_tree(client: Client, run: RunId) -> Tree:
    """What a run has come to, with those below it. Raises UnknownRun, Erased."""
    states: dict[RunId, RunState] = {}
    answered: list[CommandId] = []
    top = await client.state(run)
    pending = [run]
    while pending:
        each = pending.pop()
        folded = Folded(RunState(run=each))
        for stored in await client.log.read(each):
            folded.add(stored)
            if stored.fact.role == "person":
                answered.append(CommandId(stored.fact.slot))
        if folded.state.erased:
            raise Erased(f"run {each}")
        states[each] = folded.state
        pending += [child for child in children_of(folded.state).values() if child not in states]
    return Tree(top, waits_of(states, run), tuple(answered))
