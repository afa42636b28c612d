"""Rows and files of sets: whatever is wrong with a row is its reason, whatever is wrong with a file is told by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.tools import ToolCall, ToolCard
from services.datasets.conversion.conversation import Conversation
from services.datasets.conversion.files import FileUnreadable
from services.datasets.conversion.rows import Unusable, list_of, needed, object_of, row
from services.datasets.example import Example, Skipped

LAMP = ToolCard(
    name="lamp", description="Switches.",
    parameters={"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]},
)  # fmt: skip


def example(name: str = "lamp", **arguments: object) -> Example:
    said = Conversation()
    said.user("Light, please.")
    said.call([(name, arguments)])
    return Example("e", (), "", (LAMP,), tuple(said.messages))


def raising(error: Exception) -> Callable[[], Example]:
    def make() -> Example:
        raise error

    return make


def wrong() -> Example:
    ToolCall(id="c", name="lamp", arguments={"room": 2**60})
    raise AssertionError("a number that JSON cannot carry was taken")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (raising(Unusable("no gold")), "no gold"),
        (raising(KeyError("gold")), "there is no gold"),
        (raising(TypeError("None")), "another form than its set's: None"),
        (raising(IndexError("far")), "another form than its set's: far"),
        (raising(AttributeError("get")), "another form than its set's: get"),
        (raising(OSError("gone")), "another form than its set's: gone"),
        (wrong, "a value that no message or tool may have: Value error, 1152921504606846976 is no number"),
        (lambda: example("torch"), "a call to a tool that is not offered"),
        (example, "a required argument is missing"),
    ],
)
def test_what_is_wrong_with_a_row_is_its_reason(make: Callable[[], Example], why: str) -> None:
    found = row("r", make)
    assert isinstance(found, Skipped) and found.row in ("r", "e") and found.why.startswith(why)


def test_gold_that_names_tools_only_may_lack_their_arguments_and_nothing_else() -> None:
    assert row("r", example, names_only=True) == example()
    assert row("r", lambda: example("torch"), names_only=True) == Skipped("r", "a call to a tool that is not offered")
    assert row("r", lambda: example(colour="red"), names_only=True) == Skipped("r", "an argument that is not in the schema")


@pytest.mark.parametrize(
    "error", [Unusable("x"), KeyError("x"), TypeError("x"), ValueError("x"), IndexError("x"), OSError("x")]
)
def test_what_all_rows_need_is_told_by_its_file(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(FileUnreadable, match=r"schema\.json cannot be read") as told, needed(tmp_path / "schema.json"):
        raise error
    assert "x" in told.value.why and told.value.hint


def test_a_value_is_what_it_should_be() -> None:
    assert object_of({"a": 1}, "it") == {"a": 1} and list_of([{}], "it") == [{}]
    for value in (None, [1], "a", 3):
        with pytest.raises(Unusable, match="the gold is no"):
            object_of(value, "the gold")
        with pytest.raises(Unusable, match="the gold is no list of objects"):
            list_of(value, "the gold")
