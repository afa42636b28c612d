"""The host of tools that answers the calls of forks from the log of the run that they leave.

Calls are equal if tool and arguments are. The first equal call of a fork gets the answer to the first of the run, the second
that to the second; a plan or a read that is asked for more often gets the last answer again, a write does not.
"""

from __future__ import annotations

from runtime.advance import Decision
from runtime.errors import NotAsked
from runtime.fold import Folded
from runtime.forked import NOT_RECORDED
from runtime.forking import NotForked, Original
from runtime.log import Log
from runtime.recording import question_of, restated
from runtime.service import Context, Service
from runtime.state import RunState
from runtime.steps import RECORDED_LANE
from schemas.commands import AnyCommand, CallTool, PlanCall
from schemas.events import Answered, AnyEvent, Failure, Recorded, ToolAsked, ToolFailed
from schemas.ids import CommandId, RunId
from services.recorder.forking import Past


def recorded_lane(journal: Log, past: Past) -> Service:
    """The service that answers PlanCall and CallTool of forks. past: where the runs are that they leave."""
    service = Service("tools", "answers the calls of forks from the log", lane=RECORDED_LANE, attempts=24)

    async def answer(command: PlanCall | CallTool, context: Context) -> AnyEvent:
        folded = Folded(RunState(run=context.run))
        decided: list[Decision] = []
        for stored in await journal.read(context.run):
            decided += folded.add(stored)
        fork, asked = folded.state.fork, folded.open.get(CommandId(context.order.id))
        if fork is None:
            return ToolFailed(command=command, failure=Failure(type="NoFork", what="Only calls of forks are answered here."))
        if asked is None or asked.command != command:
            raise NotAsked(f"run {context.run} asks for no such call")
        try:
            original = Original(RunId(fork.run), await past(RunId(fork.run)))
        except NotForked:
            return _missing(command, fork.run)
        before = decided[: decided.index(asked)]
        place = sum(_equal(each.command, command) for each in before)
        found = recorded_answer(original, command, place) if original.state.tenant == context.tenant else None
        return restated(found, command) if found else _missing(command, fork.run)

    service.on(PlanCall)(answer)
    service.on(CallTool)(answer)
    return service


def recorded_answer(original: Original, command: PlanCall | CallTool, place: int) -> Recorded | None:
    """What the run was told of an equal call. place: how many equal ones the fork has made before it."""
    asked: list[str] = []
    answers: dict[str, Recorded] = {}
    for told in original.told:
        asked += [each.id for each in told.decided if _equal(each.command, command, any_host=True)]
        if told.copied and isinstance(told.body, Answered):
            answers[told.fact.slot] = told.body  # type: ignore[assignment]  # a copied event is a recorded one
    found = [answers.get(id) for id in asked if not _is_missing(answers.get(id))]
    if place < len(found) and (said := found[place]):
        return said
    last = next((each for each in reversed(found) if each), None)
    may_repeat = isinstance(command, PlanCall) or command.write_key is None
    return last if may_repeat and not isinstance(last, ToolAsked) else None


def _equal(one: AnyCommand, other: PlanCall | CallTool, *, any_host: bool = False) -> bool:
    """Whether two commands ask for the same; of the same host, unless it does not matter who answered."""
    if not isinstance(one, PlanCall | CallTool) or not (any_host or one.host == other.host):
        return False
    return question_of(one) == question_of(other)


def _is_missing(body: Recorded | None) -> bool:
    """A run that is a fork itself has been told this of its own calls."""
    return isinstance(body, ToolFailed) and body.failure.type == NOT_RECORDED


def _missing(command: PlanCall | CallTool, run: str) -> ToolFailed:
    failure = Failure(
        type=NOT_RECORDED, what=f"Run {run} made no such call of {command.call.name}.", why="this run is a fork of it"
    )
    return ToolFailed(command=command, failure=failure)
