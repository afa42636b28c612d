"""A Python function as a tool."""

from __future__ import annotations

import asyncio
import threading
from datetime import date
from typing import Literal

import pytest
from pydantic import BaseModel

from schemas.tools import ToolResult
from tool_adapters.docstring import read_docstring
from tool_adapters.python import tool
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidResult,
    InvalidTool,
    OutcomeUnknown,
    ToolRefused,
    ToolUnavailable,
)

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=5)


class Place(BaseModel):
    city: str
    country: str = "cn"


@tool
def forecast(place: Place, day: date, unit: Literal["c", "f"] = "c") -> dict[str, object]:
    """Tell the weather of a place.

    Args:
        place: Where.
        day: When, as YYYY-MM-DD,
            in local time.
        unit (str): Celsius or Fahrenheit.

    Returns:
        Not for the model.
    """
    return {"city": place.city, "weekday": day.weekday(), "unit": unit}


def test_the_schema_comes_from_hints_and_docstring() -> None:
    properties = forecast.card.parameters["properties"]

    assert isinstance(properties, dict)
    assert forecast.card.description == "Tell the weather of a place."
    assert forecast.card.parameters["required"] == ["place", "day"]
    assert properties["day"] == {"type": "string", "format": "date", "description": "When, as YYYY-MM-DD, in local time."}
    assert properties["unit"] == {
        "type": "string",
        "enum": ["c", "f"],
        "default": "c",
        "description": "Celsius or Fahrenheit.",
    }
    assert "title" not in str(forecast.card.parameters)


async def test_arguments_arrive_as_the_types_of_the_hints() -> None:
    result = await forecast.call({"place": {"city": "Hangzhou"}, "day": "2026-11-21"}, CONTEXT)

    assert result.parts[0].json_value == {"city": "Hangzhou", "weekday": 5, "unit": "c"}


async def test_what_the_schema_cannot_say_is_refused_too() -> None:
    with pytest.raises(InvalidArguments, match="day") as caught:
        await forecast.call({"place": {"city": "x"}, "day": "tomorrow"}, CONTEXT)

    assert "day" in caught.value.why


def test_the_tool_is_still_the_function() -> None:
    assert forecast(Place(city="Rome"), date(2026, 11, 21), "f")["unit"] == "f"


async def test_a_blocking_function_runs_beside_the_loop() -> None:
    release, seen = threading.Event(), []

    @tool
    def slow() -> str:
        """Block until released."""
        seen.append(release.wait(timeout=5))
        return threading.current_thread().name

    waiting = asyncio.create_task(slow.call({}, CONTEXT))
    await asyncio.to_thread(lambda: None)  # the loop still turns
    release.set()

    assert (await waiting).text != threading.main_thread().name
    assert seen == [True]


async def test_an_async_function_is_awaited_and_may_ask_for_the_context() -> None:
    @tool(effect="write")
    async def note(text: str, context: CallContext) -> ToolResult:
        """Write a note."""
        return ToolResult(text=f"{context.tenant}: {text}")

    assert (await note.call({"text": "hi"}, CONTEXT)).text == "acme: hi"
    assert "context" not in str(note.card.parameters)


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), ([1, 2], "[1, 2]"), (Place(city="x"), '{"city": "x", "country": "cn"}'), (None, "done")]
)
async def test_plain_results_become_text(value: object, text: str) -> None:
    @tool
    def given() -> object:
        """Give it."""
        return value

    assert (await given.call({}, CONTEXT)).text == text


@pytest.mark.parametrize("value", [object(), [object()], "x" * 10_000_000, float("inf")])
async def test_results_that_are_no_json_or_too_large_are_typed_errors(value: object) -> None:
    @tool
    def given() -> object:
        """Give it."""
        return value

    with pytest.raises(InvalidResult):
        await given.call({}, CONTEXT)


async def test_a_write_that_happened_is_never_an_error_for_what_it_answered() -> None:
    @tool(effect="write")
    def pay() -> object:
        """Pay."""
        return object()

    assert (await pay.call({}, CONTEXT)).text.startswith("pay was done.")


@pytest.mark.parametrize(("raised", "expected"), [(KeyError("x"), ToolRefused), (ConnectionError("x"), ToolUnavailable)])
async def test_a_read_that_raises_is_refused_or_can_be_retried(raised: Exception, expected: type[Exception]) -> None:
    @tool
    def broken() -> str:
        """Break."""
        raise raised

    with pytest.raises(expected) as caught:
        await broken.call({}, CONTEXT)

    assert type(raised).__name__ in str(caught.value)


async def test_a_write_that_raises_is_in_doubt_unless_it_says_no_itself() -> None:
    @tool(effect="write")
    def pay(amount: int) -> str:
        """Pay."""
        if amount > 10:
            raise ToolRefused("Too much.", code="TooMuch")
        raise ValueError("the bank hung up")

    with pytest.raises(OutcomeUnknown):
        await pay.call({"amount": 1}, CONTEXT)
    with pytest.raises(ToolRefused, match="Too much"):
        await pay.call({"amount": 11}, CONTEXT)


@pytest.mark.parametrize(("effect", "expected"), [("read", ToolUnavailable), ("write", OutcomeUnknown)])
async def test_a_tool_that_hangs_is_given_up(effect: Literal["read", "write"], expected: type[Exception]) -> None:
    @tool(effect=effect)
    async def hang() -> str:
        """Hang."""
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(expected, match="hang"):
        await hang.call({}, CallContext(tenant="a", run="r", user="u", timeout_s=0.01))


async def test_a_write_without_a_planner_is_planned_once_for_each_run() -> None:
    @tool(effect="write")
    def send(to: str) -> str:
        """Send a letter."""
        raise AssertionError("planning must not call")

    plan = await send.plan({"to": "bob"}, CONTEXT)

    assert plan.preview.rows == (("to", "bob"),)
    assert plan.state == (await send.plan({"to": "bob"}, CONTEXT)).state
    assert plan.state != (await send.plan({"to": "bob"}, CallContext(tenant="acme", run="other", user="ann"))).state


def test_functions_that_cannot_be_tools_are_refused_when_they_are_made() -> None:
    def no_docstring(a: int) -> int:
        return a

    def no_hint(a) -> int:  # type: ignore[no-untyped-def]
        """Say."""
        return 1

    def star(*args: int) -> int:
        """Say."""
        return 1

    def no_json(a: threading.Lock) -> int:
        """Say."""
        return 1

    for function in (no_docstring, no_hint, star, no_json):
        with pytest.raises(InvalidTool):
            tool(function)
    with pytest.raises(InvalidTool):
        tool(name="not a name")(forecast.function)


def test_sphinx_docstrings_are_read_too() -> None:
    read = read_docstring(
        """Do it.

        Twice.

        :param str where: the place,
            in words
        :returns: nothing
        """
    )

    assert read.summary == "Do it. Twice."
    assert read.parameters == {"where": "the place, in words"}
