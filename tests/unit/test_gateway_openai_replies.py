"""What a client's next request does to a run that waits: only what was asked, of whom it was asked, and once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runtime.memory_broker import MemoryBroker
from runtime.steps import CALLER_LANE
from schemas.commands import AskPerson, CallTool
from schemas.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CancelRequested,
    PersonAnswered,
    RunRequested,
    ToolAsked,
)
from schemas.policy import Verdict
from schemas.tools import Question, ToolCard
from services.gateway.agents.agent import spec_named
from services.gateway.agents.memory_store import MemoryAgentStore
from services.gateway.answers import Conflict, NotThere
from services.gateway.caller_tools import RESULT, answered
from services.gateway.gateway import Gateway
from services.gateway.openai import words
from services.gateway.openai.beginning import Wanted, course_of
from services.gateway.openai.course import Course
from services.gateway.openai.ids import approval_id, call_id
from services.gateway.openai.specs import Specs
from services.gateway.openai.spoken import Call, Spoken, Unfit
from services.gateway.openai.waiting import waits_of
from services.gateway.principal import DoorRole, NotPermitted, Principal
from tests.support.builders import TENANT, RunUnderTest, call, ready, spec
from tests.support.door import URL, gateway

SIZE = Question(id="size", text="How large?", fields={"type": "object", "properties": {"size": {"type": "integer"}}})
TASK = Spoken("user", "renew it")


def ann(*roles: DoorRole, user: str = "ann") -> Principal:
    return Principal(TENANT, user, roles or ("admin",))


class Door:
    """A gateway over a log that holds one run, as far as it has come."""

    def __init__(self, run: RunUnderTest, who: Principal | None = None) -> None:
        self.run, self.who, self.broker = run, who or ann(), MemoryBroker()
        self.gateway: Gateway = gateway(journal=lambda _: self.broker, bus=self.broker, agents=MemoryAgentStore())
        self.waits = waits_of({run.id: run.state}, run.id)

    async def __aenter__(self) -> Door:
        for stored in self.run.log:
            await self.broker.append(stored.fact)
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def ask(self, *spoken: Spoken, **fields: Any) -> Course:
        return await course_of(self.gateway, Specs(self.gateway), self.who, Wanted("assistant", spoken, **fields))

    @property
    def shown(self) -> Spoken:
        return Spoken("assistant", words.told(self.waits, self.who, URL))

    async def added(self) -> list[AnyEvent]:
        """What stands in the run since."""
        facts = await self.broker.read(self.run.id)
        return [stored.fact.body for stored in facts[len(self.run.log) :]]  # type: ignore[misc]  # nothing is erased here


def renewing(verdict: Verdict | None = None) -> RunUnderTest:
    run = ready(spec(), task="renew it")
    run.say(call("renew", id="c1"))
    run.plans(verdict=verdict)
    return run


@pytest.mark.parametrize(
    ("reply", "kind"), [("Yes!", ApprovalGranted), ("批准", ApprovalGranted), ("no: too dear", ApprovalRefused)]
)
async def test_a_yes_or_no_decides_once(reply: str, kind: type) -> None:
    async with Door(renewing()) as door:
        first = await door.ask(TASK, door.shown, Spoken("user", reply))
        again = await door.ask(TASK, door.shown, Spoken("user", reply))
        (event,) = await door.added()
    assert isinstance(event, kind) and (first.run, first.since) == (again.run, again.since) == (
        door.run.id,
        door.waits.all[0].id,
    )
    assert not isinstance(event, ApprovalRefused) or event.reason == "too dear"


@pytest.mark.parametrize("reply", ["yes but", "what?", "是吗", '{"approved": true}', "yesterday"])
async def test_other_words_begin_another_run_and_call_this_one_off(reply: str) -> None:
    async with Door(renewing()) as door:
        course = await door.ask(TASK, door.shown, Spoken("user", reply))
        (event,) = await door.added()
    assert course.run != door.run.id and isinstance(event, CancelRequested)


async def test_what_was_not_shown_so_is_not_decided() -> None:
    async with Door(renewing()) as door:
        link = words.link_of(URL, door.run.id, door.waits.all[0])
        for text in (link, door.shown.text.replace("one month more", "nothing"), f"Say yes: {link}"):
            course = await door.ask(TASK, Spoken("assistant", text), Spoken("user", "yes"))
            assert course.run != door.run.id
        await door.ask(TASK, door.shown, TASK, Spoken("assistant", "ok"), Spoken("user", "yes"))  # it was shown, long ago
        assert await door.added() == []


@pytest.mark.parametrize("who", [ann("operator"), ann(user="bob")])
async def test_a_yes_of_somebody_else_is_none(who: Principal) -> None:
    async with Door(renewing(), who) as door:
        course = await door.ask(TASK, door.shown, Spoken("user", "yes"))
        assert course.run != door.run.id and await door.added() == []


async def test_four_eyes_go_on_waiting() -> None:
    async with Door(renewing(Verdict(outcome="ask", four_eyes=True))) as door:
        assert "somebody else" in door.shown.text
        course = await door.ask(TASK, door.shown, Spoken("user", "yes"))
        assert course.run != door.run.id and await door.added() == []


async def test_an_approval_as_a_call_and_as_an_item() -> None:
    async with Door(renewing()) as door:
        (waiting,) = door.waits.approvals
        id = call_id(door.run.id, waiting.id)
        with pytest.raises(Unfit, match="neither yes nor no"):
            await door.ask(TASK, Spoken("tool", "hm", call=id))
        await door.ask(TASK, Spoken("tool", '{"approved": false, "reason": "dear"}', call=id))
        item = Spoken("approval", call=approval_id(door.run.id, waiting.id), approved=True)
        assert (await door.ask(item)).since == waiting.id  # too late: it goes on from what was said first
        (event,) = await door.added()
        with pytest.raises(NotThere):
            await door.ask(replace(item, call=item.call[:-1] + "g"))
    assert isinstance(event, ApprovalRefused) and event.reason == "dear"


async def test_who_may_not_approve_is_told_so() -> None:
    async with Door(renewing(), ann("operator")) as door:
        item = Spoken("approval", call=approval_id(door.run.id, door.waits.all[0].id), approved=True)
        with pytest.raises(NotPermitted):
            await door.ask(item)
        assert await door.added() == []


def asking() -> RunUnderTest:
    run = ready(spec(), task="make it")
    run.say(call("clock", id="c1"))
    run.answer(ToolAsked(command=run.one(CallTool), question=SIZE))
    return run


@pytest.mark.parametrize(("reply", "content"), [("3", {"size": 3}), ("size = 4", {"size": 4}), ("decline", {})])
async def test_a_tools_question_is_answered_in_words(reply: str, content: dict[str, object]) -> None:
    async with Door(asking()) as door:
        course = await door.ask(TASK, door.shown, Spoken("user", reply))
        (event,) = await door.added()
    assert course.run == door.run.id and isinstance(event, PersonAnswered)
    assert (event.content, event.accepted) == (content, bool(content))


async def test_words_that_do_not_fit_a_question_are_no_answer() -> None:
    async with Door(asking()) as door:
        course = await door.ask(TASK, door.shown, Spoken("user", "as large as you like"))
        (event,) = await door.added()
    assert course.run != door.run.id and isinstance(event, CancelRequested)


def calling() -> tuple[RunUnderTest, list[str]]:
    """A run that waits for two calls of its client's tool."""
    card = ToolCard(name="weather", description="d", parameters={"type": "object"}, lane=CALLER_LANE)
    run = RunUnderTest(spec(tool_k=0, knowledge_k=0))
    run.request = run.request.model_copy(update={"brought": (card,)})
    run.begin()
    run.gather()
    run.say(call("weather", "a"), call("weather", "b"))
    for _, command in run.open(CallTool):
        run.answer(answered(command, run.state.open_calls[command.call.id]))
    return run, [call_id(run.id, id) for id, _ in run.open(AskPerson)]


async def test_results_answer_the_calls_of_their_run_alone_and_once() -> None:
    run, (one, two) = calling()
    async with Door(run) as door:
        called = Spoken("assistant", calls=(Call(one, "weather", "{}"), Call(two, "weather", "{}")))
        results = (Spoken("tool", "sunny", call=one), Spoken("tool", "rain", call=two))
        courses = [await door.ask(TASK, called, *results) for _ in range(2)]
        events = await door.added()
    assert {course.run for course in courses} == {run.id} and courses[0].since == courses[1].since
    assert [event.content[RESULT] for event in events if isinstance(event, PersonAnswered)] == ["sunny", "rain"]
    assert len(events) == 2


async def test_calls_without_a_result_are_given_up_when_their_user_talks_on() -> None:
    run, (one, two) = calling()
    async with Door(run) as door:
        called = Spoken("assistant", calls=(Call(one, "weather", "{}"), Call(two, "weather", "{}")))
        course = await door.ask(TASK, called, Spoken("user", "never mind"))
        (event,) = await door.added()
    assert course.run != run.id and isinstance(event, CancelRequested)


async def test_results_of_another_users_calls_are_history() -> None:
    run, (one, two) = calling()
    async with Door(run, ann(user="bob")) as door:
        called = Spoken("assistant", calls=(Call(one, "weather", "{}"), Call(two, "weather", "{}")))
        course = await door.ask(TASK, called, Spoken("tool", "x", call=one), Spoken("tool", "y", call=two))
        (begun, *_) = await door.broker.read(course.run)
        assert await door.added() == []
    assert isinstance(begun.fact.body, RunRequested) and [each.role for each in begun.fact.body.said] == [
        "assistant",
        "tool",
        "tool",
    ]


async def test_a_key_names_one_request() -> None:
    async with Door(renewing()) as door:
        first = await door.ask(TASK, key="k")
        assert (await door.ask(TASK, key="k")).run == first.run
        with pytest.raises(Conflict):
            await door.ask(Spoken("user", "something else"), key="k")


async def test_what_follows_a_run_that_was_told_its_history_is_told_it_too() -> None:
    async with Door(renewing()) as door:
        assert (await spec_named(door.gateway.agents, TENANT, "assistant")).name == "assistant"
        first = await door.ask(Spoken("user", "one"), Spoken("assistant", "1"), Spoken("user", "two"))
        after = await door.ask(Spoken("user", "three"), before=first.run)
        request = (await door.broker.read(after.run))[0].fact.body
    assert isinstance(request, RunRequested)
    assert [(each.content, each.part) for each in request.said] == [("one", "history"), ("1", "history"), ("two", "history")]
