"""The model that does what it is told makes one call, and says what came of it."""

from __future__ import annotations

import pytest

from schemas.errors import ProtocolError
from schemas.messages import Generation, Message, Prompt
from services.llm.caller import CallerModel, task_of


async def said(*messages: Message) -> Generation:
    return await CallerModel().generate(Prompt(messages=messages), on_text=lambda _: None)


async def test_it_makes_the_call_of_the_last_request() -> None:
    arguments: dict[str, object] = {"text": 'a } b\n"c" {', "n": [1, {"x": None}]}
    earlier, last = Message(role="user", content=task_of("other", {})), Message(role="user", content=task_of("note", arguments))
    (call,) = (await said(earlier, Message(role="assistant", content="done"), last)).calls
    assert (call.name, call.arguments) == ("note", arguments)


async def test_it_says_what_came_of_it() -> None:
    asked = Message(role="user", content=task_of("note", {}))
    generation = await said(asked, Message(role="assistant", content=""), Message(role="tool", content="noted", name="note"))
    assert (generation.text, generation.calls) == ("noted", ())


@pytest.mark.parametrize(
    "content", ["hello", "Call x", "Call x with {", "Call x with [1]", 'Call x with {"a": 1} and more', ""]
)
async def test_what_is_no_call_is_not_called(content: str) -> None:
    assert (await said(Message(role="user", content=content))).text == "The request states no call."


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ProtocolError):
        task_of("x", {"n": float("nan")})
