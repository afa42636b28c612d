"""Writes under rules: what plan, verdict, person and budget together lead to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import policy
from runtime.orders import order_of
from schemas.agent import AgentSpec
from schemas.commands import (
    AnyCommand,
    CallTool,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RequestApproval,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Order, new_fact
from schemas.events import (
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    CallPlanned,
    EffectSettled,
    Generated,
    GrantKept,
    Parent,
    TimerFired,
    ToolInDoubt,
    ToolReturned,
)
from schemas.ids import REQUEST_SLOT, settled_slot
from schemas.messages import Generation, Usage
from schemas.policy import Rule, Verdict, When
from schemas.tools import Before, Cost, Preview, ToolResult, repeated_key, write_key
from tests.support.builders import (
    CLOCK,
    DESTROY,
    NOW,
    RENEW,
    TENANT,
    RunUnderTest,
    call,
    failure,
    planned,
    ready,
    spec,
)

ALLOW = Verdict(outcome="allow", rule="quiet", why="it is small")
ASK = Verdict(outcome="ask", rule="dear", why="it is dear")
DENY = Verdict(outcome="deny", rule="frozen", why="nothing changes in December")
DRY = Verdict(outcome="dry_run", rule="trial")
OWN = Verdict(outcome="allow", rule=policy.AGENT_APPROVAL)
BEFORE = Before(run="202610-x", conversation="talk", at="2026-10-01T08:00:00Z", text="Renewed until May.", times=2)


def kinds(commands: list[AnyCommand]) -> list[str]:
    return [command.kind for command in commands]


def writing(agent: AgentSpec | None = None, **arguments: object) -> RunUnderTest:
    """A run whose write is planned and judged at this moment."""
    run = ready(agent, task="renew it for 1 month")
    run.say(call("renew", **(arguments or {"months": 1})))
    return run


def asking(verdict: Verdict = ASK, agent: AgentSpec | None = None) -> tuple[RunUnderTest, RequestApproval]:
    run = writing(agent)
    run.plans(verdict=verdict)
    return run, run.one(RequestApproval)


def grants(run: RunUnderTest, ask: RequestApproval, by: str = "bob", **changes: object) -> list[AnyCommand]:
    said = {"command": ask, "by": by, "approval_hash": ask.approval_hash, **changes}
    return run.answer(ApprovalGranted.model_validate(said))


def told(run: RunUnderTest) -> str:
    return run.state.messages[-1].content


def order(run: RunUnderTest, kind: type[AnyCommand]) -> Order:
    (decision,) = [each for each in run.decided if isinstance(each.command, kind) and each.id in run.state.outstanding]
    return order_of(decision, run.state, source="/milepost/conductor/test", time=NOW)


# --- verdicts -----------------------------------------------------------------------------------------


def test_a_write_is_planned_and_judged_side_by_side() -> None:
    run = ready()
    plan, judge = run.say(call("destroy", id="c7", server="i-1"))
    assert isinstance(plan, PlanCall)
    assert isinstance(judge, JudgeCall)
    assert (judge.call, judge.effect, judge.tool_lane, judge.price) == (plan.call, "destructive", "cloud", None)
    assert judge.ungrounded == ("server",)


def test_what_is_allowed_is_committed_at_once() -> None:
    run = writing()
    (commit,) = run.plans(verdict=ALLOW)
    assert isinstance(commit, CallTool)
    assert commit.approval is None
    assert commit.write_key == planned(PlanCall(call=commit.call, card_hash=RENEW.hash(), host="cloud")).write_key


def test_what_is_denied_is_told_with_its_reason_and_not_asked_for_again() -> None:
    run = writing()
    assert kinds(run.plans(verdict=DENY)) == ["Generate"]
    assert told(run) == "The rules do not allow this: nothing changes in December; nothing was changed."
    assert kinds(run.say(call("renew", "c2", months=1))) == ["Generate"]
    assert "refused earlier" in told(run)
    assert (run.count(PlanCall), run.count(CallTool)) == (1, 0)


def test_what_may_only_be_tried_shows_its_plan_and_changes_nothing() -> None:
    run = writing()
    plan = run.one(PlanCall)
    preview = Preview(summary="one month more", rows=(("expires", "May -> June"),), price="12.50", currency="CNY")
    event = CallPlanned(command=plan, preview=preview, state="s", write_key="k")
    assert kinds(run.plans(event, DRY)) == ["Generate"]
    for word in ("only", "rule trial", "nothing was changed", "one month more", "expires: May -> June", "12.50 CNY"):
        assert word in told(run)
    assert run.count(CallTool) == 0
    assert kinds(run.say(call("renew", "c2", months=1))) == ["PlanCall", "JudgeCall"]  # it may be tried again


def test_what_is_asked_says_why_what_nobody_named_and_who_may_approve() -> None:
    verdict = ASK.model_copy(update={"approvers": ("ops-*",), "four_eyes": True, "expires_s": 90.0})
    run = writing(months=77)
    run.plans(verdict=verdict)
    ask = run.one(RequestApproval)
    assert (ask.why, ask.ungrounded, ask.approvers, ask.not_by) == ("it is dear", ("months",), ("ops-*",), "ann")
    assert ask.expires == NOW + timedelta(seconds=90)
    assert [timer.at for _, timer in run.open(StartTimer) if timer.purpose == "approval"] == [ask.expires]


def test_without_a_time_of_its_own_a_question_waits_as_long_as_the_agent_says() -> None:
    _, ask = asking(agent=spec(approval_s=77))
    assert ask.expires == NOW + timedelta(seconds=77)
    assert (ask.approvers, ask.not_by) == ((), None)


@pytest.mark.parametrize("verdict", [ALLOW, ASK, DENY, DRY])
def test_it_does_not_matter_which_of_plan_and_verdict_comes_first(verdict: Verdict) -> None:
    first, second = writing(), writing()
    plan, judge = first.one(PlanCall), first.one(JudgeCall)
    assert first.answer(planned(plan)) == []
    commands = first.answer(CallJudged(command=judge, verdict=verdict))
    assert second.answer(CallJudged(command=judge, verdict=verdict)) == []
    assert second.answer(planned(plan)) == commands
    assert [message.content for message in first.state.messages] == [message.content for message in second.state.messages]
    assert (first.state.refusals, first.state.inputs) == (second.state.refusals, second.state.inputs)


@given(st.permutations(range(6)), st.lists(st.sampled_from([ALLOW, ASK, DENY, DRY, OWN]), min_size=3, max_size=3))
def test_three_writes_at_once_come_to_the_same_in_any_order(order: list[int], verdicts: list[Verdict]) -> None:
    def play(sequence: list[int]) -> tuple[object, ...]:
        run = ready()
        run.say(*(call("renew", f"c{n}", months=n) for n in range(3)))
        plans, judges = [each for _, each in run.open(PlanCall)], [each for _, each in run.open(JudgeCall)]
        commands: list[AnyCommand] = []
        for number in sequence:
            if number < 3:
                commands += run.answer(planned(plans[number]))
            else:
                commands += run.answer(CallJudged(command=judges[number - 3], verdict=verdicts[number - 3]))
        done = {command.call.id for command in commands if isinstance(command, CallTool)}
        asked = {command.call.id for command in commands if isinstance(command, RequestApproval)}
        return done, asked, run.state.refusals, {id: each.content for id, each in run.state.observations.items()}

    assert play(list(order)) == play([0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("judged_first", [True, False])
@pytest.mark.parametrize("how", ["plan denied", "plan gave up", "judge gave up"])
def test_when_plan_or_verdict_fails_the_other_commits_nothing(how: str, judged_first: bool) -> None:
    run = writing()
    plan, judge = run.one(PlanCall), run.one(JudgeCall)
    slot = run.id_of(judge if "plan" in how else plan)
    other = CallJudged(command=judge, verdict=ALLOW) if "plan" in how else planned(plan)
    if judged_first:
        assert run.answer(other) == []
    commands = run.denies(plan) if how == "plan denied" else run.fails(plan if "plan" in how else judge)
    assert kinds(commands) == ["Generate"]
    if not judged_first:
        assert run.tell(other, slot) == []
    assert (run.open(PlanCall), run.open(JudgeCall), run.count(CallTool)) == ([], [], 0)
    assert kinds(run.say(call("renew", "c1", months=1))) == ["PlanCall", "JudgeCall"]  # the same id again
    assert kinds(run.plans(verdict=ALLOW)) == ["CallTool"]


# --- a price ------------------------------------------------------------------------------------------


def test_where_limits_of_money_apply_the_rules_are_asked_again_with_the_price() -> None:
    run = writing()
    plan = planned(run.one(PlanCall), price="120.00", currency="CNY")
    first = run.one(JudgeCall)
    (again,) = run.plans(plan, ASK.model_copy(update={"price_needed": True}))
    assert isinstance(again, JudgeCall)
    assert again == first.model_copy(update={"price": "120.00", "currency": "CNY"})
    assert kinds(run.judges(ALLOW)) == ["CallTool"]


def test_the_price_of_the_card_serves_where_the_plan_has_none_and_an_unknown_price_is_said_to_be_unknown() -> None:
    priced = RENEW.model_copy(update={"cost": Cost(amount=0.25, currency="USD")})
    for card, price, currency in ((priced, "0.25", "USD"), (RENEW, "", None)):
        run = ready(None, card)
        run.say(call("renew"))
        (again,) = run.plans(verdict=ALLOW.model_copy(update={"price_needed": True}))
        assert isinstance(again, JudgeCall)
        assert (again.price, again.currency) == (price, currency)


def test_the_rules_are_asked_for_a_price_once() -> None:
    run = writing()
    wanting = ALLOW.model_copy(update={"price_needed": True})
    run.plans(planned(run.one(PlanCall), price="1", currency="CNY"), wanting)
    assert kinds(run.judges(wanting)) == ["CallTool"]


def test_a_second_verdict_that_fails_commits_nothing() -> None:
    run = writing()
    run.plans(planned(run.one(PlanCall), price="1", currency="CNY"), ALLOW.model_copy(update={"price_needed": True}))
    assert kinds(run.fails(run.one(JudgeCall))) == ["Generate"]
    assert run.count(CallTool) == 0


def test_what_is_denied_needs_no_price() -> None:
    run = writing()
    assert kinds(run.plans(verdict=DENY.model_copy(update={"price_needed": True}))) == ["Generate"]


# --- done before --------------------------------------------------------------------------------------


@pytest.mark.parametrize("approval", ["writes", "never"])
def test_what_was_done_before_is_asked_even_if_a_rule_allows_it(approval: str) -> None:
    run = writing(spec(approval=approval))
    run.plans(planned(run.one(PlanCall), before=BEFORE), ALLOW)
    ask = run.one(RequestApproval)
    assert ask.before == BEFORE
    commit, *_ = grants(run, ask)
    assert isinstance(commit, CallTool)
    assert commit.write_key == repeated_key(write_key(TENANT, "renew", {"months": 1}, "until May"), 2)


def test_an_agent_that_asks_nobody_is_given_the_old_receipt() -> None:
    run = writing(spec(approval="never"))
    assert kinds(run.plans(planned(run.one(PlanCall), before=BEFORE), OWN)) == ["Generate"]
    assert told(run) == (
        "This was done before, at 2026-10-01T08:00:00Z in run 202610-x: Renewed until May. It was not done again."
    )
    assert run.count(CallTool) == 0


def test_a_run_of_an_earlier_decider_does_not_repeat_what_was_done_before() -> None:
    run = RunUnderTest(spec(approval="never"))
    run.hear(new_fact(
        run.request, run=run.id, tenant=run.tenant, slot=REQUEST_SLOT, source="/milepost/client/test", time=NOW, decider="3"
    ))  # fmt: skip
    run.gather()
    assert kinds(run.say(call("renew", months=1))) == ["PlanCall"]
    assert kinds(run.plans(planned(run.one(PlanCall), before=BEFORE))) == ["Generate"]
    assert kinds(run.say(call("renew", "c2", months=2))) == ["PlanCall"]
    assert kinds(run.plans()) == ["CallTool"]


# --- persons ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "changes", "commits"),
    [("ops-eve", {}, True), ("eve", {}, False), ("ann", {}, False), ("ops-ann", {"approval_hash": "0" * 32}, False)],
)
def test_only_the_right_person_and_the_right_hash_commit(by: str, changes: dict[str, object], commits: bool) -> None:
    run, ask = asking(ASK.model_copy(update={"approvers": ("ops-*", "ann"), "four_eyes": True}))
    slot = run.id_of(ask)
    commands = grants(run, ask, by, **changes)
    if commits:
        assert kinds(commands) == ["CallTool"]
        return
    assert commands == [ask]  # asked again, in another place of the log, until the same moment
    assert run.count(CallTool) == 0
    (again, _), *_ = run.open(RequestApproval)
    assert again != slot
    assert kinds(grants(run, ask, "ops-eve")) == ["CallTool"]


def test_a_question_asked_again_expires_with_the_first_ones_timer() -> None:
    run, ask = asking(ASK.model_copy(update={"approvers": ("ops",)}))
    run.later(10)
    grants(run, ask, "eve")
    assert [timer.at for _, timer in run.open(StartTimer) if timer.purpose == "approval"] == [ask.expires]
    (timer,) = [timer for _, timer in run.open(StartTimer) if timer.purpose == "approval"]
    run.now = ask.expires
    assert "Generate" in kinds(run.answer(TimerFired(command=timer, fired=run.now)))
    assert run.open(RequestApproval) == []
    assert "in time" in told(run)
    assert run.state.waited == timedelta(seconds=3600)


def test_a_late_approval_is_refused_whoever_gives_it() -> None:
    run, ask = asking()
    run.now = ask.expires
    assert "Generate" in kinds(grants(run, ask))
    assert kinds(run.say(call("renew", "c2", months=1))) == ["Generate"]
    assert run.count(CallTool) == 0


@pytest.mark.parametrize("scope", ["conversation", "always"])
def test_an_approval_for_longer_is_kept_beside_the_commit(scope: str) -> None:
    run, ask = asking()
    commit, keep, *_ = grants(run, ask, scope=scope)
    assert isinstance(commit, CallTool)
    assert isinstance(keep, KeepGrant)
    assert (keep.call, keep.scope, keep.by, keep.approval) == (ask.call, scope, "bob", commit.approval)
    material = order(run, KeepGrant).material
    assert (material["user"], material["conversation"], material["agent"]["name"]) == ("ann", "talk", "assistant")  # type: ignore[index]
    assert run.answer(GrantKept(command=keep, grant="g")) == []
    assert kinds(run.returns(commit)) == ["Generate"]


@pytest.mark.parametrize("how", ["open", "answered while closing", "failed"])
def test_a_grant_that_is_not_kept_yet_holds_up_nothing(how: str) -> None:
    run, ask = asking()
    commit, keep, *_ = grants(run, ask, scope="always")
    assert isinstance(commit, CallTool)
    if how == "failed":
        assert run.fails(keep) == []
    run.returns(commit)
    assert kinds(run.say(text="done")) == ["StoreTurn"]
    if how == "answered while closing":
        assert run.answer(GrantKept(command=keep, grant="g")) == []
    assert run.count(StoreTurn) == 1
    assert run.end() == "completed"


def test_a_wrong_approver_keeps_no_grant() -> None:
    run, ask = asking(ASK.model_copy(update={"approvers": ("ops",)}))
    grants(run, ask, "eve", scope="always")
    assert run.count(KeepGrant) == 0


def test_what_a_person_approved_or_wrote_names_the_arguments_of_the_next_call() -> None:
    run = writing(months=1)
    summary = "7 months for i-777"
    run.plans(planned(run.one(PlanCall), summary=summary), ASK)
    commit, *_ = grants(run, run.one(RequestApproval))
    assert isinstance(commit, CallTool)
    run.returns(commit, "ok")
    run.say(call("renew", "c2", server="i-777", months=7))
    assert run.one(JudgeCall).ungrounded == ()
    run.plans(verdict=ASK)
    run.answer(ApprovalRefused(command=run.one(RequestApproval), by="bob", reason="take i-888"))
    run.say(call("renew", "c3", server="i-888", months=9))
    assert run.one(JudgeCall).ungrounded == ("months",)


# --- budgets ------------------------------------------------------------------------------------------


def test_writes_beyond_the_budget_are_not_even_planned() -> None:
    run = writing(spec(writes=1))
    (commit,) = run.plans(verdict=ALLOW)
    assert isinstance(commit, CallTool)
    run.returns(commit)
    assert kinds(run.say(call("renew", "c2", months=2))) == ["Generate"]
    assert "budget" in told(run)
    assert kinds(run.say(call("clock", "c3"))) == ["CallTool"]


def test_of_two_writes_at_once_the_budget_lets_one_through_and_a_failed_one_costs_nothing() -> None:
    run = ready(spec(writes=1))
    run.say(call("renew", "c1", months=1), call("renew", "c2", months=2))
    first, second = [plan for _, plan in run.open(PlanCall)]
    (commit,) = run.plans(planned(first), ALLOW)
    assert run.plans(planned(second), ALLOW) == []
    assert isinstance(commit, CallTool)
    assert kinds(run.denies(commit)) == ["Generate"]
    assert "budget" in told(run)
    run.say(call("renew", "c3", months=2))
    assert kinds(run.plans(verdict=ALLOW)) == ["CallTool"]


def test_an_approval_is_no_budget() -> None:
    run = ready(spec(writes=1))
    run.say(call("renew", "c1", months=1), call("renew", "c2", months=2))
    for _, plan in run.open(PlanCall):
        run.plans(planned(plan), ASK)
    first, second = [ask for _, ask in run.open(RequestApproval)]
    assert kinds(grants(run, first)) == ["CallTool"]
    assert "CallTool" not in kinds(grants(run, second))


@pytest.mark.parametrize(
    ("price", "currency", "commits"),
    [("60", "CNY", True), ("60.01", "CNY", False), ("500", "USD", True), ("about 5", "CNY", False), ("NaN", "CNY", False),
     ("5", None, False), ("-5", "CNY", False), (None, None, True)],
)  # fmt: skip
def test_money_is_spent_by_currency(price: str | None, currency: str | None, commits: bool) -> None:
    run = writing(spec(money={"CNY": 100.0}))
    (commit,) = run.plans(planned(run.one(PlanCall), price="40", currency="CNY"), ALLOW)
    assert isinstance(commit, CallTool)
    run.returns(commit)
    run.say(call("renew", "c2", months=2))
    commands = run.plans(planned(run.one(PlanCall), price=price, currency=currency), ALLOW)
    assert kinds(commands) == (["CallTool"] if commits else ["Generate"])


def test_a_write_of_unknown_outcome_has_spent_its_price() -> None:
    run = writing(spec(money={"CNY": 50.0}))
    (commit,) = run.plans(planned(run.one(PlanCall), price="40", currency="CNY"), ALLOW)
    assert isinstance(commit, CallTool)
    run.answer(ToolInDoubt(command=commit, failure=failure()))
    run.say(call("renew", "c2", months=2))
    assert kinds(run.plans(planned(run.one(PlanCall), price="11", currency="CNY"), ALLOW)) == ["Generate"]


def test_tokens_beyond_the_budget_fail_the_run_but_an_answer_counts() -> None:
    def says(run: RunUnderTest, generation: Generation) -> list[AnyCommand]:
        return run.answer(Generated(command=run.one(Generate), generation=generation))

    usage = Usage(prompt_tokens=90, completion_tokens=10)
    run = ready(spec(tokens=100))
    (read,) = says(run, Generation(text="", calls=(call("clock"),), usage=usage))
    assert isinstance(read, CallTool)
    assert kinds(run.returns(read)) == ["StoreTurn"]
    assert run.end() == "failed"
    assert run.state.failure
    assert (run.state.failure.type, "100 tokens" in run.state.failure.what) == ("BudgetExceeded", True)
    run = ready(spec(tokens=100))
    assert kinds(says(run, Generation(text="noon", calls=(), usage=usage))) == ["StoreTurn"]
    assert run.end() == "completed"


# --- settled later ------------------------------------------------------------------------------------


@pytest.mark.parametrize("happened", [True, False])
def test_what_was_in_doubt_and_is_known_now_is_told_when_it_is_asked_for_again(happened: bool) -> None:
    run = writing()
    (commit,) = run.plans(verdict=ALLOW)
    assert isinstance(commit, CallTool)
    id = run.id_of(commit)
    run.answer(ToolInDoubt(command=commit, failure=failure()))
    before = run.state
    settled = EffectSettled(
        call=id, write_key=commit.write_key or "", happened=happened, by="tools",
        result=ToolResult(text="Renewed until June.") if happened else None,
    )  # fmt: skip
    assert run.tell(settled, settled_slot(id)) == []
    assert (run.state.outstanding, run.state.messages) == (before.outstanding, before.messages)
    assert kinds(run.say(call("renew", "c2", months=1))) == ["Generate"]
    assert told(run) == (
        "It happened, as was found out later. Renewed until June." if happened
        else "It did not happen after all; nothing was changed."
    )  # fmt: skip
    assert run.count(CallTool) == 1


def test_an_effect_that_is_settled_answers_no_command_and_means_nothing_after_the_end() -> None:
    run = writing()
    (commit,) = run.plans(verdict=ALLOW)
    assert isinstance(commit, CallTool)
    settled = EffectSettled(call=run.id_of(commit), write_key="", happened=True, by="tools")
    slot = settled_slot(settled.call)
    assert run.tell(settled, slot) == []
    assert run.open(CallTool)  # the answer is still to come
    run.returns(commit)
    run.say(text="done")
    run.end()
    before = run.state
    assert run.tell(settled, slot) == []
    assert run.state == before


# --- orders -------------------------------------------------------------------------------------------


def test_the_orders_of_a_write_say_who_asks_and_what_the_agent_rules() -> None:
    rule = Rule(name="nights", when=When.model_validate({"hours": {"from": "22:00", "to": "06:00"}}), then="deny")
    run = RunUnderTest(spec(name="ops", approval="destructive", policy=[rule]))
    parent = Parent(run="202611-" + "a" * 32, command="c" * 32, root="202611-" + "b" * 32, depth=2)
    run.request = run.request.model_copy(update={"parent": parent})
    run.begin()
    run.gather()
    run.say(call("renew", months=1))
    assert run.state.request and run.state.request.parent == parent
    judged, plan = order(run, JudgeCall).material, order(run, PlanCall).material
    assert judged["parent"] == parent.model_dump(mode="json")
    assert judged["agent"]["approval"] == "destructive"  # type: ignore[index]
    assert [Rule.model_validate(each) for each in judged["agent"]["policy"]] == [rule]  # type: ignore[index]
    assert plan == {"user": "ann", "conversation": "talk", "agent": "ops"}
    (commit,) = run.plans(verdict=ALLOW)
    assert isinstance(commit, CallTool)
    assert order(run, CallTool).material == {"user": "ann", "conversation": "talk", "agent": "ops", "state": "until May"}


def test_a_result_does_not_name_what_its_own_call_had_made_up() -> None:
    run = ready(None, CLOCK, RENEW, DESTROY)
    (read,) = run.say(call("clock", "c1", server="i-fake"))
    assert isinstance(read, CallTool)
    run.answer(ToolReturned(command=read, result=ToolResult(text="i-fake stands beside i-real")))
    run.say(call("renew", "c2", server="i-real"), call("renew", "c3", server="i-fake"))
    assert [judge.ungrounded for _, judge in run.open(JudgeCall)] == [(), ("server",)]
