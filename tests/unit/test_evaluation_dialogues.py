from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.evaluation.dialogues import Dialogue, Expected, read, wrong

CARD = ToolCard(name="stop", description="Stop it.", parameters={"type": "object", "properties": {}})


def dialogue(expected: Expected, language: str = "en") -> Dialogue:
    return Dialogue("x", language, "call", "test", (Message(role="user", content="?"),), (CARD,), expected)


def call(name: str, **arguments: object) -> ToolCall:
    return ToolCall(id="c", name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"ids": ["b", "a"], "n": 3, "sum": "17 × 23"}, ""),
        ({"ids": ["a", "b"], "n": 3.0, "sum": "17*23", "more": True}, ""),
        ({"ids": ["a"], "n": 3, "sum": "17*23"}, "ids is ['a']"),
        ({"ids": "a", "n": 3, "sum": "17*23"}, "ids is 'a'"),
        ({"ids": ["a", "b"], "sum": "17*23"}, "n is None"),
    ],
)
def test_only_the_arguments_that_matter_are_compared(arguments: dict[str, object], reason: str) -> None:
    wanted = dialogue(Expected(call="stop", arguments={"ids": ["a", "b"], "n": 3, "sum": "17*23"}))
    assert wrong(wanted, [call("stop", **arguments)], "") == reason


def test_a_call_must_be_of_the_tool_and_must_be_made() -> None:
    wanted = dialogue(Expected(call="stop"))
    assert wrong(wanted, [call("start")], "") == "called start"
    assert wrong(wanted, [], "I have stopped it.") == "answered"


@pytest.mark.parametrize(
    ("language", "text", "reason"),
    [
        ("en", "It is 42 km.", ""),
        ("en", "It is 41.84 km.", ""),
        ("en", "It is far.", "without 41.8|42"),
        ("en", "大约 42 公里。", "in another language"),
        ("zh", "大约 42 公里。", ""),
        ("zh", "About 42 km.", "in another language"),
        ("zh", " ", "said nothing"),
    ],
)
def test_an_answer_has_the_fact_and_the_language(language: str, text: str, reason: str) -> None:
    wanted = dialogue(Expected(answer=("41.8|42",)), language)
    assert wrong(wanted, [], text) == reason


def test_a_call_is_no_answer() -> None:
    assert wrong(dialogue(Expected(answer=())), [call("stop")], "") == "called stop"


def test_a_file_is_read_with_its_own_cards_and_split_in_halves(tmp_path: Path) -> None:
    said = [
        {"role": "user", "content": "Stop both."},
        {"role": "assistant", "calls": [{"name": "stop", "arguments": {"id": "a"}}]},
        {"role": "tool", "name": "stop", "content": "stopped"},
    ]
    line = {"language": "en", "kind": "after_call", "tools": ["stop", "own"], "messages": said, "expect": {"call": "stop"}}
    own = {"name": "own", "description": "Own.", "parameters": {"type": "object"}}
    path = tmp_path / "dialogues.json"
    path.write_text(json.dumps({"cards": [own], "dialogues": [{"id": "1", **line}, {"id": "2", **line}]}))
    first, second = read(path, {"stop": CARD})
    assert (first.split, second.split) == ("dev", "test")
    assert [card.name for card in first.cards] == ["stop", "own"]
    assert first.after_result
    assert first.messages[1].calls[0].arguments == {"id": "a"}
    assert [message.origin for message in first.messages] == ["user", "model", "tool"]
