"""MCP at the gateway for a client that we did not write: signed in as somebody, with their rights, in their sessions."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from schemas.events import ApprovalGranted, RunRequested
from schemas.ids import RunId
from tests.support.gateways import door_of, key_of, publish, withdraw
from tests.support.stack import LocalStack

RUN = "io.github.milepost/run"
ROOT = Path(__file__).parents[2]
API = "i-bp1c3n6v8z2w5api01"
WEB = "i-bp1f8k2m9x4q7web02"
RENEW = {"InstanceId": API, "Period": 1, "PeriodUnit": "Month"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def connected(stack: LocalStack, key: str, asked: list[str] | None = None, **more: Any) -> AsyncIterator[Client]:
    """The official Python client at the door, with a person who approves."""

    async def elicited(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert asked is not None
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"approve": True})

    headers = {"authorization": f"Bearer {key}"}
    async with asyncio.timeout(90), httpx2.AsyncClient(trust_env=False, headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{door_of(stack)}/mcp", http_client=http)
        async with Client(transport, elicitation_callback=None if asked is None else elicited, **more) as client:
            yield client


def texts(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, types.TextContent))


async def begun(stack: LocalStack, run: object) -> list[object]:
    async with stack.session() as (client, _):
        return [stored.fact.body for stored in await client.log.read(RunId(str(run)))]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_official_client_completes_the_renewal_with_an_approval(two_doors: LocalStack, mode: str) -> None:
    before, asked = await two_doors.effects(API), list[str]()
    key = await key_of(two_doors, "operator", "approver", user="ada")
    async with connected(two_doors, key, asked, mode=mode) as client:
        tools = (await client.list_tools()).tools
        assert {"assistant", "RenewInstance", "DescribeInstances"} <= {tool.name for tool in tools}
        done = await client.call_tool("RenewInstance", RENEW)
    assert not done.is_error, texts(done)
    (effect,) = (await two_doors.effects(API))[len(before) :]
    assert effect["action"] == "RenewInstance" and len(asked) == 1 and "RenewInstance" in asked[0] and "price" in asked[0]
    facts = await begun(two_doors, (done.meta or {})[RUN])
    assert isinstance(facts[0], RunRequested) and facts[0].user == "ada"
    assert [fact.by for fact in facts if isinstance(fact, ApprovalGranted)] == ["ada"]


async def test_what_an_agent_below_asks_is_asked_by_elicitation_too(two_doors: LocalStack, tmp_path: Path) -> None:
    before, asked, file = await two_doors.effects(WEB), list[str](), tmp_path / "helper.json"
    file.write_text(json.dumps({"name": "helper", "tools": ["RenewInstance"], "tool_k": 0, "knowledge_k": 0}))
    words = ("tools", "import", "agent", str(file), "--description", "Renews servers.", "--home", str(two_doors.home))
    imported = await asyncio.create_subprocess_exec(sys.executable, "-m", "infra", *words, cwd=ROOT)
    assert await imported.wait() == 0
    async with connected(two_doors, await key_of(two_doors, "admin"), asked) as client:
        done = await client.call_tool("helper", {"task": f"renew {WEB} for 1 month"})
    assert not done.is_error and texts(done).startswith("Done: "), texts(done)
    assert len(asked) == 1 and len(await two_doors.effects(WEB)) == len(before) + 1


async def test_published_agents_are_tools_of_their_tenant_only(two_doors: LocalStack) -> None:
    await publish(two_doors, "clerk")
    mine, theirs = await key_of(two_doors, "operator"), await key_of(two_doors, "operator", tenant="acme")
    async with connected(two_doors, mine) as client:
        assert "clerk" in {tool.name for tool in (await client.list_tools()).tools}
        said = await client.call_tool("clerk", {"task": "hello"})
        assert texts(said) == "You said: hello"
        await withdraw(two_doors, "clerk")
        assert "clerk" not in {tool.name for tool in (await client.list_tools()).tools}
    async with connected(two_doors, theirs) as client:
        assert "clerk" not in {tool.name for tool in (await client.list_tools()).tools}
        assert (await client.call_tool("clerk", {"task": "hello"})).is_error


async def test_who_may_not_approve_is_not_asked_to(two_doors: LocalStack) -> None:
    before, asked = await two_doors.effects(API), list[str]()
    async with connected(two_doors, await key_of(two_doors, "operator"), asked) as client:
        waits = await client.call_tool("RenewInstance", RENEW)
    assert waits.is_error and "waits for a person's approval" in texts(waits) and asked == []
    assert await two_doors.effects(API) == before


async def test_nobody_calls_without_a_key_or_without_the_right(two_doors: LocalStack) -> None:
    address, viewer = f"{door_of(two_doors)}/mcp", await key_of(two_doors, "viewer")
    async with httpx2.AsyncClient(trust_env=False, headers=ACCEPT) as http:
        for headers, status in (
            ({}, 401), ({"authorization": "Bearer mp_default.0.x"}, 401), ({"authorization": f"Bearer {viewer}"}, 403),
            ({"authorization": f"Bearer {viewer}", "host": "evil.example"}, 421),
        ):  # fmt: skip
            for method in ("POST", "GET", "DELETE"):
                answer = await http.request(method, address, json=LIST, headers=headers)
                assert answer.status_code == status, answer.text
                assert answer.json()["error"]["what"]
                assert (answer.headers.get("www-authenticate") == "Bearer") == (status == 401)


async def test_a_session_is_its_principals_alone(two_doors: LocalStack) -> None:
    address = f"{door_of(two_doors)}/mcp"
    keys = [await key_of(two_doors, "operator", user=user, tenant=tenant) for user, tenant in (
        ("ann", "default"), ("bob", "default"), ("ann", "acme"), ("ann", "default")
    )]  # fmt: skip
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    async with httpx2.AsyncClient(trust_env=False, headers=ACCEPT) as http:
        mine = {"authorization": f"Bearer {keys[0]}"}
        opened = await http.post(
            address, json={"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}, headers=mine
        )
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        begin = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await http.post(address, json=begin, headers=mine | session)).status_code == 202
        assert (await http.post(address, json=LIST, headers=mine | session)).status_code == 200
        for key in keys[1:]:
            theirs = {"authorization": f"Bearer {key}"} | session
            for method in ("POST", "GET", "DELETE"):
                assert (await http.request(method, address, json=LIST, headers=theirs)).status_code == 404
        assert (await http.post(address, json=LIST, headers=mine | session)).status_code == 200
