"""The contract of all clouds: a write is followed to its end, and nothing that happens meanwhile hides that it was done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from schemas.tools import Preview, ToolCard, ToolResult
from tool_adapters.cloud import Arguments, CloudTool, Executed, Progress, State, under_way
from tool_adapters.described.api import ApiCall, Companion, Give
from tool_adapters.described.operation import ApiOperation
from tool_adapters.described.told import TEXT_LIMIT, told
from tool_adapters.tool import CallContext, Outcome, ToolRefused, ToolUnavailable

CARD = ToolCard(name="stop", description="Stops.", parameters={"type": "object"}, effect="write")
CONTEXT = CallContext(tenant="acme", run="r", user="u", timeout_s=1.0)


@dataclass
class Stopping:
    """An operation whose progress is told by the test."""

    steps: Iterator[Progress | Exception]
    asked: int = 0
    done: list[str] = field(default_factory=list)

    async def look(self, arguments: Arguments, context: CallContext) -> State:
        return {"status": "running"}

    async def preview(self, arguments: Arguments, state: State, context: CallContext) -> Preview:
        return Preview(summary="stop")

    async def try_dry(self, arguments: Arguments, context: CallContext) -> None:
        raise ToolRefused("No right.", code="Forbidden")

    async def execute(self, arguments: Arguments, context: CallContext) -> Executed:
        self.done.append("stop")
        return Executed(ToolResult(text="done."), self.progress)

    async def progress(self) -> Progress:
        self.asked += 1
        step = next(self.steps)
        if isinstance(step, Exception):
            raise step
        return step

    async def outcome(self, arguments: Arguments, planned: State, context: CallContext) -> tuple[Outcome, ToolResult | None]:
        return "unknown", None


async def test_it_is_asked_until_nothing_is_unfinished() -> None:
    going, end = Progress(("stopping",), "Stopping"), Progress(("stopped",))
    operation = Stopping(iter([going, ToolUnavailable("busy"), KeyError("odd"), end]))

    result = await CloudTool(CARD, operation).call({}, replace(CONTEXT, timeout_s=10))

    assert (result.text, operation.asked, operation.done) == ("done.\nstopped", 4, ["stop"])


@pytest.mark.parametrize("step", [ToolUnavailable("busy"), KeyError("odd")])
async def test_who_cannot_look_still_knows_that_it_was_done(step: Exception) -> None:
    operation = Stopping(iter(lambda: step, None))

    result = await CloudTool(CARD, operation).call({}, CONTEXT)

    assert result.text == "done.\nHow it is now could not be seen."


async def test_a_look_that_hangs_is_given_up_before_the_caller_gives_up() -> None:
    class Hanging(Stopping):
        async def progress(self) -> Progress:
            await asyncio.Event().wait()
            raise AssertionError

    async with asyncio.timeout(CONTEXT.timeout_s):
        result = await CloudTool(CARD, Hanging(iter(()))).call({}, CONTEXT)

    assert result.text.startswith("done.\n")


async def test_a_dry_run_that_is_refused_ends_the_plan() -> None:
    with pytest.raises(ToolRefused, match="No right"):
        await CloudTool(CARD, Stopping(iter(()))).plan({}, CONTEXT)


@pytest.mark.parametrize("word", ["Stopping", "shutting-down", "IN_PROGRESS", "Pending", "CREATING"])
def test_words_of_a_change_that_goes_on(word: str) -> None:
    assert under_way(word) == word


@pytest.mark.parametrize("word", ["Running", "available", "ACTIVE", "Stopped", "", None, 16])
def test_and_of_one_that_does_not(word: object) -> None:
    assert under_way(word) is None


async def test_an_api_without_a_companion_is_planned_as_the_call_itself_and_never_recognised() -> None:
    card = CARD.model_copy(update={"name": "vpc_AllocateEipAddress", "title": "Allocate an address / 申请"})
    call = ApiCall(product="vpc", version="2016-04-28", action="AllocateEipAddress")
    operation = ApiOperation(card, call, _Nobody(), {}, frozenset())

    plan = await CloudTool(card, operation).plan({"Bandwidth": "5"}, CONTEXT)

    assert plan.preview.summary == "Allocate an address (vpc AllocateEipAddress)"
    assert plan.preview.rows == (("api", "vpc 2016-04-28 AllocateEipAddress"), ("region", "r-1"), ("Bandwidth", "5"))
    assert plan.state == "{}"
    assert await operation.outcome({}, {}, CONTEXT) == ("unknown", None)


async def test_looking_that_is_refused_is_shown_and_decides_nothing() -> None:
    look = Companion(
        call=ApiCall(product="x", version="1", action="DescribeX"), give={"XId": Give(name="XId")}, about="XId", exact=True
    )
    call = ApiCall(product="x", version="1", action="DeleteX", look=look)
    operation = ApiOperation(CARD, call, _Nobody(), {}, frozenset())

    state = await operation.look({"XId": "x-1"}, CONTEXT)

    assert state == {"unseen": "Forbidden"}
    assert ("now", "it could not be looked at (DescribeX: Forbidden)") in (
        await operation.preview({"XId": "x-1"}, state, CONTEXT)
    ).rows
    assert (await operation.outcome({"XId": "x-1"}, state, CONTEXT))[0] == "unknown"


async def test_an_answer_too_long_to_read_is_cut_and_says_so() -> None:
    result = await told({"RequestId": "r", "Rows": ["x" * 100] * 100}, (), CONTEXT)

    assert len(result.text) < TEXT_LIMIT + 200 and "ask for less" in result.text and "RequestId" not in result.text
    assert isinstance(result.parts[0].json_value, dict) and len(result.parts[0].json_value["Rows"]) == 100


class _Nobody:
    """A provider that lets nobody look."""

    def region_of(self, call: ApiCall, arguments: object) -> str:
        return "r-1"

    async def ask(self, call: ApiCall, arguments: object, **how: object) -> object:
        raise ToolRefused("No.", code="Forbidden")

    async def read(self, call: ApiCall, arguments: object, context: CallContext) -> tuple[object, tuple[str, ...]]:
        raise AssertionError
