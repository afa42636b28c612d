"""What every adapter promises, whatever stands behind it: one set of tests for all kinds of tools."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from infra.demo_cloud.server import DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET, running
from schemas.canonical import canonical
from schemas.tools import Preview, ToolCard, ToolResult
from tool_adapters.aliyun.client import EcsConfig
from tool_adapters.aliyun.ecs import ecs_tools
from tool_adapters.builtin import builtin_tools
from tool_adapters.modelscope import Tool as ModelScopeTool
from tool_adapters.python import tool
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    Plan,
    Reconciled,
    Tool,
    ToolError,
    ToolRefused,
    checked_card,
    checked_result,
    result_of,
)

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=10, write_key="c" * 32)
WEB = "i-bp1f8k2m9x4q7web01"


@dataclass(frozen=True)
class Case:
    """A tool, how to call it well and badly, and how often the world was changed so far."""

    tool: Tool
    good: dict[str, object]
    bad: dict[str, object]
    effects: Callable[[], Awaitable[int]]

    @property
    def writes(self) -> bool:
        return self.tool.card.effect != "read"


async def nothing() -> int:
    return 0


@contextlib.asynccontextmanager
async def python_read(path: Path) -> AsyncIterator[Case]:
    @tool
    def shout(text: str) -> str:
        """Write a text in capitals."""
        return text.upper()

    yield Case(shout, {"text": "a"}, {"text": 1}, nothing)


@contextlib.asynccontextmanager
async def python_write(path: Path) -> AsyncIterator[Case]:
    book = path / "book.json"
    book.write_text("{}")

    async def planned(arguments: dict[str, object], context: CallContext) -> Plan:
        lines = json.loads(book.read_text())
        return Plan(Preview(summary=f"Write line {len(lines) + 1}"), state=canonical({"lines": len(lines)}).decode())

    async def happened(arguments: dict[str, object], context: CallContext) -> Reconciled:
        done = context.write_key in json.loads(book.read_text())
        return Reconciled("happened", result_of("written")) if done else Reconciled("not_happened")

    @tool(effect="write", idempotency="key", plan=planned, reconcile=happened)
    async def write_line(text: str, context: CallContext) -> str:
        """Write a line into the book."""
        lines = json.loads(book.read_text())
        book.write_text(json.dumps({str(context.write_key): text} | lines))
        return "written"

    async def effects() -> int:
        return len(json.loads(book.read_text()))

    yield Case(write_line, {"text": "a"}, {"line": "a"}, effects)


@contextlib.asynccontextmanager
async def modelscope(path: Path) -> AsyncIterator[Case]:
    class Shout(ModelScopeTool):
        name = "shout"
        description = "Write a text in capitals."
        parameters = ({"name": "text", "description": "the text", "required": True},)

        def _local_call(self, *args: object, **kwargs: object) -> dict[str, object]:
            return {"result": str(kwargs["text"]).upper()}

    yield Case(Shout(), {"text": "a"}, {}, nothing)


def builtin(name: str, good: dict[str, object], bad: dict[str, object]) -> Maker:
    @contextlib.asynccontextmanager
    async def made(path: Path) -> AsyncIterator[Case]:
        yield Case(next(one for one in builtin_tools() if one.card.name == name), good, bad, nothing)

    return made


@contextlib.asynccontextmanager
async def http(path: Path) -> AsyncIterator[Case]:
    async def page(request: web.Request) -> web.Response:
        return web.json_response({"asked": request.path})

    app = web.Application()
    app.router.add_get("/page", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    place = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        one = next(one for one in builtin_tools(http_allow=[place]) if one.card.name == "http_get")
        yield Case(one, {"url": f"http://{place}/page"}, {"url": 5}, nothing)
    finally:
        await runner.cleanup()


def ecs(action: str, good: dict[str, object], bad: dict[str, object]) -> Maker:
    @contextlib.asynccontextmanager
    async def made(path: Path) -> AsyncIterator[Case]:
        keys = {DEMO_ACCESS_KEY_ID: DEMO_ACCESS_KEY_SECRET}
        async with running("127.0.0.1", 0, path / "cloud.sqlite", keys) as port, aiohttp.ClientSession() as http:
            config = EcsConfig(
                endpoint=f"127.0.0.1:{port}",
                protocol="http",
                access_key_id=DEMO_ACCESS_KEY_ID,
                access_key_secret=DEMO_ACCESS_KEY_SECRET,
            )

            async def effects() -> int:
                async with http.get(f"http://127.0.0.1:{port}/-/effects") as response:
                    return len((await response.json())["effects"])

            (one,) = ecs_tools(config, actions=[action])
            yield Case(one, good, bad, effects)

    return made


Maker = Callable[[Path], contextlib.AbstractAsyncContextManager[Case]]

READS: dict[str, Maker] = {
    "python": python_read,
    "modelscope": modelscope,
    "current_time": builtin("current_time", {"timezone": "Tokyo"}, {"zone": "Tokyo"}),
    "calculator": builtin("calculator", {"expression": "1+1"}, {}),
    "unit_conversion": builtin("unit_conversion", {"value": 1, "from_unit": "km", "to_unit": "mi"}, {"value": "1"}),
    "http_get": http,
    "ecs": ecs("DescribeInstances", {"InstanceIds": [WEB]}, {"InstanceIds": WEB}),
}
WRITES: dict[str, Maker] = {
    "python": python_write,
    "ecs_renew": ecs("RenewInstance", {"InstanceId": WEB, "Period": 3}, {"InstanceId": WEB, "Period": "3"}),
    "ecs_stop": ecs("StopInstance", {"InstanceId": WEB}, {"InstanceId": [WEB]}),
    "ecs_stop_several": ecs("StopInstances", {"InstanceId": [WEB]}, {"InstanceId": []} | {"Force": True}),
    "ecs_reboot": ecs("RebootInstance", {"InstanceId": WEB}, {}),
    "ecs_rename": ecs("ModifyInstanceAttribute", {"InstanceId": WEB, "InstanceName": "new"}, {"InstanceName": "new"}),
    "ecs_tag": ecs(
        "TagResources", {"ResourceId": [WEB], "Tag": [{"Key": "a", "Value": "b"}]}, {"ResourceId": [WEB], "Tag": ["a"]}
    ),
    "ecs_auto_renew": ecs("ModifyInstanceAutoRenewAttribute", {"InstanceId": WEB, "AutoRenew": True}, {"AutoRenew": True}),
    "ecs_snapshot": ecs("CreateSnapshot", {"DiskId": "d-bp1disk01system", "SnapshotName": "n"}, {"SnapshotName": "n"}),
    "ecs_command": ecs(
        "RunCommand",
        {"InstanceId": [WEB], "Type": "RunShellScript", "CommandContent": "uptime"},
        {"InstanceId": [WEB], "Type": "Perl", "CommandContent": "1"},
    ),
    "ecs_delete": ecs("DeleteInstance", {"InstanceId": "i-bp1j2s8d6f3g9job01"}, {"InstanceId": None}),
}


@pytest.fixture(params=[("read", name) for name in READS] + [("write", name) for name in WRITES], ids="-".join)
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    kind, name = request.param
    async with (READS if kind == "read" else WRITES)[name](tmp_path) as made:
        yield made


@pytest.fixture(params=list(WRITES))
async def write(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    async with WRITES[request.param](tmp_path) as made:
        yield made


@pytest.fixture(params=list(READS))
async def read(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    async with READS[request.param](tmp_path) as made:
        yield made


async def test_the_card_is_valid_and_can_be_sent(case: Case) -> None:
    card = checked_card(case.tool.card)

    assert ToolCard.model_validate_json(card.model_dump_json()).hash() == card.hash()
    assert card.parameters["additionalProperties"] is False


async def test_wrong_arguments_are_refused_before_anything_happens(case: Case) -> None:
    with pytest.raises(InvalidArguments):
        await case.tool.call(case.bad, CONTEXT)
    if case.writes:
        with pytest.raises(InvalidArguments):
            await case.tool.plan(case.bad, CONTEXT)

    assert await case.effects() == 0


async def test_a_call_gives_text_for_the_model_and_can_be_stored(case: Case) -> None:
    result = await case.tool.call(case.good, CONTEXT)

    assert result.text.strip()
    assert ToolResult.model_validate_json(checked_result(result).model_dump_json()) == result
    assert await case.effects() == (1 if case.writes else 0)


async def test_reads_have_no_plan_and_may_always_be_asked_again(read: Case) -> None:
    with pytest.raises(ToolError):
        await read.tool.plan(read.good, CONTEXT)

    assert await read.tool.reconcile(read.good, CONTEXT) == Reconciled("not_happened")


async def test_planning_a_write_changes_nothing_and_is_repeatable(write: Case) -> None:
    first, second = [await write.tool.plan(write.good, CONTEXT) for _ in range(2)]

    assert first == second
    assert first.preview.summary
    assert canonical(json.loads(first.state)).decode() == first.state
    assert await write.effects() == 0


async def test_the_same_write_key_has_no_second_effect(write: Case) -> None:
    """As the ledger does it: with a key call again, otherwise ask first and call only if it did not happen."""
    card = write.tool.card
    assert card.idempotency in ("key", "query")
    plan = await write.tool.plan(write.good, CONTEXT)
    context = replace(CONTEXT, planned_state=plan.state)
    await write.tool.call(write.good, context)

    if card.idempotency == "key" or (await write.tool.reconcile(write.good, context)).outcome == "not_happened":
        await write.tool.call(write.good, context)

    assert await write.effects() == 1


async def test_a_write_is_recognised_after_its_answer_was_lost(write: Case) -> None:
    plan = await write.tool.plan(write.good, CONTEXT)
    context = replace(CONTEXT, planned_state=plan.state)
    before = await write.tool.reconcile(write.good, context)
    await write.tool.call(write.good, context)
    after = await write.tool.reconcile(write.good, context)

    assert before.outcome in ("not_happened", "unknown")
    assert after.outcome == "happened"
    assert after.result is not None and after.result.text


async def test_the_state_changes_with_the_effect(write: Case) -> None:
    """So that the next write of the same kind has another key."""
    plan = await write.tool.plan(write.good, CONTEXT)
    await write.tool.call(write.good, CONTEXT)

    try:
        after = await write.tool.plan(write.good, CONTEXT)
    except ToolRefused:
        return  # the provider does not allow it twice
    assert after.state != plan.state


async def test_without_the_planned_state_no_write_is_said_not_to_have_happened(write: Case) -> None:
    await write.tool.call(write.good, CONTEXT)

    assert (await write.tool.reconcile(write.good, CONTEXT)).outcome != "not_happened"
