"""The ledger with real processes: a worker that is stopped and goes on, secrets in every byte that is stored, a person."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import nats.js.errors
import pytest
from sqlalchemy import text

from infra.local_stack import attached
from infra.postgres.engine import connect, transaction
from infra.wiring import World, open_toolbox
from schemas import subjects
from schemas.agent import AgentSpec
from schemas.canonical import canonical
from schemas.commands import CallTool
from schemas.envelope import Order, encode
from schemas.events import CallPlanned, ToolFailed, ToolInDoubt, ToolReturned
from schemas.tools import Effect, Part, Preview, ToolCard, ToolResult, write_key
from services.tools.service import Toolbox
from tests.support.builders import TENANT, call, order_for
from tests.support.simulation import working
from tests.support.stack import LocalStack, local_stack, see_through
from tests.support.stopping_worker import STATE, Letters, box_for, carried_out
from tool_adapters.tool import CallContext, OutcomeUnknown, Plan, Reconciled

ROOT = Path(__file__).parents[2]
LEASE_S = 2.0


def order() -> Order:
    key = write_key(TENANT, "send", {}, STATE)
    card = Letters.card.model_copy(update={"lane": "letters"})
    command = CallTool(call=call("send"), card_hash=card.hash(), host="letters", plan="p" * 32, write_key=key)
    return replace(order_for(command), material={"user": "ann", "state": STATE})


@asynccontextmanager
async def worker(url: str, file: Path, where: str) -> AsyncIterator[asyncio.subprocess.Process]:
    arguments = (url, str(file), encode(order()).decode(), where, str(LEASE_S))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.stopping_worker", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


async def ending(process: asyncio.subprocess.Process) -> str:
    """The last line, behind those of its log."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.read()).decode().strip().splitlines()[-1]


async def test_a_worker_that_was_stopped_after_its_claim_sends_nothing_when_it_goes_on(
    postgres_url: str, tmp_path: Path
) -> None:
    sent = tmp_path / "sent"
    async with worker(postgres_url, sent, "planning") as stopped:
        assert await line(stopped) == "planning"
        stopped.send_signal(signal.SIGSTOP)
        event = await carried_out(box_for(postgres_url, sent, "second", "", LEASE_S), order())
        assert isinstance(event, ToolReturned) and event.result.text == "sent by second"
        stopped.send_signal(signal.SIGCONT)
        assert await ending(stopped) == "ToolReturned"
    assert sent.read_text() == "second\n"


async def test_a_worker_that_was_stopped_after_its_last_look_sends_nothing_when_it_goes_on(
    postgres_url: str, tmp_path: Path
) -> None:
    """Nobody can know whether it sent, so a provider without keys and queries leaves it in doubt: at most once."""
    sent = tmp_path / "sent"
    async with worker(postgres_url, sent, "verified") as stopped:
        assert await line(stopped) == "verified"
        stopped.send_signal(signal.SIGSTOP)
        event = await carried_out(box_for(postgres_url, sent, "second", "", LEASE_S), order())
        assert type(event).__name__ == "ToolInDoubt"
        stopped.send_signal(signal.SIGCONT)
        assert await ending(stopped) == "ToolInDoubt"
    assert not sent.exists()


async def test_a_worker_that_nobody_stops_sends_once(postgres_url: str, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    async with worker(postgres_url, sent, "verified") as process:
        assert await line(process) == "verified"
        assert await ending(process) == "ToolReturned"
    event = await carried_out(box_for(postgres_url, sent, "second", "", LEASE_S), order())
    assert isinstance(event, ToolReturned) and not event.repeated
    assert sent.read_text() == "stopped\n"


# --- secrets ---

CANARIES = {
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "alibaba": "LTAI" + "5tCanaryCanary4471Key",
    "github": "ghp_" + "canary4471" * 4,
    "openai": "sk-" + "proj-canary4471canary4471canary4471",
    "slack": "xoxb-" + "4471447144-canarycanary",
    "url": "canary-of-a-url-4471",
    "password": "canary-of-a-password-4471",
    "resolved": "canary of the host 4471",
    "key": "MIICanary4471CanaryCanaryCanary",
}
SAID = (
    f"id {CANARIES['aws']} and {CANARIES['alibaba']}, {CANARIES['github']} {CANARIES['openai']} {CANARIES['slack']}\n"
    f"postgres://admin:{CANARIES['url']}@db:5432/x\npassword={CANARIES['password']}\n"
    f"-----BEGIN PRIVATE KEY-----\n{CANARIES['key']}\n-----END PRIVATE KEY-----"
)
PASSWORD = {"type": "object", "properties": {"password": {"type": "string", "format": "password"}}, "required": ["password"]}


class Leaking:
    """Says everything it knows, in every way it can."""

    def __init__(self, name: str, effect: Effect, fails: bool = False) -> None:
        self.card = ToolCard(name=name, description="leaks", parameters=PASSWORD, effect=effect, timeout_s=10)
        self.fails, self.seen = fails, list[object]()

    def _said(self, arguments: dict[str, object]) -> str:
        self.seen.append(arguments["password"])
        return f"{SAID}\nyour password is {arguments['password']}"

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        said = self._said(arguments)
        return Plan(Preview(summary=said, rows=(("said", said),)), canonical({"said": said, "run": context.run}).decode())

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        said = self._said(arguments)
        if self.fails:
            raise OutcomeUnknown(said, why=said, hint=said)
        return ToolResult(text=said, parts=(Part(kind="json", json_value={"said": [said], "apiKey": CANARIES["password"]}),))

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        return Reconciled("happened", ToolResult(text=self._said(arguments)))


async def test_no_secret_is_stored_anywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the clear, so that sealing hides nothing: the bytes of every message of every stream, and every row."""
    monkeypatch.setenv("MILEPOST_SECRET_CANARY", CANARIES["resolved"])
    password = {"password": "env:MILEPOST_SECRET_CANARY"}
    rules: list[dict[str, object]] = [
        {"role": "user", "match": f"^use {name}$", "call": [{"name": name, "arguments": password}]}
        for name in ("peek", "change", "fail")
    ]
    rules += [
        {
            "role": "user",
            "match": "^say it$",
            "call": [{"name": "peek", "arguments": {"password": "no-canary-but-a-password"}}],
        },
        {"role": "tool", "match": ".*", "say": "It said: {0}"},
    ]
    tools = [Leaking("peek", "read"), Leaking("change", "write"), Leaking("fail", "write", fails=True)]
    agent = AgentSpec(tools=tuple(each.card.name for each in tools), tool_k=0, knowledge_k=0)
    async with local_stack(home, rules, keys__seal=False) as stack, stack.session() as (client, world):
        box = open_toolbox(world, tools, "leaks", tenant=client.tenant)
        async with working(world.worker(box.service()), box.upkeep()):
            await box.register(world.bus)
            await known(world, box)
            runs = [(await client.ask(f"use {tool.card.name}", agent=agent)).run for tool in tools]
            for run in runs:
                await see_through(client, run)
            refused = (await client.ask("say it", agent=agent)).run
            await see_through(client, refused)
            facts = [stored.fact.body for run in runs for stored in await client.log.read(run)]
            assert {ToolReturned, ToolInDoubt, CallPlanned} <= {type(each) for each in facts}
            effects = await asked_until_settled(world, client.tenant)
            assert {each["tool"]: each["state"] for each in effects} == {"change": "done", "fail": "done"}
        assert all(set(tool.seen) == {CANARIES["resolved"]} for tool in tools)  # they were given it, nobody else was
        failures = [stored.fact.body for stored in await client.log.read(refused)]
        assert any(isinstance(each, ToolFailed) and each.failure.type == "InvalidArguments" for each in failures)
        stored = await everything_stored(stack, world)
    assert b"[redacted: github token]" in stored and len(stored) > 20_000
    assert [name for name, secret in CANARIES.items() if secret.encode() in stored] == []


async def known(world: World, box: Toolbox) -> None:
    """Wait until the catalogue has the tools."""
    names = [card.name for card in box.cards()]
    question = canonical({"tenant": box.tenant, "names": names})
    async with asyncio.timeout(20):
        while len(json.loads(await world.bus.ask(subjects.question("retrieval", "get_tools"), question, 10))) < len(names):
            await asyncio.sleep(0.05)


async def asked_until_settled(world: World, tenant: str) -> list[dict[str, object]]:
    """The ledger's entries once none is in doubt any more."""
    async with asyncio.timeout(40):
        while True:
            raw = await world.bus.ask(subjects.question("tools", "effects"), canonical({"tenant": tenant}), 10)
            found: list[dict[str, object]] = json.loads(raw)
            if found and all(each["state"] == "done" and each["told"] for each in found):
                return found
            await asyncio.sleep(0.2)


async def everything_stored(stack: LocalStack, world: World) -> bytes:
    """The bytes of all messages of all streams, and the text of all rows of all tables."""
    js, found = world.connection.jetstream, []
    for info in await js.streams_info():
        state = info.state
        for seq in range(max(1, state.first_seq), state.last_seq + 1):
            try:
                message = await js.get_msg(str(info.config.name), seq)
            except nats.js.errors.NotFoundError:
                continue
            found.append((message.data or b"") + str(message.headers).encode() + str(message.subject).encode())
    engine = connect(str(stack.loaded.settings.postgres.url or attached(stack.loaded.settings).postgres.url))
    async with transaction(engine) as connection:
        tables = await connection.scalars(text("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"))
        for table in tables.all():
            rows = await connection.scalars(text(f"SELECT t::text FROM {table} AS t"))
            found += [row.encode() for row in rows]
    await engine.dispose()
    return b"\n".join(found)
