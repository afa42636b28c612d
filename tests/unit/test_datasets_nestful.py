"""NESTFUL: calls that refer to each other by their labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.nestful import OFFERED
from tests.support.conversations import examples, rows, said, skipped

SPECIFICATION = [
    {"name": "Find.Stop", "description": "Find a stop", "query_parameters": {"near": {"type": "string", "required": True}}},
    {"name": "Next", "description": "The next bus", "path_parameters": {"stop": {"type": "string", "required": True}}},
    {"name": "Next", "description": "The next ship", "arguments": {"pier": {"allowed_values": ["a", "b"]}}},
    *({"name": f"Other{n}", "description": "Something else", "parameters": {}} for n in range(20)),
]


def chain(*steps: tuple[str, dict[str, object]]) -> dict[str, object]:
    calls: list[object] = [{"name": name, "arguments": given, "label": f"var{n}"} for n, (name, given) in enumerate(steps, 1)]
    return {"input": "When?", "output": [*calls, {"name": "var_result", "arguments": {"when": "$var1$"}}]}


def put(folder: Path, *asked: object) -> None:
    (folder / "data" / "executable").mkdir(parents=True)
    for kind, told in (("data", asked), ("spec", SPECIFICATION)):
        (folder / "data" / "executable" / f"executable-{kind}.json").write_text(json.dumps(told))


def test_references_are_kept_and_name_calls(tmp_path: Path) -> None:
    put(tmp_path, chain(("Find.Stop", {"near": "the mill"}), ("Next", {"stop": "$var1.id$"})))
    (example,) = examples(rows("nestful", tmp_path, "executable"))
    assert said(example) == ["user: When?", 'assistant: Find_Stop({"near": "the mill"}) Next({"stop": "$var1.id$"})']
    assert [call.id for call in example.messages[1].calls] == ["var1", "var2"]
    assert len(example.tools) == OFFERED


def test_of_two_functions_of_one_name_it_is_the_one_that_takes_the_arguments(tmp_path: Path) -> None:
    put(tmp_path, chain(("Next", {"pier": "a"})))
    (example,) = examples(rows("nestful", tmp_path, "executable"))
    called = next(tool for tool in example.tools if tool.name == example.messages[1].calls[0].name)
    assert called.description == "The next ship"
    assert called.parameters["properties"] == {"pier": {"type": "string", "enum": ["a", "b"]}}


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetMissing, match="executable-data"):
        rows("nestful", tmp_path, "executable")
    twice = chain(("Find.Stop", {"near": "x"}), ("Find.Stop", {"near": "y"}))
    for step in twice["output"]:  # type: ignore[attr-defined]  # a list, made above
        step["label"] = "var1"
    put(tmp_path, chain(("Walk", {})), chain(("Next", {"colour": 1})), chain(("Find.Stop", {})), chain(), twice, 3)
    assert [why for _, why in skipped(rows("nestful", tmp_path, "executable"))] == [
        "a call to a tool that the specification has not", "an argument that is not in the schema",
        "a required argument is missing", "nothing is called in it", "two calls of one id", "the request is no object",
    ]  # fmt: skip


def test_it_is_for_evaluation_only() -> None:
    assert set(data_set("nestful").parts.values()) == {"evaluation"}
