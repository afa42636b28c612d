"""Grammars of tools: whatever schema comes, calls of it are valid, or it is refused by name and soon."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from schemas.messages import JsonOutput, RegexOutput
from schemas.tools import ToolCard
from services.llm.calls import arguments_schema
from services.llm.grammar import LARGEST, Grammar, Grammars, OutputRefused, SchemaRefused
from services.llm.tokenizer import Vocabulary, tokenizer_from
from services.llm.validity import fault
from services.llm.weights import Weights
from services.llm.wire import WIRES
from services.llm.wire.form import Wire
from tests.support.tiny_model import Tiny

STOP = ToolCard(
    name="StopInstance",
    description="Stop an instance.",
    parameters={"type": "object", "properties": {"InstanceId": {"type": "string"}}, "required": ["InstanceId"]},
)
SOON_S = 10.0


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return Vocabulary(tokenizer_from(Weights(Tiny.random("qwen2", tied=True).write(path))))


@pytest.fixture(scope="module")
def grammars(vocabulary: Vocabulary) -> Grammars:
    return Grammars(vocabulary, [vocabulary.special("<|im_end|>") or 0])


def tool(schema: object = None, **parameters: object) -> ToolCard:
    """A tool with one required argument x, or with these parameters."""
    one = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    return ToolCard(name="Odd", description="odd", parameters=parameters or one)


def takes(grammar: Grammar, vocabulary: Vocabulary, text: str) -> bool:
    """Whether a grammar lets a whole text through, one token after the other, and lets it end there."""
    for token in vocabulary.encode(text):
        if not grammar.takes(token) or not grammar.allowed()[token]:
            return False
        grammar.accept([token])
    return grammar.complete


def call(wire: Wire, card: ToolCard, arguments: Mapping[str, object]) -> str:
    return "".join((wire.opening, *wire.body(card.name, arguments, card), wire.closing))


NODE = {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}}, "required": ["v"]}
RECURSIVE = {"type": "object", "properties": {"x": NODE}, "required": ["x"], "$defs": {"node": NODE}}
ODD_NAMES = {"a.b": 1, 'q"uote\\': 2, "城市": 3, "🙂": 4, "": 5, "new\nline": 6, "$ref": 7, "with space": 8}
# A tool, arguments that it allows, and some that it does not.
CASES: dict[str, tuple[ToolCard, object, object]] = {
    "unknown keywords": (tool({"type": "string", "example": "y", "x-foo": 1, "nullable": True}), "a", 1),
    "unknown format": (tool({"type": "integer", "format": "int32"}), 7, "7"),
    "format of its own": (tool({"type": "string", "format": "aliyun-arn"}), "acs:ecs", 7),
    "nullable": (tool({"type": ["string", "null"]}), None, 1),
    "nullable union": (tool({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}), None, "x"),
    "one of": (tool({"oneOf": [{"type": "string"}, {"type": "integer"}]}), 3, []),
    "tuple": (tool({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False}), ["a", 1], [1]),
    "old tuple": (tool({"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}), ["a", 1], [1]),
    "pattern properties": (
        tool({"type": "object", "patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False}),
        {"x-a": "1"},
        {"y": "1"},
    ),
    "free object": (tool({"type": "object", "additionalProperties": True}), {"any": ["thing", {"at": "all"}]}, "x"),
    "closed object": (tool({"type": "object", "properties": {"a": {"type": "integer"}}}), {"a": 1}, {"b": 1}),
    "untyped": (tool({}), [1, {"a": None}], ...),
    "true": (tool(True), "x", ...),
    "const": (tool({"const": {"a": [1, None, "é🙂"]}}), {"a": [1, None, "é🙂"]}, {"a": []}),
    "enum of all kinds": (tool({"enum": ["好", 1, None, True, "a\"b"]}), 'a"b', "no"),
    "exact integers": (tool({"type": "integer"}), 2**53 - 1, 2**53),
    "bounds": (tool({"type": "integer", "exclusiveMinimum": -3, "maximum": 12}), -2, -3),
    "pattern": (tool({"type": "string", "pattern": "^i-[a-z0-9]{4,20}$"}), "i-bp1a", "i-"),
    "recursive": (tool(**RECURSIVE), {"v": 1, "next": {"v": 2, "next": {"v": 3}}}, {"next": {"v": 1}}),
    "recursive in itself": (tool(type="object", properties={"x": {"$ref": "#"}}), {"x": {}}, 1),
    "required without a property": (tool(type="object", required=["x"]), "any", ...),
}  # fmt: skip


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
@pytest.mark.parametrize("case", CASES)
def test_schemas_of_the_world_constrain(grammars: Grammars, vocabulary: Vocabulary, wire: Wire, case: str) -> None:
    card, right, wrong = CASES[case]
    assert takes(grammars.of_calls([STOP, card], wire), vocabulary, call(wire, card, {"x": right}))
    assert not fault({"x": right}, card.parameters)
    if wrong is not ...:
        assert not takes(grammars.of_calls([STOP, card], wire), vocabulary, call(wire, card, {"x": wrong}))


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_arguments_may_have_any_names(grammars: Grammars, vocabulary: Vocabulary, wire: Wire) -> None:
    card = tool(type="object", properties={name: {"const": value} for name, value in ODD_NAMES.items()}, required=["🙂"])
    assert takes(grammars.of_calls([card], wire), vocabulary, call(wire, card, ODD_NAMES))
    assert takes(grammars.of_calls([card], wire), vocabulary, call(wire, card, {"🙂": 4}))
    assert not takes(grammars.of_calls([card], wire), vocabulary, call(wire, card, {"城市": 3}))


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_any_of_the_optional_arguments_may_lack(grammars: Grammars, vocabulary: Vocabulary, wire: Wire) -> None:
    names = ("a", "b", "c")
    for required in ((), ("b",), names):
        card = tool(type="object", properties={name: {"type": "boolean"} for name in names}, required=list(required))
        for chosen in range(8):
            given = {name: True for bit, name in enumerate(names) if chosen & 1 << bit}
            fits = set(required) <= set(given)
            assert takes(grammars.of_calls([card], wire), vocabulary, call(wire, card, given)) == fits


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
def test_a_tool_without_arguments_can_be_called(grammars: Grammars, vocabulary: Vocabulary, wire: Wire) -> None:
    for parameters in (
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"properties": {}, "additionalProperties": False},
    ):
        card = tool(**parameters)
        assert takes(grammars.of_calls([card, STOP], wire), vocabulary, call(wire, card, {}))
    assert not takes(
        grammars.of_calls([tool(type="object")], wire), vocabulary, call(wire, tool(type="object"), {"made": "up"})
    )


def test_what_strings_cannot_hold_cannot_be_written(grammars: Grammars, vocabulary: Vocabulary) -> None:
    for inside in ("\\u0000", "\\ud800", "\0", "\\u00e9"):
        text = '{"name": "StopInstance", "arguments": {"InstanceId": "' + inside + '"}}'
        assert not takes(grammars.of_calls([STOP], WIRES["json"]), vocabulary, text)
    for inside in ('\\n\\t\\r\\\\\\"', "é", "续费🙂", "/"):
        text = '{"name": "StopInstance", "arguments": {"InstanceId": "' + inside + '"}}'
        assert takes(grammars.of_calls([STOP], WIRES["json"]), vocabulary, text)


REFUSED: dict[str, ToolCard] = {
    "a type that is none": tool({"type": "strange"}),
    "a reference to nowhere": tool({"$ref": "#/nowhere"}),
    "a reference to an address": tool({"$ref": "http://127.0.0.1:9/schema.json"}),
    "a property that cannot be": tool(False),
    "look-ahead": tool({"type": "string", "pattern": "^(?=a)b"}),
    "no schema": tool(type="object", properties={"x": 7}),
    "too large": tool({"enum": ["x" * 100 + str(number) for number in range(LARGEST // 100)]}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_schema_that_cannot_constrain_names_its_tool(grammars: Grammars, case: str) -> None:
    began = time.perf_counter()
    with pytest.raises(SchemaRefused) as refused:
        grammars.of_calls([STOP, REFUSED[case]], WIRES["json"])
    assert refused.value.tool == "Odd"
    assert refused.value.why
    assert time.perf_counter() - began < SOON_S


def deep(levels: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"d": schema}, "required": ["d"]}
    return schema


ENORMOUS: dict[str, ToolCard] = {
    "5,000 options of 100 characters": tool({"enum": [f"{number}-{'x' * 95}" for number in range(5000)]}),
    "1,000 optional arguments": tool(
        type="object", properties={f"p{number}": {"type": "string", "description": "d" * 400} for number in range(1000)}
    ),
    "2,000 required arguments": tool(
        type="object", properties={f"p{n}": {"type": "string"} for n in range(2000)}, required=[f"p{n}" for n in range(2000)]
    ),
    "2,000 alternatives": tool({"anyOf": [{"type": "object", "properties": {f"k{n}": {"const": n}}} for n in range(2000)]}),
    "10 levels": tool(deep(10)),
    "an object that needs itself": tool(type="object", properties={"x": {"$ref": "#"}}, required=["x"]),
    "a pattern of a million": tool({"type": "string", "pattern": "(a{1,1000}){1,1000}"}),
    "50,000 items": tool({"type": "array", "items": {"type": "string"}, "minItems": 50_000}),
}


@pytest.mark.parametrize("case", ENORMOUS)
def test_an_enormous_schema_works_or_is_refused_soon(grammars: Grammars, case: str) -> None:
    began = time.perf_counter()
    try:
        grammar = grammars.of_calls([STOP, ENORMOUS[case]], WIRES["json"])
        random = np.random.default_rng(1)
        for _ in range(60):
            if grammar.finished:
                break
            grammar.accept([int(random.choice(np.flatnonzero(grammar.allowed())))])
    except SchemaRefused as refused:
        assert "Odd" in refused.tool
    assert time.perf_counter() - began < SOON_S


@pytest.mark.parametrize(
    "output", [RegexOutput(pattern="(?=a)b"), RegexOutput(pattern="("), JsonOutput(json_schema={"type": "strange"})]
)
def test_an_output_that_cannot_constrain_is_refused(grammars: Grammars, output: RegexOutput | JsonOutput) -> None:
    with pytest.raises(OutputRefused, match=output.kind):
        grammars.of_answer(output)


def test_a_compiled_grammar_is_not_changed_by_its_use(grammars: Grammars, vocabulary: Vocabulary) -> None:
    text = call(WIRES["json"], STOP, {"InstanceId": "i-1"})
    assert all(takes(grammars.of_calls([STOP], WIRES["json"]), vocabulary, text) for _ in range(3))


def test_tightening_leaves_what_is_combined_alone() -> None:
    parts = [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"type": "object", "properties": {"b": {}}}]
    mixed = arguments_schema(tool({"allOf": parts}))
    assert "additionalProperties" not in json.dumps(mixed["properties"])
    nested = arguments_schema(tool({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}}))
    assert json.dumps(nested["properties"]).count('"additionalProperties": false') == 1
    assert nested["additionalProperties"] is False


@pytest.mark.parametrize(
    ("schema", "value", "why"),
    [
        ({"$ref": "http://127.0.0.1:9/schema.json"}, 1, "cannot be followed"),
        ({"$ref": "#"}, 1, "cannot be followed"),
        ({"type": "strange"}, 1, "broken"),
        ({"pattern": r"\p{Han}+"}, "x", ""),
        ({"pattern": "^a$"}, "b", "does not match"),
        ({"properties": {"a": {"items": {"type": "integer"}}}}, {"a": [1, "2"]}, "['a'][1]: '2' is not of type 'integer'"),
        ({"uniqueItems": True}, [1, 1], "non-unique"),
    ],
)
def test_no_schema_breaks_the_check(schema: dict[str, object], value: object, why: str) -> None:
    assert why in fault(value, schema)
    assert bool(fault(value, schema)) == bool(why)


def test_a_check_fetches_nothing(tmp_path: Path) -> None:
    elsewhere = tmp_path / "schema.json"
    elsewhere.write_text('{"type": "string"}')
    assert "cannot be followed" in fault(1, {"$ref": elsewhere.as_uri()})
