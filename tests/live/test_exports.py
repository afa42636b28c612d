"""Runs leave a real stack as files and tables, and are found again where they were imported."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import duckdb
import pytest

from infra.cli.run_query import matching
from infra.exports.payload_lines import payload_bytes
from infra.exports.reading import load_export
from infra.processes import python
from runtime.replay import replay
from schemas.agent import AgentSpec
from schemas.envelope import decode
from schemas.ids import RunId
from schemas.sealing import Sealed
from services.recorder.ports import RunFilter
from tests.support.stack import LocalStack, see_through

AGENT = AgentSpec(name="drawer", tools=("qr_code",), tool_k=0)
PNG = b"\x89PNG\r\n\x1a\n"


def milepost(stack: LocalStack, *words: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    command, environment = python("infra", *words, *(("--home", str(home)) if home else ()))
    everything = {**os.environ, **environment, **stack.loaded.environment()}
    return subprocess.run(command, env=everything, capture_output=True, text=True, timeout=90, check=False)


def said(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
async def drawn(scripted_stack: LocalStack) -> RunId:
    """A sealed run whose result is a picture."""
    async with scripted_stack.session("drawer") as (client, _):
        run = (await client.ask("a QR code of https://example.com/续费", agent=AGENT)).run
        assert (await see_through(client, run)).state.outcome == "completed"
    return run


async def test_a_sealed_run_leaves_with_its_picture_and_is_read_elsewhere(
    scripted_stack: LocalStack, drawn: RunId, tmp_path: Path
) -> None:
    file = tmp_path / "run.jsonl"

    told = said(milepost(scripted_stack, "runs", "export", drawn, str(file), "--json"))

    export = load_export(file)
    assert (told["run"], told["events"], told["payloads"], told["missing"]) == (drawn, len(export.messages), 1, {})
    async with scripted_stack.session() as (_, world):
        stored = await world.log.read_raw(drawn)
        (kept,) = export.payloads
        picture = b"".join(payload_bytes(file, kept))
    assert [(each.subject, each.data) for each in export.messages] == [(each.subject, each.data) for each in stored]
    assert all(isinstance(decode(each.data).body, Sealed) for each in stored if each.subject.split(".")[6] != "recorder")
    assert picture.startswith(PNG) and export.key
    assert replay(drawn, export.facts).same

    elsewhere = tmp_path / "elsewhere"
    done = milepost(scripted_stack, "runs", "import", str(file), home=elsewhere)
    assert done.returncode == 0 and drawn in done.stdout, done.stderr
    assert (elsewhere / "imported" / f"{drawn}.jsonl").read_bytes() == file.read_bytes()
    assert said(milepost(scripted_stack, "replay", str(elsewhere / "imported" / f"{drawn}.jsonl"), "--json"))["same"]

    slim = tmp_path / "slim.jsonl"
    said(milepost(scripted_stack, "runs", "export", drawn, str(slim), "--no-payloads", "--json"))
    assert list(load_export(slim).absent.values()) == ["it was left out"]


async def test_an_imported_run_is_shown_and_exported_as_it_came(
    scripted_stack: LocalStack, drawn: RunId, tmp_path: Path
) -> None:
    """Under a name that no log knows, as it would be on another machine."""
    golden = next(Path(__file__).parents[1].joinpath("golden").glob("decider-3.jsonl"))
    run = load_export(golden).run
    try:
        milepost(scripted_stack, "runs", "import", str(golden), home=scripted_stack.home)
        shown = said(milepost(scripted_stack, "runs", "show", run, "--json"))
        assert (shown["run"], shown["outcome"]) == (run, "completed")
        copy = tmp_path / "copy.jsonl"
        said(milepost(scripted_stack, "runs", "export", run, str(copy), "--json"))
        assert copy.read_bytes() == golden.read_bytes()
    finally:
        (scripted_stack.home / "imported" / f"{run}.jsonl").unlink(missing_ok=True)


async def test_many_runs_become_tables(scripted_stack: LocalStack, drawn: RunId, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    await _indexed(scripted_stack, drawn)

    told = said(milepost(scripted_stack, "runs", "export", "--parquet", str(folder), "user:drawer", "--json"))

    assert told["left_out"] == []
    rows = duckdb.sql(
        f"SELECT run, count(*), any_value(agent), max(tool) FROM '{folder}/events.parquet' GROUP BY run"
    ).fetchall()
    async with scripted_stack.session() as (_, world):
        stored = await world.log.read_raw(drawn)
    (mine,) = [row for row in rows if row[0] == drawn]
    assert mine[1] >= len(stored) - 1 and mine[2:] == ("drawer", "qr_code")
    assert len(rows) == told["runs"] == duckdb.sql(f"SELECT count(*) FROM '{folder}/runs.parquet'").fetchall()[0][0]


async def _indexed(stack: LocalStack, run: RunId) -> None:
    """Wait until the recorder lists it as completed."""
    which = RunFilter(user="drawer", status=("completed",))
    async with stack.session() as (_, world), asyncio.timeout(30):
        while run not in [each.run async for each in matching(world, which)]:
            await asyncio.sleep(0.05)
