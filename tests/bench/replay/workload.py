"""Recorded runs as they are at an operator's: a request with memory, tools and passages, a look, a write, an approval.

Everything a run holds is of the size that real ones have: cards with schemas, results of some kilobytes of JSON.
"""

from __future__ import annotations

import json

from schemas.agent import AgentSpec, Budget
from schemas.commands import AskPerson, CallTool, PlanCall, RecallMemory, RequestApproval
from schemas.events import ApprovalGranted, CallPlanned, MemoryRecalled, Passage, PersonAnswered, ToolAsked, Turn, UserFact
from schemas.policy import Verdict
from schemas.tools import Preview, Question, ToolCall, ToolCard, write_key
from tests.support.builders import NOW, TENANT, RunUnderTest

QUESTION = Question(id="zone", text="In which zone?")
ASKS = Verdict(outcome="ask", rule="renewals", why="renewals of production servers are approved by operations")
INSTRUCTIONS = (
    "You operate the servers of a small company. Look before you change anything. Never invent an identifier: ask, or look it "
    "up. A renewal is paid at once and cannot be taken back, so say what it costs. Answer in the language of the user, in one "
    "or two sentences, and name the identifiers of what you changed."
)
TASK = "The web shop must not go down in December. Look up when its servers expire and renew {instance} for {months} months."
FIELDS = ("RegionId", "InstanceId", "PeriodUnit", "ClientToken", "Tags", "VpcId", "ImageId", "InstanceType")


def card(name: str, about: str, effect: str = "read") -> ToolCard:
    """A card with a schema of ten described properties, as the importer makes of an API."""
    properties: dict[str, object] = {
        field: {"type": "string", "description": f"{field} of the servers that are meant, as DescribeInstances gives it."}
        for field in FIELDS
    }
    properties["Period"] = {"type": "integer", "minimum": 1, "maximum": 60, "description": "How long, in PeriodUnit."}
    return ToolCard.model_validate({
        "name": name, "description": f"{about} Results come page by page; at most 100 entries stand on a page.",
        "parameters": {"type": "object", "properties": properties, "required": ["InstanceId"]}, "effect": effect,
        "lane": "cloud", "tags": ["ecs", "servers"], "examples": [about],
    })  # fmt: skip


CARDS = (
    card("DescribeInstances", "Lists servers and when they expire."),
    card("DescribePrice", "Tells what a purchase or a renewal would cost."),
    card("RenewInstance", "Renews a server that is paid in advance.", "write"),
    card("RebootInstance", "Stops a server and starts it again.", "write"),
    card("DescribeVpcs", "Lists private networks."),
)
PASSAGES = tuple(
    Passage(document=f"doc-{number}", title="Renewals", heading="What a renewal costs", start=0, end=600, hash=f"{number}" * 32,
            text="A server is renewed by weeks, months or years; the price is that of a new one of the same kind. " * 6,
            score=0.5, similarity=0.61)
    for number in range(2)
)  # fmt: skip


def agent(steps: int = 8) -> AgentSpec:
    return AgentSpec(
        name="ops", instructions=INSTRUCTIONS, tools=("DescribeInstances", "RenewInstance"), approval="writes",
        budget=Budget(steps=min(1000, steps), calls=min(1000, steps), deadline_s=86_400),
    )  # fmt: skip


def listing(number: int, about_characters: int = 2_500) -> str:
    """What DescribeInstances gives: JSON."""
    rows = [
        {"InstanceId": f"i-bp1f8k2m9x{number:05d}{row:02d}", "Status": "Running", "RegionId": "cn-hangzhou", "Cpu": 4,
         "ExpiredTime": "2026-12-01T16:00Z", "PrivateIp": f"10.0.{row}.{number % 250}", "Tags": {"env": "prod"}}
        for row in range(about_characters // 165)
    ]  # fmt: skip
    return json.dumps({"TotalCount": len(rows), "Instances": rows})


def recorded(number: int) -> RunUnderTest:
    """One finished run of 15 events: two generations with calls, a plan, a verdict, an approval, an answer."""
    run = _begun(number, agent())
    _look(run, number)
    _renew(run, number)
    run.say(text=f"i-bp1f8k2m9x{number:05d}00 is renewed for {number % 11 + 1} months and expires on 2027-03-01.")
    run.end()
    return run


def long_run(steps: int = 1000, questions: int = 4) -> RunUnderTest:
    """One run of so many model turns, about ten events each: two looks and a write again and again, and questions of tools."""
    run = _begun(99_999, agent(steps))
    for step in range(1, steps):
        if step % 3 == 0:
            _renew(run, step, questions)
        else:
            _look(run, step, 800, questions)
    run.say(text="All servers are renewed.")
    run.end()
    return run


def _begun(number: int, agent: AgentSpec) -> RunUnderTest:
    task = TASK.format(instance=f"i-bp1f8k2m9x{number:05d}00", months=number % 11 + 1)
    run = RunUnderTest(agent, key=f"bench-{number}", task=task)
    run.begin()
    history = tuple(
        Turn(
            run=f"before-{turn}", task="Which servers of the web shop run in Hangzhou?", answer="Three of them: " + "web, " * 40
        )
        for turn in range(2)
    )
    facts = (UserFact(key="shop", text="the web shop runs on three servers in Hangzhou", source="before-0"),)
    told = MemoryRecalled(command=run.one(RecallMemory), history=history, facts=facts)
    run.gather(*CARDS, told=told, passages=PASSAGES)
    return run


def _look(run: RunUnderTest, number: int, about_characters: int = 2_500, questions: int = 0) -> None:
    run.later(0.7)
    look = ToolCall(
        id=f"look{number}", name="DescribeInstances", arguments={"RegionId": "cn-hangzhou", "Tags": f"shop {number}"}
    )
    run.say(look)
    run.later(0.2)
    _ask(run, questions)
    run.returns(run.one(CallTool), listing(number, about_characters))


def _ask(run: RunUnderTest, times: int) -> None:
    """The tool asks before it does something, and a person answers."""
    for _ in range(times):
        run.answer(ToolAsked(command=run.one(CallTool), question=QUESTION))
        run.later(3)
        run.answer(PersonAnswered(command=run.one(AskPerson), by="ann", accepted=True, content={"zone": "cn-hangzhou-i"}))


def _renew(run: RunUnderTest, number: int, questions: int = 0) -> None:
    run.later(0.7)
    arguments = {"InstanceId": f"i-bp1f8k2m9x{number:05d}00", "Period": number % 11 + 1, "PeriodUnit": "Month"}
    run.say(ToolCall(id=f"renew{number}", name="RenewInstance", arguments=arguments))
    plan = run.one(PlanCall)
    preview = Preview(
        summary=f"Renew {arguments['InstanceId']} for {arguments['Period']} months", price="708.00", currency="CNY",
        rows=(("server", "web-1"), ("expires", "2026-12-01 -> 2027-03-01"), ("region", "cn-hangzhou")),
    )  # fmt: skip
    key = write_key(TENANT, "RenewInstance", dict(arguments), "2026-12-01T16:00Z")
    run.plans(CallPlanned(command=plan, preview=preview, state="2026-12-01T16:00Z", write_key=key), ASKS)
    run.later(30)
    asked = run.one(RequestApproval)
    run.answer(ApprovalGranted(command=asked, by="ops-bob", approval_hash=asked.approval_hash))
    run.later(1.2)
    _ask(run, questions)
    run.returns(run.one(CallTool), json.dumps({"OrderId": f"2{number:09d}", "ExpiredTime": "2027-03-01T16:00Z"}))


__all__ = ["CARDS", "NOW", "TENANT", "long_run", "recorded"]
