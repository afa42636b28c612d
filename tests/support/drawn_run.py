"""One run in which everything is drawn from one seed, answered in any order; and what must hold for every such run."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from runtime import policy
from runtime.advance import Decision, advance
from runtime.asking import QUESTIONS
from runtime.fold import fold
from schemas.agent import AgentSpec
from schemas.commands import (
    AnyCommand,
    AskPerson,
    CallTool,
    EndRun,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RecallMemory,
    RequestApproval,
    RetrieveKnowledge,
    Role,
    SelectTools,
    StartTimer,
    StoreTurn,
)
from schemas.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    CallPlanned,
    CancelRequested,
    EffectSettled,
    Event,
    Generated,
    GrantKept,
    KnowledgeRetrieved,
    MemoryRecalled,
    PersonAnswered,
    ScoredCard,
    StepFailed,
    TimerFired,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
    TurnQueued,
    TurnRefused,
    TurnStored,
)
from schemas.ids import CommandId, settled_slot
from schemas.messages import Generation, Usage
from schemas.policy import Verdict
from schemas.tools import Before, Question, ToolCall, ToolResult, call_key
from tests.support.builders import CARDS, RunUnderTest, ending, failure, own_verdict, passage, planned, spec

QUESTION = Question(id="size", text="How large?")
BEFORE = Before(run="202610-x", conversation="talk", at="2026-10-01T08:00:00Z", text="Renewed.")
APPROVER, ASKER, STRANGER = "ops-bob", "ann", "eve"


def play(seed: int) -> RunUnderTest:
    """One run from its request to its end, and a little further; checks the fold at every step."""
    draw = random.Random(seed)
    run = RunUnderTest(_agent(draw), key=f"seed {seed}")
    run.begin()
    unanswered: set[CommandId] = set()
    for _ in range(1000):
        if run.state.phase == "ended":
            break
        run.later(draw.choice([0.0, 0.01, 2.0]))
        how = draw.random()
        if how < 0.01:
            _cancel(run, draw.choice(["client", "memory"]))
        elif how < 0.06:
            _settle(run, draw)
        else:
            _answer_something(run, draw, unanswered)
        _check_fold(run, draw)
    else:
        raise AssertionError(f"seed {seed}: it does not end: {run.state.phase}, {list(run.state.outstanding.values())}")
    before = run.state
    _settle(run, draw)
    assert run.state == before, "a fact after the end changed something"
    return run


def _agent(draw: random.Random) -> AgentSpec:
    return spec(
        steps=draw.choice([1, 3, 9, 15]), calls=draw.choice([0, 3, 12, 20]), deadline_s=draw.choice([5, 600, 600, 600]),
        approval_s=draw.choice([1, 60, 60]), approval=draw.choice(["writes", "destructive", "never"]),
        tool_k=draw.choice([0, 3, 3, 3, 3]), knowledge_k=draw.choice([0, 2]), writes=draw.choice([None, None, 0, 1, 3]),
        tokens=draw.choice([None, None, None, None, 60]), money=draw.choice([{}, {"CNY": 25.0}]),
    )  # fmt: skip


def _cancel(run: RunUnderTest, role: Role) -> None:
    taken = {stored.fact.role for stored in run.log if isinstance(stored.fact.body, CancelRequested)}
    if role not in taken:  # the broker takes one event a place
        run.cancel(role=role)


def _settle(run: RunUnderTest, draw: random.Random) -> None:
    """What became of a write is found out, whether it was in doubt or not; one event a place."""
    slots = {stored.fact.slot for stored in run.log}
    writes = [each for each in run.decided if isinstance(each.command, CallTool) and settled_slot(each.id) not in slots]
    if writes:
        found = draw.choice(writes)
        happened = draw.random() < 0.5
        run.tell(EffectSettled(call=found.id, write_key="k", happened=happened, by="tools"), settled_slot(found.id))


def _answer_something(run: RunUnderTest, draw: random.Random, unanswered: set[CommandId]) -> None:
    open_commands = {id: each for id, each in run.state.outstanding.items() if id not in unanswered}
    work = [id for id, each in open_commands.items() if not isinstance(each, StartTimer)]
    id = draw.choice(work if work and draw.random() < 0.9 else list(open_commands))
    event = _event(open_commands[id], run, draw)
    if event is None:
        unanswered.add(id)  # a person who never answers: the timer must do it
    elif isinstance(event, TurnQueued):
        steps = [lambda: run.answer(event), run.release]
        draw.shuffle(steps)
        for step in steps:
            step()
    else:
        run.answer(event)


def _event(command: AnyCommand, run: RunUnderTest, draw: random.Random) -> AnyEvent | None:
    if draw.random() < 0.01 and not isinstance(command, EndRun):
        return StepFailed(command=command, failure=failure())
    match command:
        case RecallMemory():
            kinds = [MemoryRecalled(command=command)] * 20
            first = run.count(RecallMemory) == 1  # a run waits in the queue once
            others = [TurnQueued(command=command, behind="x"), TurnRefused(command=command, by="x")]
            return draw.choice([*kinds, *(others if first else ())])
        case SelectTools():
            found = tuple(ScoredCard(card=card, score=1.0) for card in CARDS if draw.random() < 0.95)
            return ToolsSelected(command=command, tools=found, catalog="all", searched=3)
        case RetrieveKnowledge():
            return KnowledgeRetrieved(command=command, passages=(passage(),))
        case Generate():
            return Generated(command=command, generation=drawn_generation(draw))
        case PlanCall():
            return _planned(command, draw)
        case JudgeCall():
            return CallJudged(command=command, verdict=drawn_verdict(command, run.request.agent, draw))
        case KeepGrant():
            return GrantKept(command=command, grant="g") if draw.random() < 0.5 else None
        case CallTool():
            return _called(command, draw)
        case RequestApproval():
            return drawn_decision(command, draw)
        case AskPerson():
            return drawn_answer(command, draw)
        case StartTimer():
            run.now = max(run.now, command.at) if draw.random() < 0.9 else run.now  # another clock may run behind
            return TimerFired(command=command, fired=run.now)
        case StoreTurn():
            return TurnStored(command=command)
        case EndRun():
            return ending(command, run.state.answer or "")


def drawn_generation(draw: random.Random) -> Generation:
    """An answer, or a few calls."""
    usage = Usage(prompt_tokens=draw.randint(1, 9), completion_tokens=1)
    if draw.random() < 0.15:
        return Generation(text=f"answer {draw.random()}", usage=usage)
    return Generation(text="", calls=tuple(_call(draw) for _ in range(draw.randint(1, 3))), usage=usage)


def _call(draw: random.Random) -> ToolCall:
    name = draw.choice(["clock", "renew", "renew", "renew", "destroy", "destroy", "no_such_tool"])
    return ToolCall(id=f"c{draw.randint(1, 4)}", name=name, arguments={"n": draw.randint(1, 4)})


def _planned(command: PlanCall, draw: random.Random) -> AnyEvent:
    if draw.random() < 0.1:
        return ToolFailed(command=command, failure=failure())
    price = draw.choice([None, "10.00", "12.5"])
    before = BEFORE if draw.random() < 0.15 else None
    return planned(command, state=f"{draw.random()}", before=before, price=price, currency="CNY" if price else None)


def drawn_verdict(command: JudgeCall, agent: AgentSpec, draw: random.Random) -> Verdict:
    """What the agent's own setting says, or a rule at random."""
    how, priced = draw.random(), command.price is None and draw.random() < 0.3
    if how < 0.5:
        return own_verdict(agent, command).model_copy(update={"price_needed": priced})
    approvers = draw.choice([(), ("ops-*",), ("ops-*", ASKER)])
    outcome = draw.choice(["allow", "ask", "ask", "dry_run", "deny"])
    return Verdict(
        outcome=outcome, rule="drawn", why="by lot", approvers=approvers, four_eyes=draw.random() < 0.5, price_needed=priced,
        expires_s=draw.choice([None, 0.5, 30]),
    )  # fmt: skip


def drawn_question(command: CallTool, draw: random.Random) -> bool:
    """Whether the tool wants to know something, again and again if it must be."""
    return draw.random() < (0.7 if command.answers else 0.15)


def drawn_answer(command: AskPerson, draw: random.Random) -> AnyEvent | None:
    """A person answers, would not, or says nothing."""
    how = draw.random()
    if how < 0.2:
        return None
    return PersonAnswered(command=command, by=ASKER, accepted=how < 0.7, content={"size": 3} if how < 0.7 else {})


def _called(command: CallTool, draw: random.Random) -> AnyEvent:
    if drawn_question(command, draw):
        return ToolAsked(command=command, question=QUESTION)
    if draw.random() < 0.75:
        return ToolReturned(command=command, result=ToolResult(text=f"result {draw.random()}"))
    kind = ToolInDoubt if command.write_key and draw.random() < 0.5 else ToolFailed
    return kind(command=command, failure=failure())


def drawn_decision(command: RequestApproval, draw: random.Random) -> AnyEvent | None:
    """Somebody approves who may or may not, approves something else, refuses, or says nothing."""
    how = draw.random()
    by = APPROVER if how < 0.5 else draw.choice([ASKER, STRANGER])
    if how < 0.62:
        scope = draw.choice(["once", "once", "conversation", "always"])
        return ApprovalGranted(command=command, by=by, approval_hash=command.approval_hash, scope=scope)
    if how < 0.7:
        return ApprovalGranted(command=command, by=APPROVER, approval_hash="0" * 32)
    return ApprovalRefused(command=command, by=by) if how < 0.8 else None


def _check_fold(run: RunUnderTest, draw: random.Random) -> None:
    for stored in draw.sample(run.log, min(3, len(run.log))):  # told again: by position and, for answers, by content
        before = run.state
        assert run.folded.add(stored) == ()
        if stored.fact.slot in {each.id for each in run.decided}:
            assert advance(run.state, stored.fact) == (before, ())
        assert run.state == before
    if draw.random() < 0.15:  # another conductor, or this one after its death
        other = fold(run.id, run.log)
        assert other.state == run.state
        assert list(other.open.values()) == [each for each in run.decided if each.id in run.state.outstanding]


# --- what must hold -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Write:
    """One write as the log tells it: its plan, every verdict on it, what was sent."""

    plan: CommandId
    judges: list[CommandId] = field(default_factory=list)
    sent: list[Decision] = field(default_factory=list)


def check_writes(run: RunUnderTest) -> None:
    """Nothing is written that was not planned, judged and, where that is asked, approved by a person who may; nothing twice."""
    answers = {stored.fact.slot: stored.fact.body for stored in run.log}
    facts = {stored.fact.id: stored.fact.body for stored in run.log}
    times = {stored.fact.id: stored.fact.time for stored in run.log}
    assert len({each.id for each in run.decided}) == len(run.decided), "an id was decided twice"
    writes = [write for write in _writes(run) if write.sent]
    for write in writes:
        _check_one(run, write, answers, facts, times)
    approvals = Counter(write.sent[0].command.approval for write in writes)  # type: ignore[union-attr]
    assert all(count == 1 for event, count in approvals.items() if event), "one approval, two writes"
    _check_repeats(run, writes, answers)
    _check_budget(run, writes, answers)


def _writes(run: RunUnderTest) -> list[_Write]:
    found: list[_Write] = []
    current: dict[str, _Write] = {}
    for each in run.decided:
        if isinstance(each.command, PlanCall):
            current[each.command.call.id] = _Write(plan=each.id)
            found.append(current[each.command.call.id])
        elif isinstance(each.command, JudgeCall):
            current[each.command.call.id].judges.append(each.id)
        elif isinstance(each.command, CallTool) and each.command.write_key:
            current[each.command.call.id].sent.append(each)
    return found


def _check_one(
    run: RunUnderTest, write: _Write, answers: dict[str, Event], facts: dict[str, Event], times: dict[str, datetime]
) -> None:
    plan, judged = answers[write.plan], [answers[id] for id in write.judges if id in answers]
    assert isinstance(plan, CallPlanned)
    last = judged[-1]
    assert isinstance(last, CallJudged), "the rules were asked in vain, and it was sent"
    assert last.verdict.outcome in ("allow", "ask"), f"sent after {last.verdict.outcome}"
    assert last.command.price is not None or not last.verdict.price_needed
    for sent in write.sent:
        command = sent.command
        assert isinstance(command, CallTool)
        assert command.write_key == plan.write_key
        assert facts[command.plan or ""] is plan
        assert command.approval == write.sent[0].command.approval  # type: ignore[union-attr]
        if last.verdict.outcome == "ask" or plan.before:
            assert command.approval, "sent without the person that was to be asked"
        if command.approval:
            granted = facts[command.approval]
            assert isinstance(granted, ApprovalGranted)
            asked = granted.command
            assert granted.approval_hash == asked.approval_hash == policy.approval_hash(run.id, command.call, plan)
            assert policy.may_approve(asked, granted.by), f"approved by {granted.by}"
            assert granted.by != STRANGER or not last.verdict.approvers
            assert granted.by != ASKER or not last.verdict.four_eyes
            assert times[command.approval] < asked.expires
    assert len(write.sent) <= QUESTIONS + 1
    assert all(isinstance(answers[each.id], ToolAsked) for each in write.sent[:-1]), "sent again, though it may have happened"


def _check_repeats(run: RunUnderTest, writes: list[_Write], answers: dict[str, Event]) -> None:
    """A write that may have happened is never sent again in its run."""
    happened: set[str] = set()
    for write in writes:
        command = write.sent[-1].command
        assert isinstance(command, CallTool)
        key = call_key(command.call.name, command.call.arguments)
        assert key not in happened, "a write that may have happened was tried again"
        if isinstance(answers.get(write.sent[-1].id), ToolReturned | ToolInDoubt | StepFailed):
            happened.add(key)


def _check_budget(run: RunUnderTest, writes: list[_Write], answers: dict[str, Event]) -> None:
    budget = run.request.agent.budget
    done = [write for write in writes if isinstance(answers.get(write.sent[-1].id), ToolReturned | ToolInDoubt | StepFailed)]
    assert budget.writes is None or len(done) <= budget.writes
    prices = [answers[write.plan].preview.price for write in done]  # type: ignore[union-attr]
    assert "CNY" not in budget.money or sum(float(price or 0) for price in prices) <= budget.money["CNY"]
