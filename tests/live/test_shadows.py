"""Shadows beside real servers: killed ones go on, slow ones hold nobody up, none has a right, promotions are taken back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.capability_keys import FILE as CAPABILITY_FILE
from infra.cli import main, show
from infra.cohort.swap import Swap, swap_of
from infra.embedded import nats_server
from infra.jetstream import streams
from infra.postgres.engine import connect
from infra.postgres.shadows import PostgresShadowStore
from infra.processes import descendants
from infra.settings import Settings, load
from infra.shadow.candidates import Found
from infra.shadow.comparing import generations
from infra.shadow.environment import allowed, home_of, scrubbed
from infra.shadow.keeping import ShadowKeeper
from infra.shadow.lag import lag
from infra.shadow.questions import PutShadow, ShadowQuestions
from infra.shadow.shadow import Candidate, Compared, Shadow
from infra.shadow.watching import Watch
from infra.wiring import World, open_ledger, open_world
from runtime.log import Stored
from runtime.service import Service
from schemas import subjects
from schemas.commands import CallTool
from schemas.envelope import new_order, source_of
from schemas.events import AnyEvent, Generated, ToolFailed
from schemas.ids import CommandId, RunId
from tests.bench.replay.workload import recorded as operator_run
from tests.support.builders import NOW, TENANT, RunUnderTest
from tests.support.stack import OPERATOR, LocalStack, see_through

WEB = "i-bp1f8k2m9x4q7web01"
SECRETS = {"AWS_SECRET_ACCESS_KEY": "s", "MILEPOST_CAPABILITY_KEY": "s", "MILEPOST_SECRET_ZOO": "s"}


Run = Callable[..., str]


@pytest.fixture
def milepost(
    scripted_stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`milepost ARGUMENTS` in a folder of its own, beside the session's stack; what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["milepost", *arguments, "--home", str(scripted_stack.home)])
        show.use_json(False)
        ended = 0
        try:
            main()
        except SystemExit as exit:
            ended = int(exit.code or 0)
        said = capsys.readouterr()
        assert ended == code, f"exit {ended}\n{said.out}\n{said.err}"
        return said.out

    return run


async def until(holds: Callable[[], Any], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await holds():
            await asyncio.sleep(0.02)


def shadow(swap: Swap, **more: object) -> Shadow:
    values = {"tenant": TENANT, "name": "new", "said": "it", "since": NOW - timedelta(days=1), "by": "ann", "created": NOW}
    return Shadow.model_validate({**values, "candidate": Candidate(swap=swap), **more})


def script(folder: Path, *rules: dict[str, object]) -> Path:
    path = folder / "other.json"
    path.write_text(json.dumps({"rules": rules}))
    return path


# --- a process that is killed -----------------------------------------------------------------------


@asynccontextmanager
async def recording(settings: Settings, store: PostgresShadowStore) -> AsyncIterator[World]:
    """What the recorder's process does for shadows: it answers their questions and keeps their processes."""
    world = await open_world(settings, "recorder-1")
    await streams.ensure(world.connection, world.clock.now())
    keeper, service = ShadowKeeper(store, settings), Service("recorder", "answers about shadows")
    ShadowQuestions(store, world.clock, keeper.changed).answer(service)
    tasks = [asyncio.create_task(world.worker(service)), asyncio.create_task(keeper.run())]
    try:
        await world.readiness[0].wait()
        yield world
    finally:
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await world.connection.close()


async def results(store: PostgresShadowStore) -> list[Compared]:
    return await store.results(TENANT, "new", ("", 0), 10_000)


def process_of(name: str) -> int:
    """The shadow's process below this one."""
    found = [pid for pid in descendants(os.getpid()) if f"infra.shadow\0{name}\0" in _proc(pid, "cmdline")]
    assert len(found) == 1, f"processes of {name}: {found}"
    return found[0]


def _proc(pid: int, what: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{what}").read_text()
    return ""


def generated(run: RunUnderTest) -> list[int]:
    """The numbers of what a model said in it."""
    return [number for number, each in enumerate(run.log, start=1) if isinstance(each.fact.body, Generated)]


async def append(world: World, run: RunUnderTest) -> None:
    for each in run.log:
        await world.log.append(each.fact)


async def test_a_shadow_that_is_killed_goes_on_without_gap_or_double(
    home: Path, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    runs = [operator_run(number) for number in range(40)]
    asked = {(run.id, number) for run in runs for number in generated(run)}
    of = shadow(swap_of([f"llm={script(tmp_path, {'role': 'user', 'say': 'No.'}, {'role': 'tool', 'say': 'No.'})}"]))
    server = await nats_server.start(home)
    engine, keeper = connect(postgres_url, role="milepost_service"), connect(postgres_url, role="milepost_keeper")
    store = PostgresShadowStore(engine, keeper)
    given = {"home": str(tmp_path / "stack"), "nats.url": server.url, "postgres.url": postgres_url, "tenant": TENANT}
    settings = load({**given, "keys.seal": False}, directory=tmp_path).settings
    try:
        async with recording(settings, store) as world:
            await asyncio.gather(*(append(world, run) for run in runs))
            raw = PutShadow(shadow=of).model_dump_json(by_alias=True).encode()
            await world.bus.ask(subjects.question("recorder", "put_shadow"), raw, 5)

            async def compared(least: int) -> bool:
                return len(await results(store)) >= least

            await until(lambda: compared(5))
            first = process_of("new")
            environment = dict(line.split("=", 1) for line in _proc(first, "environ").split("\0") if line)
            os.kill(first, signal.SIGKILL)
            before = len(await results(store))
            assert before < len(asked), "it was not killed in the middle"
            await until(lambda: compared(len(asked)))
            assert process_of("new") != first

            async def caught_up() -> bool:
                return await lag(world.connection, of.group) == 0

            await until(caught_up)
            rows = await results(store)
    finally:
        await nats_server.stop(server)
        await engine.dispose()
        await keeper.dispose()
    assert {(each.run, each.event) for each in rows} == asked
    assert len(rows) == len(asked)
    assert {each.risk for each in rows} >= {"lost_write", "lost_read"}
    assert not SECRETS.keys() & environment.keys()
    assert all(allowed(name) for name in environment)
    assert postgres_url not in environment.values()
    assert not [pid for pid in descendants(os.getpid()) if "infra.shadow" in _proc(pid, "cmdline")], "one is left behind"


# --- beside a stack ---------------------------------------------------------------------------------


class Slow:
    """A candidate that answers when it is let."""

    at_once: int = 2

    def __init__(self) -> None:
        self.let, self.asked = asyncio.Event(), 0

    def wants(self, body: AnyEvent) -> bool:
        return isinstance(body, Generated)

    async def compare(self, run: RunId, facts: Sequence[Stored]) -> Found:
        self.asked += 1
        await self.let.wait()
        body = facts[-1].fact.body
        assert isinstance(body, Generated)
        return generations(body.generation, body.generation, {}, len(facts))


async def test_a_slow_candidate_holds_nobody_up(scripted_stack: LocalStack, milepost: Run) -> None:
    async with scripted_stack.session(user="shadow-bob") as (client, world):
        now = world.clock.now()
        of = shadow(Swap(llm="slow"), tenant=client.tenant, name="slow", since=now, created=now, state="stopped")
        raw = PutShadow(shadow=of).model_dump_json(by_alias=True).encode()
        await world.bus.ask(subjects.question("recorder", "put_shadow"), raw, 5)
        slow = Slow()
        watch = Watch(world, of, slow)
        watching = asyncio.create_task(watch.run())
        ends = [await see_through(client, (await client.ask("what is the time?", agent=OPERATOR)).run) for _ in range(6)]
        assert {each.state.outcome for each in ends} == {"completed"}

        async def blocked() -> bool:
            return slow.asked == slow.at_once

        await until(blocked)
        assert watch.compared == 0
        assert (await lag(world.connection, of.group) or 0) > 8, "it is behind, and shows it"
        slow.let.set()

        async def done() -> bool:
            return watch.compared == 2 * len(ends)

        await until(done)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(milepost, "shadow", "rm", "slow")
        assert await lag(world.connection, of.group) is None


async def test_a_write_that_a_shadow_tries_is_refused(scripted_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that its process has, as somebody has who broke into it."""
    async with scripted_stack.session(user="shadow-eve") as (client, world):
        run = (await client.ask("what is the time?", agent=OPERATOR)).run
        await see_through(client, run)
        settings, tenant = world.settings, client.tenant
        environment = scrubbed(settings, shadow(Swap(llm="x"), tenant=tenant))
    before = await scripted_stack.effects()
    for name in [name for name in os.environ if name.startswith("MILEPOST_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    known = load(directory=home_of(settings, shadow(Swap(llm="x"), tenant=tenant))).settings
    assert (settings.home / CAPABILITY_FILE).exists()
    assert not (known.home / CAPABILITY_FILE).exists()
    inside = await open_world(known, "shadow-x")
    try:
        with pytest.raises(Exception, match="No Postgres is known"):
            open_ledger(inside)
        command = CallTool.model_validate({
            "call": {"id": "c1", "name": "RenewInstance", "arguments": {"InstanceId": WEB, "Period": 1, "PeriodUnit": "Week"}},
            "card_hash": "0" * 32, "host": "builtin", "plan": "0" * 32, "write_key": "0" * 32,
        })  # fmt: skip
        await inside.bus.send(new_order(
            command, id=CommandId("f" * 32), run=run, tenant=tenant, source=source_of("conductor", "shadow-x"),
            time=inside.clock.now(), causes=(), decider="4",
        ))  # fmt: skip
        async with asyncio.timeout(30):
            async for stored in inside.log.follow(run):
                if stored.fact.slot == "f" * 32:
                    break
        assert isinstance(stored.fact.body, ToolFailed)
        assert stored.fact.body.failure.type == "CapabilityMissing"
    finally:
        await inside.connection.close()
    assert await scripted_stack.effects() == before


async def test_candidates_are_compared_promoted_and_rolled_back(
    scripted_stack: LocalStack, tmp_path: Path, milepost: Run
) -> None:

    def command(*arguments: str, code: int = 0) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(milepost("shadow", *arguments, "--json", code=code))
        return said

    def shown(name: str, least: int) -> dict[str, Any]:
        while (told := command("show", name))["compared"] < least:
            pass
        return told

    async def describe(text: str) -> str:
        async with scripted_stack.session(user="shadow-ann") as (client, _):
            await see_through(client, (await client.ask(f"describe {WEB} as {text}", agent=OPERATOR)).run)
        effects = [str(each) for each in await scripted_stack.effects(WEB)]
        return "done" if any(text in each for each in effects) else "not done"

    rules = tmp_path / "deny.yaml"
    rules.write_text("rules:\n  - {name: none, when: {tools: ['ModifyInstance*']}, then: deny}\n")
    model = script(tmp_path, {"role": "user", "say": "I will not."}, {"role": "tool", "match": ".*", "say": "Done: {0}"})
    await asyncio.to_thread(command, "start", "strict", "--swap", f"policy={rules}")
    await asyncio.to_thread(command, "start", "lazy", "--swap", f"llm={model}")
    twice = await asyncio.to_thread(command, "start", "lazy", "--swap", f"llm={model}", code=1)
    assert "lazy" in twice["error"]["what"]
    assert await describe("shadow-one") == "done"

    lazy = await asyncio.to_thread(shown, "lazy", 2)
    assert (lazy["shown"][0]["risk"], lazy["totals"]["agreement"]["value"]) == ("lost_write", 0.5)
    assert lazy["shown"][0]["answers"]["driven"] == "I will not."
    assert "#" in lazy["shown"][0]["at"]
    refused = await asyncio.to_thread(command, "promote", "lazy", code=5)
    assert refused["lacking"] == ["agreement 0.5000 < 0.95"]
    await asyncio.to_thread(command, "promote", "lazy", "--yes", code=1)  # for no reason
    await asyncio.to_thread(command, "promote", "lazy", "--min", "agreement=0.5")
    assert load(directory=tmp_path).settings.model.scripted == model
    await asyncio.to_thread(command, "rollback", "lazy")
    assert load(directory=tmp_path).settings.model.scripted is None

    strict = await asyncio.to_thread(shown, "strict", 1)
    assert (strict["shown"][0]["risk"], strict["totals"]["verdicts"]["value"]) == ("verdict", 0.0)
    await asyncio.to_thread(command, "promote", "strict", "--yes", "--reason", "nobody may")
    try:
        assert await describe("shadow-two") == "not done"
    finally:
        await asyncio.to_thread(command, "rollback", "strict")
    assert await describe("shadow-three") == "done"
    assert "strict" in await asyncio.to_thread(milepost, "shadow", "ls")

    await asyncio.to_thread(milepost, "forget", "--user", "shadow-ann", "--yes")
    forgotten = (await asyncio.to_thread(command, "show", "lazy"))["shown"][0]
    assert forgotten["sealed"] and not forgotten["answers"]["driven"] and not forgotten["differences"]
    for name in ("strict", "lazy"):
        await asyncio.to_thread(command, "rm", name)
    assert json.loads(await asyncio.to_thread(milepost, "shadow", "ls", "--json")) == []
