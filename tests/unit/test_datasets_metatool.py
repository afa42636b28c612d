"""MetaTool: requests for plugins, split as retrieval's map was trained."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.metatool import HELD_OUT, NO_CALL, OFFERED, fold
from tests.support.conversations import examples, rows, said, skipped

PLUGINS = [f"Plugin {n}" for n in range(60)]
ASKED = [f"Please do {n}." for n in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "dataset"
    for part in ("data", "tmp_dataset"):
        (data / part).mkdir(parents=True)
    (data / "plugin_des.json").write_text(json.dumps({name: f"Does {name}." for name in PLUGINS}))
    with (data / "data" / "all_clean_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["Query", "Tool"], *([text, PLUGINS[n]] for n, text in enumerate(ASKED))])
    needs = [
        {"label": "positive", "tool": "Plugin 3", "query": ASKED[3]}, {"label": "negative", "query": "Think of a number."},
        {"label": "positive", "tool": "Plugin X", "query": "Nobody knows."}, {"label": "positive", "query": "No name."},
    ]  # fmt: skip
    (data / "tmp_dataset" / "Task1.json").write_text(json.dumps(needs))
    listed = "\n".join(f"{n}. tool name: P{n}, tool description: ['Does {n}.']" for n in range(1, 11))
    pair = {"action_prompt": f"Choose.\n{listed}\n", "tool": ["P4", "P7"], "query": "Both."}
    (data / "tmp_dataset" / "Task2-Subtask4.json").write_text(json.dumps([pair, {**pair, "tool": ["P4", "P99"]}]))
    return tmp_path


def test_a_request_is_offered_its_plugin_among_others(folder: Path) -> None:
    for example in examples(rows("metatool", folder, "retrieval")):
        assert said(example)[1] == f"assistant: {example.group.replace(' ', '_')}({{}})"
        assert len({tool.name for tool in example.tools}) == OFFERED
    assert rows("metatool", folder, "retrieval") == rows("metatool", folder, "retrieval")


def test_held_out_plugins_and_requests_are_not_learned_from(folder: Path) -> None:
    train, held = (examples(rows("metatool", folder, part)) for part in ("train", "retrieval"))
    texts = {example.messages[0].content for example in train}
    assert {example.messages[0].content for example in held} == {text for text in ASKED if fold(text) == HELD_OUT}
    assert texts == {
        text for n, text in enumerate(ASKED) if fold(text) != HELD_OUT and fold(PLUGINS[n]) != HELD_OUT and n != 3
    }  # fmt: skip
    offered = {tool.title or tool.name for example in train for tool in example.tools}
    assert not [name for name in offered if fold(name) == HELD_OUT]
    assert [name for name in PLUGINS if fold(name) == HELD_OUT], "there is something to hold out"


def test_what_is_examined_by_need_is_left_out_of_training(folder: Path) -> None:
    assert skipped(rows("metatool", folder, "train")) == [("train-3", "it stands in the evaluation part `need`, too")]


def test_need_wants_a_plugin_or_none(folder: Path) -> None:
    found = rows("metatool", folder, "need")
    wants, none = examples(found)
    assert (said(wants)[1], said(none)[1]) == ("assistant: Plugin_3({})", f"assistant: {NO_CALL}")
    assert (len(none.tools), none.group) == (OFFERED, "none")
    assert skipped(found) == [("need-2", "nothing is told of Plugin X"), ("need-3", "there is no tool")]


def test_two_tools_are_called_at_once_of_the_ten_that_the_set_names(folder: Path) -> None:
    found = rows("metatool", folder, "two-tool")
    (example,) = examples(found)
    assert said(example)[1] == "assistant: P4({}) P7({})"
    assert {tool.name for tool in example.tools} == {f"P{n}" for n in range(1, 11)}
    assert next(tool.description for tool in example.tools if tool.name == "P4") == "Does 4."
    assert skipped(found) == [("two-tool-1", "nothing is told of P99")]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for part in data_set("metatool").parts:
        with pytest.raises(SetMissing, match="dataset"):
            rows("metatool", tmp_path, part)
