"""Seal-Tools, Glaive's demo, ToolRL and RoTBench: each set's own form becomes conversations, and bad rows a reason."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import orjson
import pytest

from schemas.canonical import JsonObject
from services.datasets.conversion.files import FileUnreadable
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.rotbench import golds

SETS = ("seal-tools", "glaive-demo", "toolrl", "rotbench")


def rows(name: str, folder: Path, part: str = "train") -> list[Row]:
    return [*data_set(name).read(folder, part)]


def examples(found: list[Row]) -> list[Example]:
    return [row for row in found if isinstance(row, Example)]


def skipped(found: list[Row]) -> list[str]:
    return [row.why for row in found if isinstance(row, Skipped)]


def said(example: Example) -> list[tuple[str, str]]:
    """Who said what; a call as NAME(arguments), with the words before it."""
    found = []
    for message in example.messages:
        called = " ".join(f"{call.name}({json.dumps(call.arguments)})" for call in message.calls)
        found.append((message.name or message.role, f"{message.content} {called}".strip()))
    return found


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def lines(*objects: object) -> bytes:
    return b"".join(orjson.dumps(each) + b"\n" for each in objects)


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_there_is_named_with_its_home(name: str, tmp_path: Path) -> None:
    for part in data_set(name).parts:
        with pytest.raises(SetMissing, match=name) as missing:
            rows(name, tmp_path, part)
        assert "https://" in missing.value.hint


# --- Seal-Tools ---


@pytest.fixture
def seal(tmp_path: Path) -> Path:
    tools = [
        {"api_name": f"tool{n}", "api_description": f"Tool {n}", "parameters": {"x": {"type": "int"}}, "required": ["x"]}
        for n in range(20)
    ]
    write(tmp_path / "Seal-Tools_Dataset" / "tool.jsonl", lines(*tools))
    return tmp_path


def test_calls_of_seal_tools_stand_among_distractors(seal: Path) -> None:
    calling = [{"api": "tool1", "parameters": {"x": "1"}}, {"api": "tool2", "parameters": {"x": "API_call_0"}}]
    good = {"id": "dev-1", "query": "Do both", "calling": calling}
    bad: list[object] = [
        {"id": "dev-2", "query": "Do", "calling": [{"api": "tool99", "parameters": {}}]},
        {"id": "dev-3", "query": "Do", "calling": [{"api": "tool1", "parameters": {"y": 1, "x": 1}}]},
        {"id": "dev-4", "query": "Do", "calling": [{"api": "tool1"}]},
        {"query": "Do"},
    ]
    write(seal / "Seal-Tools_Dataset" / "dev.jsonl", lines(good, *bad))
    found = rows("seal-tools", seal)
    (example,) = examples(found)
    assert said(example) == [("user", "Do both"), ("assistant", 'tool1({"x": 1}) tool2({"x": "API_call_0"})')]
    assert (example.group, len(example.tools)) == ("nested", 6)
    assert {"tool1", "tool2"} <= {card.name for card in example.tools}
    assert example == examples(rows("seal-tools", seal))[0]  # the same distractors each time
    assert skipped(found) == [
        "a call to a tool that is not offered", "an argument that is not in the schema", "a call without parameters",
        "not a query with calls",
    ]  # fmt: skip


def test_distractors_of_seal_tools_hang_on_the_row_and_tell_nothing_of_which_are_called(seal: Path) -> None:
    calling = [{"api": "tool1", "parameters": {"x": 1}}]
    several = [{"id": f"dev-{n}", "query": "Do", "calling": calling} for n in range(40)]
    write(seal / "Seal-Tools_Dataset" / "dev.jsonl", lines(*several))
    found = [[card.name for card in example.tools] for example in examples(rows("seal-tools", seal))]
    assert all(len(set(names)) == 5 and "tool1" in names for names in found)
    assert len({name for names in found for name in names}) == 20 and {names.index("tool1") for names in found} == {*range(5)}
    write(seal / "Seal-Tools_Dataset" / "dev.jsonl", lines(*reversed(several)))
    assert [[card.name for card in example.tools] for example in examples(rows("seal-tools", seal))] == found[::-1]


def test_what_seal_tools_may_not_say_ends_nothing(seal: Path) -> None:
    bad = {"id": "dev-1", "query": "Do", "calling": [{"api": "tool1", "parameters": {"x": 2**60}}]}
    good = {"id": "dev-2", "query": "Do", "calling": [{"api": "tool1", "parameters": {"x": 1}}]}
    write(seal / "Seal-Tools_Dataset" / "dev.jsonl", lines(bad, good))
    first, second = rows("seal-tools", seal)
    assert isinstance(first, Skipped) and first.why.startswith("a value that no message or tool may have")
    assert isinstance(second, Example)


def test_seal_tools_without_tools_cannot_be_read(seal: Path) -> None:
    write(seal / "Seal-Tools_Dataset" / "dev.jsonl", lines({}))
    write(seal / "Seal-Tools_Dataset" / "tool.jsonl", b"?\n")
    with pytest.raises(FileUnreadable, match="holds no tool"):
        rows("seal-tools", seal)


# --- Glaive ---


def test_glaives_conversations_are_read_once_each(tmp_path: Path) -> None:
    tools = json.dumps(
        [{"name": "add", "description": "Adds", "parameters": {"properties": {"x": {"type": "int"}}, "required": ["x"]}}]
    )

    def talk(*turns: tuple[str, str]) -> JsonObject:
        return {"conversations": [{"from": speaker, "value": value} for speaker, value in turns], "tools": tools}

    short = [("human", "Add 1"), ("function_call", '{"name": "add", "arguments": "{\\"x\\": \\"1\\"}"}'), ("observation", "1")]
    whole = [*short, ("gpt", "It is 1.")]
    english = [
        talk(*whole), talk(*whole, ("human", "Thanks"), ("gpt", "Yes.")), talk(("human", "add 1"), *short[1:]),
        talk(*short[:2], ("gpt", "So.")), talk(("human", "Hi"), ("function_call", "add 1")),
        {"conversations": [], "tools": "["}, talk(("robot", "Hi")),
    ]  # fmt: skip
    write(tmp_path / "data" / "glaive_toolcall_en_demo.json", orjson.dumps(english))
    write(
        tmp_path / "data" / "glaive_toolcall_zh_demo.json",
        orjson.dumps([{**talk(("human", "你好"), ("gpt", "你好！")), "tools": ""}]),
    )
    found = rows("glaive-demo", tmp_path)
    first, second = examples(found)
    assert said(first) == [
        ("user", "Add 1"), ("assistant", 'add({"x": 1})'), ("add", "1"), ("assistant", "It is 1."), ("user", "Thanks"),
        ("assistant", "Yes."),
    ]  # fmt: skip
    assert (first.id, first.group, second.group, second.tools) == ("en/1", "en-calls", "zh-words", ())
    assert sorted(skipped(found)) == [
        "a result is missing", "a speaker that nobody knows", "repeats another row", "repeats another row",
        "tools or a call cannot be read", "tools or a call cannot be read",
    ]  # fmt: skip


# --- ToolRL ---

INSTRUCTION = """You have tools. In your response, you can use the following tools:
1. Name: Find A City
Description: Finds
a city.
Parameters: {"name": {"type": "str", "description": "Which", "default": ""}}
2. sum: Adds.
Parameters: {'x': {'type': 'int', 'default': 7}}

**Steps for Each Turn**
Think."""


def test_tags_of_toolrl_are_turns_and_its_listing_the_tools(tmp_path: Path) -> None:
    history = """**Dialogue Records History**
<user> Add 1 and find Ulm </user>
<think> I think </think>
<tool_call>
{"name": "sum", "parameters": {"x": "1"}}
{"name": "Find A City", "parameters": {"name": "Ulm"}}
</tool_call>
<obs> [{"name": "sum", "results": 1}, {"name": "Find A City", "results": {"place": "Ulm"}}] </obs>
<response> Found. </response>
<user> And again </user>"""
    output = '<think> A <tool_call> maybe </think>\n<tool_call>\n{"name": "sum", "parameters": {}}\n</tool_call>'
    good = {"instruction": INSTRUCTION, "input": history, "output": output}
    bad = [
        {**good, "output": "<think> </think><response> </response>"}, {**good, "output": "<tool_call>\nsum\n</tool_call>"},
        {**good, "output": "?"},
        {**good, "instruction": "None."}, {**good, "instruction": INSTRUCTION.replace("{'x'", "{x")}, 7,
    ]  # fmt: skip
    write(tmp_path / "dataset" / "rlla_4k_raw" / "rlla_sft.json", orjson.dumps([good, *bad]))
    found = rows("toolrl", tmp_path)
    (example,) = examples(found)
    assert said(example) == [
        ("user", "Add 1 and find Ulm"), ("assistant", 'sum({"x": 1}) Find_A_City({"name": "Ulm"})'), ("sum", "1"),
        ("Find_A_City", '{"place":"Ulm"}'), ("assistant", "Found."), ("user", "And again"), ("assistant", "sum({})"),
    ]  # fmt: skip
    assert [card.parameters["properties"] for card in example.tools] == [
        {"name": {"type": "string", "description": "Which"}}, {"x": {"type": "integer", "default": 7}},
    ]  # fmt: skip
    assert skipped(found) == [
        "an assistant's turn is empty",
        "tools or a call cannot be read",
        "no reply",
        *["tools or a call cannot be read"] * 3,
    ]


def test_api_banks_reminder_stays_only_where_a_user_must_speak(tmp_path: Path) -> None:
    reminder = "<user> Based on our conversation above, please only make one tool call to solve my need.</user>"
    call = '<tool_call>{"name": "sum", "parameters": {"x": 2}}</tool_call>'
    told = [
        f"<user>Add</user><response>I see.</response><response>I add.</response>{reminder}",
        f"<user>Add</user>{reminder}",
        f"<user>Add</user>{call}<obs>2</obs>{reminder}",
        "<user>Add</user><response>I add.</response>",
    ]
    items = [{"system": INSTRUCTION, "user": each, "answer": {"name": "sum", "parameters": {"x": 1}}} for each in told]
    write(tmp_path / "benchmarks" / "API-Bank" / "level-2-api_processed.json", orjson.dumps(items))
    found = [said(each) for each in examples(rows("toolrl", tmp_path, "api-bank-2"))]
    last = ("assistant", 'sum({"x": 1})')
    assert [each[-1] for each in found[:3]] == [last] * 3
    assert [[role for role, _ in each] for each in found] == [
        ["user", "assistant", "user", "assistant"], ["user", "assistant"], ["user", "assistant", "sum", "assistant"],
        ["user", "assistant"],
    ]  # fmt: skip
    assert found[0][1] == ("assistant", "I see.\nI add.")
    assert found[3][1] == ("assistant", 'I add. sum({"x": 1})')


def test_toolrls_table_is_read_and_a_broken_one_named(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "dataset" / "rlla_4k" / "test.parquet"
    path.parent.mkdir(parents=True)
    turns = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": "<user> Hi </user>"}]
    judged = {"ground_truth": "<think> so </think>\n<response> Hello. </response>", "style": "rule"}
    parquet.write_table(arrow.table({"prompt": [turns], "reward_model": [judged]}), path)
    (example,) = examples(rows("toolrl", tmp_path, "test"))
    assert said(example) == [("user", "Hi"), ("assistant", "Hello.")]
    path.write_bytes(b"PAR1")
    with pytest.raises(FileUnreadable, match="rlla_4k"):
        rows("toolrl", tmp_path, "test")


# --- RoTBench ---

LISTED = json.dumps(
    [
        {"name": "find", "description": "Find.", "parameters": {"properties": {"what": {"type": "str"}}}, "required": ["what"]},
        {"name": "sdne", "description": "Finish the task and give your answer.", "parameters": {"properties": {"answer": {}}}},
        {"name": "ask", "description": "You can ask user for guidance when", "parameters": {"properties": {"question": {}}}},
    ]
)  # fmt: skip


def step(name: str, **arguments: object) -> str:
    return f"Thought: so\nAction: {name}\nAction Input: {json.dumps(arguments)}"


def trajectory(*turns: tuple[str, object]) -> JsonObject:
    first = [
        {"from": "system", "value": f"access of the following tools:\n{LISTED}\n\nLet's Begin!"},
        {"from": "user", "value": "Find it\nBegin!\n"},
    ]
    return {
        "id": "Turn 1: Find it",
        "conversations": [*first, *({"from": speaker, "value": value} for speaker, value in turns)],
    }


def test_of_rottunings_turns_the_longest_are_kept_and_end_in_words(tmp_path: Path) -> None:
    begun = [("assistant", step("ask", question="What?")), ("user", "Pens"), ("assistant", step("find", what="pens"))]
    whole = [*begun, ("function", "2"), ("assistant", 'Action: sdne\nAction Input: {"answer": "There\nare 2."}')]
    stopped = [*begun, ("function", "0"), ("assistant", step("sdne", answer="I cannot handle the task."))]
    content = lines(
        trajectory(begun[0]), trajectory(*begun), trajectory(*whole), trajectory(*whole), trajectory(*stopped),
        trajectory(("assistant", step("find", what="x")), ("assistant", step("find", what="y"))),
        trajectory(("assistant", "Action: find\nAction Input: what")), trajectory(("judge", "x")), {"conversations": []},
    )  # fmt: skip
    path = tmp_path / "rottuning_train" / "train_gpt4_clean.tar.xz"
    path.parent.mkdir()
    with tarfile.open(path, "w:xz") as archive:
        member = tarfile.TarInfo("Code/Things/Pens/train_gpt4.jsonl")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    found = rows("rotbench", tmp_path)
    (example,) = examples(found)
    assert said(example) == [
        ("user", "Find it"), ("assistant", "What?"), ("user", "Pens"), ("assistant", 'find({"what": "pens"})'), ("find", "2"),
        ("assistant", "There\nare 2."),
    ]  # fmt: skip
    assert ([card.name for card in example.tools], example.group, example.id) == (["find"], "Things", "Things/Pens:3")
    assert skipped(found) == [
        "another row holds it", "another row holds it", "another row holds it", "it gives up", "a result is missing",
        "tools or a call cannot be read", "a speaker that nobody knows", "not a trajectory",
    ]  # fmt: skip
    path.write_bytes(path.read_bytes()[:120])
    with pytest.raises(FileUnreadable, match="train_gpt4_clean"):
        rows("rotbench", tmp_path)


def test_the_examination_of_rotbench_has_several_right_calls(tmp_path: Path) -> None:
    wrong_before = [("assistant", step("find", where="x")), ("function", "find() got an unexpected argument")]
    raw = trajectory(*wrong_before, ("assistant", [step("find", what="pens"), step("find", what="a pen")]))
    write(tmp_path / "Data" / "Third_Turn" / "heavy.json", orjson.dumps([raw]))
    (example,) = examples(rows("rotbench", tmp_path, "third-turn-heavy"))
    assert said(example)[-1] == ("assistant", 'find({"what": "pens"})')
    assert golds(raw) == [("find", {"what": "pens"}), ("find", {"what": "a pen"})]
