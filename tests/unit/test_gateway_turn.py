"""A run's facts folded into a turn as a page shows it."""

from __future__ import annotations

import pytest

from schemas.commands import AskPerson, CallTool, Generate, JudgeCall, PlanCall, RequestApproval, StartTimer
from schemas.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    EffectSettled,
    Generated,
    PersonAnswered,
    TimerFired,
    ToolAsked,
    ToolInDoubt,
    ToolReturned,
)
from schemas.ids import settled_slot
from schemas.messages import Generation, Usage
from schemas.policy import Verdict
from schemas.tools import Before, Part, Question, ToolResult
from services.gateway.principal import DoorRole, Principal
from services.gateway.runs.turn import RESULT_CHARACTERS, Call, Text, Turn, turn_of
from tests.support.builders import RunUnderTest, call, failure, passage, planned, ready

REF = "payload:" + "a" * 64
BEFORE = Before(run="r", conversation="talk", at="2026-11-01", text="done")


def who(*roles: DoorRole, user: str = "zoe") -> Principal:
    return Principal("acme", user, roles)


def shown(run: RunUnderTest, by: Principal | None = None) -> Turn:
    turn = turn_of(run.id, run.log, by or who("admin"))
    assert turn is not None
    return turn


def calls(run: RunUnderTest) -> list[Call]:
    return [item for item in shown(run).items if isinstance(item, Call)]


def writing(months: int = 1) -> RunUnderTest:
    run = ready(task="renew it for 1 month")
    run.say(call("renew", months=months))
    return run


def asking(**verdict: object) -> tuple[RunUnderTest, RequestApproval]:
    run = writing()
    run.plans(verdict=Verdict.model_validate({"outcome": "ask", "rule": "dear", "why": "it is dear", **verdict}))
    return run, run.one(RequestApproval)


def grant(asked: RequestApproval, by: str = "zoe") -> ApprovalGranted:
    return ApprovalGranted(command=asked, by=by, approval_hash=asked.approval_hash, scope="conversation")


def test_nothing_is_shown_before_the_request_is_known() -> None:
    assert turn_of(RunUnderTest().id, [], who("admin")) is None


def test_an_answer_is_told_with_its_text_its_tokens_and_what_it_was_taken_from() -> None:
    run = ready(passages=(passage("Renewed by the month."),))
    step = run.id_of(run.one(Generate))
    assert shown(run).speaking == (step,)
    run.later(2)
    usage = Usage(prompt_tokens=30, completion_tokens=7)
    run.answer(Generated(command=run.one(Generate), generation=Generation(text="By the month.", model="m", usage=usage)))
    run.end()
    turn = shown(run)
    assert (turn.status, turn.answer, turn.model, turn.read, turn.written) == ("completed", "By the month.", "m", 30, 7)
    assert [(each.step, each.text) for each in turn.items if isinstance(each, Text)] == [(step, "By the month.")]
    assert [(each.title, each.heading, each.text) for each in turn.citations] == [("Guide", "Renewal", "Renewed by the month.")]
    assert turn.speaking == () and turn.ended is not None and (turn.ended - turn.began).total_seconds() == 2


def test_a_reply_that_is_no_answer_leaves_no_text() -> None:
    run = ready()
    run.answer(Generated(command=run.one(Generate), generation=Generation(text="{bro", malformed="it breaks off")))
    (item,) = shown(run).items
    assert isinstance(item, Text) and (item.text, item.malformed) == ("", "it breaks off")


def test_a_read_goes_from_running_to_done_with_its_result_and_its_parts() -> None:
    run = ready()
    run.say(call("clock", zone="UTC"), text="Let me look.")
    (before,) = calls(run)
    assert (before.tool, before.effect, before.state, before.arguments) == ("clock", "read", "running", {"zone": "UTC"})
    run.later(1)
    parts = (
        Part(kind="text", text="noon"), Part(kind="json", json_value={"hour": 12}),
        Part(kind="image", ref=REF, media_type="image/png", name="clock.png", size=9),
    )  # fmt: skip
    text = "n" * (RESULT_CHARACTERS + 1)
    run.answer(ToolReturned(command=run.one(CallTool), result=ToolResult(text=text, parts=parts)))
    (after,) = calls(run)
    assert (after.state, after.cut, len(after.result)) == ("done", True, RESULT_CHARACTERS)
    assert after.ended is not None and (after.ended - after.began).total_seconds() == 1
    assert [(each.kind, each.content, each.url) for each in after.pieces] == [
        ("json", {"hour": 12}, ""), ("image", None, f"/api/runs/{run.id}/payloads/{'a' * 64}"),
    ]  # fmt: skip
    assert [type(item) for item in shown(run).items][:2] == [Text, Call], "what was said stands before what was called"


def test_a_call_of_a_tool_that_is_none_is_not_done_and_a_failed_one_says_why() -> None:
    run = ready()
    run.say(call("nothing", "c1"), call("clock", "c2"))
    run.denies(run.one(CallTool), "The clock is broken.")
    first, second = calls(run)
    assert (first.state, "There is no tool" in first.result) == ("not_done", True)
    assert second.state == "failed" and second.failure is not None and second.failure.what == "The clock is broken."


def test_a_write_is_checked_then_waits_then_runs() -> None:
    run = writing()
    assert [each.state for each in calls(run)] == ["checking"]
    run.plans(verdict=Verdict(outcome="ask", why="it is dear"))
    assert [each.state for each in calls(run)] == ["waiting"] and shown(run).status == "waiting"
    run.answer(grant(run.one(RequestApproval)))
    assert [each.state for each in calls(run)] == ["running"]
    run.returns(run.one(CallTool), "renewed")
    assert [(each.state, each.result) for each in calls(run)] == [("done", "renewed")]
    (told,) = shown(run).approvals
    assert (told.state, told.by, told.scope, told.may) == ("approved", "zoe", "conversation", False)


def test_an_approval_says_what_would_happen_and_who_may_answer() -> None:
    run, asked = asking(approvers=("ops-*",), four_eyes=True)
    (told,) = shown(run, who("approver", user="ops-1")).approvals
    assert (told.id, told.tool, told.why, told.effect, told.user) == (run.id_of(asked), "renew", "it is dear", "write", "ann")
    assert told.preview is not None and told.preview.summary == "one month more"
    assert (told.scopes, told.not_by, told.asked, told.may) == (("once",), "ann", run.now, True)
    for other in (who("approver"), who("operator", user="ops-1"), who("admin", user="ann")):
        assert not shown(run, other).approvals[0].may, other


@pytest.mark.parametrize(("months", "before", "doubts"), [
    (1, None, ()), (7, None, ("ungrounded",)), (1, BEFORE, ("repeated",)), (7, BEFORE, ("ungrounded", "repeated")),
])  # fmt: skip
def test_a_repeat_and_a_value_that_nobody_named_are_doubts_and_allow_it_once(
    months: int, before: Before | None, doubts: tuple[str, ...]
) -> None:  # fmt: skip
    run = writing(months)
    run.plans(planned(run.one(PlanCall), before=before), Verdict(outcome="ask"))
    (told,) = shown(run).approvals
    assert (told.doubts, told.scopes) == (doubts, ("once",) if doubts else ("once", "conversation", "always"))
    assert told.ungrounded == (("months",) if months == 7 else ())


def test_what_was_refused_is_not_done_and_says_by_whom() -> None:
    run, asked = asking()
    run.answer(ApprovalRefused(command=asked, by="zoe", reason="not now"))
    (told,) = shown(run).approvals
    assert (told.state, told.by, told.reason, told.at) == ("refused", "zoe", "not now", run.now)
    assert [each.state for each in calls(run)] == ["not_done"]


def test_nobody_answered_in_time_or_the_run_was_stopped() -> None:
    run, _ = asking()
    run.answer(TimerFired(command=next(each for _, each in run.open(StartTimer) if each.about), fired=run.now))
    assert [each.state for each in shown(run).approvals] == ["expired"]
    other, _ = asking()
    other.cancel()
    other.end()
    assert ([each.state for each in shown(other).approvals], shown(other).status) == (["withdrawn"], "cancelled")
    assert [each.state for each in calls(other)] == ["stopped"]


def test_a_write_in_doubt_is_told_so_until_it_is_known() -> None:
    run = writing()
    run.plans(verdict=Verdict(outcome="allow"))
    command = run.one(CallTool)
    slot = run.id_of(command)
    run.answer(ToolInDoubt(command=command, failure=failure("The line broke.")))
    assert [each.state for each in calls(run)] == ["in_doubt"]
    settled: AnyEvent = EffectSettled(call=slot, write_key="k", happened=True, by="ann", note="I looked.")
    run.tell(settled, settled_slot(slot), role="tools")
    assert [(each.state, each.result) for each in calls(run)] == [("done", "I looked.")]


def test_a_tools_question_waits_and_is_answered_by_who_asked_but_secrets_are_not() -> None:
    run = ready()
    run.say(call("clock"))
    fields = {"type": "object", "properties": {"zone": {"type": "string"}}}
    run.answer(ToolAsked(command=run.one(CallTool), question=Question(id="q", text="Where?", fields=fields)))
    mine, others = who("operator", user="ann"), who("operator")
    assert [(each.text, each.may) for each in shown(run, mine).questions] == [("Where?", True)]
    assert not shown(run, others).questions[0].may and shown(run, who("approver")).questions[0].may
    run.answer(PersonAnswered(command=run.one(AskPerson), by="ann", accepted=True, content={"zone": "UTC"}))
    (told,) = shown(run).questions
    assert (told.state, told.by, told.content) == ("answered", "ann", {"zone": "UTC"})
    secret = {"type": "object", "properties": {"key": {"type": "string", "format": "password"}}}
    run.answer(ToolAsked(command=run.one(CallTool), question=Question(id="p", text="Key?", fields=secret)))
    told = shown(run, mine).questions[-1]
    assert (told.secret, told.may) == ("key", False)


@pytest.mark.parametrize("order", [(PlanCall, JudgeCall), (JudgeCall, PlanCall)])
def test_what_a_rule_forbids_is_not_done_whichever_answer_comes_first(order: tuple[type, type]) -> None:
    run = writing()
    for kind in order:
        if kind is PlanCall:
            run.answer(planned(run.one(PlanCall)))
        else:
            run.judges(Verdict(outcome="deny", rule="frozen", why="nothing changes in December"))
    (told,) = calls(run)
    assert told.state == "not_done" and "nothing changes in December" in told.result
