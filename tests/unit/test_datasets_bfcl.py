"""BFCL: functions as cards, the first value that counts as right as the gold one, the first turn of many."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.bfcl import NO_CALL
from tests.support.conversations import examples, rows, said, skipped


def function(name: str, required: list[str], **types: object) -> dict[str, object]:
    properties = {argument: kind if isinstance(kind, dict) else {"type": kind} for argument, kind in types.items()}
    return {"name": name, "description": name, "parameters": {"type": "dict", "properties": properties, "required": required}}


def put(folder: Path, name: str, items: Sequence[object]) -> None:
    path = folder / "bfcl_eval" / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in items))


def item(id: str, text: str, *functions: object) -> dict[str, object]:
    return {"id": id, "question": [[{"role": "user", "content": text}]], "function": [*functions]}


AREA = function("shapes.area", ["base"], base="integer", unit="string", box={"type": "dict", "properties": {}}, deep="float")


def gold(id: str, *calls: Mapping[str, object]) -> dict[str, object]:
    return {"id": id, "ground_truth": [*calls]}


def test_the_gold_call_has_the_first_value_that_counts(tmp_path: Path) -> None:
    accepted = {"base": ["", 3, 4], "unit": ["", "cm"], "deep": [2.5, ""], "box": [{"side": [1, 2], "lid": ["", True]}]}
    put(tmp_path, "BFCL_v4_simple_python.json", [item("a", "How large?", AREA)])
    put(tmp_path, "possible_answer/BFCL_v4_simple_python.json", [gold("a", {"shapes.area": accepted})])
    (example,) = examples(rows("bfcl", tmp_path, "simple_python"))
    assert said(example) == ["user: How large?", 'assistant: shapes_area({"base": 3, "deep": 2.5, "box": {"side": 1}})']
    assert (example.tools[0].title, example.group) == ("shapes.area", "simple_python")
    assert example.tools[0].parameters["type"] == "object"


def test_several_calls_are_made_at_once(tmp_path: Path) -> None:
    put(tmp_path, "BFCL_v4_parallel.json", [item("a", "Both?", AREA)])
    calls = [{"shapes.area": {"base": [number]}} for number in (1, 2)]
    put(tmp_path, "possible_answer/BFCL_v4_parallel.json", [gold("a", *calls)])
    (example,) = examples(rows("bfcl", tmp_path, "parallel"))
    assert said(example)[1:] == ['assistant: shapes_area({"base": 1}) shapes_area({"base": 2})']
    assert [call.id for call in example.messages[1].calls] == ["c1", "c2"]


def test_where_nothing_fits_nothing_is_called(tmp_path: Path) -> None:
    put(tmp_path, "BFCL_v4_irrelevance.json", [item("a", "Sing!", AREA)])
    put(tmp_path, "BFCL_v4_live_relevance.json", [item("b", "Paint!", AREA)])
    assert said(examples(rows("bfcl", tmp_path, "irrelevance"))[0]) == ["user: Sing!", f"assistant: {NO_CALL}"]
    assert skipped(rows("bfcl", tmp_path, "live_relevance")) == [("b", "some call is wanted, and none is the right one")]


def test_a_system_message_is_the_system_and_words_of_one_role_are_one_message(tmp_path: Path) -> None:
    one = item("a", "", AREA)
    told = [("system", "Be brief."), ("user", "Hi."), ("user", "How large?"), ("assistant", "What?"), ("user", "It.")]
    one["question"] = [[{"role": role, "content": text} for role, text in told]]
    put(tmp_path, "BFCL_v4_live_irrelevance.json", [one])
    (example,) = examples(rows("bfcl", tmp_path, "live_irrelevance"))
    assert (example.system, said(example)[:3]) == ("Be brief.", ["user: Hi.\nHow large?", "assistant: What?", "user: It."])


def test_what_is_wrong_with_an_item_is_told(tmp_path: Path) -> None:
    put(tmp_path, "BFCL_v4_multiple.json", [item(id, "?", AREA) for id in "abcd"] + ["{no json", {"id": "e"}])
    golds = [
        gold("a", {"other": {}}), gold("b", {"shapes.area": {"colour": ["red"]}}), gold("c", {"shapes.area": {}}),
        gold("e", {}),
    ]  # fmt: skip
    put(tmp_path, "possible_answer/BFCL_v4_multiple.json", golds)
    assert skipped(rows("bfcl", tmp_path, "multiple")) == [
        ("a", "a call to a tool that is not offered"), ("b", "an argument that is not in the schema"),
        ("c", "a required argument is missing"), ("d", "no gold calls"), ("BFCL_v4_multiple.json:5", "not JSON"),
        ("e", "there is no function"),
    ]  # fmt: skip


@pytest.mark.parametrize("packed", [True, False])
def test_of_many_turns_the_first_is_read(tmp_path: Path, packed: bool) -> None:
    move = function("mv", ["source", "destination"], source="string", destination="string")
    listing = function("ls", [], a="boolean")
    items = [
        {**item("a", "Move it."), "involved_classes": ["GorillaFileSystem"], "missed_function": {"2": ["ls"]}},
        {**item("b", "What is here?"), "involved_classes": ["GorillaFileSystem"]},
    ]
    golds = [{"id": "a", "ground_truth": [["mv('x', destination='y')"], ["ls()"]]}, {"id": "b", "ground_truth": [[], []]}]
    name = "BFCL_v4_multi_turn_miss_func.json"
    files: dict[str, Sequence[object]] = {name: items, f"possible_answer/{name}": golds}
    for name in ("gorilla_file_system", "math_api", "message_api", "posting_api", "ticket_api", "trading_bot"):
        put(tmp_path, f"multi_turn_func_doc/{name}.json", [move, listing] if name.startswith("gorilla") else [])
    for name in ("travel_booking", "vehicle_control"):
        put(tmp_path, f"multi_turn_func_doc/{name}.json", [])
    if packed:
        with tarfile.open(tmp_path / "bfcl_eval" / "data" / "multi_turn.tar.xz", "w:xz") as archive:
            for name, told in files.items():
                raw = "\n".join(map(json.dumps, told)).encode()
                member = tarfile.TarInfo(name)
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
    else:
        for name, told in files.items():
            put(tmp_path, name, told)
    found = rows("bfcl", tmp_path, "multi_turn_miss_func")
    (example,) = examples(found)
    assert said(example) == ["user: Move it.", 'assistant: mv({"source": "x", "destination": "y"})']
    assert [tool.name for tool in example.tools] == ["mv"], "what is missed is not offered yet"
    assert skipped(found) == [("b", "its first turn wants no call")]


def test_nothing_of_it_is_for_training_and_what_is_missing_is_named(tmp_path: Path) -> None:
    assert set(data_set("bfcl").parts.values()) == {"evaluation"}
    for part in ("simple_python", "irrelevance", "multi_turn_base"):
        with pytest.raises(SetMissing, match=r"BFCL_v4|multi_turn"):
            rows("bfcl", tmp_path, part)
