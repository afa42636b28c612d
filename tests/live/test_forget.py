"""Forgetting a person on a whole stack: what lies on disk before and after, and what others keep."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path

import orjson
import psycopg
import pytest

from infra.exports.reading import load_export
from infra.exports.writing import exported, save_export
from infra.processes import python
from infra.session import session
from infra.wiring import World
from runtime.client import Client, Update
from runtime.log import Stored
from runtime.replay import replay
from schemas import subjects
from schemas.envelope import decode
from schemas.ids import RunId
from schemas.sealing import Sealed
from tests.support.builders import NOW
from tests.support.stack import OPERATOR, LocalStack, local_stack, open_folder, persist, reached, see_through

IDLE, WEB = "i-bp1j2s8d6f3g9job01", "i-bp1f8k2m9x4q7web01"
CANARY = "canary-4471-of-ann"
TOLD = f"describe {IDLE} as {CANARY}"


def on_disk(folder: Path, what: str) -> list[str]:
    """The files that hold it; the write-ahead log is left out: Postgres overwrites it as it goes."""
    files = [path for path in folder.rglob("*") if path.is_file() and "pg_wal" not in path.parts]
    return [str(path.relative_to(folder)) for path in files if what.encode() in path.read_bytes()]


def in_database(stack: LocalStack, what: str) -> set[str]:
    """The tables with a row that holds it."""
    with psycopg.connect(stack.now.postgres_url, autocommit=True) as connection:
        named = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        count = "SELECT count(*) FROM {} AS r WHERE r::text LIKE %s"
        return {
            name
            for (name,) in named
            if connection.execute(count.format(name), [f"%{what}%"]).fetchone() != (0,)  # type: ignore[arg-type]
        }


def swept(stack: LocalStack) -> None:
    """Everything that is deleted leaves the pages, and the pages are on disk."""
    with psycopg.connect(stack.now.postgres_url, autocommit=True) as connection:
        connection.execute("VACUUM FULL")
        connection.execute("CHECKPOINT")


def waits(update: Update) -> bool:
    return update.state.outcome == "waiting"


async def lived(stack: LocalStack, user: str, task: str) -> tuple[RunId, RunId]:
    """A run that did what was asked, and one that waits for an approval."""
    async with stack.session(user) as (client, _):
        done = (await client.ask(task, agent=OPERATOR)).run
        assert (await see_through(client, done)).state.outcome == "completed"
        waiting = (await client.ask(task, agent=OPERATOR)).run
        await reached(client, waiting, waits)
    return done, waiting


async def until_indexed(stack: LocalStack, run: RunId) -> None:
    question = orjson.dumps({"tenant": "default", "user": "ann", "open": True})
    async with stack.session() as (client, _):
        async with asyncio.timeout(30):
            while run not in orjson.loads(await client.bus.ask(subjects.question("recorder", "runs_of"), question, 5.0)):
                await asyncio.sleep(0.05)


async def asked_and_killed(stack: LocalStack) -> dict[str, object]:
    """Ask to forget Ann, kill the process that does it as it begins, and wait until another one has done it."""
    memory = subjects.question("memory", "forget"), subjects.question("memory", "forgetting")
    async with stack.session() as (client, _):
        asked = orjson.dumps({"tenant": "default", "user": "ann", "by": "operator"})
        id = orjson.loads(await client.bus.ask(memory[0], asked, 10.0))["id"]
        await stack.kill("memory")
        question = orjson.dumps({"tenant": "default", "id": id})
        async with asyncio.timeout(90):
            while True:
                said = orjson.loads(await persist(lambda: client.bus.ask(memory[1], question, 5.0)))
                if said["finished"]:
                    return dict(said)
                await asyncio.sleep(0.1)


async def raw_of(world: World, run: RunId) -> list[tuple[Stored, bytes]]:
    """What a run said; its receipt names nobody, and comes a moment later."""
    return [(stored, raw) for stored, raw in await world.log.read_both(run) if stored.fact.role != "recorder"]


def milepost(stack: LocalStack, *words: str) -> subprocess.CompletedProcess[str]:
    command, environment = python("infra", *words)
    everything = {**os.environ, **environment, **stack.loaded.environment()}
    return subprocess.run(command, env=everything, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.timeout(180)
async def test_a_forgotten_person_is_nowhere_on_disk_and_others_lose_nothing(tmp_path: Path) -> None:
    with open_folder() as folder:
        async with local_stack(folder) as stack:
            done, waiting = await lived(stack, "ann", TOLD)
            theirs, open_ = await lived(stack, "bob", f"describe {WEB} as bobs")
            await _in_the_clear(stack, "dave")
            await until_indexed(stack, waiting)
            assert not on_disk(stack.home / "nats", CANARY) and on_disk(stack.home / "nats", done)
            assert {"runs", "events", "turns", "effects"} <= in_database(stack, CANARY)
            async with stack.session() as (_, world):
                before = {run: await raw_of(world, run) for run in (theirs, open_)}

            report = (await asked_and_killed(stack))["report"]
            assert isinstance(report, dict)
            assert (report["keys"], report["unsealed"], report["cancelled"]) == (1, 0, 1)
            assert report["effects"] == 1 and report["memory"]["turns"] == 2

            assert in_database(stack, CANARY) == set()
            swept(stack)
            async with stack.session("ann") as (client, world):
                await _others_lost_nothing(client, world, before, tmp_path)
                for run in (done, waiting):
                    facts = await raw_of(world, run)
                    assert all(isinstance(stored.fact.body, Sealed) for stored, _ in facts if stored.fact.slot != "cancel")
                begun = (await client.ask("what time is it", agent=OPERATOR)).run
                assert (await see_through(client, begun)).state.outcome == "completed"
            _by_the_command_line(stack, done, theirs)
        assert {name: on_disk(stack.home / name, CANARY) for name in ("nats", "postgres", "logs")} == {
            "nats": [], "postgres": [], "logs": []
        }  # fmt: skip


async def _others_lost_nothing(
    client: Client, world: World, before: dict[RunId, list[tuple[Stored, bytes]]], folder: Path
) -> None:
    for number, (run, facts) in enumerate(before.items()):
        now = await raw_of(world, run)
        assert [raw for _, raw in now] == [raw for _, raw in facts]
        assert replay(run, [stored for stored, _ in now]).same
        path = folder / f"{number}.jsonl"
        save_export(path, await exported(run, now, world.keyring), NOW)
        assert path.read_bytes().splitlines()[1:-2] == [raw for _, raw in facts]
        assert replay(run, load_export(path).facts).same
        assert all(isinstance(decode(raw).body, Sealed) for _, raw in facts)


async def _in_the_clear(stack: LocalStack, user: str) -> None:
    """A run with sealing off, as before it was there."""
    settings = stack.loaded.settings
    unsealed = settings.model_copy(update={"keys": settings.keys.model_copy(update={"seal": False})})
    async with session(unsealed, user=user) as (client, world):
        run = (await client.ask("what time is it", agent=OPERATOR)).run
        assert (await see_through(client, run)).state.outcome == "completed"
        assert not any(isinstance(decode(raw).body, Sealed) for _, raw in await raw_of(world, run))


def _by_the_command_line(stack: LocalStack, erased: RunId, theirs: RunId) -> None:
    shown = json.loads(milepost(stack, "runs", "show", erased, "--json").stdout)
    assert shown["outcome"] == "erased" and len(shown["events"]) > 5
    replayed = milepost(stack, "replay", erased)
    assert replayed.returncode == 1 and "erased on request" in replayed.stderr
    unasked = milepost(stack, "forget", "--user", "bob")
    assert unasked.returncode == 1 and "--yes" in unasked.stderr
    forgotten = json.loads(milepost(stack, "forget", "--user", "bob", "--yes", "--json").stdout)
    assert forgotten["report"]["cancelled"] == 1 and forgotten["finished"] and forgotten["out_of_reach"]
    assert json.loads(milepost(stack, "runs", "show", theirs, "--json").stdout)["outcome"] == "erased"
    told = milepost(stack, "forget", "--user", "dave", "--yes").stdout
    assert "1 runs were recorded before sealing was on" in told


async def test_runs_go_on_and_nothing_is_lost_while_the_keys_owner_is_away(scripted_stack: LocalStack) -> None:
    async with scripted_stack.session("carol") as (client, _):
        run = (await client.ask("what time is it", agent=OPERATOR)).run
        begun = time.monotonic()
        await scripted_stack.kill("memory")
        later = await persist(lambda: client.ask("what time is it", agent=OPERATOR))
        for each in (run, later.run):
            assert (await see_through(client, each)).state.outcome == "completed"
        assert time.monotonic() - begun < 60
