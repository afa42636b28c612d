"""The decision function, case by case: what each fact causes, and what it must not cause."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runtime import policy, prompt
from runtime.advance import advance
from runtime.orders import order_of
from schemas.commands import (
    AnyCommand,
    CallTool,
    EndRun,
    Generate,
    PlanCall,
    RecallMemory,
    RequestApproval,
    RetrieveKnowledge,
    SelectTools,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Order, new_fact
from schemas.errors import ProtocolError
from schemas.events import (
    ApprovalGranted,
    ApprovalRefused,
    CallPlanned,
    CancelRequested,
    Generated,
    KnowledgeRetrieved,
    MemoryRecalled,
    TimerFired,
    ToolInDoubt,
    ToolReturned,
    TurnQueued,
    TurnRefused,
)
from schemas.ids import CANCEL_SLOT, REQUEST_SLOT
from schemas.messages import Generation
from schemas.tools import Part, ToolResult
from tests.support.builders import (
    CLOCK,
    DESTROY,
    NOW,
    RENEW,
    RunUnderTest,
    call,
    ending,
    fact_of,
    failure,
    planned,
    ready,
    requested,
    spec,
)

NO_ASKING = spec(approval="never")


def kinds(commands: list[AnyCommand]) -> list[str]:
    return [command.kind for command in commands]


def one(kind: type[AnyCommand], commands: list[AnyCommand]) -> AnyCommand:
    (found,) = [command for command in commands if isinstance(command, kind)]
    return found


def asked(run: RunUnderTest, *calls_) -> RequestApproval:
    """The run after its model asked for one write, planned and waiting for a person."""
    run.say(*(calls_ or (call("renew", months=1),)))
    run.plans()
    return run.one(RequestApproval)


def grants(run: RunUnderTest, ask: RequestApproval, approval_hash: str | None = None) -> list[AnyCommand]:
    return run.answer(ApprovalGranted(command=ask, by="ann", approval_hash=approval_hash or ask.approval_hash))


def fires(run: RunUnderTest, timer: StartTimer) -> list[AnyCommand]:
    run.now = max(run.now, timer.at)
    return run.answer(TimerFired(command=timer, fired=run.now))


def timer_of(run: RunUnderTest, purpose: str) -> StartTimer:
    (found,) = [timer for _, timer in run.open(StartTimer) if timer.purpose == purpose]
    return found


def last_result(run: RunUnderTest) -> str:
    return run.state.messages[-1].content


# --- the beginning ------------------------------------------------------------------------------------


def test_a_request_asks_for_memory_tools_and_knowledge_side_by_side_and_sets_the_deadline() -> None:
    run = RunUnderTest()
    assert kinds(run.begin()) == ["RecallMemory", "SelectTools", "RetrieveKnowledge", "StartTimer"]
    assert timer_of(run, "deadline").at == NOW + timedelta(seconds=600)


def test_the_model_speaks_only_when_all_three_are_there_in_any_order() -> None:
    run = RunUnderTest()
    run.begin()
    assert run.answer(MemoryRecalled(command=run.one(RecallMemory))) == []
    assert run.answer(KnowledgeRetrieved(command=run.one(RetrieveKnowledge), passages=())) == []
    assert run.open(Generate) == []
    assert kinds(run.gather_tools()) == ["Generate"]


def test_an_agent_without_tools_and_knowledge_recalls_only() -> None:
    run = RunUnderTest(spec(tool_k=0, knowledge_k=0))
    assert kinds(run.begin()) == ["RecallMemory", "StartTimer"]
    assert kinds(run.answer(MemoryRecalled(command=run.one(RecallMemory)))) == ["Generate"]


def test_an_agent_with_named_tools_only_still_asks_for_their_cards() -> None:
    run = RunUnderTest(spec(tool_k=0, tools=("clock",)))
    run.begin()
    assert run.one(SelectTools).always == ("clock",)


def test_an_answer_is_stored_and_then_ends_the_run() -> None:
    run = ready()
    assert kinds(run.say(text="noon")) == ["StoreTurn"]
    assert run.one(StoreTurn).outcome == "answered"
    assert kinds(run.store()) == ["EndRun"]
    assert run.end() == "completed"
    assert run.state.answer == "noon"


def test_a_second_request_in_the_same_run_changes_nothing() -> None:
    run = ready()
    before = run.state
    assert run.tell(run.request, REQUEST_SLOT) == []
    assert run.state == before


def test_a_request_whose_key_does_not_name_its_run_begins_nothing() -> None:
    run = RunUnderTest(key="mine")
    assert run.tell(requested(key="other"), REQUEST_SLOT) == []
    assert run.state.phase == "new"


def test_another_tenant_can_neither_begin_nor_cancel_a_run() -> None:
    run = RunUnderTest()
    assert run.tell(run.request, REQUEST_SLOT, tenant="evil") == []
    run.begin()
    assert run.tell(CancelRequested(by="evil"), CANCEL_SLOT, tenant="evil") == []
    assert run.state.phase == "gathering"


# --- reading tools ------------------------------------------------------------------------------------


def test_a_read_is_called_at_once_and_its_result_goes_to_the_model() -> None:
    run = ready()
    (command,) = run.say(call("clock"))
    assert isinstance(command, CallTool)
    assert (command.host, command.write_key, command.card_hash) == ("builtin", None, CLOCK.hash())
    assert kinds(run.returns(command, "12:00")) == ["Generate"]
    assert last_result(run) == "12:00"


def test_parallel_calls_wait_for_all_and_the_results_keep_the_order_of_the_calls() -> None:
    run = ready()
    first, second = run.say(call("clock", "c1", n=1), call("clock", "c2", n=2))
    assert run.returns(second, "two") == []
    assert kinds(run.returns(first, "one")) == ["Generate"]
    assert [message.content for message in run.state.messages[-2:]] == ["one", "two"]


def test_a_generation_names_the_events_that_are_new_and_the_generation_before() -> None:
    run = ready()
    (first,) = run.open(Generate)
    (command,) = run.say(call("clock"))
    (second,) = run.returns(command)
    assert isinstance(second, Generate)
    assert second.after == first[0]
    assert second.inputs == (run.log[-2].fact.id, run.log[-1].fact.id)
    assert first[1].prompt_hash != second.prompt_hash


def test_an_unknown_tool_is_told_to_the_model_and_costs_no_call() -> None:
    run = ready()
    assert kinds(run.say(call("no_such_tool"))) == ["Generate"]
    assert "no_such_tool" in last_result(run)
    assert run.state.calls == 0


def test_of_two_calls_with_one_id_the_first_counts() -> None:
    run = ready()
    (command,) = run.say(call("clock", "c1", n=1), call("clock", "c1", n=2))
    assert command.call.arguments == {"n": 1}
    assert kinds(run.returns(command)) == ["Generate"]
    assert run.count(Generate) == 2


def test_a_failed_read_is_told_to_the_model() -> None:
    run = ready()
    (command,) = run.say(call("clock"))
    assert kinds(run.denies(command, "No battery.")) == ["Generate"]
    assert "No battery." in last_result(run)


# --- writing tools ------------------------------------------------------------------------------------


def test_a_write_is_planned_then_asked_for_then_committed_with_its_plan_and_approval() -> None:
    run = ready()
    assert kinds(run.say(call("renew", months=1))) == ["PlanCall", "JudgeCall"]
    plan = run.one(PlanCall)
    commands = run.plans()
    assert kinds(commands) == ["RequestApproval", "StartTimer"]
    planned_event = run.log[-2].fact.id
    (commit,) = grants(run, one(RequestApproval, commands))
    assert isinstance(commit, CallTool)
    assert (commit.plan, commit.approval) == (planned_event, run.log[-1].fact.id)
    assert commit.write_key == planned(plan).write_key
    assert kinds(run.returns(commit, "renewed")) == ["Generate"]


def test_the_approval_is_bound_to_run_tool_arguments_state_and_preview() -> None:
    run = ready()
    ask = asked(run)
    plan = run.log[-2].fact.body
    assert isinstance(plan, CallPlanned)
    assert ask.approval_hash == policy.approval_hash(run.id, ask.call, plan)
    others = {
        policy.approval_hash(RunUnderTest(key="other").id, ask.call, plan),
        policy.approval_hash(run.id, call("destroy", months=1), plan),
        policy.approval_hash(run.id, call("renew", months=2), plan),
        policy.approval_hash(run.id, ask.call, plan.model_copy(update={"state": "until June"})),
        policy.approval_hash(run.id, ask.call, planned(plan.command, summary="ten years more")),
    }
    assert len(others | {ask.approval_hash}) == 6


@pytest.mark.parametrize(
    ("approval", "tool", "asks"),
    [("writes", "renew", True), ("writes", "destroy", True), ("destructive", "renew", False),
     ("destructive", "destroy", True), ("never", "destroy", False)],
)  # fmt: skip
def test_the_agent_says_which_effects_a_person_must_allow(approval: str, tool: str, asks: bool) -> None:
    run = ready(spec(approval=approval))
    run.say(call(tool))
    run.plans()
    assert bool(run.open(RequestApproval)) is asks
    assert bool(run.open(CallTool)) is not asks


def test_a_refused_write_is_not_done_and_not_asked_for_again() -> None:
    run = ready()
    ask = asked(run)
    assert kinds(run.answer(ApprovalRefused(command=ask, by="ann", reason="too dear"))) == ["Generate"]
    assert "too dear" in last_result(run)
    assert kinds(run.say(call("renew", "c2", months=1))) == ["Generate"]
    assert (run.count(PlanCall), run.count(CallTool)) == (1, 0)


def test_an_approval_that_comes_too_late_commits_nothing() -> None:
    run = ready()
    ask = asked(run)
    run.now = ask.expires
    assert "Generate" in kinds(grants(run, ask))
    assert "too late" in last_result(run)
    assert run.count(CallTool) == 0


def test_an_approval_that_nobody_gives_expires_and_a_late_one_changes_nothing() -> None:
    run = ready()
    ask = asked(run)
    slot = run.id_of(ask)
    assert "Generate" in kinds(fires(run, timer_of(run, "approval")))
    assert "in time" in last_result(run)
    late = ApprovalGranted(command=ask, by="ann", approval_hash=ask.approval_hash)
    assert run.tell(late, slot) == []
    assert run.count(CallTool) == 0


def test_the_timer_of_an_earlier_approval_does_not_expire_a_later_one_with_the_same_call_id() -> None:
    run = ready()
    ask = asked(run, call("renew", "c1", months=1))
    old = timer_of(run, "approval")
    (commit,) = grants(run, ask)
    run.later(60)
    run.returns(commit)
    second = asked(run, call("renew", "c1", months=2))
    assert fires(run, old) == []
    assert run.one(RequestApproval) == second


def test_the_same_write_asked_for_again_after_its_receipt_is_not_done_again() -> None:
    run = ready(NO_ASKING)
    run.say(call("renew", months=1))
    (commit,) = run.plans()
    run.returns(commit, "receipt 7")
    assert kinds(run.say(call("renew", "c2", months=1))) == ["Generate"]
    assert "receipt 7" in last_result(run)
    assert (run.count(PlanCall), run.count(CallTool)) == (1, 1)


def test_the_same_write_twice_in_one_generation_is_planned_once() -> None:
    run = ready(NO_ASKING)
    assert kinds(run.say(call("renew", "c1", months=1), call("renew", "c2", months=1))) == ["PlanCall", "JudgeCall"]
    (commit,) = run.plans()
    assert kinds(run.returns(commit)) == ["Generate"]


def test_two_different_writes_of_one_generation_are_both_done() -> None:
    run = ready(NO_ASKING)
    run.say(call("renew", "c1", months=1), call("renew", "c2", months=2))
    assert len(run.open(PlanCall)) == 2


@pytest.mark.parametrize("how", ["in doubt", "gave up"])
def test_a_write_of_unknown_outcome_is_never_tried_again(how: str) -> None:
    run = ready(NO_ASKING)
    run.say(call("renew", months=1))
    (commit,) = run.plans()
    assert isinstance(commit, CallTool)
    if how == "in doubt":
        run.answer(ToolInDoubt(command=commit, failure=failure()))
    else:
        run.fails(commit)
    assert "not known" in last_result(run)
    assert kinds(run.say(call("renew", "c2", months=1))) == ["Generate"]
    assert run.count(CallTool) == 1


def test_a_write_that_certainly_failed_may_be_tried_again() -> None:
    run = ready(NO_ASKING)
    run.say(call("renew", months=1))
    (commit,) = run.plans()
    run.denies(commit)
    assert kinds(run.say(call("renew", "c2", months=1))) == ["PlanCall", "JudgeCall"]


def test_a_plan_that_fails_is_told_to_the_model() -> None:
    run = ready()
    run.say(call("renew"))
    plan = run.one(PlanCall)
    assert kinds(run.denies(plan)) == ["Generate"]


def test_a_reply_that_cannot_be_read_goes_back_to_the_model_and_never_to_the_person() -> None:
    run = ready(spec(steps=2))
    before = prompt.build(run.state)
    command = run.one(Generate)
    commands = run.answer(Generated(command=command, generation=Generation(text='{"name": ', malformed="The JSON has no end.")))
    assert kinds(commands) == ["Generate"]
    after = prompt.build(run.state)
    assert after.messages[: len(before.messages)] == before.messages
    assert [message.role for message in after.messages[len(before.messages) :]] == ["assistant", "user"]
    assert "The JSON has no end." in after.messages[-1].content
    assert run.one(Generate).prompt_hash == after.hash()
    run.answer(Generated(command=run.one(Generate), generation=Generation(text="{", malformed="Again.")))
    assert run.end() == "failed"  # each try is a step of the budget


# --- budgets ------------------------------------------------------------------------------------------


def test_a_run_that_never_answers_fails_when_its_steps_are_spent() -> None:
    run = ready(spec(steps=2))
    (command,) = run.say(call("clock"))
    run.returns(command)
    (command,) = run.say(call("clock", "c2"))
    assert kinds(run.returns(command)) == ["StoreTurn"]
    assert run.end() == "failed"
    assert run.state.failure and run.state.failure.type == "BudgetExceeded"


def test_calls_beyond_the_budget_are_not_made() -> None:
    run = ready(spec(calls=1))
    commands = run.say(call("clock", "c1", n=1), call("clock", "c2", n=2))
    assert kinds(commands) == ["CallTool"]
    run.returns(commands[0])
    assert kinds(run.say(call("clock", "c3"))) == ["Generate"]
    assert "no more tool calls" in last_result(run)


def test_the_deadline_fails_the_run() -> None:
    run = ready(spec(deadline_s=60))
    assert kinds(fires(run, timer_of(run, "deadline"))) == ["StoreTurn"]
    assert run.end() == "failed"
    assert run.state.failure and run.state.failure.type == "DeadlineExceeded"


def test_the_deadline_does_not_run_while_a_person_is_asked() -> None:
    run = ready(spec(deadline_s=60, approval_s=7200))
    run.later(50)
    ask = asked(run)
    assert fires(run, timer_of(run, "deadline")) == []  # at 60 s: the clock stands since 50 s
    run.later(3600)
    answered_at = run.now
    commands = grants(run, ask)
    assert kinds(commands) == ["CallTool", "StartTimer"]
    assert timer_of(run, "deadline").at == answered_at + timedelta(seconds=10)
    assert fires(run, timer_of(run, "deadline")) == []  # the write under way is awaited
    assert run.state.phase == "closing"


def test_an_early_deadline_is_set_again_for_what_is_left() -> None:
    run = ready(spec(deadline_s=60, approval_s=7200))
    ask = asked(run)
    run.later(30)
    (commit,) = grants(run, ask)  # the first deadline still ticks
    assert isinstance(commit, CallTool)
    assert kinds(fires(run, timer_of(run, "deadline"))) == ["StartTimer"]
    assert timer_of(run, "deadline").at == NOW + timedelta(seconds=90)


def test_two_people_asked_at_once_stop_the_clock_once() -> None:
    run = ready(spec(deadline_s=60, approval_s=7200))
    run.say(call("renew", "c1", months=1), call("renew", "c2", months=2))
    for _, plan in run.open(PlanCall):
        run.plans(planned(plan))
        run.later(10)
    first, second = (ask for _, ask in run.open(RequestApproval))
    run.later(10)  # asked at 0 and at 10, it is 30 now
    grants(run, first)
    run.later(10)
    grants(run, second)
    assert run.state.waited == timedelta(seconds=40)


def test_waiting_for_a_person_causes_no_more_timers_however_long_it_takes() -> None:
    run = ready(spec(deadline_s=0.001, approval_s=30 * 86400))
    asked(run)
    assert fires(run, timer_of(run, "deadline")) == []
    assert [timer.purpose for _, timer in run.open(StartTimer)] == ["approval"]


# --- cancel -------------------------------------------------------------------------------------------


def test_a_cancel_before_the_model_spoke_ends_the_run() -> None:
    run = RunUnderTest()
    run.begin()
    assert kinds(run.cancel()) == ["StoreTurn"]
    assert run.one(StoreTurn).outcome == "cancelled"
    assert run.end() == "cancelled"


@pytest.mark.parametrize("phase", ["queued", "deciding", "reading", "planning", "asking"])
def test_a_cancel_ends_the_run_in_every_phase(phase: str) -> None:
    run = ready()
    if phase == "queued":
        run = RunUnderTest()
        run.begin()
        run.answer(TurnQueued(command=run.one(RecallMemory), behind="another"))
    elif phase == "reading":
        run.say(call("clock"))
    elif phase == "planning":
        run.say(call("renew"))
    elif phase == "asking":
        asked(run)
    assert kinds(run.cancel(role="memory" if phase == "deciding" else "client")) == ["StoreTurn"]
    assert run.end() == "cancelled"


def test_a_write_under_way_is_awaited_before_the_run_ends() -> None:
    run = ready(NO_ASKING)
    run.say(call("renew", "c1", months=1), call("clock", "c2"))
    run.plans()
    (write,) = [command for _, command in run.open(CallTool) if command.write_key]
    assert run.cancel() == []
    assert [command for _, command in run.open(CallTool)] == [write]  # the read is given up
    assert run.state.phase == "closing"
    assert kinds(run.returns(write)) == ["StoreTurn"]
    assert run.end() == "cancelled"


@pytest.mark.parametrize("how", ["in doubt", "gave up", "denied"])
def test_a_write_under_way_ends_a_cancelled_run_whatever_comes_of_it(how: str) -> None:
    run = ready(NO_ASKING)
    run.say(call("renew", months=1))
    (write,) = run.plans()
    assert isinstance(write, CallTool)
    run.cancel()
    if how == "in doubt":
        commands = run.answer(ToolInDoubt(command=write, failure=failure()))
    else:
        commands = run.fails(write) if how == "gave up" else run.denies(write)
    assert kinds(commands) == ["StoreTurn"]
    assert run.end() == "cancelled"


def test_a_granted_approval_after_the_cancel_does_nothing() -> None:
    run = ready()
    ask = asked(run)
    slot = run.id_of(ask)
    run.cancel()
    assert run.tell(ApprovalGranted(command=ask, by="ann", approval_hash=ask.approval_hash), slot) == []
    assert run.count(CallTool) == 0


def test_a_second_cancel_and_a_cancel_while_closing_change_nothing() -> None:
    run = ready()
    run.say(text="noon")
    before = run.state
    assert run.cancel() == []
    assert run.state == before


def test_a_cancel_before_the_request_does_not_begin_a_run() -> None:
    run = RunUnderTest()
    assert run.cancel() == []
    assert run.state.phase == "new"


# --- what services cannot do --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RecallMemory, SelectTools, RetrieveKnowledge])
def test_a_failed_beginning_fails_the_run(kind: type[AnyCommand]) -> None:
    run = RunUnderTest()
    run.begin()
    assert kinds(run.fails(run.one(kind))) == ["StoreTurn"]
    assert run.end() == "failed"


def test_a_failed_generation_fails_the_run_with_its_reason() -> None:
    run = ready()
    run.fails(run.one(Generate), "The model is gone.")
    assert run.end() == "failed"
    assert run.state.failure and run.state.failure.what == "The model is gone."


def test_a_failed_call_or_plan_is_told_to_the_model() -> None:
    run = ready()
    run.say(call("clock", "c1"), call("renew", "c2"))
    run.fails(run.one(CallTool))
    assert kinds(run.fails(run.one(PlanCall))) == ["Generate"]


def test_a_failed_request_for_approval_fails_the_run() -> None:
    run = ready()
    run.fails(asked(run))
    assert run.end() == "failed"


def test_a_failed_timer_is_survived() -> None:
    run = ready()
    assert run.fails(timer_of(run, "deadline")) == []
    assert kinds(run.say(text="noon")) == ["StoreTurn"]


def test_a_turn_that_cannot_be_stored_does_not_hang_the_run() -> None:
    run = ready()
    run.say(text="noon")
    assert kinds(run.fails(run.one(StoreTurn))) == ["EndRun"]
    assert run.end() == "completed"


# --- conversations ------------------------------------------------------------------------------------


def test_a_queued_run_recalls_again_when_it_is_released() -> None:
    run = RunUnderTest()
    run.begin()
    assert run.answer(TurnQueued(command=run.one(RecallMemory), behind="another")) == []
    assert run.state.outcome == "queued"
    assert kinds(run.release()) == ["RecallMemory"]
    assert kinds(run.gather()) == ["Generate"]


def test_a_release_that_overtakes_the_news_of_the_queue_is_not_lost() -> None:
    run = RunUnderTest()
    run.begin()
    assert run.release() == []
    assert kinds(run.answer(TurnQueued(command=run.one(RecallMemory), behind="another"))) == ["RecallMemory"]
    assert kinds(run.gather()) == ["Generate"]


def test_tools_found_while_queued_are_kept() -> None:
    run = RunUnderTest()
    run.begin()
    run.answer(TurnQueued(command=run.one(RecallMemory), behind="another"))
    run.gather_tools()
    run.answer(KnowledgeRetrieved(command=run.one(RetrieveKnowledge), passages=()))
    assert run.open(Generate) == []
    run.release()
    assert kinds(run.answer(MemoryRecalled(command=run.one(RecallMemory)))) == ["Generate"]


def test_a_refused_turn_fails_the_run_without_storing_one() -> None:
    run = RunUnderTest(spec(when_busy="refuse"))
    run.begin()
    assert kinds(run.answer(TurnRefused(command=run.one(RecallMemory), by="another"))) == ["EndRun"]
    assert run.end() == "failed"
    assert run.state.failure and run.state.failure.type == "ConversationBusy"


def test_the_agents_setting_for_busy_conversations_goes_to_memory() -> None:
    run = RunUnderTest(spec(when_busy="interrupt"))
    run.begin()
    assert run.one(RecallMemory).when_busy == "interrupt"


# --- what must change nothing -------------------------------------------------------------------------


def test_facts_after_the_end_change_nothing() -> None:
    run = ready()
    deadline = timer_of(run, "deadline")
    slot = run.id_of(deadline)
    run.say(text="noon")
    run.end()
    before = run.state
    assert run.cancel() == []
    assert run.tell(TimerFired(command=deadline, fired=NOW), slot) == []
    assert run.state == before


def test_an_answer_told_twice_counts_once() -> None:
    run = ready()
    (command,) = run.say(call("clock"))
    run.returns(command)
    before = run.state
    again, decisions = advance(before, run.log[-1].fact)
    assert (again, decisions) == (before, ())


@pytest.mark.parametrize("forged", ["other arguments", "other slot"])
def test_an_answer_to_another_command_than_the_slots_is_ignored(forged: str) -> None:
    run = ready()
    (command,) = run.say(call("clock", n=1))
    assert isinstance(command, CallTool)
    slot = run.id_of(command)
    other = command.model_copy(update={"call": call("clock", n=2)})
    event = ToolReturned(command=other if forged == "other arguments" else command, result=ToolResult(text="lie"))
    assert run.tell(event, slot if forged == "other arguments" else "d" * 32) == []
    assert run.open(CallTool) == [(slot, command)]


def test_an_end_that_nobody_decided_does_not_end_the_run() -> None:
    run = ready()
    before = run.state
    assert run.tell(ending(EndRun(outcome="completed"), "lie"), "end") == []
    assert run.state == before


def test_an_answer_of_the_wrong_kind_cannot_even_be_read() -> None:
    run = ready()
    generate = run.one(Generate)
    with pytest.raises(ValueError, match="command"):
        ToolReturned(command=generate, result=ToolResult(text="?"))
    raw = ToolReturned.model_construct(command=generate, result=ToolResult(text="?"))
    with pytest.raises(ProtocolError):
        fact_of(raw, run.id, run.id_of(generate), role="llm")


def test_a_fact_of_another_run_is_ignored() -> None:
    run, other = RunUnderTest(key="a"), RunUnderTest(key="b")
    other.begin()
    state, decisions = advance(run.state, other.log[0].fact)
    assert (state, decisions) == (run.state, ())


def test_equal_prefixes_give_equal_ids_and_another_cause_gives_another_id() -> None:
    first, second = ready(), ready()
    assert [each.id for each in first.decided] == [each.id for each in second.decided]
    assert len({each.id for each in first.decided}) == len(first.decided)
    generation = Generated(command=first.one(Generate), generation=Generation(text="noon"))
    assert {each.cause for each in first.decided} <= {stored.fact.id for stored in first.log}
    assert generation.command.prompt_hash == second.one(Generate).prompt_hash


@pytest.mark.parametrize("card", [RENEW, DESTROY])
def test_a_write_never_takes_the_way_of_a_read(card) -> None:
    run = ready(NO_ASKING, card)
    assert kinds(run.say(call(card.name))) == ["PlanCall", "JudgeCall"]


# --- what is recalled, retrieved and left to later turns ------------------------------------------------


def test_what_the_agent_wants_recalled_and_from_where_is_asked() -> None:
    wanted = {"similar": 2, "facts": 3, "summary": False}
    run = RunUnderTest(spec(recall=wanted, knowledge_host="own", filters={"language": "zh"}, collections=("faq",)))
    run.begin()
    recall, retrieve = run.one(RecallMemory), run.one(RetrieveKnowledge)
    assert (recall.similar, recall.facts, recall.summary) == (2, 3, False)
    assert (retrieve.collections, retrieve.host, retrieve.lane, retrieve.filters) == (
        ("faq",),
        "own",
        "own",
        {"language": "zh"},
    )


@pytest.mark.parametrize("decider", ["1", "2"])
def test_a_run_of_an_earlier_decider_asks_for_what_it_knew(decider: str) -> None:
    run = RunUnderTest(spec(recall={"similar": 2}, knowledge_host="own", filters={"language": "zh"}))
    fact = new_fact(
        run.request, run=run.id, tenant=run.tenant, slot=REQUEST_SLOT, source="/milepost/client/test", time=NOW, decider=decider
    )  # fmt: skip
    run.hear(fact)
    recall, retrieve = run.one(RecallMemory), run.one(RetrieveKnowledge)
    assert "similar" not in recall.model_dump(mode="json")
    assert (recall.facts, recall.summary, retrieve.host, retrieve.filters) == (0, False, "main", {})
    run.gather()
    run.say(call())
    run.returns(run.one(CallTool))
    run.say(text="It is noon.")
    assert run.one(StoreTurn).results_of == ()
    assert set(order_of_open(run, StoreTurn).material) == {"task", "answer"}


def order_of_open(run: RunUnderTest, kind: type[AnyCommand]) -> Order:
    (decision,) = [each for each in run.decided if isinstance(each.command, kind) and each.id in run.state.outstanding]
    return order_of(decision, run.state, source="/milepost/conductor/test", time=NOW)


def test_a_turn_keeps_what_its_tools_gave() -> None:
    run = ready(spec(approval="never"))
    (draw,) = run.say(call(id="c1", what="cat"))
    picture = Part(kind="image", ref="blob:1", media_type="image/png")
    sound = Part(kind="audio", text="meow", ref="blob:2", media_type="audio/wav")
    inline = Part(kind="image", ref=f"data:image/png;base64,{'A' * 100_000}")
    result = ToolResult(text="a cat", parts=(picture, inline, sound, Part(kind="text", text="a cat")))
    run.answer(ToolReturned(command=draw, result=result))
    (clock,) = run.say(call(id="c2"))
    run.returns(clock, "noon")
    (failing,) = run.say(call(id="c3", n=3))
    run.denies(failing)
    run.say(text="Here it is.")
    store = run.one(StoreTurn)
    told = [stored.fact.id for stored in run.log if isinstance(stored.fact.body, ToolReturned)]
    assert list(store.results_of) == told
    assert order_of_open(run, StoreTurn).material == {
        "task": run.request.task,
        "answer": "Here it is.",
        "results": [
            {"tool": "clock", "text": "a cat", "kind": "image", "ref": "blob:1", "media_type": "image/png"},
            {"tool": "clock", "text": "meow", "kind": "audio", "ref": "blob:2", "media_type": "audio/wav"},
            {"tool": "clock", "text": "noon", "kind": "text", "ref": None, "media_type": None},
        ],
    }
