"""Tools as public sets write them become cards: their names, types and lists of parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.canonical import JsonObject
from schemas.tools import ToolCard
from services.datasets.conversion.arguments import fitted
from services.datasets.conversion.cards import arguments_schema, card, cards, names, own_name, tool_name


def schema(parameters: object, required: object = None) -> dict[str, object]:
    return arguments_schema(parameters, required)


@given(st.text(max_size=100).filter(str.strip))
def test_any_name_fits_a_card_and_is_known_by_what_it_was(name: str) -> None:
    made = card({"name": name})
    assert made.name == tool_name(name.strip())
    assert own_name(made) == name.strip()


def test_names_of_one_example_stay_apart() -> None:
    listed = [{"name": name} for name in ("a.b", "a b", "a_b", "天气", "天氣", "x" * 70 + "1", "a.b")]
    made = cards(listed)
    assert [each.name for each in made][:3] == ["a_b", "a_b_2", "a_b_3"]
    assert len({each.name for each in made}) == 6  # "a.b" was there twice, and the same
    assert names(made)["a b"] == "a_b_2"
    assert made[5].name == "x" * 63 + "1"


@pytest.mark.parametrize(
    ("foreign", "kind"),
    [
        ("str", "string"), ("String", "string"), ("dict", "object"), ("float", "number"), ("List[str]", "array"),
        ("int", "integer"), ("bool", "boolean"), ("list of strings", "array"), (["string", "null"], "string"),
        ("string (optional)", "string"),
        ("any", None), ("Enum<X>", "string"), ("Widget", None), (["string", "integer"], None), (7, None), (None, None),
    ],
)  # fmt: skip
def test_types_become_those_of_json(foreign: object, kind: str | None) -> None:
    value = schema({"x": {"type": foreign, "description": "d"}})["properties"]
    assert isinstance(value, dict)
    assert value["x"].get("type") == kind


@pytest.mark.parametrize(
    ("parameters", "required"),
    [
        ({"type": "object", "properties": {"x": {"type": "str"}, "y": {}}, "required": ["x"]}, None),
        ({"type": "dict", "properties": {"x": {"type": "str"}, "y": {}}}, ["x", "gone"]),
        ({"x": {"type": "str", "required": True}, "y": {}}, None),
        ([{"name": "x", "type": "str", "required": "True"}, {"name": "y", "required": "False"}], None),
        ({"properties": [{"name": "x", "type": "str", "required": True}, {"name": "y"}]}, None),
        ({"x": "str", "y": {}}, ["x"]),
    ],
)
def test_parameters_are_read_from_every_shape(parameters: object, required: object) -> None:
    made = schema(parameters, required)
    assert made["type"] == "object"
    properties = made["properties"]
    assert isinstance(properties, dict)
    assert [*properties] == ["x", "y"]
    assert properties["x"] == {"type": "string"}
    assert made["required"] == ["x"]


def test_a_parameter_may_be_called_type() -> None:
    assert schema({"type": "str", "size": "int"})["properties"] == {"type": {"type": "string"}, "size": {"type": "integer"}}
    assert schema({"type": "object"}) == {"type": "object", "properties": {}}
    assert schema(None) == schema("nothing") == {"type": "object", "properties": {}}


def test_what_a_value_holds_is_read_too() -> None:
    counted = {"n": {"type": "integer", "minimum": 1}}
    nested: JsonObject = {"items": {"type": "dict", "properties": {"n": {"type": "int", "minimum": 1}}, "required": ["n"]}}
    made = schema({"x": {"type": "list", **nested}, "y": {"type": "str", "enum": ["a", "a", "b"], "default": "a"}})
    assert made["properties"] == {
        "x": {"type": "array", "items": {"type": "object", "properties": counted, "required": ["n"]}},
        "y": {"type": "string", "enum": ["a", "b"], "default": "a"},
    }  # fmt: skip


def test_a_schema_without_end_is_cut() -> None:
    deep: JsonObject = {}
    for _ in range(100):
        deep = {"type": "object", "properties": {"x": deep}}
    assert str(schema(deep)).count("properties") < 20


@pytest.mark.parametrize("function", [{}, {"name": ""}, {"name": 7}, {"function": {"description": "x"}}])
def test_what_has_no_name_is_no_tool(function: JsonObject) -> None:
    with pytest.raises(ValueError, match="no name"):
        card(function)


def test_a_description_is_there_and_not_endless() -> None:
    assert card({"type": "function", "function": {"name": "x", "description": " "}}).description == "x"
    assert len(card({"name": "x", "description": "d" * 9000}).description) == 4000


@pytest.mark.parametrize(
    ("kind", "value", "fit"),
    [
        ("string", 380000, "380000"), ("string", True, "true"), ("string", [1], [1]), ("integer", "5", 5),
        ("integer", "5.5", "5.5"), ("integer", 5.0, 5), ("number", "5.50", 5.5), ("number", "nan", "nan"),
        ("number", "1_000", "1_000"), ("boolean", "False", False), ("boolean", "maybe", "maybe"),
        ("integer", "API_call_0", "API_call_0"), ("integer", "9" * 30, "9" * 30), ("object", "x", "x"),
    ],
)  # fmt: skip
def test_arguments_take_the_type_of_the_schema_where_they_say_the_same(kind: str, value: object, fit: object) -> None:
    made = fitted({"x": value}, ToolCard(name="t", description="t", parameters=schema({"x": {"type": kind}})))
    assert made == {"x": fit}
    assert type(made["x"]) is type(fit)
