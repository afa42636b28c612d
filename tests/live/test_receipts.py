"""Receipts on real servers: what the command line says of runs, of a chain, and of whoever changes either."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from infra.checkpoint_files import CheckpointFiles
from infra.jetstream import streams
from infra.jetstream.connection import Connection
from infra.postgres.engine import connect
from infra.postgres.receipts import PostgresReceiptStore
from infra.processes import python
from infra.receipt_keys import RecorderKeys, make_receipt_keys, parsed, public_file, read_public, shown
from infra.verifying import as_lines, verify_file
from infra.wiring import World
from runtime.clock import SystemClock
from runtime.fold import fold
from runtime.log import Log
from runtime.proving import check_chain, prove
from schemas import subjects
from schemas.events import EffectSettled, RunSealed
from schemas.ids import RunId, segment_of_run, settled_slot
from services.recorder.sealing import Sealer
from tests.support.brokers import Place
from tests.support.builders import TENANT, RunUnderTest, fact_of
from tests.support.stack import OPERATOR, LocalStack, local_stack, open_folder, see_through

# --- a whole stack --------------------------------------------------------------------------------


def milepost(stack: LocalStack, *words: str) -> tuple[int, str]:
    """What a command answers, and its exit code."""
    command, environment = python("infra", *words)
    everything = {**os.environ, **environment, **stack.loaded.environment()}
    done = subprocess.run(command, env=everything, capture_output=True, text=True, timeout=90, check=False)
    return done.returncode, done.stdout or done.stderr


def asked(stack: LocalStack, *words: str) -> tuple[int, dict[str, object]]:
    code, said = milepost(stack, *words, "--json")
    return code, json.loads(said)


async def lived(stack: LocalStack, user: str) -> RunId:
    """A run of somebody, to its end."""
    async with stack.session(user) as (client, _):
        run = (await client.ask("what time is it", agent=OPERATOR)).run
        assert (await see_through(client, run)).state.outcome == "completed"
    return run


async def receipts_of(log: Log, run: RunId, count: int = 1, limit_s: float = 60.0) -> list[RunSealed]:
    """A run's receipts in the log, once there are so many."""
    async with asyncio.timeout(limit_s):
        while True:
            found = [stored.fact.body for stored in await log.read(run) if isinstance(stored.fact.body, RunSealed)]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def sealed_runs(stack: LocalStack, *users: str) -> list[RunId]:
    runs = [await lived(stack, user) for user in users]
    async with stack.session() as (_, world):
        for run in runs:
            await receipts_of(world.log, run)
    return runs


@pytest.mark.timeout(240)
async def test_runs_are_sealed_and_proved_and_what_was_changed_is_named(tmp_path: Path) -> None:
    with open_folder() as folder:
        async with local_stack(folder) as stack:
            anns, bobs = await sealed_runs(stack, "ann", "bob")
            first = _first_key(stack)
            await _amended(stack, bobs)
            later = await _rotated(stack, first, tmp_path)
            await _recorder_killed(stack)
            code, told = asked(stack, "receipts", "check")
            assert (code, told["verdict"], told["receipts"]) == (0, "proved", 5), told
            kept = tmp_path / "checkpoint.jsonl"
            assert milepost(stack, "receipts", "checkpoint", "--out", str(kept))[0] == 0

            assert milepost(stack, "forget", "--user", "ann", "--yes")[0] == 0
            _erased_and_still_proved(stack, anns, first, tmp_path)
            _chain_changed(stack, kept)
            await _log_changed(stack, later)


def _first_key(stack: LocalStack) -> str:
    public = read_public(public_file(stack.home / "recorder.key"))
    assert public is not None and len(public.keys) == 1
    assert (stack.home / "recorder.key").stat().st_mode & 0o777 == 0o600
    return shown(public.by_id())[0]


def _proved(file: Path, key: str) -> dict[str, object]:
    """What `verify` says of a file where there is no stack and nothing but the key."""
    command, environment = python("infra", "verify", str(file), "--key", key, "--json")
    empty = file.parent / "elsewhere"
    empty.mkdir(exist_ok=True)
    done = subprocess.run(command, env={**os.environ, **environment}, cwd=empty, capture_output=True, text=True, check=False)
    said: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == 0, said
    return said


async def _amended(stack: LocalStack, run: RunId) -> None:
    """Something is found out after the end."""
    async with stack.session() as (_, world):
        for name in ("a" * 32, "b" * 32):
            event = EffectSettled(call=name, write_key="k", happened=True, by="tools")
            assert await world.log.append(fact_of(event, run, settled_slot(name), role="tools", tenant="default"))
        one, two = await receipts_of(world.log, run, 2)
    assert two.receipt.size == one.receipt.size + 2
    code, told = asked(stack, "verify", run)
    assert (code, told["verdict"], told["content"]) == (0, "proved", True)


async def _rotated(stack: LocalStack, first: str, folder: Path) -> RunId:
    """Another key signs from now on; who has the first one needs no other."""
    assert milepost(stack, "keys", "receipts", "rotate")[0] == 0
    (run,) = await sealed_runs(stack, "carol")
    file = folder / "later.jsonl"
    assert milepost(stack, "runs", "export", run, str(file))[0] == 0
    receipts: list[dict[str, object]] = _proved(file, first)["receipts"]  # type: ignore[assignment]
    assert [each["key"] == first.partition("=")[0] for each in receipts] == [False]
    return run


async def _recorder_killed(stack: LocalStack) -> None:
    """A run ends while the recorder is dead."""
    await stack.kill("recorder")
    await sealed_runs(stack, "dave")


def _erased_and_still_proved(stack: LocalStack, run: RunId, key: str, folder: Path) -> None:
    file = folder / "erased.jsonl"
    assert milepost(stack, "runs", "export", run, str(file))[0] == 0
    found = verify_file(file, parsed([key]))
    assert (found.proof.verdict, found.opened, found.proof.run) == ("proved", False, run)


def _chain_changed(stack: LocalStack, kept: Path) -> None:
    """Rows are taken out of the chain: from its middle, and from its end together with the checkpoints that lie beside it."""
    with psycopg.connect(stack.now.postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE put_aside AS SELECT * FROM receipts")

        connection.execute("DELETE FROM receipts WHERE number = 2")
        code, told = asked(stack, "receipts", "check")
        found: list[dict[str, object]] = told["findings"]  # type: ignore[assignment]
        assert (code, found[0]["kind"], found[0]["detail"]) == (4, "number", "2"), told
        assert [each["receipt"] for each in found if each["kind"] == "unlisted"] == [2]  # the run's log tells
        connection.execute("INSERT INTO receipts SELECT * FROM put_aside WHERE number = 2")

        connection.execute("DELETE FROM receipts WHERE number = 5")
        for path in (stack.home / "receipts").iterdir():
            path.unlink()
        code, told = asked(stack, "receipts", "check", "--checkpoint", str(kept))
        kinds = [each["kind"] for each in told["findings"]]  # type: ignore[attr-defined]
        assert code == 4 and kinds[0] == "cut", told
        connection.execute("INSERT INTO receipts SELECT * FROM put_aside WHERE number = 5")


async def _log_changed(stack: LocalStack, run: RunId) -> None:
    """Who has the server can write the log anew, with one event otherwise."""
    async with stack.session() as (_, world):
        await _rewritten(world, run)
    code, told = asked(stack, "receipts", "check")
    found: list[dict[str, object]] = told["findings"]  # type: ignore[assignment]
    assert (code, {each["run"] for each in found}) == (4, {run}), told
    assert ("edited", 3) in [(each["kind"], each.get("event")) for each in found]
    code, said = milepost(stack, "verify", run)
    assert code == 4 and "message 3, event 3: not what was signed" in said


async def _rewritten(world: World, run: RunId) -> None:
    raws, js = await world.log.read_raw(run), world.connection.jetstream
    segment = segment_of_run(run)
    stream = subjects.run_stream(segment)
    others = [r for each in await _runs(world.connection, stream) if each != run for r in await world.log.read_raw(each)]
    await js.delete_stream(stream)
    await streams.ensure_stream(world.connection, streams.run_stream(segment))
    for number, raw in enumerate([*raws, *others], start=1):
        await js.publish(raw.subject, raw.data.replace(b"T", b"t", 1) if number == 3 else raw.data)


async def _runs(connection: Connection, stream: str) -> list[RunId]:
    info = await connection.jetstream.stream_info(stream, subjects_filter=">")
    return [RunId(each) for each in dict.fromkeys(subject.split(".")[4] for subject in info.state.subjects or {})]


# --- sealers alone --------------------------------------------------------------------------------


class Dies(Exception):
    """The process is gone."""


class DyingLog:
    """A log whose process dies when it wants to append."""

    def __init__(self, log: Log) -> None:
        self.read, self.read_raw, self.holds = log.read, log.read_raw, log.holds

    async def append(self, *_: object) -> bool:
        raise Dies


async def test_one_recorder_dies_before_it_published_and_others_go_on(nats: Place, postgres_url: str, tmp_path: Path) -> None:
    make_receipt_keys(tmp_path / "recorder.key")
    keys, shelf, engine = RecorderKeys(tmp_path / "recorder.key"), CheckpointFiles(tmp_path / "kept"), connect(postgres_url)
    store, log = PostgresReceiptStore(engine), (await nats.member()).log
    runs = [await _ended(log, f"run {number}") for number in range(6)]

    def sealer(log: Log) -> Sealer:
        return Sealer(log, store, keys, SystemClock(), shelf)

    dead, two, three = sealer(DyingLog(log)), sealer(log), sealer(log)  # type: ignore[arg-type]  # all that is called
    for run in runs:
        facts = await log.read(run)
        for each in (dead, two, three):
            await each.heard([(stored.fact, stored.position) for stored in facts], {run: fold(run, facts)})
    with pytest.raises(Dies):
        await dead.step()
    assert len(await store.unpublished(9)) == 6
    await asyncio.gather(two.step(), three.step())

    chain = await store.chain(TENANT)
    assert len(chain) == 6 and await store.unpublished(9) == []
    assert list(check_chain(chain, keys.trusted(), tenant=TENANT)) == []
    assert [len(await receipts_of(log, run)) for run in runs] == [1] * 6
    assert {prove(as_lines(await log.read_raw(run)), keys.trusted()).verdict for run in runs} == {"proved"}
    assert shelf.last(TENANT) == await store.checkpoint(TENANT)
    await engine.dispose()


async def _ended(log: Log, key: str) -> RunId:
    run = RunUnderTest(key=key)
    run.begin()
    run.gather()
    run.say(text="noon")
    run.end()
    for stored in run.log:
        assert await log.append(stored.fact)
    return run.id
