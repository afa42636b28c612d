"""Runs whose client tells what was said before, and brings tools of its own."""

from __future__ import annotations

from runtime import prompt
from runtime.grounding import sources_of, ungrounded
from runtime.replay import replay
from runtime.steps import CALLER_LANE
from schemas.agent import AgentSpec
from schemas.commands import AskPerson, CallTool, Generate, SelectTools
from schemas.events import AnyEvent, PersonAnswered, ToolAsked, ToolFailed, ToolReturned
from schemas.messages import Manner, Message
from schemas.tools import ToolCall, ToolCard
from services.gateway.caller_tools import RESULT, answered
from tests.support.builders import CLOCK, RENEW, RunUnderTest, call, spec
from tests.support.forked_run import original_of

WEATHER = ToolCard(name="weather", description="tells it", parameters={"type": "object"}, lane=CALLER_LANE)
BARE = spec(tool_k=0, knowledge_k=0)


def told(role: str, content: str, part: str | None = "history", *calls: ToolCall, name: str | None = None) -> Message:
    return Message.model_validate(
        {"role": role, "content": content, "part": part, "origin": "user", "calls": calls, "name": name}
    )


def asked(*said: Message, agent: AgentSpec = BARE, brought: tuple[ToolCard, ...] = (WEATHER,)) -> RunUnderTest:
    """A run whose first generation is open."""
    run = RunUnderTest(agent)
    run.request = run.request.model_copy(update={"said": said, "brought": brought})
    run.begin()
    run.gather()
    return run


def host(run: RunUnderTest, command: CallTool) -> AnyEvent:
    """What the host of clients' tools says to an open call."""
    return answered(command, run.state.open_calls[command.call.id])


def reply(run: RunUnderTest, ask: AskPerson, text: str | None) -> None:
    content = {} if text is None else {RESULT: text}
    run.answer(PersonAnswered(command=ask, by="ann", accepted=text is not None, content=content))


def called(run: RunUnderTest, text: str | None = "sunny", *calls: ToolCall) -> None:
    """The model calls clients' tools, which are answered."""
    run.say(*(calls or (call("weather", city="Hangzhou"),)))
    for _, command in run.open(CallTool):
        run.answer(host(run, command))
    for _, ask in run.open(AskPerson):
        reply(run, ask, text)
    for _, command in run.open(CallTool):
        run.answer(host(run, command))


def same_again(run: RunUnderTest) -> None:
    """The log replays to the same decisions, and every prompt has the hash that its command says."""
    replayed = replay(run.id, run.log)
    assert replayed.same and replayed.decisions == len(run.decided)
    last = run.one(Generate) if run.open(Generate) else None
    assert last is None or prompt.build(run.state).hash() == last.prompt_hash


def test_brought_tools_are_offered_though_nothing_is_searched() -> None:
    run = asked()
    assert run.count(SelectTools) == 0
    assert prompt.build(run.state).tools == (WEATHER,)
    same_again(run)


def test_brought_tools_stand_before_those_of_the_agent_and_have_their_names() -> None:
    mine = CLOCK.model_copy(update={"description": "mine", "lane": CALLER_LANE})
    run = asked(agent=spec(tools=("renew",)), brought=(WEATHER, mine))
    built = prompt.build(run.state)
    assert built.tools == (WEATHER, mine, RENEW)
    assert [card for card in built.offered if card.name == "clock"] == [mine]


def test_a_call_of_a_brought_tool_waits_and_the_model_goes_on_with_its_answer() -> None:
    run = asked()
    run.say(call("weather", city="Hangzhou"))
    command = run.one(CallTool)
    assert command.lane == CALLER_LANE
    event = host(run, command)
    assert isinstance(event, ToolAsked)
    assert (event.question.id, event.question.text) == (RESULT, 'weather({"city":"Hangzhou"})')
    run.answer(event)
    assert run.state.outcome == "waiting"
    reply(run, run.one(AskPerson), "sunny")
    event = host(run, run.one(CallTool))
    assert isinstance(event, ToolReturned) and event.result.text == "sunny"
    run.answer(event)
    assert [(each.role, each.content, each.name) for each in run.state.messages][-1] == ("tool", "sunny", "weather")
    same_again(run)
    run.say(text="It is sunny.")
    assert run.end() == "completed"
    same_again(run)


def test_several_calls_are_answered_together() -> None:
    run = asked(agent=BARE.model_copy(update={"manner": Manner(parallel=True)}))
    called(run, "fine", call("weather", "a", city="Hangzhou"), call("weather", "b", city="Beijing"))
    assert [each.content for each in run.state.messages[-2:]] == ["fine", "fine"]
    same_again(run)


def test_a_client_that_will_not_run_its_tool_is_told_to_the_model() -> None:
    run = asked()
    run.say(call("weather", city="Hangzhou"))
    run.answer(host(run, run.one(CallTool)))
    reply(run, run.one(AskPerson), None)
    event = host(run, run.one(CallTool))
    assert isinstance(event, ToolFailed)
    run.answer(event)
    assert "would not run" in run.state.messages[-1].content


def test_a_client_that_wants_a_call_gets_one_and_then_an_answer() -> None:
    run = asked(agent=BARE.model_copy(update={"manner": Manner(calls="required")}))
    assert prompt.build(run.state).manner.calls == "required"
    called(run)
    assert prompt.build(run.state).manner.calls == "auto"
    same_again(run)
    called(run, "rain", call("weather", "again", city="Beijing"))
    same_again(run)


def test_what_was_said_before_stands_where_history_stands_and_what_came_after_behind_the_task() -> None:
    before = (told("user", "hello"), told("assistant", "hi"))
    after = (told("assistant", "", None, call("other", city="Bonn")), told("tool", "12 C", None, name="other"))
    run = asked(*before, *after)
    said = prompt.build(run.state).messages
    assert [(each.role, each.content, each.origin, each.part) for each in said[1:]] == [
        ("user", "hello", "user", "history"), ("assistant", "hi", "model", "history"),
        ("user", "what time is it?", "user", None), ("assistant", "", "model", None), ("tool", "12 C", "tool", None),
    ]  # fmt: skip
    same_again(run)


def vouched(run: RunUnderTest, value: str) -> bool:
    named = ToolCall(id="c", name="renew", arguments={"InstanceId": value})
    return not ungrounded(named, RENEW, sources_of(run.state))


def test_users_words_of_before_name_things_and_the_models_do_not() -> None:
    run = asked(told("user", "I have i-abc123"), told("assistant", "You also have i-def456"))
    assert vouched(run, "i-abc123") and not vouched(run, "i-def456")


def test_a_result_of_before_names_what_its_call_had_not_brought_in() -> None:
    wanted = told("assistant", "", "history", ToolCall(id="f", name="find", arguments={"name": "i-made999"}))
    run = asked(told("user", "find it"), wanted, told("tool", "i-made999 is i-real111", name="find"))
    assert vouched(run, "i-real111") and not vouched(run, "i-made999")


def test_a_result_without_a_call_names_nothing_alone() -> None:
    assert not vouched(asked(told("user", "find it"), told("tool", "i-lonely99", name="find")), "i-lonely99")


def test_an_echo_of_a_brought_tool_names_nothing() -> None:
    run = asked(agent=spec(tools=("renew",)))
    called(run, "i-made999 is i-real111", call("weather", city="i-made999"))
    assert vouched(run, "i-real111") and not vouched(run, "i-made999")


def test_a_fork_can_leave_a_run_with_brought_tools() -> None:
    run = asked(told("user", "hello"))
    called(run)
    original = original_of(run)
    assert original.request.brought == (WEATHER,)
    assert [each.number for each in original.told if each.decides]


def test_requests_without_them_are_written_as_before() -> None:
    plain = RunUnderTest(BARE).request
    assert not {"said", "brought"} & plain.model_dump(mode="json").keys()
    assert {"said", "brought"} <= asked(told("user", "x")).request.model_dump(mode="json").keys()
