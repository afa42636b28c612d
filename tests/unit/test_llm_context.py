"""What stands before a user's words is one message with them, for every kind of model."""

from __future__ import annotations

from schemas.messages import Generation, Message, Prompt
from schemas.tools import ToolCall, ToolCard
from services.llm.chat import CHATML, FORMATS, turns
from services.llm.context import together
from services.llm.grounding import grounded
from services.llm.openai_model import Endpoint, OpenAIModel
from services.llm.replies import Reply, read_reply
from services.llm.scripted import Script, ScriptedModel
from services.llm.wire import WIRES

TEXT = {"type": "string"}
RENEW = ToolCard(name="renew", description="renews", parameters={"type": "object", "properties": {"id": TEXT, "note": TEXT}})
STOP = ToolCard(name="stop", description="stops", parameters={"type": "object"})
SYSTEM = Message(role="system", content="Be brief.")
FOUND = Message(role="user", content="", name="tools", part="tools", tools=(RENEW,))
PASSAGES = (
    Message(role="user", content="Passages:\n[1] A\n> about i-42", name="passages", part="passages", origin="retrieved"),
    Message(role="user", content="[2] B\n> 更多", name="passages", part="passages", origin="retrieved"),
)
ASKED = Message(role="user", content="renew it", origin="user")
PROMPT = Prompt(messages=(SYSTEM, FOUND, *PASSAGES, ASKED), tools=(STOP,))
SAID = "Passages:\n[1] A\n> about i-42\n[2] B\n> 更多\n\nrenew it"


def test_context_and_words_are_one_message() -> None:
    assert [(message.role, message.content) for message in together(PROMPT.messages)] == [
        ("system", "Be brief."),
        ("user", SAID),
    ]
    for chat in FORMATS.values():
        roles = [role for role, _ in turns(PROMPT, chat, WIRES["hermes"])]
        assert roles in (["system", "user"], ["user"])


def test_tools_in_the_system_message_are_no_message_of_their_own() -> None:
    first = FOUND.model_copy(update={"role": "system"})
    prompt = PROMPT.model_copy(update={"messages": (SYSTEM, first, ASKED)})
    assert [message.content for message in together(prompt.messages)] == ["Be brief.", "renew it"]
    (_, system), (_, user) = turns(prompt, CHATML, WIRES["json"])
    assert "renew(" in "".join(system)
    assert user == ("renew it",)


def test_a_remote_model_is_offered_all_tools_and_reads_one_message() -> None:
    request = OpenAIModel("m", Endpoint("http://x", "m"))._request(PROMPT, native=True)
    assert request["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SAID}]
    assert [tool["function"]["name"] for tool in request["tools"]] == ["stop", "renew"]  # type: ignore[attr-defined, index]


async def test_a_script_reads_what_a_model_would() -> None:
    script = Script.model_validate(
        {"rules": [{"role": "user", "match": r"\[1\] (\w+)\n> ([^\n]+).*renew it$", "say": "{1}: {2}"}]}
    )
    said: Generation = await ScriptedModel(script).generate(PROMPT, on_text=lambda _: None)
    assert said.text == "A: about i-42"


def test_the_language_is_that_of_the_words_alone() -> None:
    """A Chinese document does not make an English question Chinese."""
    result = (Message(role="assistant", content="", calls=(ToolCall(id="c", name="renew", arguments={}),)),
              Message(role="tool", content="done", name="renew"))  # fmt: skip
    prompt = PROMPT.model_copy(update={"messages": (*PROMPT.messages, *result)})
    assert "What does this mean for me?" in "".join(turns(prompt, CHATML, WIRES["json"])[-1][1])


def test_what_a_passage_says_may_be_used_in_a_call_of_a_tool_that_was_found() -> None:
    call = ToolCall(id="c", name="renew", arguments={"id": "i-42", "note": "made-up-7"})
    assert grounded(Reply("", (call,)), PROMPT).calls[0].arguments == {"id": "i-42"}
    assert read_reply('{"name": "renew", "arguments": {"id": "i-42"}}', PROMPT, WIRES["json"]).calls[0].name == "renew"
    assert "There is no tool" in read_reply('{"name": "destroy", "arguments": {}}', PROMPT, WIRES["json"]).malformed


def test_without_its_tools_a_prompt_offers_none_anywhere() -> None:
    bare = PROMPT.without_tools()
    assert bare.offered == ()
    assert "renew(" not in str(turns(bare, CHATML, WIRES["json"]))
    assert turns(bare, CHATML, WIRES["json"])[-1][1][-1] == "renew it"
