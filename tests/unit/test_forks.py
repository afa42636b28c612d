"""Forks by hand: what is copied, what may be changed, and that nothing of them reaches the world."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.exports.reading import load_export
from runtime.fork_answers import BadAnswer, contents_of
from runtime.forked import NOT_RECORDED
from runtime.forking import (
    AnotherPast,
    BeyondTheEnd,
    Change,
    Diverges,
    NoAnswer,
    NoDecision,
    NotForked,
    Original,
    UnfittingContent,
    checked,
)
from runtime.replay import replay
from runtime.sealing import Erased
from runtime.steps import RECORDED_LANE
from schemas.agent import AgentSpec
from schemas.commands import (
    AnyCommand,
    CallTool,
    EndRun,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RecallMemory,
    RequestApproval,
    StoreTurn,
)
from schemas.envelope import encode
from schemas.events import (
    AnswerCopied,
    ApprovalGranted,
    ApprovalRefused,
    CancelRequested,
    RunCancelled,
    ToolFailed,
    ToolReturned,
)
from schemas.ids import CANCEL_SLOT
from schemas.sealing import Sealed
from schemas.tools import ToolCard
from tests.support.builders import (
    CLOCK,
    OBJECT,
    RENEW,
    RunUnderTest,
    call,
    ending,
    fact_of,
    failure,
    planned,
    ready,
    spec,
)
from tests.support.forked_run import ForkUnderTest, original_of, past

REQUEST, GENERATED, PLANNED, JUDGED, GRANTED, DONE, ANSWERED = 1, 5, 6, 7, 8, 9, 10


def renewed(agent: AgentSpec | None = None) -> RunUnderTest:
    """A renewal that was approved and done: tools, knowledge and memory, then what the names of its events say."""
    run = ready(agent, task="renew it for 3 months")
    run.say(call("renew", months=3))
    run.plans()
    asked = run.one(RequestApproval)
    run.later(2)
    granted = ApprovalGranted(command=asked, by="ann", approval_hash=asked.approval_hash, scope="always")
    run.answer(granted)
    assert run.open(KeepGrant)
    run.returns(run.one(CallTool), "renewed")
    run.say(text="It is renewed.")
    run.end()
    return run


def original() -> Original:
    return original_of(renewed())


def missing(fork: ForkUnderTest, command: CallTool | PlanCall) -> list[AnyCommand]:
    """The log does not hold this call."""
    return fork.answer(ToolFailed(command=command, failure=failure(kind=NOT_RECORDED)))


def told(fork: ForkUnderTest) -> str:
    """What the model was told last."""
    return fork.state.messages[-1].content


# --- where a run is left ------------------------------------------------------------------------------


def test_an_approval_that_was_given_there_is_asked_here_again_and_may_be_refused() -> None:
    fork = ForkUnderTest(original(), JUDGED)
    (asked,) = fork.state.approvals().values()
    assert asked.expires - fork.now == asked.expires - fork.copied[-1].body.at  # type: ignore[union-attr]
    fork.answer(ApprovalRefused(command=asked, by="ann", reason="too dear"))
    assert "refused this call: too dear" in told(fork)
    fork.say(text="Not renewed.")
    assert fork.one(EndRun).outcome == "completed", "a fork is not remembered as a turn"
    fork.answer(ending(fork.one(EndRun), "Not renewed."))
    assert fork.state.outcome == "completed"
    assert not {type(each.command) for each in fork.decided} & {StoreTurn, KeepGrant}


def test_an_approval_that_is_given_in_a_fork_comes_to_the_log_and_to_no_host() -> None:
    fork = ForkUnderTest(original(), JUDGED)
    (asked,) = fork.state.approvals().values()
    fork.answer(ApprovalGranted(command=asked, by="ann", approval_hash=asked.approval_hash, scope="always"))
    (command,) = [each for _, each in fork.open(CallTool)]
    assert command.write_key and command.host == "recorded"
    assert not fork.open(KeepGrant)
    recorded = fork.by_the_log(fork.id_of(command))
    assert isinstance(recorded, ToolReturned) and recorded.result.text == "renewed"
    fork.answer(recorded)
    assert told(fork) == "renewed"


def test_another_answer_of_the_person_takes_the_run_elsewhere() -> None:
    past_run = original()
    change = Change(answers=contents_of(past_run, ["8=refuse:not now"], "bob"))
    fork = ForkUnderTest(past_run, GRANTED, change)
    refused = fork.answers[-1]
    assert isinstance(refused, ApprovalRefused) and (refused.by, refused.reason) == ("bob", "not now")
    assert isinstance(body := fork.copied[-1].body, AnswerCopied) and body.changed
    assert "refused this call: not now" in told(fork) and fork.open(Generate) and not fork.open(CallTool)


def test_what_was_refused_may_be_approved() -> None:
    run = ready()
    run.say(call("renew"))
    run.plans()
    run.answer(ApprovalRefused(command=run.one(RequestApproval), by="ann"))
    past_run = original_of(run)
    fork = ForkUnderTest(past_run, 8, Change(answers=contents_of(past_run, ["8=approve"], "ann")))
    assert fork.one(CallTool).host == "recorded"


def test_another_result_and_another_reply_of_the_model() -> None:
    past_run = original()
    fork = ForkUnderTest(past_run, DONE, Change(answers=contents_of(past_run, ['9={"left": 0}'], "ann")))
    assert told(fork) == '{"left": 0}'
    fork = ForkUnderTest(past_run, GENERATED, Change(answers=contents_of(past_run, ["5=I would rather not."], "ann")))
    assert fork.one(EndRun).outcome == "completed" and fork.state.answer == "I would rather not."
    calls = '5={"calls": [{"name": "clock", "arguments": {"zone": "utc"}}]}'
    fork = ForkUnderTest(past_run, GENERATED, Change(answers=contents_of(past_run, [calls], "ann")))
    assert fork.one(CallTool).call.arguments == {"zone": "utc"}


def test_other_instructions_and_another_model_are_asked_from_there_on() -> None:
    past_run = original()
    agent = past_run.request.agent.model_copy(update={"instructions": "Be brief.", "model": "other"})
    fork = ForkUnderTest(past_run, DONE, Change(agent=agent))
    command = fork.one(Generate)
    there = [each.command for event in past_run.told for each in event.decided if isinstance(each.command, Generate)]
    assert command.model == "other" and command.prompt_hash != there[-1].prompt_hash


def test_other_tools_are_offered() -> None:
    card = ToolCard(name="stop", description="stops", parameters=OBJECT)
    fork = ForkUnderTest(original(), REQUEST, Change(tools=(card,)))
    fork.gather_tools()
    assert fork.state.tools == (card,)


def test_a_fork_opens_no_turn_of_the_conversation() -> None:
    run = RunUnderTest()
    run.begin()
    run.gather_tools()
    run.later(5)
    run.gather()
    fork = ForkUnderTest(original_of(run), REQUEST)
    assert [answer.kind for answer in fork.answers] == ["MemoryRecalled"]
    assert not fork.open(RecallMemory)
    assert isinstance(body := fork.copied[0].body, AnswerCopied)
    assert body.at == fork.now, "it had not been said where the run is left, and nothing is said later than now"


def test_a_fork_of_a_fork_has_the_answers_themselves() -> None:
    first = ForkUnderTest(original(), DONE)
    first.say(call("clock", id="c9"))
    assert not missing(first, first.one(CallTool)) or True
    second = ForkUnderTest(original_of(first), len(first.log) - 1, key="second")
    copied = [fact.body for fact in second.copied if isinstance(fact.body, AnswerCopied)]
    assert all(not isinstance(each.answer, AnswerCopied) for each in copied)
    assert copied[0].run == first.original.run, "where it was said first"
    assert second.one(CallTool).call.name == "clock"


# --- what comes after ---------------------------------------------------------------------------------


def test_a_read_that_the_log_lacks_is_made_if_it_may_be() -> None:
    for reads, host in (("live", CLOCK.lane), ("recorded", None)):
        fork = ForkUnderTest(original(), DONE, Change(reads=reads), key=f"fork-{reads}")  # type: ignore[arg-type]
        fork.say(call("clock", id="c2"))
        assert fork.one(CallTool).host == "recorded"
        missing(fork, fork.one(CallTool))
        if host:
            assert fork.one(CallTool).host == host
        else:
            assert "This call was not made" in told(fork) and not fork.open(CallTool)


def test_an_agent_is_never_called_from_a_fork_since_its_run_might_write() -> None:
    run = ready(None, ToolCard(name="helper", description="an agent", parameters=OBJECT, tags=("agent",), lane="agents"))
    run.say(text="done")
    fork = ForkUnderTest(original_of(run), 4, Change(reads="live"))
    fork.say(call("helper"))
    missing(fork, fork.one(CallTool))
    assert not fork.open(CallTool) and "not made" in told(fork)


def test_a_card_whose_host_is_the_log_is_asked_for_once() -> None:
    card = CLOCK.model_copy(update={"lane": RECORDED_LANE})
    fork = ForkUnderTest(original(), DONE, Change(reads="live", tools=(card, RENEW)))
    fork.say(call("clock", id="c2"))
    missing(fork, fork.one(CallTool))
    assert not fork.open(CallTool) and "not made" in told(fork)


@pytest.mark.parametrize("reads", ["recorded", "live"])
def test_a_new_write_is_told_and_not_done(reads: str) -> None:
    fork = ForkUnderTest(original(), DONE, Change(reads=reads))  # type: ignore[arg-type]
    fork.say(call("renew", id="c2", months=9))
    assert not fork.open(JudgeCall), "no rules are asked, and no limit is charged"
    missing(fork, fork.one(PlanCall))
    if reads == "live":
        assert fork.one(PlanCall).host == RENEW.lane
        fork.answer(planned(fork.one(PlanCall), summary="nine months more"))
        assert "It would do this: nine months more" in told(fork)
    assert "This was not done" in told(fork) and not fork.open(CallTool) and fork.state.writes == 1


def test_a_new_write_may_be_taken_as_done() -> None:
    fork = ForkUnderTest(original(), DONE, Change(writes="simulated", reads="live"))
    fork.say(call("renew", id="c2", months=9))
    missing(fork, fork.one(PlanCall))
    fork.answer(planned(fork.one(PlanCall), summary="nine months more"))
    asked = fork.one(RequestApproval)
    fork.answer(ApprovalGranted(command=asked, by="ann", approval_hash=asked.approval_hash))
    assert fork.one(CallTool).host == "recorded"
    missing(fork, fork.one(CallTool))
    assert told(fork).startswith("Done. nine months more (simulated in a fork")
    assert fork.state.writes == 2
    fork.say(call("renew", id="c3", months=9))
    assert told(fork).startswith("This was done earlier in this run: Done."), "the same write is not asked for twice"


def test_rules_that_had_not_answered_where_the_run_is_left_are_asked_no_more() -> None:
    run = ready(spec(approval="never"))
    run.say(call("renew"))
    run.answer(planned(run.one(PlanCall)))
    run.judges()
    run.returns(run.one(CallTool))
    for at, left in ((5, PlanCall), (7, CallTool)):
        fork = ForkUnderTest(original_of(run), at, key=f"fork-{at}")
        assert fork.open(left) and not fork.open(JudgeCall)


def test_a_plan_whose_verdict_is_missing_where_the_run_is_left_goes_by_the_agents_own_setting() -> None:
    run = ready()
    run.say(call("renew", months=1), call("renew", id="c2", months=2))
    for _, plan in run.open(PlanCall):
        run.answer(planned(plan))
    run.judges(command=run.open(JudgeCall)[0][1])
    fork = ForkUnderTest(original_of(run), 8)
    assert not fork.open(JudgeCall)
    assert [asked.call.id for asked in fork.state.approvals().values()] == ["c1", "c2"]


# --- while it is held ---------------------------------------------------------------------------------


def held(count: int = 3) -> ForkUnderTest:
    """A fork that has only some of its answers."""
    whole = ForkUnderTest(original(), GRANTED)
    part = RunUnderTest(key="fork")
    part.id = whole.id
    part.folded = type(part.folded)(type(part.state)(run=whole.id))
    for stored in whole.log[: 1 + count]:
        part.hear(stored.fact)
    part.now = whole.now
    part.__class__ = ForkUnderTest
    return part  # type: ignore[return-value]


def test_nobody_is_asked_while_answers_are_copied() -> None:
    fork = held(6)
    assert fork.state.held and fork.state.asked(RequestApproval)
    assert fork.state.approvals() == {} and fork.state.outcome == "open"
    asked = next(iter(fork.state.asked(RequestApproval).values()))
    before = fork.state
    fork.answer(ApprovalGranted(command=asked, by="ann", approval_hash=asked.approval_hash))
    assert fork.state == before


def test_a_held_fork_that_is_called_off_ends_at_once() -> None:
    fork = held(7)
    assert fork.state.held is False and held(6).state.held
    fork = held(6)
    why = CancelRequested(by="the recorder", reason="gone")
    fork.hear(fact_of(why, fork.id, CANCEL_SLOT, role="recorder", time=fork.now))
    (command,) = fork.state.outstanding.values()
    assert isinstance(command, EndRun) and command.outcome == "cancelled"
    fork.answer(RunCancelled(command=command, by="the recorder"))
    assert fork.state.outcome == "cancelled"


def test_a_copied_answer_counts_in_no_run_but_a_fork_that_waits_for_it() -> None:
    whole = ForkUnderTest(original(), JUDGED)
    before = whole.state
    whole.hear(fact_of(whole.copied[0].body, whole.id, whole.copied[0].slot, role="recorder", time=whole.now))  # type: ignore[arg-type]
    assert whole.state == before
    run = ready()
    state = run.state
    run.hear(fact_of(whole.copied[-1].body, run.id, next(iter(run.state.outstanding)), role="recorder"))  # type: ignore[arg-type]
    assert run.state == state


# --- what cannot be -----------------------------------------------------------------------------------


def test_a_run_is_left_where_something_is_decided() -> None:
    with pytest.raises(NoDecision, match=r"Event 2 of run .* is no decision") as error:
        ForkUnderTest(original(), 2)
    assert "--at 1 (RunRequested)" in error.value.hint and "--at 4 (MemoryRecalled)" in error.value.hint
    for number in (6, 11, 12):  # a plan without its verdict, the turn that is stored, the end
        with pytest.raises(NoDecision):
            ForkUnderTest(original(), number)
    with pytest.raises(BeyondTheEnd, match="has no event 99"):
        ForkUnderTest(original(), 99)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("8", BadAnswer), ("x=approve", BadAnswer), ("8=maybe", UnfittingContent), ("8=approve:why", UnfittingContent),
        ("99=approve", BeyondTheEnd), ("1=hello", NoAnswer), ('7={"verdict": {"outcome": "perhaps"}}', UnfittingContent),
        ("6=text", UnfittingContent), ("9={broken", BadAnswer), ('8={"kind": "ToolReturned"}', UnfittingContent),
        ('8={"kind": "Generated", "generation": {"text": "no"}}', UnfittingContent), ("10=later", NoAnswer),
        ("12=end", NoAnswer),
    ],
)  # fmt: skip
def test_an_answer_says_what_its_kind_can_say(asked: str, error: type[Exception]) -> None:
    past_run = original()
    with pytest.raises(error):
        ForkUnderTest(past_run, DONE, Change(answers=contents_of(past_run, [asked], "ann")))


def test_a_changed_agent_that_goes_another_way_before_the_fork_is_refused_with_the_place() -> None:
    past_run = original()
    change = Change(answers=contents_of(past_run, ["5=No."], "ann"))
    with pytest.raises(Diverges, match="goes another way before event 8") as error:
        ForkUnderTest(past_run, GRANTED, change)
    assert "event 6: CallPlanned" in error.value.why and error.value.hint == "leave it earlier: --at 5"


def test_a_run_whose_turn_never_began_cannot_be_forked() -> None:
    run = RunUnderTest()
    run.begin()
    with pytest.raises(NotForked, match="has not begun its turn"):
        ForkUnderTest(original_of(run), 1)


def test_an_erased_run_cannot_be_forked() -> None:
    log = renewed().log
    hidden = log[4].fact
    gone = type(hidden)(hidden.header.model_copy(update={"datakey": None}), Sealed(nonce="", ciphertext=""))
    with pytest.raises(Erased):
        Original(hidden.run, [*past(log[:4]), (type(log[4])(gone, 5), b"sealed")])


def test_what_the_fork_says_of_its_past_is_checked() -> None:
    past_run = original()
    fork = ForkUnderTest(past_run, GRANTED)
    checked(past_run, fork.first)
    said = fork.request.fork
    assert said
    wrong = {
        "user": fork.request.model_copy(update={"user": "eve"}),
        "root": fork.request.model_copy(update={"fork": said.model_copy(update={"root": "0" * 64})}),
        "event": fork.request.model_copy(update={"fork": said.model_copy(update={"event": "0" * 32})}),
        "count of answers": fork.request.model_copy(update={"fork": said.model_copy(update={"copied": 0})}),
    }
    for name, request in wrong.items():
        with pytest.raises(AnotherPast, match=name):
            checked(past_run, type(fork.first)(fork.first.header, request))
    other = fork.first.header.model_copy(update={"tenant": "other"})
    with pytest.raises(AnotherPast, match="tenant"):
        checked(past_run, type(fork.first)(other, fork.request))
    assert encode(fork.first)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "golden").glob("*.jsonl")), ids=lambda path: path.stem)
def test_runs_that_earlier_versions_recorded_can_be_left_at_each_of_their_decisions(path: Path) -> None:
    recorded = load_export(path)
    past_run = Original(recorded.run, past(recorded.facts))
    places = [told.number for told in past_run.told if told.decides]
    assert places[0] == 1
    for place in places:
        fork = ForkUnderTest(past_run, place, key=f"fork-{place}", tenant=past_run.state.tenant)
        assert fork.state.decider == past_run.state.decider
        assert replay(fork.id, fork.log).same
