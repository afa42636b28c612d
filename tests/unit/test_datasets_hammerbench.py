"""HammerBench's rows become conversations: questions, one call, refusals in the person's language."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from schemas.canonical import JsonObject
from services.datasets.conversion.files import FileUnreadable
from services.datasets.example import Example, Row, Skipped
from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.hammerbench import KINDS, held_back

OURS, OTHER, HELD = "Home.Lamps.dim", "Home.Doors.unlock", "Home.Heating.warm"


def tool(name: str, *parameters: str) -> JsonObject:
    properties = {each: {"type": "string", "description": f"The {each}"} for each in parameters}
    return {
        "name": name,
        "description": name,
        "parameters": {"type": "object", "properties": properties, "required": [*parameters]},
    }


TOOLS = {OURS: tool(OURS, "room", "level", "time"), OTHER: tool(OTHER, "room"), HELD: tool(HELD, "floor", "degrees")}


def user(text: str) -> JsonObject:
    return {"role": "user", "content": text}


def asks(text: str) -> JsonObject:
    return {"role": "assistant", "content": text}


def calls(name: str, **arguments: object) -> JsonObject:
    return {"role": "function call", "content": {"name": name, "arguments": arguments}}


def slots(name: str = OURS, offered: tuple[str, ...] = (OURS, OTHER, HELD), **arguments: object) -> JsonObject:
    given = arguments or {"room": "hall", "level": 3, "time": ""}
    messages = [
        user("Dim it"), calls(name), asks("Which room?"), user("The hall"), calls(name, room="hall"), asks("How far?"),
        user("To 3"), calls(name, **given),
    ]  # fmt: skip
    return {"id": 4, "messages": messages, "multiple_tools": [TOOLS[each] for each in offered], "single_tool": [TOOLS[name]]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for language in ("en", "zh"):
        for kind in KINDS:
            put(tmp_path, kind, language)
    return tmp_path


def put(folder: Path, kind: str, language: str, *rows: object) -> None:
    place = f"single-turn/{kind}" if kind.startswith("ir_") else f"multi-turn/HammerBench_{kind}"
    path = folder / "data" / language / f"{place}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps([*rows]))


def rows(folder: Path, part: str) -> list[Row]:
    return [*data_set("hammerbench").read(folder, part)]


def said(example: Row) -> list[tuple[str, str]]:
    assert isinstance(example, Example), example
    return [(each.role, str(dict(each.calls[0].arguments)) if each.calls else each.content) for each in example.messages]


def test_the_tools_of_these_tests_are_on_both_sides() -> None:
    assert held_back(HELD)
    assert not held_back(OURS)
    assert not held_back(OTHER)


def test_a_partial_call_is_a_question_and_the_last_is_the_call(folder: Path) -> None:
    put(folder, "mQsA", "en", slots())
    (example,) = rows(folder, "train")
    assert said(example) == [
        ("user", "Dim it"), ("assistant", "Which room?"), ("user", "The hall"), ("assistant", "How far?"), ("user", "To 3"),
        ("assistant", "{'room': 'hall', 'level': '3'}"),
    ]  # fmt: skip
    assert isinstance(example, Example)
    assert (example.id, example.group, example.language, example.system) == ("en/mQsA/4", "en-mQsA", "en", "")
    assert [card.name for card in example.tools] == ["Home_Lamps_dim", "Home_Doors_unlock"]  # nothing held back
    assert [card.title for card in example.tools] == [OURS, OTHER]


def test_required_is_what_every_complete_call_gives_in_any_file(folder: Path) -> None:
    put(folder, "mQsA", "en", slots())
    put(folder, "sQmA", "zh", slots(room="厅", time="八点", level="3"))
    put(folder, "External", "zh", slots(level="3", room="x"))
    first = rows(folder, "train")[0]
    assert isinstance(first, Example)
    assert first.tools[0].parameters["required"] == ["room", "level"]
    assert first.tools[1].parameters["required"] == ["room"]  # never called: as the set has it


def test_required_is_told_by_the_calls_of_both_languages(folder: Path) -> None:
    put(folder, "sQmA", "en", slots(room="hall", level=3, time="now"))
    put(folder, "mQsA", "zh", slots(room="hall", level=3))
    english = next(each for each in rows(folder, "train") if isinstance(each, Example) and each.language == "en")
    assert english.tools[0].parameters["required"] == ["room", "level"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_no_tool_does_is_refused_in_the_persons_language(folder: Path, language: str) -> None:
    shift = [user("Dim it"), calls(OURS), asks("?"), user("Oh no, sing"), asks("Sorry, no tool is suitable for your request.")]
    put(folder, "IS", language, {"messages": shift, "single_tool": [TOOLS[OURS]]})
    put(
        folder,
        "ir_ST_External",
        language,
        {"messages": [user("Sing"), calls(OURS, room="x")], "multiple_tools": [TOOLS[OTHER]]},
    )
    examples = rows(folder, "train")
    assert len(examples) == 2
    for example in examples:
        role, text = said(example)[-1]
        assert role == "assistant"
        assert text.isascii() == (language == "en")
        assert isinstance(example, Example)
        assert not example.calls


def test_a_held_back_tool_is_in_no_row_to_learn_from_and_each_of_its_turns_is_examined(folder: Path) -> None:
    put(folder, "mQsA", "en", slots(HELD, (HELD, OTHER), floor="first", degrees="7"), slots())
    put(folder, "sQmA", "en", slots(HELD, (HELD, OTHER), floor="first", degrees="7"))  # the same turns again
    assert "warm" not in str([row for row in rows(folder, "train") if isinstance(row, Example)])
    examined = rows(folder, "held-back")
    assert [row.id for row in examined if isinstance(row, Example)] == [f"en/mQsA/4/{turn}" for turn in (1, 2, 3)]
    assert [said(row)[-1][1] for row in examined] == ["Which room?", "How far?", "{'floor': 'first', 'degrees': '7'}"]


def test_a_request_without_its_tool_is_there_with_it_too(folder: Path) -> None:
    for name, part in ((OURS, "train-offered"), (HELD, "held-back-offered")):
        row = {"messages": [user("Do it in the hall"), calls(name, **{"room": "hall"})], "multiple_tools": [TOOLS[OTHER]]}
        described = {**slots(), "single_tool": [], "multiple_tools": [tool(name, "room")]}
        put(folder, "ir_ST_External", "en", row, {**row, "messages": [user("x"), calls("Home.Nowhere.do")]})
        put(folder, "mQsA", "en", described)
        examined = rows(folder, part)
        (example,) = [row for row in examined if isinstance(row, Example)]
        assert said(example)[-1] == ("assistant", "{'room': 'hall'}")
        assert {card.title for card in example.tools} == {name, OTHER}
        assert example.group == "en-ST_External"
        assert Skipped("en/ST_External/1", "the tool that it wants is described nowhere") in examined


def test_a_row_of_which_nothing_may_be_offered_is_skipped(folder: Path) -> None:
    put(folder, "ir_ST_External", "en", {"messages": [user("Sing"), calls(OURS)], "multiple_tools": [TOOLS[HELD]]})
    assert rows(folder, "train") == [Skipped("en/ir_ST_External/0", "all its tools are held back")]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (slots(room="hall", colour="red"), "an argument that is not in the schema"),
        ({"messages": "?"}, "not a conversation with a call"),
        ({"messages": [user("Hi")]}, "not a conversation with a call"),
        ({"messages": [user("Hi"), {"role": "function call", "content": "?"}]}, "not a call"),
        ({**slots(), "multiple_tools": [{"description": "x"}]}, "a tool has no name"),
        (["?"], "not a conversation with a call"),
    ],
)
def test_a_faulty_row_is_skipped_and_the_others_stay(folder: Path, row: object, why: str) -> None:
    put(folder, "mQmA", "en", row, slots())
    faulty, good = rows(folder, "train")
    assert isinstance(faulty, Skipped)
    assert faulty.why == why
    assert isinstance(good, Example)


def test_a_missing_or_broken_file_is_named(folder: Path) -> None:
    broken = folder / "data" / "zh" / "multi-turn" / "HammerBench_IS.json"
    broken.write_text("[")
    with pytest.raises(FileUnreadable, match="HammerBench_IS"):
        rows(folder, "train")
    broken.unlink()
    with pytest.raises(SetMissing, match="HammerBench_IS"):
        rows(folder, "train")
