"""Training files are written and read back: the same conversations, and a reason for each line that is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.checks import fault
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import FileUnreadable
from services.datasets.example import Example, Row, Skipped
from services.datasets.formats.reading import read, row
from services.datasets.formats.writing import FORMATS, msagent, openai

NAMES = ("book_table", "find-city", "9lives")
LETTERS = st.characters(codec="utf-8", exclude_characters="<\ufffd\0", exclude_categories=["Cs"])
WORDS = st.text(LETTERS, min_size=1, max_size=30).filter(lambda text: text.strip() == text and text[0] not in "`{")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def card(name: str, **properties: object) -> ToolCard:
    return ToolCard(
        name=name, description=f"What {name} does.", parameters={"type": "object", "properties": properties, "required": []}
    )


@st.composite
def conversations(draw: st.DrawFn) -> Example:
    """Any conversation that no check objects to; its words hold no marker of a call."""
    tools = tuple(card(name, **{key: {} for key in draw(st.lists(WORDS, max_size=3, unique=True))}) for name in NAMES)
    said = Conversation()
    for _ in range(draw(st.integers(1, 3))):
        said.user(draw(WORDS))
        for _ in range(draw(st.integers(0, 2))):
            called = [
                (tool.name, {key: draw(VALUES) for key in _properties(tool)})
                for tool in draw(st.lists(st.sampled_from(tools), min_size=1, max_size=2))
            ]
            said.call(called, draw(st.just("") | WORDS))
            for name, _ in called:
                said.result(name, draw(WORDS))
        said.answer(draw(WORDS))
    return Example("c-1", (), draw(WORDS), tools, tuple(said.messages), language="en")


def _properties(tool: ToolCard) -> list[str]:
    properties = tool.parameters["properties"]
    assert isinstance(properties, dict)
    return [*properties]


def line(example: Example, form: str) -> JsonObject:
    """The line as it is read from a file."""
    read_back: JsonObject = orjson.loads(orjson.dumps(FORMATS[form](example)))
    return read_back


def taken(found: Row) -> Example:
    assert isinstance(found, Example), found
    return found


@given(conversations(), st.lists(WORDS, max_size=2), st.sampled_from(["", "hammerbench"]))
@settings(max_examples=60, deadline=None)
def test_the_own_format_loses_nothing(example: Example, runs: list[str], source: str) -> None:
    whole = Example(
        example.id, tuple(runs), example.system,
        (example.tools[0].model_copy(update={"title": "Book", "effect": "write"}), *example.tools[1:]),
        example.messages, source, "some-group", "zh", {"c1": "http://one.example"} if example.calls else {},
    )  # fmt: skip
    assert row(line(whole, "milepost"), "x", "milepost") == whole


@pytest.mark.parametrize("form", ["openai", "msagent"])
@given(conversations())
@settings(max_examples=60, deadline=None)
def test_the_public_formats_keep_what_they_have_room_for(form: str, example: Example) -> None:
    again = taken(row({**line(example, form), "id": "c-1"}, "x", form))
    assert again.messages == example.messages
    assert again.system == example.system
    assert [(each.name, each.description, each.parameters) for each in again.tools] == [
        (each.name, each.description, {key: value for key, value in each.parameters.items() if value or key != "required"})
        for each in example.tools
    ]


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": speaker, "value": value} for speaker, value in turns]


PLUGIN = """You help.1. {"plugin_name": "city", "plugin_owner": "us", "plugin_schema_for_model": {"name": "city",
"description": "About cities", "url": "http://c.example", "paths": [{"name": "city_size", "method": "post",
"description": "How large a city is", "parameters": [{"name": "city", "description": "Which", "required": "True"},
{"name": "year", "description": "When", "required": "False"}]}]}}

2. {"name": "sing", "description": "Sing 1. {loud}", "parameters": [
{"name": "song", "description": "What", "required": "True"}]}"""
CALL = """<|startofthink|>```JSON
{"api_name": "city_size", "url": "http://c.example/size", "parameters": {"city": "巴黎"}}
```<|endofthink|>"""
RESULT = '\n\n<|startofexec|>```JSON\n{"result": {"people": 2}}\n```<|endofexec|>\n'


def test_a_line_of_msagent_bench_gives_tools_calls_addresses_and_results() -> None:
    turns = said(("system", PLUGIN), ("user", "巴黎多大？"), ("assistant", f"看看。{CALL}{RESULT}{CALL}{RESULT}两人。"))
    for conversations in (turns, repr(turns)):  # the hub has them as a Python literal, too
        example = taken(row({"id": "MS_1", "conversations": conversations}, "x", "msagent"))
        assert (example.id, example.system, example.language) == ("MS_1", "You help.", "zh")
        assert [each.name for each in example.tools] == ["city_size", "sing"]
        assert example.tools[0].parameters["required"] == ["city"]
        assert example.tools[1].parameters["required"] == ["song"]
        assert [(each.role, each.content, len(each.calls)) for each in example.messages] == [
            ("user", "巴黎多大？", 0), ("assistant", "看看。", 1), ("tool", '{"result": {"people": 2}}', 0),
            ("assistant", "", 1), ("tool", '{"result": {"people": 2}}', 0), ("assistant", "两人。", 0),
        ]  # fmt: skip
        assert example.messages[1].calls == (ToolCall(id="c1", name="city_size", arguments={"city": "巴黎"}),)
        assert example.urls == {"c1": "http://c.example/size", "c2": "http://c.example/size"}
        assert '"url":"http://c.example/size"' in msagent(example)["conversations"][2]["value"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        (said(("system", PLUGIN), ("user", "Hi"), ("assistant", CALL.removesuffix("<|endofthink|>"))), "is not closed"),
        (said(("system", PLUGIN), ("user", "Hi"), ("assistant", CALL[:40] + CALL)), "is not closed"),
        (said(("system", PLUGIN), ("user", "Hi"), ("user", "Hi"), ("assistant", "Ho")), "roles out of order"),
        (said(("system", PLUGIN), ("assistant", "Ho")), "roles out of order"),
        (said(("user", "Hi"), ("assistant", CALL)), "a call to a tool that is not offered"),
        (said(("system", PLUGIN), ("user", "Hi"), ("assistant", CALL.replace("city\"", "town\""))), "not in the schema"),
        (said(("system", PLUGIN), ("user", "Hi"), ("assistant", CALL.replace('{"api', "{api"))), "a call is not JSON"),
        (said(("system", PLUGIN), ("user", "Hi"), ("assistant", f"Ho{RESULT}")), "nothing was called for"),
        (said(("system", PLUGIN), ("user", "Hi"), ("assistant", f"{CALL}{RESULT}<|endofthink|>")), "a marker"),
        (said(("system", PLUGIN), ("user", "Hi"), ("assistant", "")), "is empty"),
        (said(("system", "1. {\"name\": }"), ("user", "Hi"), ("assistant", "Ho")), "a listed tool is not JSON"),
        (said(("system", PLUGIN), ("user", "Hi")), "no assistant's turn"),
        ("__import__('os').getcwd()", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("['a', " + "' '," * 600_000 + "]", "over 2,000,000 characters"),
        (None, "no list"),
        ([{"from": "user"}], "without a speaker or a value"),
    ],
)  # fmt: skip
def test_a_faulty_line_of_msagent_bench_is_skipped_with_its_reason(turns: object, why: str) -> None:
    found = row({"id": "MS_2", "conversations": turns}, "x", "msagent")
    assert isinstance(found, Skipped)
    assert why in found.why


def chat(*messages: JsonObject, tools: object = None) -> JsonObject:
    offered = [{"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {
        "type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}}}]  # fmt: skip
    return {"messages": [*messages], "tools": offered if tools is None else tools}


USER: JsonObject = {"role": "user", "content": [{"type": "text", "text": "Add "}, {"type": "text", "text": "1"}]}
ASKED: JsonObject = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": f"call {place}", "type": "function", "function": {"name": "add", "arguments": f'{{"x": {place}}}'}}
        for place in (1, 2)
    ],
}


def test_results_of_a_chat_are_told_by_the_call_they_answer() -> None:
    results: list[JsonObject] = [{"role": "tool", "tool_call_id": f"call {place}", "content": str(place)} for place in (2, 1)]
    again: JsonObject = {"role": "assistant", "content": "", "function_call": {"name": "add", "arguments": {"x": 3}}}
    told = chat(
        {"role": "developer", "content": "Be kind."}, USER, ASKED, *results, again, {"role": "function", "content": "3"}
    )
    example = taken(row(told, "f:1", "openai"))
    assert (example.id, example.system) == ("f:1", "Be kind.")
    assert example.messages[0].content == "Add 1"
    assert [call.id for message in example.messages for call in message.calls] == ["c1", "c2", "c3"]
    assert [each.content for each in example.messages if each.role == "tool"] == ["2", "1", "3"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (chat(USER, ASKED, USER, {"role": "assistant", "content": "So."}), "a result is missing"),
        (chat(USER, {"role": "tool", "content": "1"}), "nothing was called for"),
        (chat(USER, ASKED, tools=[]), "not offered"),
        (chat(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "{"}}]}), "not JSON"),
        (chat(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": "[1]"}}]}), "no object"),
        (chat(USER, {"role": "assistant", "tool_calls": [{"function": {"name": "add"}}]}), "a required argument is missing"),
        (chat(USER, {"role": "assistant", "tool_calls": [{}]}), "without a name"),
        (chat(USER, {"role": "assistant", "content": [{"type": "image_url"}]}), "no text"),
        (chat(USER, {"role": "assistant", "content": "x"}, {"role": "system", "content": "y"}), "system after"),
        (chat(USER, {"role": "oracle", "content": "x"}), "nobody knows"),
        (chat(USER, {"role": "assistant", "content": "x" * 200_000}), "longer than 100,000 characters"),
        (chat(tools=[{"name": ""}]), "a tool has no name"),
        ({"messages": "?"}, "no list of objects"),
        ({"messages": [], "tools": {}}, "does not begin"),
        ({"messages": [], "tools": [1]}, "no list of objects"),
    ],
)
def test_a_faulty_line_of_a_chat_is_skipped_with_its_reason(line: JsonObject, why: str) -> None:
    found = row(line, "f:1", "openai")
    assert isinstance(found, Skipped)
    assert why in found.why


def simple(id: str = "1") -> Example:
    told = Conversation()
    told.user("Add 1.")
    told.call([("add", {"x": 1})])
    return Example(id, (), "", (card("add", x={"type": "number"}),), tuple(told.messages))


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_tells_its_format_and_bad_lines_stop_nothing(form: str, tmp_path: Path) -> None:
    good = orjson.dumps(FORMATS[form](simple()))
    path = tmp_path / "any.jsonl"
    path.write_bytes(b"\n".join([b"not json", good, b"[]", b"", b'{"a": "\xff"}', good]))
    rows = [*read(path)]
    assert [each.why for each in rows if isinstance(each, Skipped)] == ["not JSON", "not an object", "wrongly encoded text"]
    assert [each.row for each in rows if isinstance(each, Skipped)] == ["any.jsonl:1", "any.jsonl:3", "any.jsonl:5"]
    assert len([each for each in rows if isinstance(each, Example)]) == 2


def test_a_file_that_is_one_list_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_bytes(orjson.dumps([openai(simple()), 7, {**openai(simple()), "id": "1"}]))
    first, second, third = read(path, "openai")
    assert taken(first).messages == simple().messages
    assert isinstance(second, Skipped)
    assert taken(third).id == "1"


def test_what_is_no_training_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"text": "x"}))
    with pytest.raises(FileUnreadable, match="other"):
        [*read(path)]
    with pytest.raises(FileUnreadable, match="nowhere"):
        [*read(tmp_path / "nowhere.jsonl")]
    with pytest.raises(MilepostError, match="no format 'csv'"):
        [*read(path, "csv")]


def _twice(message: Message) -> Message:
    return message.model_copy(update={"calls": message.calls * 2})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"messages": ()}, "begin with a user"),
        ({"messages": (simple().messages[0], _twice(simple().messages[1]))}, "two calls of one id"),
        ({"tools": ()}, "a call to a tool that is not offered"),
        ({"tools": (card("add"),)}, "an argument that is not in the schema"),
        ({"system": "x" * 100_001}, "longer than"),
        ({"messages": (*simple().messages, Message(role="tool", name="sub", content=""))}, "nothing was called for"),
        ({"messages": (*simple().messages, *simple().messages)}, "a result is missing"),
        ({"messages": (Message(role="user", content=" "), *simple().messages[1:])}, "a user's turn is empty"),
        ({"messages": (Message(role="user", content="\ufffd"), *simple().messages[1:])}, "wrongly encoded"),
        ({"messages": (simple().messages[0], Message(role="assistant", content="<tool_call>{}"))}, "a marker"),
    ],
)
def test_what_is_wrong_with_an_example_is_said(change: dict[str, object], why: str) -> None:
    assert fault(simple()) == ""
    assert why in fault(replace(simple(), **change))  # type: ignore[arg-type]


def test_of_an_examination_only_the_last_turn_must_be_right() -> None:
    told = Conversation()
    told.user("Add 1.")
    told.call([("add", {"y": 1})])
    told.result("add", "no argument y")
    told.call([("add", {"x": 1})])
    example = Example("1", (), "", (card("add", x={}),), tuple(told.messages))
    assert fault(example) == "an argument that is not in the schema"
    assert fault(example, last=True) == ""


@pytest.mark.parametrize("value", ["1e999", "12345678901234567890123", '"\\u0000"', "[" * 40 + "]" * 40])
def test_arguments_that_no_run_could_hold_are_a_fault(value: str) -> None:
    arguments = f'{{"x": {value}}}'
    called: JsonObject = {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": arguments}}]}
    assert isinstance(row(chat(USER, called), "f:1", "openai"), Skipped)
