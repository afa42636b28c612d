"""API-Bank: dialogues with calls and results, and cards from what is told of APIs and how they are called."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from services.datasets.sets import SetMissing, data_set
from tests.support.conversations import examples, rows, said, skipped

COLUMNS = ("类型", "类名", "input_parameters", "api_info")
LAMP = 'description = "Switches a lamp."\ninput_parameters = {"lamp": {"type": "str", "description": "Which lamp."}, "old": {}}'
TABLE = [
    ("对外影响 - 数据库操作 - 改", "SwitchLamp", "(lamp: str)", LAMP), ("获取信息", "FindLamp", "None", "."),
    ("对外影响 - 数据库操作 - 查", "QueryLamp", "()", "description = 'Looks.'"),
]  # fmt: skip


def user(text: str) -> dict[str, object]:
    return {"role": "User", "text": text}


def ai(text: str) -> dict[str, object]:
    return {"role": "AI", "text": text}


def api(name: str, output: object, exception: str | None = None, **given: object) -> dict[str, object]:
    return {"role": "API", "api_name": name, "param_dict": given, "result": {"output": output, "exception": exception}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "all_apis.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *TABLE])
    for level in ("level-1-given-desc", "level-2-toolsearcher"):
        (tmp_path / "lv1-lv2-samples" / level).mkdir(parents=True)
    return tmp_path


def put(folder: Path, name: str, *turns: object, level: str = "level-1-given-desc") -> None:
    lines = "\n".join(json.dumps(turn) for turn in turns)
    (folder / "lv1-lv2-samples" / level / f"{name}.jsonl").write_text(lines)


def test_words_before_a_call_are_said_with_it(folder: Path) -> None:
    put(
        folder, "a", user("It is dark."), user("Help."), ai("Which lamp?"), user("The red one."), ai("A moment."),
        api("SwitchLamp", "success", lamp="red"), api("QueryLamp", {"on": True}, lamp="red"), ai("It is on."), ai("Bye."),
    )  # fmt: skip
    (example,) = examples(rows("api-bank", folder, "level-1"))
    assert said(example) == [
        "user: It is dark.\nHelp.", "assistant: Which lamp?", "user: The red one.",
        'assistant: A moment. SwitchLamp({"lamp": "red"})', "SwitchLamp: success", 'assistant: QueryLamp({"lamp": "red"})',
        'QueryLamp: {"on":true}', "assistant: It is on.\nBye.",
    ]  # fmt: skip
    assert [(tool.name, tool.effect) for tool in example.tools] == [("SwitchLamp", "write"), ("QueryLamp", "read")]


def test_an_api_takes_what_the_dialogues_give_it_in_the_words_of_the_table(folder: Path) -> None:
    put(folder, "a", user("Dark."), api("SwitchLamp", "ok", lamp="red", token="t"), ai("Done."))
    put(folder, "b", user("Dark."), api("SwitchLamp", None, "No such lamp.", lamp="x"), ai("No."))
    one, other = examples(rows("api-bank", folder, "level-1"))
    assert one.tools == other.tools
    assert one.tools[0].parameters == {
        "type": "object", "required": ["lamp"],
        "properties": {"lamp": {"type": "string", "description": "Which lamp."}, "token": {"type": "string"}},
    }  # fmt: skip
    assert said(other)[2] == 'SwitchLamp: {"error":"No such lamp."}'


def test_what_a_search_found_tells_what_an_api_takes(folder: Path) -> None:
    found = {"name": "FindLamp", "description": "Finds.", "input_parameters": {"room": {"type": "int"}}}
    turns = [user("Where?"), api("ToolSearcher", found, keywords="lamp"), api("FindLamp", [1], room=3), ai("There.")]
    put(folder, "a", *turns, level="level-2-toolsearcher")
    (example,) = examples(rows("api-bank", folder, "level-2"))
    assert [tool.name for tool in example.tools] == ["ToolSearcher", "FindLamp"]
    assert example.tools[1].parameters["properties"] == {"room": {"type": "integer"}}


def test_what_is_wrong_is_told(folder: Path, tmp_path: Path) -> None:
    put(folder, "a", user("Hello"), ai("Hello"))
    put(folder, "b", user("Dark."), api("SwitchLamp", "ok", lamp="red"), user("Well?"), ai("Done."))
    put(folder, "c", user("Dark."), "no turn")
    put(folder, "d", {"role": "API"})
    assert skipped(rows("api-bank", folder, "level-1")) == [
        ("level-1-a", "nothing is called in it"), ("level-1-b", "roles out of order: user after tool"),
        ("level-1-c", "a turn is no object"), ("level-1-d", "there is no api_name"),
    ]  # fmt: skip
    with pytest.raises(SetMissing, match="all_apis"):
        rows("api-bank", tmp_path / "nowhere", "level-1")


def test_it_is_for_evaluation_only() -> None:
    assert set(data_set("api-bank").parts.values()) == {"evaluation"}
