"""Many runs as two Parquet files, for whoever asks with SQL: runs.parquet, a row a run, and events.parquet, a row an event.

Rows are written in groups as they come, so that memory does not grow with the number of runs. What is sealed in the log is
in the clear here; what was erased has no data.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from infra.exports.format import CannotWrite
from runtime.log import Stored
from runtime.numbering import numbered
from runtime.timeline import summary
from schemas.errors import MilepostError
from schemas.events import AnswerCopied, Generated
from schemas.sealing import Sealed

if TYPE_CHECKING:
    from services.recorder.ports import RunSummary

GROUP_ROWS = 20_000
GROUP_BYTES = 16 * 1024 * 1024
RUNS, EVENTS = "runs.parquet", "events.parquet"

Row: TypeAlias = dict[str, object]


class NoParquet(MilepostError):
    """The library that writes Parquet is not installed."""


class Parquet:
    """Two files under construction. events, runs: how many rows they have so far."""

    def __init__(self, events: _Table, runs: _Table) -> None:
        self._events, self._runs = events, runs
        self.events = self.runs = 0

    def add(self, run: RunSummary, facts: Sequence[tuple[Stored, bytes]]) -> None:
        """A run with its events, opened, each with its bytes as stored."""
        sizes = {stored.position: len(data) for stored, data in facts}
        for number, stored in numbered(stored for stored, _ in facts):
            self._events.add(event_row(run, number, stored, sizes[stored.position]), sizes[stored.position])
        self._runs.add(run_row(run), len(run.task) + len(run.answer or ""))
        self.events, self.runs = self.events + len(facts), self.runs + 1


@contextlib.contextmanager
def parquet_files(folder: Path, *, replace: bool = False) -> Iterator[Parquet]:
    """Both files in a folder, whole at the end of the block or not there. Raises CannotWrite, NoParquet."""
    pa, _ = _arrow()
    there = [folder / name for name in (RUNS, EVENTS) if (folder / name).exists()]
    if there and not replace:
        raise CannotWrite(f"{there[0]} exists already.", hint="name another folder, or add --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".parquet-", dir=folder) as name:
            scratch = Path(name)
            with _Table(scratch / EVENTS, _event_schema(pa)) as events, _Table(scratch / RUNS, _run_schema(pa)) as runs:
                yield Parquet(events, runs)
            for each in (EVENTS, RUNS):
                (scratch / each).replace(folder / each)
    except OSError as error:
        why = error.strerror or str(error)
        raise CannotWrite(f"{folder} cannot be written.", why=why, hint="name another folder") from error


def event_row(run: RunSummary, number: int, stored: Stored, size: int) -> Row:
    """An event as a row. number: as a receipt counts it, 0 for a receipt; size: of the message as it is stored [bytes]."""
    fact = stored.fact
    erased = isinstance(fact.body, Sealed)
    answer = fact.body.answer if isinstance(fact.body, AnswerCopied) else fact.body
    generation = answer.generation if isinstance(answer, Generated) else None
    usage = generation.usage if generation and fact.body is answer else None  # what is copied was not spent again
    return {
        "run": fact.run, "tenant": fact.tenant, "n": number, "id": fact.id, "type": fact.kind, "role": fact.role,
        "slot": fact.slot, "time": fact.time, "source": fact.header.source, "causes": list(fact.causes),
        "agent": run.agent, "user": run.user, "conversation": run.conversation, "tool": _tool(answer),
        "summary": None if erased else summary(fact), "model": generation.model if generation else None,
        "tokens_in": usage.prompt_tokens if usage else None, "tokens_cached": usage.cached_tokens if usage else None,
        "tokens_out": usage.completion_tokens if usage else None, "bytes": size,
        "sealed": fact.header.datakey is not None, "erased": erased,
        "data": None if isinstance(fact.body, Sealed) else fact.body.model_dump_json(),
    }  # fmt: skip


def run_row(run: RunSummary) -> Row:
    """A run as a row."""
    said = run.model_dump(mode="python", exclude={"seq"})
    return {**said, "tools": list(run.tools), "models": list(run.models), "money": sorted(run.money.items())}


def _tool(event: object) -> str | None:
    """The tool that an event is about."""
    command = getattr(event, "command", None)
    call = getattr(command, "call", None)
    name = getattr(call, "name", None)
    return name if isinstance(name, str) else None


def _event_schema(pa: ModuleType) -> object:
    text, number, flag = pa.string(), pa.int64(), pa.bool_()
    return pa.schema([
        ("run", text), ("tenant", text), ("n", number), ("id", text), ("type", text), ("role", text), ("slot", text),
        ("time", _moment(pa)), ("source", text), ("causes", pa.list_(text)), ("agent", text), ("user", text),
        ("conversation", text), ("tool", text), ("summary", text), ("model", text), ("tokens_in", number),
        ("tokens_cached", number), ("tokens_out", number), ("bytes", number), ("sealed", flag), ("erased", flag),
        ("data", text),
    ])  # fmt: skip


def _run_schema(pa: ModuleType) -> object:
    text, number, flag = pa.string(), pa.int64(), pa.bool_()
    return pa.schema([
        ("run", text), ("tenant", text), ("status", text), ("agent", text), ("user", text), ("conversation", text),
        ("task", text), ("answer", text), ("started", _moment(pa)), ("ended", _moment(pa)), ("steps", number),
        ("tools", pa.list_(text)), ("sealed", flag), ("erased", flag), ("events", number), ("models", pa.list_(text)),
        ("tokens", number), ("cached", number), ("writes", number), ("money", pa.map_(text, text)), ("parent", text),
        ("fork_of", text), ("receipt", number),
    ])  # fmt: skip


def _moment(pa: ModuleType) -> object:
    return pa.timestamp("us", tz="UTC")


class _Table:
    """One file, a row group at a time."""

    def __init__(self, path: Path, schema: object) -> None:
        pa, parquet = _arrow()
        self._pa, self._schema = pa, schema
        self._writer = parquet.ParquetWriter(path, schema, compression="zstd")
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row, size: int) -> None:
        """One more row, of about so many bytes."""
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, self._schema))
        self._rows, self._bytes = [], 0

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def _arrow() -> tuple[ModuleType, ModuleType]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise NoParquet(
            "pyarrow is not installed, which writes Parquet.", why=str(error), hint="pip install 'milepost[parquet]'"
        ) from error
