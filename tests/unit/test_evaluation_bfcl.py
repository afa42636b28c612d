"""BFCL's rules for a right call, one made-up case each; what each case says was checked against the official checker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from schemas.tools import ToolCall
from services.datasets.sets import SetMissing
from services.evaluation.bfcl import Item, card_of, read, right_value, wrong

TEXT = {"type": "string"}
FUNCTION: Mapping[str, object] = {
    "name": "zoo.feed",
    "description": "Feed an animal.",
    "parameters": {
        "type": "dict",
        "properties": {"animal": TEXT, "kilos": {"type": "float"}, "at": {"type": "integer"}, "note": TEXT},
        "required": ["animal", "kilos"],
    },
}
GOLD: Mapping[str, Mapping[str, Sequence[object]]] = {"zoo.feed": {"animal": ["lion", "a lion"], "kilos": [2.0], "at": [7, ""]}}


def item(*golds: Mapping[str, Mapping[str, Sequence[object]]], category: str = "simple_python") -> Item:
    return Item("x", category, (), (card_of(FUNCTION),), {"zoo_feed": "zoo.feed"}, (FUNCTION,), golds)


def call(name: str = "zoo_feed", **arguments: object) -> ToolCall:
    return ToolCall(id="c", name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ([call(animal="lion", kilos=2.0)], ""),
        ([call(animal="lion", kilos=2)], ""),  # an integer will do for a float
        ([call(animal="A-Lion", kilos=2.0, at=7)], ""),
        ([call(animal="lion", kilos=2.0, at=8)], "at is 8"),
        ([call(animal="lion", kilos=2.0, at=7.0)], "at is 7.0"),  # but no float for an integer
        ([call(animal="lion", kilos=2.0, at=True)], "at is true"),
        ([call(animal="lion", kilos="2")], 'kilos is "2"'),
        ([call(animal="tiger", kilos=2.0)], 'animal is "tiger"'),
        ([call(animal="lion")], "kilos is missing"),
        ([call(animal="lion", kilos=2.0, note="")], "note is not wanted"),
        ([call(animal="lion", kilos=2.0, colour="red")], "colour is not wanted"),
        ([call("zoo_clean", animal="lion", kilos=2.0)], "called zoo_clean for zoo.feed"),
        ([], "0 calls for 1"),
        ([call(animal="lion", kilos=2.0)] * 2, "2 calls for 1"),
    ],
)
def test_a_call_is_right_or_the_reason_is_told(calls: list[ToolCall], reason: str) -> None:
    assert wrong(item(GOLD), calls) == reason


def test_an_optional_argument_that_gold_insists_on_may_not_be_left_out() -> None:
    insisting: Mapping[str, Mapping[str, Sequence[object]]] = {"zoo.feed": {"animal": ["lion"], "kilos": [2.0], "at": [7]}}
    assert wrong(item(insisting), [call(animal="lion", kilos=2.0)]) == "at is left out"


def test_parallel_calls_may_come_in_any_order_and_each_counts_once() -> None:
    other: Mapping[str, Mapping[str, Sequence[object]]] = {"zoo.feed": {"animal": ["bear"], "kilos": [5.0]}}
    lion, bear = call(animal="lion", kilos=2.0), call(animal="bear", kilos=5.0)
    assert wrong(item(GOLD, other, category="parallel"), [bear, lion]) == ""
    assert wrong(item(GOLD, GOLD, category="parallel"), [lion, bear]) != ""


def test_where_nothing_fits_any_call_is_wrong() -> None:
    assert wrong(item(category="irrelevance"), []) == ""
    assert wrong(item(category="live_irrelevance"), [call()]) == "called zoo_feed"


@pytest.mark.parametrize(
    ("kind", "value", "accepted", "right"),
    [
        ("string", "New York, NY", ["new york ny"], True),
        ("string", "it's", ['IT"S'], True),
        ("string", "a b", ["ab?"], False),
        ("any", "x", ["X"], True),
        ("boolean", True, [True], True),
        ("boolean", 1, [True], False),
        ("integer", "n", ["n"], True),  # gold of another type than declared: a variable, compared as it is
        ("integer", "N", ["n"], False),
        ("string", "", ["", "a"], True),
        (["integer"], [1, 2], [[1, 2]], True),
        (["integer"], [2, 1], [[1, 2]], False),
        (["integer"], [1.0, 2.0], [[1, 2]], False),
        (["float"], [1, 2], [[1.0, 2.0]], False),  # within lists an integer is no float
        (["float"], [1, 2], [[1, 2]], True),  # unless gold has integers itself
        (["string"], ["A.", "b"], [["a", "B"]], True),
        (["string"], [], [["a"], ""], True),  # where gold may be left out, an empty list passes
        (["string"], [], [["a"]], False),
        (["string"], "a", [["a"]], False),
        ("dict", {"a": "X", "b": 1}, [{"a": ["x"], "b": [1, 2]}], True),
        ("dict", {"a": "X"}, [{"a": ["x"], "b": [1, ""]}], True),
        ("dict", {"a": "X"}, [{"a": ["x"], "b": [1]}], False),
        ("dict", {"a": "X", "c": 1}, [{"a": ["x"]}], False),
        ("dict", {"a": ["X"]}, [{"a": [["x"]]}], False),  # lists within dictionaries are compared as they are
        (["dict"], [{"a": "X"}], [[{"a": ["x"]}]], True),
        (["dict"], [{"a": "X"}, {"a": "x"}], [[{"a": ["x"]}]], False),
        (["dict"], [], [[{"a": ["x"]}], ""], True),
        (["dict"], [{"a": "y"}], [[{"a": ["x"]}]], False),
    ],
)
def test_a_value_is_right_by_type_and_by_the_accepted_ones(
    kind: str | list[str], value: object, accepted: list[object], right: bool
) -> None:
    schema = {"type": kind} if isinstance(kind, str) else {"type": "array", "items": {"type": kind[0]}}
    assert right_value(value, schema, accepted) is right


def test_python_types_and_dotted_names_become_a_card() -> None:
    function: Mapping[str, object] = {
        "name": "geo.line length",
        "description": "",
        "parameters": {
            "type": "dict",
            "properties": {
                "ends": {"type": "tuple", "items": {"type": "float"}, "optional": True, "format": "x"},
                "unit": {"type": "any", "enum": ["m", "km"]},
            },
            "required": ["ends"],
        },
    }
    card = card_of(function)
    assert card.name == "geo_line_length"
    assert card.parameters == {
        "type": "object",
        "properties": {
            "ends": {"type": "array", "items": {"type": "number"}},
            "unit": {"type": "string", "enum": ["m", "km"]},
        },
        "required": ["ends"],
    }


def test_items_are_read_with_their_gold(tmp_path: Path) -> None:
    question = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Feed the lion."}]]
    row = {"id": "a", "question": question, "function": [FUNCTION]}
    (tmp_path / "possible_answer").mkdir()
    (tmp_path / "BFCL_v4_simple_python.json").write_text(json.dumps(row) + "\n")
    (tmp_path / "BFCL_v4_irrelevance.json").write_text(json.dumps(row) + "\n")
    (tmp_path / "possible_answer" / "BFCL_v4_simple_python.json").write_text(
        json.dumps({"id": "a", "ground_truth": [GOLD]}) + "\n"
    )
    (found,) = read(tmp_path, "simple_python")
    assert [message.role for message in found.messages] == ["system", "user"]
    assert (found.gold, found.names) == ((GOLD,), {"zoo_feed": "zoo.feed"})
    (none,) = read(tmp_path, "irrelevance")
    assert none.gold == ()
    with pytest.raises(SetMissing, match="bfcl-eval"):
        list(read(tmp_path, "multiple"))
