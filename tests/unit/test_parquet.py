"""Many runs as tables: what DuckDB and Arrow read is what the runs were."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from infra.exports import parquet
from infra.exports.format import CannotWrite
from infra.exports.parquet import EVENTS, RUNS, NoParquet, parquet_files
from runtime.log import Stored
from runtime.timeline import summary
from schemas.envelope import encode
from schemas.sealing import Sealed
from services.recorder.ports import RunSummary
from tests.support.builders import NOW, TENANT, RunUnderTest
from tests.support.exports import run_with_payloads
from tests.support.sealing import under


def summary_of(run: RunUnderTest, name: str = "") -> RunSummary:
    return RunSummary(
        run=name or run.id, tenant=TENANT, status="completed", agent="operator", user="ann", conversation="talk",
        task="renew 续费", answer="It is done.", started=NOW, ended=NOW, tools=("renew", "renew"), seq=9, models=("tiny",),
        tokens=30, money={"CNY": "120.50"}, events=len(run.log),
    )  # fmt: skip


def both(run: RunUnderTest) -> list[tuple[Stored, bytes]]:
    return [(stored, encode(stored.fact)) for stored in run.log]


async def test_tables_are_read_by_duckdb_as_they_are(tmp_path: Path) -> None:
    run, _ = await run_with_payloads()
    with parquet_files(tmp_path) as tables:
        tables.add(summary_of(run), both(run))
    assert (tables.runs, tables.events) == (1, len(run.log))
    assert sorted(each.name for each in tmp_path.iterdir()) == [EVENTS, RUNS]

    events = duckdb.sql(
        f"SELECT n, id, type, role, slot, epoch_us(time), agent, tool, summary, bytes FROM '{tmp_path / EVENTS}' ORDER BY n"
    )
    assert events.fetchall() == [
        (n, each.fact.id, each.fact.kind, each.fact.role, each.fact.slot, _us(each.fact.time), "operator", _tool(each),
         summary(each.fact), len(encode(each.fact)))
        for n, each in enumerate(run.log, start=1)
    ]  # fmt: skip
    asked = f"""
        SELECT r.run, r.money['CNY'], r.tools, data ->> '$.result.parts[1].media_type', epoch_us(r.started)
        FROM '{tmp_path / EVENTS}' e JOIN '{tmp_path / RUNS}' r USING (run) WHERE type = 'ToolReturned'
    """
    assert duckdb.sql(asked).fetchall() == [(run.id, "120.50", ["renew", "renew"], "image/png", _us(NOW))]


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def _tool(stored: Stored) -> str | None:
    command = getattr(stored.fact.body, "command", None)
    return command.call.name if hasattr(command, "call") else None


async def test_what_was_erased_has_no_data(tmp_path: Path) -> None:
    run, _ = await run_with_payloads()
    gone = [
        (Stored(replace(under(each.fact, "k" * 32), body=Sealed(nonce="", ciphertext="")), each.position), raw)
        for each, raw in both(run)
    ]
    with parquet_files(tmp_path) as tables:
        tables.add(summary_of(run), gone)
    rows = pq.read_table(tmp_path / EVENTS).to_pylist()
    assert {(row["erased"], row["sealed"], row["data"], row["summary"], row["tool"]) for row in rows} == {
        (True, True, None, None, None)
    }
    assert [row["type"] for row in rows] == [each.fact.kind for each in run.log]


async def test_rows_are_written_in_groups_so_that_memory_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 100)
    run, _ = await run_with_payloads()
    with parquet_files(tmp_path) as tables:
        for number in range(50):
            tables.add(summary_of(run, f"202611-{number:032x}"), both(run))
            assert len(tables._events._rows) < 100
    file = pq.ParquetFile(tmp_path / EVENTS)
    assert file.metadata.num_rows == 50 * len(run.log) and file.metadata.num_row_groups == 6
    assert pq.read_metadata(tmp_path / RUNS).num_rows == 50


async def test_tables_are_whole_or_not_there(tmp_path: Path) -> None:
    run, _ = await run_with_payloads()
    with pytest.raises(RuntimeError), parquet_files(tmp_path) as tables:
        tables.add(summary_of(run), both(run))
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    (tmp_path / RUNS).write_bytes(b"here before")
    with pytest.raises(CannotWrite), parquet_files(tmp_path):
        pass
    assert (tmp_path / RUNS).read_bytes() == b"here before"
    with parquet_files(tmp_path, replace=True) as tables:
        tables.add(summary_of(run), both(run))
    assert pq.read_metadata(tmp_path / RUNS).num_rows == 1


def test_without_the_library_the_command_that_installs_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(NoParquet) as refused, parquet_files(tmp_path):
        pass
    assert "pip install 'milepost[parquet]'" in refused.value.hint
