"""What became of a call that was let through, as its run tells."""

from __future__ import annotations

import pytest

from runtime.memory_broker import MemoryBroker
from schemas.commands import CallTool, EndRun, JudgeCall, PlanCall, RequestApproval
from schemas.envelope import Envelope, Fact
from schemas.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    EffectSettled,
    RunCompleted,
    StepFailed,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
)
from schemas.ids import END_SLOT, settled_slot
from schemas.policy import Outcome, Verdict
from schemas.sealing import Sealed
from schemas.tools import ToolResult
from services.policy.ports import Held
from services.policy.settling import became, what_became
from tests.support.builders import NOW, call, fact_of, failure, planned, run_of

CALL = call("renew", "c1", months=1)
PLAN = PlanCall(call=CALL, card_hash="h", host="cloud")
ASK = RequestApproval(call=CALL, plan="p", approval_hash="h", expires=NOW)
COMMIT = CallTool(call=CALL, card_hash="h", host="cloud", plan="p", write_key="k")
HELD = Held("judge", str(run_of()), "c1")


def fact(event: AnyEvent, slot: str) -> Fact:
    return fact_of(event, run_of(), slot)


def judged(outcome: Outcome = "allow", slot: str = "judge") -> Fact:
    command = JudgeCall(call=CALL, effect="write", tool_lane="cloud")
    return fact(CallJudged(command=command, verdict=Verdict(outcome=outcome)), slot)


PLANNED = fact(planned(PLAN), "plan")
RETURNED = fact(ToolReturned(command=COMMIT, result=ToolResult(text="done")), "commit")
REPEATED = fact(ToolReturned(command=COMMIT, result=ToolResult(text="done"), repeated=True), "commit")
FAILED = fact(ToolFailed(command=COMMIT, failure=failure()), "commit")
UNPLANNED = fact(ToolFailed(command=PLAN, failure=failure()), "plan")
GRANTED = fact(ApprovalGranted(command=ASK, by="ann", approval_hash="h"), "ask")
REFUSED = fact(ApprovalRefused(command=ASK, by="ann"), "ask")
DOUBT = fact(ToolInDoubt(command=COMMIT, failure=failure()), "commit")
GIVEN_UP = fact(StepFailed(command=COMMIT, failure=failure()), "commit")
ENDED = fact(RunCompleted(command=EndRun(outcome="completed"), answer="done"), END_SLOT)


def settled(happened: bool) -> Fact:
    event = EffectSettled(call="commit", write_key="k", happened=happened, by="tools")
    return fact(event, settled_slot("commit"))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([judged(), PLANNED], "open"), ([PLANNED, judged("ask")], "open"), ([judged("ask"), PLANNED, GRANTED], "open"),
        ([judged(), PLANNED, RETURNED], "used"), ([judged("ask"), PLANNED, GRANTED, RETURNED, ENDED], "used"),
        ([judged(), PLANNED, REPEATED], "unused"), ([judged(), PLANNED, FAILED], "unused"), ([judged(), UNPLANNED], "unused"),
        ([judged("ask"), PLANNED, REFUSED], "unused"), ([judged("ask"), PLANNED, ENDED], "unused"),
        ([judged(), PLANNED, ENDED], "unused"), ([UNPLANNED, judged(), ENDED], "unused"),
        ([judged(), PLANNED, DOUBT], "open"), ([judged(), PLANNED, DOUBT, ENDED], "open"),
        ([judged(), PLANNED, GIVEN_UP, ENDED], "open"), ([judged(), PLANNED, DOUBT, ENDED, settled(True)], "used"),
        ([judged(), PLANNED, DOUBT, ENDED, settled(False)], "unused"), ([], "open"), ([PLANNED, RETURNED, ENDED], "open"),
    ],
)  # fmt: skip
def test_a_call_is_used_when_it_may_have_happened(facts: list[Fact], expected: str) -> None:
    assert became(facts, HELD) == expected


def test_of_two_calls_with_one_id_each_has_its_own_end() -> None:
    facts = [judged("ask"), PLANNED, REFUSED, judged(slot="again"), RETURNED, ENDED]
    assert became(facts, HELD) == "unused"
    assert became(facts, Held("again", HELD.run, "c1")) == "used"


def test_what_cannot_be_read_any_more_stays() -> None:
    gone: Fact = Envelope(RETURNED.header, Sealed(nonce="", ciphertext=""))
    assert became([judged(), gone, ENDED], HELD) == "open"


async def test_a_run_that_is_not_to_be_read_is_neither() -> None:
    broker = MemoryBroker()
    for each in (judged(), RETURNED):
        await broker.append(each)
    odd = Held("judge", "no run", "c1")
    assert await what_became([HELD, odd], broker) == (["judge"], [])
