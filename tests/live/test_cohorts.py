"""Cohorts over a real stack: what is swapped shows, a killed one goes on, and workers that die lose nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from infra.cli.client import list_runs
from infra.cohort.driver import drive_over_bus
from infra.cohort.over_bus import Item, taken
from infra.cohort.pool import Processes
from infra.cohort.store import About, cohort_id, open_cohort
from infra.cohort.swap import Swap
from infra.cohort.worker import CohortWorker
from infra.exports.writing import Exported, save_export
from infra.jetstream.bus import JetStreamBus
from infra.jetstream.connection import connect
from infra.jetstream.log import JetStreamLog
from infra.settings import Settings
from infra.wiring import World
from runtime.clock import SystemClock
from runtime.keyring import BusKeyring
from schemas.envelope import encode
from schemas.ids import RunId
from services.recorder.ports import RunFilter
from tests.bench.replay.workload import recorded as operator_run
from tests.support.builders import TENANT, RunUnderTest
from tests.support.stack import OPERATOR, LocalStack, see_through

ROOT = Path(__file__).parents[2]
INSTANCES = ("i-bp1f8k2m9x4q7web01", "i-bp1f8k2m9x4q7web02")
TASKS = ("what is the time?", "hello there", f"renew {INSTANCES[0]} for 1 month")


def milepost(folder: Path, *arguments: str, code: int | None = 0) -> str:
    """`milepost ARGUMENTS` in a folder; what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "infra", *arguments], capture_output=True, text=True, timeout=120, cwd=folder, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LANG": "en_US.UTF-8", "LC_ALL": "en_US.UTF-8"},
    )  # fmt: skip
    assert code is None or ended.returncode == code, f"exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def script(folder: Path, *rules: dict[str, object]) -> Path:
    path = folder / "other.json"
    path.write_text(json.dumps({"rules": rules}))
    return path


async def test_runs_of_a_stack_are_driven_again_with_a_model_and_with_rules_swapped(
    scripted_stack: LocalStack, tmp_path: Path
) -> None:
    async with scripted_stack.session(user="cohort-ann") as (client, world):
        runs = [(await client.ask(task, agent=OPERATOR)).run for task in TASKS]
        ends = [await see_through(client, run) for run in runs]
        ended = RunFilter(user="cohort-ann", status=("completed",))
        async with asyncio.timeout(30):
            while len(await list_runs(world, ended, 10)) < len(runs):  # the index follows the log
                pass
    assert {each.state.outcome for each in ends} == {"completed"}
    home, which = ("--home", str(scripted_stack.home)), "user:cohort-ann"
    await asyncio.to_thread(_swaps, home, which, len(runs), tmp_path, scripted_stack.home)


def _swaps(home: Sequence[str], which: str, count: int, folder: Path, data: Path) -> None:
    def json_of(*arguments: str, code: int = 0) -> dict[str, object]:
        found: dict[str, object] = json.loads(milepost(folder, "cohort", which, *home, "--json", *arguments, code=code))
        return found

    same = json_of("--fail-under", "agreement=1,answers=1,actions=1,verdicts=1")
    assert (same["runs"], same["changed_runs"], same["driven"]) == (count, 0, count)
    kept = b"".join(path.read_bytes() for path in data.glob("cohorts/*/results.jsonl"))
    assert kept.count(b"\n") == count
    assert INSTANCES[0].encode() not in kept, "what a sealed run says stands in the clear"
    destroys = {"name": "ModifyInstanceAttribute", "arguments": {"InstanceId": INSTANCES[1], "Description": "mine"}}
    other = script(folder, {"role": "user", "match": "time", "call": [destroys]}, {"role": "user", "say": "No."})
    told = json_of("--swap", f"llm={other}", "--fail-under", "agreement=0.9", "--html", "report.html", code=5)
    changed = cast("list[dict[str, Any]]", told["changed"])
    assert [each["risk"] for each in changed] == ["new_write", "lost_write", "answer"]
    assert changed[0]["differences"][0]["driven"]["arguments"]["Description"] == "mine"
    assert "NEW WRITE" in (folder / "report.html").read_text()
    rules = folder / "deny.yaml"
    rules.write_text("rules:\n  - {name: none, when: {tools: ['Renew*']}, then: deny}\n")
    text = milepost(folder, "cohort", which, *home, "--swap", f"policy={rules}", "--fail-under", "verdicts=0.5", code=5)
    assert "other verdict" in text
    assert "denied by the rules" in text
    assert INSTANCES[0] in text
    again = json_of("--swap", f"policy={rules}")
    assert (again["driven"], again["changed_runs"]) == (0, 1)
    cohort = str(again["cohort"])
    shown = json.loads(milepost(folder, "cohort", "show", cohort[:8], *home, "--json"))
    assert shown["changed"] == again["changed"]
    assert cohort in milepost(folder, "cohort", "ls", *home)
    missing = milepost(folder, "cohort", which, *home, "--swap", "llm=no-such-model", "--json", code=1)
    assert "no-such-model" in json.loads(missing)["error"]["what"]


def exported(folder: Path, count: int) -> list[RunUnderTest]:
    """So many finished runs as files."""
    folder.mkdir()
    runs = [operator_run(number) for number in range(count)]
    for run in runs:
        what = Exported(run.id, [encode(each.fact) for each in run.log])
        save_export(folder / f"{run.id}.jsonl", what, datetime.now(UTC))
    return runs


def test_a_cohort_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    runs = exported(tmp_path / "runs", 160)
    command = ["cohort", "--from", "runs", "--processes", "1", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "infra", *command], cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    kept = 0
    while process.poll() is None and not kept:
        kept = sum(path.read_bytes().count(b"\n") for path in tmp_path.glob(".milepost/cohorts/*/results.jsonl"))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (results,) = tmp_path.glob(".milepost/cohorts/*/results.jsonl")
    kept = results.read_bytes().count(b"\n")
    assert 0 < kept < len(runs), "it was not killed in the middle"
    told = json.loads(milepost(tmp_path, *command))
    assert (told["driven"], told["totals"]["runs"], told["changed_runs"]) == (len(runs) - kept, len(runs), 0)
    lines = [json.loads(line)["run"] for line in results.read_bytes().splitlines()]
    assert Counter(lines) == Counter(run.id for run in runs)


async def world_of(url: str, name: str) -> World:
    connection = await connect(url, name=name)
    log, bus = JetStreamLog(connection), JetStreamBus(connection)
    return World(Settings(tenant=TENANT), connection, log, bus, BusKeyring(bus), SystemClock(), name, [])


@pytest.mark.timeout(60)
async def test_a_worker_that_dies_gives_its_items_back(nats_url: str, tmp_path: Path) -> None:
    runs = [operator_run(number + 5_000) for number in range(70)]
    ours, dying, working = [await world_of(nats_url, name) for name in ("cohort-a", "cohort-b", "cohort-c")]
    await asyncio.gather(*(_append(ours.log, run) for run in runs))
    ids = tuple(RunId(run.id) for run in runs)
    about = About(id=cohort_id(ids, Swap()), query="all", swap=(), runs=ids, created=datetime.now(UTC))
    told: list[tuple[int, int]] = []

    def tell(item: Item, results: Sequence[object], why: str) -> None:
        told.append((item.item, len(results)))

    with open_cohort(tmp_path, about) as cohort, Processes(1) as processes:
        driving = asyncio.create_task(drive_over_bus(cohort, Swap(), ours.connection, TENANT, tell=lambda done: None))
        async with aclosing(taken(dying.connection, 1)) as items:
            held, _ = await anext(items)
        await dying.connection.client.close()
        work = asyncio.create_task(CohortWorker(working, processes, tell).run())
        await driving
        work.cancel()
    assert held.item in {number for number, _ in told}, "what the dead worker held was driven by another"
    assert sum(count for _, count in told) == len(runs)
    assert {run for run, each in cohort.results.items() if each.agreement and each.agreement.risk == "same"} == set(ids)
    assert (tmp_path / "cohorts" / about.id / "results.jsonl").read_bytes().count(b"\n") == len(runs)
    await ours.connection.close()  # what is acknowledged is told at the latest now
    assert (await working.connection.jetstream.stream_info("COHORTS")).state.messages == 0
    await working.connection.close()


async def _append(log: JetStreamLog, run: RunUnderTest) -> None:
    for each in run.log:
        await log.append(each.fact)
