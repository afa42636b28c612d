"""Tools in other languages on a real stack: the examples of docs/any-language.md, as they are written there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.client import Client
from schemas.ids import CommandId, RunId
from tests.support.other_programs import answers, block, environment, known, run, running
from tests.support.stack import LocalStack, for_the_session

RULES: list[dict[str, object]] = [
    {"role": "user", "match": "disk", "call": [{"name": "disk_free", "arguments": {}}]},
    {"role": "user", "match": "stock", "call": [{"name": "stock_of", "arguments": {"item": "pears"}}]},
    {"role": "user", "match": r"order (?P<count>\d+)", "call": [
        {"name": "order_item", "arguments": {"item": "pears", "count": 5}},
    ]},
    {"role": "tool", "match": ".*", "say": "Done: {0}"},
    {"role": "user", "match": ".*", "say": "You said: {0}"},
]  # fmt: skip

Env = dict[str, str]


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    yield from for_the_session(RULES)


@pytest.fixture
def env(stack: LocalStack, tmp_path: Path, node_modules: Path) -> Env:
    (tmp_path / "node_modules").symlink_to(node_modules)
    return environment(stack, tmp_path / "bin")


@pytest.fixture
async def client(stack: LocalStack) -> AsyncIterator[Client]:
    async with stack.session() as (client, _):
        yield client


async def test_any_program_is_a_tool_with_two_lines_of_the_nats_command(client: Client, env: Env, tmp_path: Path) -> None:
    lines = block("any-language.md", "Two lines", "bash")
    async with running("sh", "-c", lines, env=env, cwd=tmp_path, until="istening on"):
        card = await known(client, "disk_free", "here")
        assert card.effect == "read"
        assert "Filesystem" in (await answers(client, "How full is the disk?", k=3))[0]  # found, not named
        assert "Filesystem" in await run("milepost", "tools", "call", "disk_free", env=env, cwd=tmp_path)
    await known(client, "disk_free", "away")
    assert await answers(client, "How full is the disk?", k=3) == []


async def test_a_tool_in_node_reads_plans_and_writes_once(client: Client, env: Env, tmp_path: Path) -> None:
    (tmp_path / "shop.mjs").write_text(block("any-language.md", "In Node.js", "js"))
    copies = [running("node", "shop.mjs", env=env, cwd=tmp_path, until="open") for _ in range(2)]
    async with copies[0], copies[1]:
        for name in ("stock_of", "order_item"):
            await known(client, name, "here")
        assert await answers(client, "What is in stock?", "stock_of") == ["3 pears"]
        seen: list[object] = []

        async def approve(run: RunId, id: CommandId) -> None:
            seen.append(id)
            await client.approve(run, id)

        told = await answers(client, "Please order 5 pears", "order_item", decide=approve)
        assert (told, len(seen)) == (['{"ordered": 5, "item": "pears"}'], 1)
    orders = (tmp_path / "orders.jsonl").read_text().splitlines()
    assert len(orders) == 1 and json.loads(orders[0])["count"] == 5


async def test_who_publishes_a_card_that_cannot_be_taken_is_told(client: Client, env: Env, tmp_path: Path) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(subject: str, raw: bytes) -> None:
        heard.put_nowait(raw)

    async with client.bus.hear("mp.refused._all.bus.odd", receive):
        await run("nats", "pub", "mp.card._all.bus.odd", '{"name": "even"}', env=env, cwd=tmp_path)
        async with asyncio.timeout(20):
            assert json.loads(await heard.get())["tool"] == "odd"


async def test_a_tool_that_dies_in_a_call_leaves_the_run_going(client: Client, env: Env, tmp_path: Path) -> None:
    code = block("any-language.md", "In Node.js", "js").replace("text: `${stock[item]} ${item}`", "text: process.exit(1)")
    (tmp_path / "shop.mjs").write_text(code.replace("call: ({ item }) =>", "call: ({ item }) => ").replace(
        'description: "How many', 'timeout_s: 2, description: "How many'
    ))  # fmt: skip
    async with running("node", "shop.mjs", env=env, cwd=tmp_path, until="open"):
        async with asyncio.timeout(30):
            while (await known(client, "stock_of", "here")).timeout_s != 2:
                await asyncio.sleep(0.05)
        assert await answers(client, "What is in stock?", "stock_of") == []
