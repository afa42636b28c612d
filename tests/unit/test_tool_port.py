"""The checks that stand before and after every call."""

from __future__ import annotations

import time

import pytest

from schemas.tools import Part, ToolCard, ToolResult
from tool_adapters.tool import (
    ARGUMENTS_LIMIT,
    InvalidArguments,
    InvalidResult,
    InvalidTool,
    checked_card,
    result_of,
    validate,
)

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
    "additionalProperties": False,
}


def card(parameters: dict[str, object] = SCHEMA) -> ToolCard:
    return ToolCard(name="forecast", description="Tell the weather.", parameters=parameters)


def test_arguments_that_fit_pass() -> None:
    validate(card(), {"city": "Hangzhou", "days": 3})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "city"),
        ({"city": 5}, "city"),
        ({"city": "x", "days": 0}, "days"),
        ({"city": "x", "days": True}, "days"),
        ({"city": "x", "when": "now"}, "when"),
    ],
)
def test_wrong_arguments_are_refused_and_the_culprit_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        validate(card(), arguments)

    assert named in caught.value.why


def test_arguments_that_are_no_json_are_refused() -> None:
    with pytest.raises(InvalidArguments):
        validate(card(), {"city": float("nan")})


def test_too_many_arguments_are_refused_before_they_are_checked() -> None:
    with pytest.raises(InvalidArguments, match="limit"):
        validate(card(), {"city": "x" * (ARGUMENTS_LIMIT + 1)})


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(?:(?=a)a+)+$", r"^(a+)+\1$", "^(a|aa)+$"])
def test_a_pattern_of_a_stranger_takes_no_time(pattern: str) -> None:
    text = card({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})
    began = time.process_time()
    with pytest.raises(InvalidArguments, match="cannot be called") as caught:
        validate(text, {"a": "a" * 40 + "!"})
    assert time.process_time() - began < 1  # Python's own engine takes hours
    assert caught.value.why.startswith("a: ")


def test_patterns_that_look_around_are_understood() -> None:
    text = card({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?!aws:)[a-z:]+$"}}})
    validate(text, {"a": "own:tag"})
    with pytest.raises(InvalidArguments, match="cannot be called"):
        validate(text, {"a": "aws:tag"})


def test_of_alternatives_the_one_that_was_meant_is_told() -> None:
    place = {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"]}
    either = card({"type": "object", "properties": {"to": {"anyOf": [place, {"type": "null"}]}}})
    validate(either, {"to": None})
    with pytest.raises(InvalidArguments) as missing:
        validate(either, {"to": {}})
    assert missing.value.why.startswith("to: ") and "zip" in missing.value.why
    with pytest.raises(InvalidArguments) as wrong:
        validate(either, {"to": {"zip": 5}})
    assert wrong.value.why.startswith("to.zip: ")


@pytest.mark.parametrize("parameters", [
    {"type": "object", "$ref": "http://127.0.0.1:9/card.json"}, {"type": "object", "properties": {"a": {"pattern": "("}}},
])  # fmt: skip
def test_a_schema_that_cannot_be_used_is_the_tools_fault_and_nothing_is_fetched(parameters: dict[str, object]) -> None:
    with pytest.raises(InvalidTool, match="no JSON Schema"):
        validate(card(parameters), {"a": "x"})


def test_a_card_whose_parameters_are_no_schema_is_refused() -> None:
    with pytest.raises(InvalidTool):
        checked_card(card({"type": "object", "properties": {"a": {"type": "strin"}}}))
    with pytest.raises(InvalidTool):
        checked_card(card({"type": "string"}))


def test_text_stays_text_and_json_is_kept_for_programs() -> None:
    assert result_of("sunny") == ToolResult(text="sunny", parts=(Part(kind="text", text="sunny"),))
    assert result_of({"c": "杭州"}) == ToolResult(text='{"c": "杭州"}', parts=(Part(kind="json", json_value={"c": "杭州"}),))


@pytest.mark.parametrize("value", [b"bytes", object(), float("nan"), {1, 2}, "nul\x00", "lone \ud800"])
def test_an_answer_that_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(InvalidResult):
        result_of(value)


def test_a_ten_megabyte_answer_is_refused() -> None:
    with pytest.raises(InvalidResult, match="limit"):
        result_of("x" * 10_000_000)
