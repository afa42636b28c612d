"""Wire formats: what is written can be read again, what models write beside the form is read or refused in words."""

from __future__ import annotations

import json
import random
import string

import pytest

from schemas.canonical import canonical, read_json
from schemas.messages import Message
from schemas.tools import ToolCard
from services.llm.calls import argument_names
from services.llm.wire import WIRES
from services.llm.wire.bare_json import BareJson, function_line
from services.llm.wire.form import Asked, Malformed, Wire
from services.llm.wire.showing import Showing

RENEW = ToolCard(
    name="RenewInstance",
    description="Renew a subscription\n instance.",
    parameters={
        "type": "object",
        "properties": {
            "PeriodUnit": {"enum": ["Week", "Month"]},
            "Period": {"type": "integer", "minimum": 1},
            "InstanceId": {"type": "string"},
            "Tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["InstanceId", "Period"],
    },
)
# What could be taken for the end of a call, for another one, or for an answer.
TRAPS = (
    "</tool_call>", "<tool_call>", "```", "<|endofthink|>", "\nAction: x\nAction Input: {}", "Final Answer: no", ")", '")\n```',
    '{"name": "x", "arguments": {}}', "Observation:", "tool_call(", "'", '\\"', "\\", "\n", "\t", "🙂", "续费", "é", "\u2028",
    "", "]}", ", ", "**", "true", "None",
)  # fmt: skip
NAMES = ("InstanceId", "Period", "a.b", 'q"uote', "城市", "🙂", "with space", "class", "x-y", "_", "名_1", "naïve")


def text(draw: random.Random) -> str:
    return "".join(draw.choice([*TRAPS, *string.ascii_letters, *string.punctuation]) for _ in range(draw.randrange(6)))


def value(draw: random.Random, depth: int = 0) -> object:
    kinds = ["text", "integer", "number", "constant"] + (["list", "object"] if depth < 3 else [])
    match draw.choice(kinds):
        case "text":
            return text(draw)
        case "integer":
            return draw.randrange(-(2**53) + 1, 2**53)
        case "number":
            return draw.choice([0.5, -1e-7, 6.02e23, 3.0])
        case "constant":
            return draw.choice([True, False, None])
        case "list":
            return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
        case _:
            return arguments(draw, depth + 1)


def arguments(draw: random.Random, depth: int = 0) -> dict[str, object]:
    return {draw.choice([*NAMES, text(draw) or "_"]): value(draw, depth) for _ in range(draw.randrange(5))}


def said(wire: Wire, words: str, calls: list[Asked], cards: dict[str, ToolCard] | None = None) -> str:
    return "".join(wire.said(words, calls, cards or {}))


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_calls_survive_their_text(wire: Wire) -> None:
    for seed in range(400):
        draw = random.Random(seed)
        count = draw.randint(1, 3) if wire.several else 1
        calls = [Asked(draw.choice(["RenewInstance", "a-b_9", "X"]), arguments(draw)) for _ in range(count)]
        words = draw.choice(["", "Let me see.", "我来查一下。"])
        written = said(wire, words, calls, {RENEW.name: RENEW})
        assert list(wire.parse(written).calls) == calls, written


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_a_call_reads_the_same_after_a_store_that_sorts_keys(wire: Wire) -> None:
    given = {"InstanceId": "i-1", "Period": 3, "PeriodUnit": "Month"}
    stored = read_json(canonical(given), limit=10_000)
    assert isinstance(stored, dict)
    cards = {RENEW.name: RENEW}
    assert said(wire, "", [Asked(RENEW.name, stored)], cards) == said(wire, "", [Asked(RENEW.name, given)], cards)
    assert argument_names(RENEW) == ["InstanceId", "Period", "PeriodUnit", "Tags"]


CALLED = (Asked("f", {"x": "1, 2", "y": [True, None]}),)


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("json", '```json\n{"name": "f", "arguments": {"x": "1, 2", "y": [true, null]}}\n```'),
        ("json", '{"arguments": {"x": "1, 2", "y": [true, null]}, "name": "f", "id": 7}'),
        ("json", 'I look.\n{"name": "f", "arguments": {"x": "1, 2", "y": [true, null]}}'),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"x\\": \\"1, 2\\", \\"y\\": [true, null]}"}'),
        ("openai", '{"function_call": {"name": "f", "arguments": "{\\"x\\": \\"1, 2\\", \\"y\\": [true, null]}"}}'),
        ("openai", '{"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"x": "1, 2", "y": [true, null]}}}]}'),
        (
            "msagent",
            'Use it.\n<|startofthink|>```JSON\n{"api_name": "f", "url": "http://x", "parameters": '
            '{"x": "1, 2", "y": [true, null]}}\n```<|endofthink|>\n\n<|startofexec|>made up<|endofexec|>',
        ),
        ("msagent", '<|startofthink|>{"name": "f", "parameters": {"x": "1, 2", "y": [true, null]}}<|endofthink|>'),
        (
            "mrkl",
            'Thought: so\nAction: f\nAction Input: {"x": "1, 2",\n "y": [true, null]}\nObservation: made up\nFinal Answer: no',
        ),
        ("chatglm3", "f\n```python\ntool_call(x='1, 2', y=[True, None])\n```"),
        ("chatglm3", " f\n ```python\ntool_call(x='1, 2', **{'y': [True, None]})\n```"),
    ],
)
def test_what_models_write_beside_the_form_is_read(name: str, reply: str) -> None:
    assert WIRES[name].parse(reply).calls == CALLED


@pytest.mark.parametrize(
    ("name", "reply"),
    [
        ("json", '{"name": "f"}'),
        ("json", '{"name": "f", "arguments": {"x": '),
        ("json", '{"name": "f", "arguments": {"x": 1, "x": 2}}'),
        ("json", '{"name": "f", "arguments": {"x": 1e999}}'),
        ("json", '{"name": "f", "arguments": ' + '{"x": ' * 60 + "1" + "}" * 62),
        ("json", "<tool_response>\nyes\n</tool_response>"),
        ("json", "[1, 2]"),
        ("hermes", "<tool_call>f(x)</tool_call>"),
        ("hermes", '{"name": "f", "arguments": {}}'),
        ("openai", '{"tool_calls": []}'),
        ("openai", '{"tool_calls": [3]}'),
        ("openai", '{"answer": "yes"}'),
        ("msagent", "<|startofthink|>I think"),
        ("msagent", "<|startofthink|>```JSON\n{'api_name': 'f', 'parameters': {}}\n```<|endofthink|>"),
        ("msagent", '```JSON\n{"api_name": "f", "parameters": {}}\n```'),
        ("mrkl", "Thought: I should call f."),
        ("mrkl", "Action: f\nAction Input: x = 1"),
        ("chatglm3", "f\n```python\ntool_call(x=open('y'))\n```"),
        ("chatglm3", "f\n```python\ntool_call(x={1})\n```"),
        ("chatglm3", "f\n```python\ntool_call('x')\n```"),
        ("chatglm3", "f\n```python\ntool_call(" + "[" * 5000 + "\n```"),
        ("chatglm3", "tool_call(x=1)"),
    ],
)
def test_what_is_no_call_says_why(name: str, reply: str) -> None:
    with pytest.raises(Malformed) as malformed:
        WIRES[name].parse(reply)
    assert 20 < len(str(malformed.value)) < 400


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
@pytest.mark.parametrize("answer", ["好的。", "Use a < b, or `x`.", "It costs 3 {EUR}.", "A list [1]."])
def test_words_are_an_answer_and_are_shown_as_they_come(wire: Wire, answer: str) -> None:
    reply = said(wire, answer, [])
    assert wire.parse(reply).text == answer
    heard: list[str] = []
    showing = Showing(wire, heard.append)
    for character in reply:
        showing.hear(character)
    showing.end(wire.parse(reply).text)
    assert "".join(heard) == answer


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_nothing_of_a_call_is_ever_shown(wire: Wire) -> None:
    heard: list[str] = []
    showing = Showing(wire, heard.append)
    for character in said(wire, "", [Asked("RenewInstance", {"InstanceId": "i-1"})]):
        showing.hear(character)
    assert heard == []


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_tools_and_results_are_told(wire: Wire) -> None:
    offer = "".join(wire.offer([RENEW]))
    assert all(word in offer for word in ("RenewInstance", "InstanceId", "subscription"))
    _, text = wire.result(Message(role="tool", content="OrderId 7", name="RenewInstance"), "en")
    assert "OrderId 7" in "".join(text)


def test_a_tool_is_one_short_line() -> None:
    line = function_line(RENEW)
    assert line == (
        'RenewInstance(InstanceId: string, Period: integer, PeriodUnit?: "Week" | "Month", Tags?: string[]): '
        "Renew a subscription instance."
    )


def test_a_result_is_asked_about_in_the_language_of_the_person() -> None:
    wire, message = BareJson(), Message(role="tool", content="done")
    assert "请用中文回答" in "".join(wire.result(message, "zh")[1])
    assert "What does this mean" in "".join(wire.result(message, "en")[1])


def test_modelscope_agent_is_spoken_to_the_letter() -> None:
    wire = WIRES["msagent"]
    assert said(wire, "", [Asked("f", {"x": 1})]) == (
        '<|startofthink|>```JSON\n{"api_name": "f", "parameters": {"x": 1}}\n```<|endofthink|>'
    )
    assert "<|startofexec|>done<|endofexec|>\n" in "".join(wire.result(Message(role="tool", content="done"), "en")[1])


def test_arguments_of_openai_calls_are_json() -> None:
    call = json.loads(said(WIRES["openai"], "", [Asked("f", {"x": [1]}), Asked("g", {})]))
    assert [each["function"] for each in call["tool_calls"]] == [
        {"name": "f", "arguments": {"x": [1]}},
        {"name": "g", "arguments": {}},
    ]
