"""Every event in one line: what a person reads of writes under rules, of questions, and of runs that began others."""

from __future__ import annotations

import pytest

from infra.cli.view import JsonView
from runtime.client import Update
from runtime.timeline import WIDTH, summary
from schemas.commands import AskPerson, CallTool, JudgeCall, KeepGrant, PlanCall, RequestApproval
from schemas.events import (
    EVENTS,
    AnyEvent,
    ApprovalGranted,
    CallJudged,
    EffectSettled,
    GrantKept,
    Parent,
    PersonAnswered,
    ToolAsked,
)
from schemas.ids import settled_slot
from schemas.policy import Verdict
from schemas.tools import Before, Question, ToolResult
from tests.support.builders import NOW, RENEW, call, fact_of, planned, ready, requested, run_of

CALL = call("renew", months=3)
PLAN = PlanCall(call=CALL, card_hash=RENEW.hash(), host="cloud")
JUDGE = JudgeCall(call=CALL, effect="write", tool_lane="cloud", ungrounded=("months",))
WRITE = CallTool(call=CALL, card_hash=RENEW.hash(), host="cloud", write_key="k" * 32, plan="p" * 32)
BEFORE = Before(run=run_of("old"), conversation="c", at="2026-11-20", text="done")
QUESTION = Question(id="q", text="Which\nshop?")
ASK = AskPerson(call=CALL, asked="e" * 32, question=QUESTION, expires=NOW)
APPROVE = RequestApproval(call=CALL, plan="p" * 32, approval_hash="h" * 32, expires=NOW)
TALK = KeepGrant(call=CALL, scope="conversation", approval="a" * 32, by="ann")


def judged(**verdict: object) -> CallJudged:
    return CallJudged(command=JUDGE, verdict=Verdict.model_validate(verdict))


LINES: list[tuple[AnyEvent, str]] = [
    (planned(PLAN, before=BEFORE), f"done before (2026-11-20, run {BEFORE.run}), plan: one month more"),
    (judged(outcome="ask", rule="dear", why="above 500"), "ask (dear): above 500; nobody named months"),
    (judged(outcome="deny", why="months: nobody named months"), "deny: months: nobody named months"),
    (judged(outcome="ask", four_eyes=True, price_needed=True), "ask, by another person, its price first; nobody named months"),
    (GrantKept(command=TALK, grant="g"), "kept: ann approves for this conversation renew"),
    (
        GrantKept(command=TALK.model_copy(update={"scope": "always"}), grant="g"),
        "kept: ann approves always renew(months=3)",
    ),
    (
        ApprovalGranted(command=APPROVE, by="ann", approval_hash="h" * 32, scope="always"),
        "ann approves always renew(months=3)",
    ),
    (ApprovalGranted(command=APPROVE, by="ann", approval_hash="h" * 32), "ann approves renew(months=3)"),
    (ToolAsked(command=WRITE, question=QUESTION), "renew asks: Which shop?"),
    (PersonAnswered(command=ASK, by="ann", accepted=True, content={"shop": "north"}), "ann answers: shop=north"),
    (PersonAnswered(command=ASK, by="ann", accepted=False), "ann declines to answer"),
]


@pytest.mark.parametrize(("event", "line"), LINES)
def test_what_happened_is_told_in_one_line(event: AnyEvent, line: str) -> None:
    told = summary(fact_of(event, run_of(), "c" * 32))
    assert told == (line if len(line) <= WIDTH else line[: WIDTH - 1] + "…")


def test_what_was_in_doubt_and_who_began_a_run_are_told() -> None:
    settled = EffectSettled(
        call="c" * 32, write_key="k" * 32, happened=True, by="reconciler", result=ToolResult(text="renewed until May")
    )
    slot = settled_slot("c" * 32)
    assert summary(fact_of(settled, run_of(), slot)) == "it happened after all, says reconciler: renewed until May"
    no = settled.model_copy(update={"happened": False, "by": "ann", "note": "looked it up"})
    assert summary(fact_of(no, run_of(), slot)) == "it did not happen, says ann: looked it up"
    parent = Parent(run=run_of("parent"), command="c" * 32, root=run_of("root"), depth=2)
    child = requested().model_copy(update={"parent": parent})
    assert f"(called by run {parent.run})" in summary(fact_of(child, run_of(), "request", role="client"))


def test_no_event_is_told_by_its_name_alone() -> None:
    told = {type(event) for event, _ in LINES} | {EffectSettled}
    assert {CallJudged, GrantKept, ToolAsked, PersonAnswered, EffectSettled} <= told <= set(EVENTS)


def test_approvals_and_questions_are_events_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    run = ready(None, RENEW)
    run.say(call("renew", months=7))
    run.plans()
    ((id, asked),) = run.open(RequestApproval)
    view = JsonView(events=True)
    view.fact(Update(run.log[-1], run.state))
    view.card(id, asked, run.state.open_calls[asked.call.id])
    view.question(id, ASK)
    event, approval, question = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert list(event) == ["event"] and list(question) == ["question"]
    told = approval["approval"]
    assert (told["id"], told["effect"], told["state"], told["doubts"]) == (id, "write", "waiting", ["ungrounded"])
    assert told["preview"]["summary"] == "one month more"
