"""What persons say through a client: approvals that count, refusals, and answers to tools."""

from __future__ import annotations

import pytest

from runtime.client import Client, NotAllowed, OnlyOnce, TooLate, UnfittingAnswer
from runtime.memory_broker import MemoryBroker
from schemas.commands import AskPerson, CallTool, RequestApproval
from schemas.events import ApprovalGranted, ApprovalRefused, PersonAnswered, ToolAsked
from schemas.policy import Verdict
from schemas.tools import Question
from tests.support.builders import NOW, TENANT, RunUnderTest, call, ready

ASK = Verdict(outcome="ask", rule="two", approvers=("ops-*", "ann"), four_eyes=True)
FIELDS = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}


class _Clock:
    def now(self):  # type: ignore[no-untyped-def]
        return NOW


async def told(run: RunUnderTest, user: str = "ann") -> tuple[Client, MemoryBroker]:
    """A client that finds the run in the log."""
    broker = MemoryBroker()
    for stored in run.log:
        await broker.append(stored.fact)
    return Client(broker, broker, _Clock(), tenant=TENANT, user=user), broker


def asking() -> RunUnderTest:
    run = ready(task="renew it for 1 month")
    run.say(call("renew", months=1))
    run.plans(verdict=ASK)
    return run


def questioned(fields: dict[str, object]) -> RunUnderTest:
    run = ready()
    run.say(call("clock"))
    run.answer(ToolAsked(command=run.one(CallTool), question=Question(id="q", text="How large?", fields=fields)))
    return run


@pytest.mark.parametrize("by", ["ann", "eve"])
async def test_who_may_not_approve_is_told_at_once_and_nothing_is_written(by: str) -> None:
    run = asking()
    client, broker = await told(run)
    ((approval, _),) = run.open(RequestApproval)
    with pytest.raises(NotAllowed, match=by):
        await client.approve(run.id, approval, by=by)
    assert len(await broker.read(run.id)) == len(run.log)


async def test_who_may_approve_says_how_far() -> None:
    run = asking()
    client, broker = await told(run, "ops-bob")
    ((approval, ask),) = run.open(RequestApproval)
    await client.approve(run.id, approval, scope="conversation")
    said = (await broker.read(run.id))[-1].fact
    assert said.body == ApprovalGranted(command=ask, by="ops-bob", approval_hash=ask.approval_hash, scope="conversation")
    with pytest.raises(TooLate):
        await client.approve(run.id, approval)


async def test_anybody_may_refuse() -> None:
    run = asking()
    client, broker = await told(run)
    ((approval, ask),) = run.open(RequestApproval)
    await client.refuse(run.id, approval, reason="not now")
    assert (await broker.read(run.id))[-1].fact.body == ApprovalRefused(command=ask, by="ann", reason="not now")


@pytest.mark.parametrize("content", [{"size": 3}, None])
async def test_a_tools_question_is_answered_or_not(content: dict[str, object] | None) -> None:
    run = questioned(FIELDS)
    client, broker = await told(run)
    ((question, ask),) = run.open(AskPerson)
    await client.answer(run.id, question, content, by="bob")
    said = PersonAnswered(command=ask, by="bob", accepted=content is not None, content=content or {})
    assert (await broker.read(run.id))[-1].fact.body == said
    with pytest.raises(TooLate):
        await client.answer(run.id, question, content)


async def test_an_answer_that_does_not_fit_is_refused_with_the_reason() -> None:
    run = questioned(FIELDS)
    client, broker = await told(run)
    ((question, _),) = run.open(AskPerson)
    for content, why in (({"size": "large"}, 'size: "large" is not of type "integer"'), ({}, '"size" is a required property')):
        with pytest.raises(UnfittingAnswer) as raised:
            await client.answer(run.id, question, content)
        assert raised.value.why == why
    assert len(await broker.read(run.id)) == len(run.log)


async def test_a_question_whose_schema_is_none_takes_any_answer() -> None:
    run = questioned({"type": "no such type"})
    client, broker = await told(run)
    ((question, _),) = run.open(AskPerson)
    await client.answer(run.id, question, {"size": "large"})
    assert isinstance((await broker.read(run.id))[-1].fact.body, PersonAnswered)


async def test_a_question_that_does_not_wait_cannot_be_answered() -> None:
    run = asking()
    client, _ = await told(run)
    with pytest.raises(TooLate):
        await client.answer(run.id, run.open(RequestApproval)[0][0], {})


async def test_what_nobody_named_is_allowed_once_only() -> None:
    run = ready()
    run.say(call("renew", months=77))
    run.plans(verdict=Verdict(outcome="ask", rule="approval"))
    client, broker = await told(run)
    ((approval, ask),) = run.open(RequestApproval)
    assert ask.ungrounded == ("months",)
    with pytest.raises(OnlyOnce):
        await client.approve(run.id, approval, scope="always")
    await client.approve(run.id, approval)
    assert len(await broker.read(run.id)) == len(run.log) + 1


async def test_a_question_fetches_nothing_when_its_answer_is_checked() -> None:
    fields = {"type": "object", "properties": {"size": {"$ref": "http://127.0.0.1:1/schema.json"}}}
    run = questioned(fields)
    client, _ = await told(run)
    ((question, _),) = run.open(AskPerson)
    await client.answer(run.id, question, {"size": 1})  # its schema is none, so it refuses nothing
