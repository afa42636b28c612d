"""What it costs to replay, seal, verify, index, drive again and show recorded runs: python -m tests.bench.replay.run

Real nats-server and PostgreSQL, and runs as an operator has them (workload.py). A figure is the best of its repetitions: what
a busy machine adds is not ours. The last line is one JSON object; null stands where something could not run, with the reason
above; under "measured" stands what each figure counts. The peer is LangGraph: its checkpoints of a thread, loaded with what
they hold, are what it calls replay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg

from infra import garbage
from infra.embedded import nats_server, postgres
from infra.exports.reading import as_raw, load_export
from infra.exports.writing import Exported, save_export
from infra.jetstream import streams
from infra.jetstream.connection import connect
from infra.jetstream.log import JetStreamLog
from infra.prefetch import prefetched
from infra.verifying import as_lines
from runtime.log import Raw, Stored
from runtime.proving import Line, prove
from runtime.receipts import count, fact_of, receipt_hash, sealed
from runtime.replay import replay
from runtime.sealing import Sealing
from schemas import subjects
from schemas.envelope import Fact, encode
from schemas.errors import MilepostError
from schemas.events import RunSealed
from schemas.ids import RunId, segment_of_run
from schemas.receipts import NO_HASH
from tests.bench.replay.workload import NOW, long_run, recorded
from tests.bench.steps.ours import KEY, OneKey
from tests.bench.steps.places import PLACE, Missing, output, python_with
from tests.support.builders import RunUnderTest
from tests.support.receipts import Keys
from tests.support.sealing import under

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
COHORT = 1_000
LOGGED = 300
FEW = 100
APPENDED_S = 60.0
PEER_STEPS = 300

Figures = dict[str, float]


@dataclass(slots=True)
class Bench:
    """What the parts share: the runs, the servers, and what was found."""

    home: Path
    runs: list[RunUnderTest]
    long: RunUnderTest
    repeats: int
    nats: str = ""
    sealed_nats: str = ""
    database: str = ""
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def logged(self) -> list[RunUnderTest]:
        return self.runs[:LOGGED]

    @property
    def files(self) -> Path:
        return self.home / "runs"

    @property
    def long_file(self) -> Path:
        return self.home / "long.jsonl"

    async def best(self, work: Callable[[], Awaitable[object]], repeats: int | None = None) -> float:
        """Seconds."""
        times = []
        for _ in range(repeats or self.repeats):
            begun = time.perf_counter()
            await work()
            times.append(time.perf_counter() - begun)
        return min(times)


def events_of(runs: Iterable[RunUnderTest]) -> int:
    return sum(len(run.log) for run in runs)


# --- replay ---------------------------------------------------------------------------------------


def _replayed(run: RunId, facts: Sequence[Stored]) -> int:
    result = replay(run, facts)
    if not result.same or result.outcome != "completed":
        raise MilepostError(f"The replay of {run} came out otherwise.", why=str(result.divergence))
    return result.events


async def from_jetstream(bench: Bench) -> Figures:
    """Runs read from the log, some ahead, and replayed in this process; the same sealed; and the long one."""
    figures: Figures = {}
    for prefix, url, keyring in (("", bench.nats, None), ("sealed_", bench.sealed_nats, OneKey())):
        async with _log(url, Sealing(keyring)) as log:
            took = await bench.best(lambda log=log: _replay_all(log, bench.logged))  # type: ignore[misc]
            figures[f"{prefix}replay_events_per_s"] = events_of(bench.logged) / took
            if not prefix:
                took = await bench.best(lambda log=log: _replay_all(log, [bench.long]))  # type: ignore[misc]
                figures["long_replay_events_per_s"] = events_of([bench.long]) / took
    return figures


async def _replay_all(log: JetStreamLog, runs: Sequence[RunUnderTest]) -> None:
    async for facts in prefetched(log.read, [run.id for run in runs]):
        _replayed(facts[0].fact.run, facts)


async def from_files(bench: Bench) -> Figures:
    """Export files, checked line by line and replayed in this process."""

    async def all_of_them(files: Sequence[Path]) -> None:
        for file in files:
            export = load_export(file)
            _replayed(export.run, export.facts)

    took = await bench.best(lambda: all_of_them(sorted(bench.files.iterdir())[:LOGGED]))
    return {"file_replay_events_per_s": events_of(bench.logged) / took}


async def memory(bench: Bench) -> Figures:
    """Peak memory of a process that replays files: a few of them, and ten times as many."""
    figures: Figures = {}
    for name, runs in (("peak_mb", FEW), ("peak_mb_10x", FEW * 10)):
        said = await output(sys.executable, "-m", "tests.bench.replay.run", "--peak", bench.files, str(runs))
        figures[name] = float(said.splitlines()[-1])
    return figures


def peak(folder: Path, count: int) -> float:
    """Replay so many files; the most memory that this process had [MB]. getrusage would tell the parent's, before exec."""
    most = 0
    for file in sorted(folder.iterdir())[:count]:
        export = load_export(file)
        _replayed(export.run, export.facts)
        most = max(most, psutil.Process().memory_info().rss)
    return most / 2**20


# --- receipts, index, cohort, timeline ------------------------------------------------------------


def _receipt_of(run: RunUnderTest, raws: Sequence[Raw], keys: Keys, number: int, previous: str) -> RunSealed:
    """From stored messages to the signed receipt, in the bytes of the fact that states it."""
    counted = count(run.id, raws, {}, tenant=run.log[0].fact.tenant)
    event = sealed(counted, None, number=number, previous=previous, keys=keys, now=NOW) if counted else None
    if event is None:
        raise MilepostError(f"Run {run.id} cannot be sealed.")
    encode(fact_of(event))
    return event


def _sealed(runs: Sequence[RunUnderTest], keys: Keys) -> tuple[list[list[Line]], float]:
    """The lines of each run with its receipt, as they lie in the log, and the CPU seconds that sealing them took."""
    found, previous, cpu = [], NO_HASH, 0.0
    for number, run in enumerate(runs, start=1):
        raws = [as_raw(stored.fact, encode(stored.fact), stored.position) for stored in run.log]
        begun = time.process_time()
        event = _receipt_of(run, raws, keys, number, previous)
        previous = receipt_hash(event.receipt)
        cpu += time.process_time() - begun
        fact = fact_of(event)
        both = [*raws, as_raw(fact, encode(fact), len(raws) + 1)]
        found.append([Line(line, raw.data, raw.subject) for line, raw in enumerate(both, start=1)])
    return found, cpu


async def proofs(bench: Bench) -> Figures:
    """Receipts made and checked in this process: what that takes of the CPU when nothing has to be waited for."""
    keys = Keys()
    _, cpu = min((_sealed(bench.runs, keys) for _ in range(bench.repeats)), key=lambda each: each[1])
    (one,), long_cpu = _sealed([bench.long], keys)
    short, _ = _sealed(bench.runs, keys)

    async def verify(runs: Sequence[Sequence[Line]]) -> None:
        for each in runs:
            proof = prove(each, keys.trusted())
            if proof.verdict != "proved":
                raise MilepostError(f"A run that was sealed is {proof.verdict}.", why=str(proof.findings[:1]))

    return {
        "seal_us_per_event": cpu / events_of(bench.runs) * 1e6,
        "long_seal_us_per_event": long_cpu / events_of([bench.long]) * 1e6,
        "verify_events_per_s": sum(map(len, short)) / await bench.best(lambda: verify(short)),
        "long_verify_events_per_s": len(one) / await bench.best(lambda: verify([one])),
    }


async def receipts(bench: Bench) -> Figures:
    """The recorder's own sealing of runs in the log: read from there, into Postgres and back into the log."""
    from infra.checkpoint_files import CheckpointFiles
    from infra.postgres.engine import connect as connect_postgres
    from infra.postgres.receipts import PostgresReceiptStore
    from runtime.clock import SystemClock
    from runtime.fold import fold
    from services.recorder.sealing import Sealer

    engine, keys = connect_postgres(bench.database, role="milepost_keeper"), Keys()
    try:
        async with _log(bench.nats, Sealing()) as log:
            store, clock = PostgresReceiptStore(engine), SystemClock()
            sealer = Sealer(log, store, keys, clock, CheckpointFiles(bench.home / "receipts"), quiet_s=0.0)
            folds = {run.id: fold(run.id, run.log) for run in bench.logged}
            facts = [(stored.fact, stored.position) for run in bench.logged for stored in run.log]
            begun, cpu = time.perf_counter(), time.process_time()
            await sealer.heard(facts, folds)
            while sealer.sealed < len(bench.logged):
                await sealer.step()
            wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
            for run in bench.logged:
                proof = prove(as_lines(await log.read_raw(run.id)), keys.trusted())
                if proof.verdict != "proved":
                    raise MilepostError(f"A run that was sealed is {proof.verdict}.", why=str(proof.findings[:1]))
    finally:
        await engine.dispose()
    events = events_of(bench.logged)
    return {"seal_whole_us_per_event": wall / events * 1e6, "seal_whole_cpu_us_per_event": cpu / events * 1e6}


async def index(bench: Bench) -> Figures:
    """The recorder's index dropped and made anew from the log: all runs and the long one, by as many processes as it takes."""
    from infra.rebuilding import rebuild_index
    from infra.settings import load
    from infra.wiring import open_world

    given = {"home": str(bench.home / "world"), "nats.url": bench.nats, "postgres.url": bench.database}
    world = await open_world(load(given).settings, "bench")
    try:
        figures: Figures = {}
        for name, processes in (("rebuild_events_per_s", None), ("rebuild_1_process_events_per_s", 1)):
            begun = time.perf_counter()
            done = await rebuild_index(world, drop=True, processes=processes)
            figures[name] = done.events / (time.perf_counter() - begun)
        return figures
    finally:
        await world.connection.close()


async def cohort(bench: Bench) -> Figures:
    """A thousand recorded runs driven again from their files, with nothing swapped."""
    from infra.cohort.driver import Source, drive_here
    from infra.cohort.recorded import Recorded, in_files
    from infra.cohort.store import About, cohort_id, open_cohort
    from infra.cohort.swap import Swap
    from infra.settings import load

    settings, swap = load({"home": str(bench.home / "cohorts")}).settings, Swap()
    begun = time.perf_counter()
    found = {each.run: each for each in in_files([bench.files])}

    async def read(run: RunId) -> Recorded:
        return found[run]

    about = About(
        id=cohort_id(tuple(found), swap), query="all", swap=(), runs=tuple(found), created=datetime.now(UTC)
    )  # fmt: skip
    with open_cohort(settings.home, about) as opened:
        await drive_here(opened, Source("all", tuple(found), read), swap, settings, tell=lambda done: None)
        took = time.perf_counter() - begun
        if len(opened.results) < COHORT or any(each.trouble for each in opened.results.values()):
            raise MilepostError("Some runs of the cohort were not driven.", why=f"{len(opened.results)} of {COHORT}")
    return {"cohort_1000_s": took}


async def timeline(bench: Bench) -> Figures:
    """`milepost runs show` of the long run: the whole command, from its start to its last line."""

    async def show() -> None:
        said = await output(sys.executable, "-m", "infra", "runs", "show", bench.long_file)
        if len(said.splitlines()) < len(bench.long.log):
            raise MilepostError("The timeline is not whole.", why=f"{len(said.splitlines())} lines")

    took = await bench.best(show)
    begins = await bench.best(lambda: output(sys.executable, "-m", "infra", "--version"))
    return {"timeline_10000_s": took, "timeline_10000_without_start_s": took - begins}


async def peer(bench: Bench) -> Figures:
    """LangGraph: a thread's checkpoints, each with the state that it holds, loaded from the same Postgres."""
    python = await python_with("requirements-langgraph.txt")
    own = "peer"  # its tables have names that ours have, too
    async with await psycopg.AsyncConnection.connect(bench.database, autocommit=True) as connection:
        await connection.execute(f"create database {own}".encode())
    url = bench.database.replace(f"/{postgres.DATABASE}?", f"/{own}?")
    said = await output(python, HERE / "langgraph_peer.py", url, str(PEER_STEPS), seconds=300)
    return dict(json.loads(said.splitlines()[-1]))


# --- the whole ------------------------------------------------------------------------------------


@asynccontextmanager
async def _log(url: str, sealing: Sealing) -> AsyncIterator[JetStreamLog]:
    connection = await connect(url, name="bench")
    try:
        yield JetStreamLog(connection, sealing)
    finally:
        await connection.close()


async def _prepare(bench: Bench, stack: AsyncExitStack) -> None:
    """Servers with the runs in their logs, and a file for each run."""
    from infra.postgres import engine

    bench.files.mkdir()
    for number, run in enumerate(bench.runs):
        _save(bench.files / f"{number:05d}.jsonl", run)
    _save(bench.long_file, bench.long)
    database = await postgres.start(bench.home / "pg")
    stack.push_async_callback(postgres.stop, database)
    await engine.migrate(database.url)
    bench.database = database.url
    for name in ("nats", "sealed"):
        server = await nats_server.start(bench.home / name)
        stack.push_async_callback(nats_server.stop, server)
        setattr(bench, "nats" if name == "nats" else "sealed_nats", server.url)
    await _append(bench.nats, Sealing(), [[stored.fact for stored in run.log] for run in [*bench.runs, bench.long]])
    sealed = [[under(stored.fact, KEY.id) for stored in run.log] for run in bench.logged]
    await _append(bench.sealed_nats, Sealing(OneKey()), sealed)


def _save(path: Path, run: RunUnderTest) -> None:
    save_export(path, Exported(run.id, [encode(stored.fact) for stored in run.log], schemas=False), NOW)


async def _append(url: str, sealing: Sealing, runs: Sequence[Sequence[Fact]]) -> None:
    """Into the log as it is stored there, without waiting for each to be acknowledged; only for all of them."""
    connection = await connect(url, name="bench")
    stream = streams.run_stream(segment_of_run(runs[0][0].run))
    await streams.ensure_stream(connection, stream)
    facts = [fact for run in runs for fact in run]
    for fact in facts:
        place = subjects.FactSubject(fact.run, fact.tenant, fact.role, fact.slot)
        await connection.publish(str(place), encode(await sealing.sealed(fact)))
    async with asyncio.timeout(APPENDED_S):
        while (await connection.jetstream.stream_info(str(stream.name))).state.messages < len(facts):
            await asyncio.sleep(0.05)
    await connection.close()


PARTS: dict[str, tuple[Callable[[Bench], Awaitable[Figures]], tuple[str, ...]]] = {
    "replay from JetStream": (
        from_jetstream, ("replay_events_per_s", "sealed_replay_events_per_s", "long_replay_events_per_s")
    ),
    "replay from files": (from_files, ("file_replay_events_per_s",)),
    "memory": (memory, ("peak_mb", "peak_mb_10x")),
    "proofs": (
        proofs, ("seal_us_per_event", "long_seal_us_per_event", "verify_events_per_s", "long_verify_events_per_s")
    ),
    "receipts": (receipts, ("seal_whole_us_per_event", "seal_whole_cpu_us_per_event")),
    "index": (index, ("rebuild_events_per_s", "rebuild_1_process_events_per_s")),
    "cohort": (cohort, ("cohort_1000_s",)),
    "timeline": (timeline, ("timeline_10000_s", "timeline_10000_without_start_s")),
    "LangGraph": (peer, ("langgraph_history_checkpoints_per_s", "langgraph_step_by_step_checkpoints_per_s")),
}  # fmt: skip


MEASURED = {
    "replay_events_per_s": "runs of 14 events read from JetStream, some ahead, decoded and replayed, one process",
    "file_replay_events_per_s": "the same from export files, each line checked",
    "seal_us_per_event": "CPU of one process from a run's 14 stored messages to its signed receipt in the bytes of RunSealed: "
                         "leaves, tree, chain, signature; reading, Postgres and log aside",
    "seal_whole_us_per_event": "time on the clock of the recorder's Sealer: runs due noted, read from JetStream, numbered in "
                               "Postgres, signed, appended to JetStream; it waits for both servers most of the time",
    "seal_whole_cpu_us_per_event": "CPU of the recorder's process in that time",
    "verify_events_per_s": "stored bytes of runs of 14 events and a receipt: places, leaves, tree, receipt and its signature",
    "long_verify_events_per_s": "the same for one run of 11,000 events",
    "rebuild_events_per_s": "index dropped and made anew from a log of 25,000 events, from the call to the last row, starting "
                            "of processes included; as many processes as cores, 4 at most",
    "cohort_1000_s": "1,000 runs from their files, nothing swapped, start to end",
    "timeline_10000_s": "`milepost runs show FILE` of 11,000 events, from the start of the command to its end",
}  # fmt: skip
"""What each figure counts, where its name alone does not tell."""


async def main(repeats: int, only: Sequence[str]) -> dict[str, float | None]:
    PLACE.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="replay-", dir=PLACE))
    try:
        async with AsyncExitStack() as stack:
            bench = Bench(home, [recorded(number) for number in range(COHORT)], long_run(), repeats)
            print(f"{COHORT} runs of {len(bench.runs[0].log)} events, one of {len(bench.long.log)}", flush=True)
            await _prepare(bench, stack)
            garbage.settle()
            for title, (part, names) in PARTS.items():
                bench.figures.update(dict.fromkeys(names))
                if not only or any(word in title.lower() for word in only):
                    await _measured(bench, title, part)
            return bench.figures
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _measured(bench: Bench, title: str, part: Callable[[Bench], Awaitable[Figures]]) -> None:
    try:
        figures = await part(bench)
    except (Missing, MilepostError, ImportError, OSError, TimeoutError) as error:
        missing = "not there yet: " if isinstance(error, ImportError) else ""
        print(f"{title}: null, because {missing}{error or type(error).__name__} {getattr(error, 'why', '')}", flush=True)
        return
    bench.figures.update({name: float(f"{value:.4g}") for name, value in figures.items()})
    print(f"{title}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What it costs to replay, seal, verify, index and show recorded runs.")
    parser.add_argument("--repeats", type=int, default=5, help="how often each part is repeated")
    parser.add_argument("--only", nargs="*", default=[], help="parts whose names have one of these words")
    parser.add_argument("--peak", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print(peak(Path(asked.peak[0]), int(asked.peak[1])))
    else:
        print(f"\n{json.dumps({**asyncio.run(main(asked.repeats, asked.only)), 'measured': MEASURED})}")
