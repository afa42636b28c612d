"""Conversations as items: each place where the assistant speaks, after the gold history."""

from __future__ import annotations

from runtime.prompt import INSTRUCTIONS
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example
from services.evaluation.turns import instructed, items_of

CARD = ToolCard(name="weather", description="Tell the weather.", parameters={"type": "object", "properties": {}})
CALLS = (ToolCall(id="c1", name="weather"), ToolCall(id="c2", name="weather", arguments={"city": "Bonn"}))
SAID = (
    Message(role="user", content="The weather?"),
    Message(role="assistant", content="Let me look.", calls=CALLS),
    Message(role="tool", content="rain", name="weather"),
    Message(role="tool", content="sun", name="weather"),
    Message(role="assistant", content=" "),
    Message(role="user", content="And?"),
    Message(role="assistant", content="It rains."),
)
EXAMPLE = Example("e", (), "Be brief.", (CARD,), SAID, "own", "talk", "en")


def test_every_message_of_the_assistant_that_says_something_is_an_item() -> None:
    first, second = items_of(EXAMPLE, "own")
    assert (first.id, second.id) == ("e#0", "e#1")
    assert (first.calls, first.text, first.parallel) == (CALLS, "", True)
    assert (second.calls, second.text, second.parallel) == ((), "It rains.", False)
    assert [message.role for message in first.messages] == ["system", "user"]
    assert second.messages[1:] == SAID[:6]
    assert {first.group, second.group} == {"en-talk"}
    assert (first.language, first.cards, first.benchmark) == ("en", (CARD,), "own")


def test_the_last_one_alone_keeps_the_name_of_the_example() -> None:
    (last,) = items_of(EXAMPLE, "own", last=True, group="x", source=7, parallel=True)
    assert (last.id, last.group, last.text, last.source, last.parallel) == ("e", "x", "It rains.", 7, True)


def test_a_conversation_in_which_nobody_answers_has_none() -> None:
    assert list(items_of(Example("e", (), "", (), SAID[:1]), "own")) == []


def test_the_runtimes_instructions_stand_before_their_own() -> None:
    own = [Message(role="system", content="Be kind."), Message(role="user", content="Hi")]
    assert instructed(own, "Be brief.")[0].content == f"{INSTRUCTIONS}\nBe brief.\nBe kind."
    assert instructed(own[1:]) == (Message(role="system", content=INSTRUCTIONS), own[1])
