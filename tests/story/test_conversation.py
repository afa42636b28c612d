"""Talks: what is remembered, what is known, and two messages at once."""

from __future__ import annotations

import secrets
from typing import Literal

import pytest

from schemas import subjects
from schemas.agent import AgentSpec, Budget
from schemas.events import RunCancelled, RunCompleted, RunFailed, TurnQueued
from services.retrieval.knowledge import AddDocument
from tests.support.stack import OPERATOR, LocalStack, reached, see_through

TALKER = AgentSpec(name="talker", tool_k=0, knowledge_k=0)
WEB = "i-bp1f8k2m9x4q7web02"


@pytest.mark.parametrize(
    ("tasks", "answer"), [(("hello", "and you", "bye"), "You said: bye"), (("早", "您呢", "再见"), "你好。")]
)
async def test_a_conversation_remembers_its_turns(scripted_stack: LocalStack, tasks: tuple[str, ...], answer: str) -> None:
    talk = f"c-{secrets.token_hex(6)}"
    async with scripted_stack.session() as (client, _):
        for task in tasks:
            ended = await see_through(client, (await client.ask(task, agent=TALKER, conversation=talk)).run)
    assert [turn.task for turn in ended.state.history] == list(tasks[:2])
    assert all(turn.answer for turn in ended.state.history)
    assert ended.state.answer == answer


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Refunds take five working days.", "How long do refunds take?"),
        ("退款需要五个工作日。", "退款需要几个工作日？"),
    ],
)
async def test_a_question_is_answered_from_a_document_with_its_source(
    scripted_stack: LocalStack, text: str, question: str
) -> None:
    collection = f"faq-{secrets.token_hex(6)}"
    reader = TALKER.model_copy(update={"knowledge_k": 1, "collections": (collection,)})
    document = AddDocument(collection=collection, source="refunds.md", title="Refunds", text=text)
    async with scripted_stack.session() as (client, _):
        await client.bus.ask(subjects.question("retrieval", "add_document"), document.model_dump_json().encode(), 10.0)
        ended = await see_through(client, (await client.ask(question, agent=reader)).run)
    assert ended.state.answer == f"{text} (Refunds)"


async def test_a_question_that_needs_no_tool_is_one_generation(scripted_stack: LocalStack) -> None:
    async with scripted_stack.session() as (client, _):
        ended = await see_through(client, (await client.ask("hello", agent=OPERATOR)).run)
    assert (ended.state.answer, ended.state.steps, ended.state.calls) == ("You said: hello", 1, 0)


@pytest.mark.parametrize("when_busy", ["queue", "interrupt", "refuse"])
async def test_a_second_message_while_a_run_is_open(
    scripted_stack: LocalStack, when_busy: Literal["queue", "interrupt", "refuse"]
) -> None:
    agent = OPERATOR.model_copy(update={"when_busy": when_busy})
    talk = f"c-{secrets.token_hex(6)}"
    async with scripted_stack.session() as (client, _):
        first = (await client.ask(f"renew {WEB} for 1 week", agent=agent, conversation=talk)).run
        await reached(client, first, lambda update: bool(update.state.approvals()))
        second = (await client.ask("hello", agent=agent, conversation=talk)).run
        if when_busy == "queue":
            await reached(client, second, lambda update: isinstance(update.stored.fact.body, TurnQueued))
        if when_busy == "refuse":
            refused = await see_through(client, second)
            assert isinstance(refused.stored.fact.body, RunFailed)
            assert refused.stored.fact.body.failure.type == "ConversationBusy"
        ends = {run: (await see_through(client, run)).stored.fact.body for run in (first, second)}
    expected: dict[str, tuple[type, type]] = {
        "queue": (RunCompleted, RunCompleted),
        "interrupt": (RunCancelled, RunCompleted),
        "refuse": (RunCompleted, RunFailed),
    }
    assert (type(ends[first]), type(ends[second])) == expected[when_busy]


@pytest.mark.parametrize(
    ("budget", "failure"),
    [
        (Budget(steps=3, calls=100), "BudgetExceeded"),
        (Budget(steps=1000, calls=1000, deadline_s=1.0), "DeadlineExceeded"),
    ],
)
async def test_a_run_that_never_comes_to_an_answer_ends(scripted_stack: LocalStack, budget: Budget, failure: str) -> None:
    async with scripted_stack.session() as (client, _):
        asked = await client.ask("do it for ever", agent=OPERATOR.model_copy(update={"budget": budget}))
        ended = await see_through(client, asked.run)
    assert isinstance(ended.stored.fact.body, RunFailed)
    assert ended.stored.fact.body.failure.type == failure
