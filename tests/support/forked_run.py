"""Forks of runs for tests: begun, copied and driven by hand, everything over the wire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

from runtime.advance import Decision
from runtime.fold import Folded
from runtime.forking import Change, Original, Told, copies, fork_request
from runtime.log import Stored
from runtime.recording import question_of, restated
from runtime.state import RunState
from runtime.steps import RECORDED_LANE
from runtime.waiting import due
from schemas.commands import AnyCommand, CallTool, EndRun, JudgeCall, PlanCall, RequestApproval, StartTimer
from schemas.envelope import Fact, decode_fact, encode, new_fact, source_of
from schemas.events import (
    AnswerCopied,
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    CallPlanned,
    EffectSettled,
    Fork,
    Recorded,
    StepFailed,
)
from schemas.ids import END_SLOT, REQUEST_SLOT, CommandId, settled_slot
from services.recorder.recorded_lane import recorded_answer
from tests.support.builders import SEGMENT, TENANT, RunUnderTest, ending, fact_of

LATER = timedelta(days=3)


def past(log: Sequence[Stored]) -> list[tuple[Stored, bytes]]:
    """A run's facts with bytes as a log has them."""
    return [(stored, encode(stored.fact)) for stored in log]


def original_of(run: RunUnderTest) -> Original:
    return Original(run.id, past(run.log))


class ForkUnderTest(RunUnderTest):
    """A fork; made, it has what it copies."""

    def __init__(
        self, original: Original, at: int, change: Change | None = None, *, key: str = "fork", tenant: str = TENANT
    ) -> None:
        super().__init__(original.request.agent, key=key, tenant=tenant)
        self.original = original
        self.now = original.told[-1].fact.time + LATER
        self.request = fork_request(original, at, change or Change(), key=key, by="ann", now=self.now)
        self.first = new_fact(
            self.request, run=self.id, tenant=tenant, slot=REQUEST_SLOT, source=source_of("client", "ann"), time=self.now,
            decider=original.state.decider, datakey=original.state.datakey,
        )  # fmt: skip
        assert self.first.run.startswith(SEGMENT)
        self.copied: list[Fact] = copies(original, self.first, source=source_of("recorder", "test"), now=self.now)
        self.hear(decode_fact(encode(self.first)))
        for fact in self.copied:
            assert self.state.held
            self.hear(decode_fact(encode(fact)))
        assert not self.state.held

    @property
    def answers(self) -> list[Recorded]:
        """What was copied."""
        return [cast("AnswerCopied", fact.body).answer for fact in self.copied]

    def by_the_log(self, id: CommandId) -> Recorded | None:
        """What the recorder answers to a call."""
        command = cast("CallTool | PlanCall", self.state.outstanding[id])
        equal = [
            each.id for each in self.decided
            if isinstance(each.command, CallTool | PlanCall) and each.command.host == RECORDED_LANE
            and question_of(each.command) == question_of(command)
        ]  # fmt: skip
        found = recorded_answer(self.original, command, equal.index(id))
        return restated(found, command) if found else None


def drive(fork: ForkUnderTest) -> None:
    """Answer a fork in which nothing was changed as its original was answered, and in that order, until it ends.

    The first question of a kind about a call is that of the original, and so is each further one. A fork asks no rules, so
    a plan comes when plan and verdict were both there.
    """
    original, begins = fork.original, cast("Fork", fork.request.fork)
    there = [each for told in original.told for each in told.decided]
    moved = begins.began - original.began
    done = {each.number for each in original.copied(begins.at)}
    folded, plans = Folded(RunState(run=original.run)), dict[str, Told]()
    for told in original.told:
        folded.add(Stored(told.fact, told.number))
        if told.number <= begins.at or not told.copied or told.number in done or fork.state.phase == "ended":
            continue
        body, at = cast("Recorded", told.body), told.fact.time + moved
        if isinstance(body, CallPlanned) and judging(folded.state, body.command.call.id):
            plans[body.command.call.id] = told
        elif isinstance(body, CallJudged):
            plan = plans.pop(body.command.call.id, None)
            if plan and fork.state.phase != "ended":
                _tell(fork, there, plan, at)
        else:
            _tell(fork, there, told, at, closes=folded.state.phase == "closing")
        _end(fork)
    _end(fork)


def judging(state: RunState, call: str) -> bool:
    """Whether the rules have not said yet what they make of a call."""
    return any(isinstance(each, JudgeCall) and each.call.id == call for each in state.outstanding.values())


def _tell(fork: ForkUnderTest, there: list[Decision], told: Told, at: datetime, *, closes: bool = False) -> None:
    body = cast("Recorded", told.body)
    if isinstance(body, EffectSettled):
        body = body.model_copy(update={"call": _named(fork, there, body.call)})
        fork.hear(fact_of(body, fork.id, settled_slot(body.call), role=told.fact.role, time=at))
    elif not isinstance(body, Answered):
        fork.hear(fact_of(body, fork.id, told.fact.slot, role=told.fact.role, time=at))
    else:
        named = CommandId(_named(fork, there, told.fact.slot))
        command = fork.state.outstanding[named]
        answer = restated(body, command)
        if isinstance(command, CallTool | PlanCall) and not isinstance(answer, StepFailed):
            assert fork.by_the_log(named) == answer
        moment = _moment(fork, told, answer, at, closes=closes)
        fork.hear(fact_of(answer, fork.id, named, role=told.fact.role, time=moment))


def _end(fork: ForkUnderTest) -> None:
    for _, command in fork.open(EndRun):
        fork.tell(ending(command, fork.state.answer or ""), END_SLOT)


def _named(fork: ForkUnderTest, there: list[Decision], id: str) -> str:
    """What a command of the original is called in the fork."""
    asked = next(each for each in there if each.id == id)
    number = [each.id for each in there if _same(each, asked)].index(asked.id)
    return [each.id for each in fork.decided if _same(each, asked)][number]


def _same(one: Decision, other: Decision) -> bool:
    return one.command.kind == other.command.kind and _about(one.command) == _about(other.command)


def _about(command: AnyCommand) -> object:
    if isinstance(command, StartTimer):
        return command.purpose, command.about
    return getattr(command, "call", None)


def _moment(fork: ForkUnderTest, told: Told, answer: Recorded, at: datetime, *, closes: bool) -> datetime:
    """On the same side of a limit as it was there, since the fork waits from the plan on, and not from the verdict."""
    was = cast("Answered", told.body).command
    if isinstance(was, RequestApproval) and isinstance(answer, ApprovalGranted | ApprovalRefused):
        limit, late = cast("RequestApproval", answer.command).expires, told.fact.time >= was.expires
    elif isinstance(was, StartTimer) and was.purpose == "deadline":
        limit, late = due(fork.state), closes
    else:
        return at
    return max(at, limit) if late else min(at, limit - timedelta(milliseconds=1))
