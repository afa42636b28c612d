"""The OpenAI-shaped API's mappings: what clients send becomes what a run is asked, and what a run says becomes theirs."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.children import AGENT, children_of
from runtime.speech import Delta
from runtime.state import RunState
from runtime.steps import CALLER_LANE
from schemas.agent import AgentSpec
from schemas.commands import AskPerson, RequestApproval
from schemas.ids import CommandId, RunId
from schemas.messages import JsonOutput
from schemas.tools import Question, ToolCard
from services.gateway.openai import words
from services.gateway.openai.asked import Piece, sampling_of, text_of
from services.gateway.openai.beginning import Shape, agent_of, brought_of
from services.gateway.openai.chat import ChatRequest
from services.gateway.openai.course import Voice
from services.gateway.openai.ids import approval_id, call_id, read_name, response_id
from services.gateway.openai.responses import ResponsesRequest
from services.gateway.openai.spoken import Call, Spoken, Unfit, last_words, results_at_the_end, told
from services.gateway.openai.waiting import Waits, waits_of
from services.gateway.principal import Principal
from tests.support.builders import RunUnderTest, call, ready, spec

RUN = RunId("202611-" + "a" * 32)
COMMAND = CommandId("0123456789abcdef" * 2)
URL = "http://127.0.0.1:8642"
ANN = Principal("acme", "ann", ("admin",))


def user(text: str) -> Spoken:
    return Spoken("user", text)


def assistant(text: str = "", *calls: Call) -> Spoken:
    return Spoken("assistant", text, calls)


def result(id: str, text: str = "12 C") -> Spoken:
    return Spoken("tool", text, call=id)


WEATHER = Call("c1", "weather", '{"city": "Bonn"}')

# --- ids ---


def test_names_hold_a_run_and_a_mark() -> None:
    assert read_name("call", call_id(RUN, COMMAND)) == read_name("mcpr", approval_id(RUN, COMMAND))
    named = read_name("resp", response_id(RUN, COMMAND))
    assert named is not None and (named.run, named.mark) == (RUN, "01234567")
    plain = read_name("resp", response_id(RUN))
    assert plain is not None and (plain.run, plain.mark) == (RUN, "")
    assert len(call_id(RUN, COMMAND)) <= 64  # it is a token in a log, too


@pytest.mark.parametrize(
    "text", ["call_1", f"call_{RUN}", f"resp_{RUN}x", f"resp_{RUN}_012", f" resp_{RUN}", f"resp_{RUN}\n", "call_é"]
)
def test_other_names_are_not_ours(text: str) -> None:
    assert read_name("call", text) is None and read_name("resp", text) is None and read_name("mcpr", text) is None


# --- what was said ---


def test_a_chat_is_instructions_history_and_a_task() -> None:
    found = told([Spoken("system", "Be brief."), user("one"), assistant("1"), Spoken("system", "Be kind."), user("two")])
    assert (found.instructions, found.task) == ("Be brief.\n\nBe kind.", "two")
    assert [(each.role, each.content, each.part) for each in found.said] == [
        ("user", "one", "history"), ("assistant", "1", "history"),
    ]  # fmt: skip


def test_what_tools_gave_after_the_task_stands_after_it() -> None:
    found = told([user("the weather?"), assistant("", WEATHER), result("c1")])
    assert found.task == "the weather?"
    assert [(each.role, each.name, each.part) for each in found.said] == [("assistant", None, None), ("tool", "weather", None)]
    assert found.said[0].calls[0].arguments == {"city": "Bonn"}


@pytest.mark.parametrize(
    ("id", "arguments", "made"),
    [("toolu:1", "{}", {}), ("c" * 65, "[1]", {"arguments": "[1]"}), ("x\n", '{"a": 1e400}', {"arguments": '{"a": 1e400}'})],
)
def test_calls_of_other_models_become_ours(id: str, arguments: str, made: dict[str, object]) -> None:
    (_, called, _) = told([user("x"), assistant("", Call(id, "f", arguments)), result(id), user("y")]).said
    assert called.calls[0].id.startswith("call-") and called.calls[0].arguments == made


@pytest.mark.parametrize(
    ("spoken", "why"),
    [
        ([Spoken("system", "x")], "Nobody asks"), ([], "Nobody asks"), ([user(" \n")], "empty"),
        ([user("x"), assistant("y")], "assistant's own"), ([result("c1"), user("x")], "nobody called"),
        ([user("x"), result("c1")], "nobody called"),
    ],
)  # fmt: skip
def test_chats_that_ask_nothing_are_refused(spoken: list[Spoken], why: str) -> None:
    with pytest.raises(Unfit, match=why):
        told(spoken)


def test_results_count_while_nobody_has_said_anything_after_them() -> None:
    first, second = result("a"), result("b")
    assert results_at_the_end([user("x"), assistant("", WEATHER), first, second, Spoken("system", "s")]) == (first, second)
    assert results_at_the_end([user("x"), assistant("", WEATHER), first, user("y")]) == ()
    assert results_at_the_end([first, assistant("z"), second]) == (second,)


def test_last_words_are_the_users_after_the_assistants() -> None:
    assert last_words([user("a"), assistant("b"), user("yes"), Spoken("system", "s")]) == ("yes", "b")
    assert last_words([user("yes")]) == last_words([assistant("b"), user("x"), result("c1")]) == ("", "")


def test_parts_of_text_are_lines_and_others_are_refused() -> None:
    assert (
        text_of([Piece(type="text", text="a"), Piece(type="input_text", text="b"), Piece(type="refusal", refusal="c")])
        == "a\nb\nc"
    )
    assert text_of(None) == ""
    with pytest.raises(Unfit, match="input_image"):
        text_of([Piece(type="input_image")])


# --- how the answer is to be ---


def card(name: str) -> ToolCard:
    return ToolCard(name=name, description="d", parameters={"type": "object"}, lane=CALLER_LANE)


def test_an_agent_as_a_request_wants_it() -> None:
    shape = Shape(sampling=sampling_of(0.5, 0, 10**9, seed=3), parallel=True, output=JsonOutput(), calls=2)
    found = agent_of(AgentSpec(instructions="I."), "You.", shape)
    assert found.instructions == "I.\n\nYou." and found.budget.calls == 2 and found.manner.parallel
    assert found.sampling.model_dump() == {"temperature": 0.5, "top_p": 1e-6, "top_k": 0, "seed": 3, "max_tokens": 8192}
    assert agent_of(AgentSpec(), "", Shape()) == AgentSpec()


def test_which_tools_may_be_called() -> None:
    both = (card("a"), card("b"))
    assert brought_of(Shape(tools=both)) == both and brought_of(Shape(tools=both, choice="none")) == ()
    named = Shape(tools=both, choice="named", named="b")
    assert brought_of(named) == both[1:]
    agent = agent_of(AgentSpec(tools=("clock",)), "", named)
    assert (agent.tools, agent.tool_k, agent.manner.calls) == ((), 0, "required")
    assert agent_of(AgentSpec(), "", Shape(tools=both, choice="required")).manner.calls == "required"
    for wrong in (Shape(choice="required"), Shape(tools=both, choice="named", named="c"), Shape(tools=(card("a"), card("a")))):
        with pytest.raises(Unfit):
            brought_of(wrong)


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})


def test_a_chat_request_in_our_form() -> None:
    function = {"name": "f", "parameters": {"properties": {}}, "strict": True}
    wanted = chat(
        tools=[{"type": "function", "function": function}], tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_object"}, metadata={"conversation": "talk"}, max_tokens=5, max_completion_tokens=7,
        store=True, user="u", stop=[], n=1, presence_penalty=0, reasoning_effort="low",
    ).wanted("k")  # fmt: skip
    assert (wanted.key, wanted.conversation, wanted.shape.choice, wanted.shape.named) == ("k", "talk", "named", "f")
    (tool,) = wanted.shape.tools
    assert (tool.lane, tool.effect, tool.description) == (CALLER_LANE, "read", "f")
    assert tool.parameters == {"type": "object", "properties": {}}
    assert wanted.shape.output == JsonOutput(json_schema={"type": "object"}) and wanted.shape.sampling == {"max_tokens": 7}


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2}, {"stop": "x"}, {"logprobs": True}, {"logit_bias": {"1": 1}}, {"frequency_penalty": 0.1},
        {"modalities": ["audio"]}, {"functions": [{}]}, {"response_format": {"type": "json_schema"}},
        {"metadata": {"conversation": ""}}, {"web_search_options": {"a": 1}},
        {"approvals": "tool", "tools": [{"type": "function", "function": {"name": "approve"}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
    ],
)  # fmt: skip
def test_what_would_change_the_answer_and_is_not_done_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Unfit):
        chat(**fields).wanted(None)


def test_items_become_what_was_said() -> None:
    items = [
        {"role": "developer", "content": "Be kind."}, {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "id": "r", "summary": []}, {"type": "message", "role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "warm"}]},
        {"type": "mcp_approval_response", "approval_request_id": "m", "approve": False, "reason": "no"},
    ]  # fmt: skip
    wanted = ResponsesRequest.model_validate({"model": "m", "input": items, "instructions": "Hi."}).wanted(None)
    calls = (Call("c1", "weather", "{}"), Call("c2", "weather", "{}"))
    assert wanted.spoken == (
        Spoken("system", "Hi."), Spoken("system", "Be kind."), user("x"), assistant("I look.", *calls), result("c1", "warm"),
        Spoken("approval", "no", call="m", approved=False),
    )  # fmt: skip


# --- what is said ---


def test_each_character_is_sent_once_whoever_tells_it() -> None:
    voice = Voice()
    assert voice.hear(Delta("c", 1, 0, "Hel")) == "Hel"
    assert voice.whole("c", "Hello") == "lo" and voice.hear(Delta("c", 1, 3, "lo")) == "" and voice.whole("c", "Hello") == ""
    assert (voice.whole("d", ""), voice.number) == ("", 0)
    assert (voice.whole("e", "Next"), voice.number) == ("Next", 1)


def test_another_beginning_is_sent_from_where_it_goes_further() -> None:
    voice = Voice()
    assert voice.hear(Delta("c", 1, 0, "Hel")) == "Hel"
    assert [voice.hear(Delta("c", 2, at, text)) for at, text in enumerate(("H", "e", "l", "p"))] == ["", "", "", "p"]


def test_another_text_follows_as_a_paragraph_of_its_own() -> None:
    voice = Voice()
    assert voice.hear(Delta("c", 1, 0, "Hello")) == "Hello"
    assert voice.hear(Delta("c", 2, 0, "Good")) == "" and voice.whole("c", "Good day") == "\n\nGood day"


# --- what waits ---


def waiting_run() -> tuple[RunUnderTest, Waits]:
    run = ready(spec(), task="renew it")
    run.say(call("renew", text="```\nignore that"))
    run.plans()
    return run, waits_of({run.id: run.state}, run.id)


def test_a_run_stops_where_only_people_can_go_on() -> None:
    _, waits = waiting_run()
    assert not waits.busy and [type(each.command) for each in waits.all] == [RequestApproval]
    fresh = ready(spec())
    assert waits_of({fresh.id: fresh.state}, fresh.id).busy
    assert waits_of({}, RUN).busy and waits_of({RUN: RunState(run=RUN)}, RUN).busy


def test_what_a_run_below_waits_for_is_waited_for_above() -> None:
    helper = ToolCard(name="helper", description="d", parameters={"type": "object"}, tags=(AGENT,), lane="agents")
    run = ready(spec(), helper)
    run.say(call("helper"))
    ((_, child),) = children_of(run.state).items()
    assert waits_of({run.id: run.state}, run.id).busy
    below, own = waiting_run()
    waits = waits_of({run.id: run.state, child: below.state}, run.id)
    assert not waits.busy and [each.id for each in waits.approvals] == [each.id for each in own.approvals]
    assert waits.run == run.id and waits.approvals[0].run == child


def test_a_plan_in_words_is_known_again_and_no_other() -> None:
    _, waits = waiting_run()
    (waiting,) = waits.approvals
    text = words.told(waits, ANN, URL)
    assert "Answer yes or no" in text and words.named_in(text)[0].run == waits.run and text.count("```") == 2
    assert words.was_shown(waiting, waits.run, ANN, URL, f"Here:\n{text.replace(chr(10), '  ')}\n")
    assert not words.was_shown(waiting, waits.run, ANN, URL, text.replace("renew", "keep"))
    bob = Principal("acme", "bob", ("operator",))
    assert "somebody else" in words.told(waits, bob, URL) and not words.may_answer(waiting, bob)


def test_a_secret_is_not_asked_for_in_words() -> None:
    run, waits = waiting_run()
    fields = {"type": "object", "properties": {"pin": {"type": "string", "format": "password"}}}
    command = AskPerson(
        call=waits.approvals[0].command.call, asked="e", question=Question(id="q", text="PIN?", fields=fields),
        expires=waits.approvals[0].command.expires,
    )  # fmt: skip
    waiting = type(waits.approvals[0])(run.id, COMMAND, command, run.state)
    assert not words.may_answer(waiting, ANN) and "secret" in words.told_one(waiting, run.id, ANN, URL)
