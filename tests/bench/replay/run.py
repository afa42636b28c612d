"""What it costs to replay, seal, verify, index, drive again and show recorded runs: python -m tests.bench.replay.run

Real nats-server and PostgreSQL, and runs as an operator has them (workload.py). A figure is the best of its repetitions: what
a busy machine adds is not ours. The last line is one JSON object; null stands where something could not run, with the reason
above. The peer is LangGraph: its checkpoints of a thread, loaded with what they hold, are what it calls replay.
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
from infra.exports.reading import load_export
from infra.exports.writing import Exported, save_export
from infra.jetstream import streams
from infra.jetstream.connection import connect
from infra.jetstream.log import JetStreamLog
from runtime.log import Stored
from runtime.replay import replay
from runtime.sealing import Sealing
from schemas import subjects
from schemas.envelope import Fact, encode
from schemas.errors import MilepostError
from schemas.ids import RunId, segment_of_run
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
    """Runs read from the log one by one and replayed in this process; the same sealed; and the long one."""
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
    for run in runs:
        _replayed(run.id, await log.read(run.id))


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
    for name, count in (("peak_mb", FEW), ("peak_mb_10x", FEW * 10)):
        said = await output(sys.executable, "-m", "tests.bench.replay.run", "--peak", bench.files, str(count))
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


async def receipts(bench: Bench) -> Figures:
    """The recorder's own sealing of runs in the log, into Postgres and back into the log; then the check of all of it."""
    from infra.checkpoint_files import CheckpointFiles
    from infra.postgres.engine import connect as connect_postgres
    from infra.postgres.receipts import PostgresReceiptStore
    from runtime.clock import SystemClock
    from runtime.fold import fold
    from runtime.proving import Line, prove
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
            stored = [await log.read_raw(run.id) for run in bench.logged]
    finally:
        await engine.dispose()
    lines = [[Line(number, raw.data, raw.subject) for number, raw in enumerate(raws, start=1)] for raws in stored]

    async def verify() -> None:
        for each in lines:
            proof = prove(each, keys.trusted())
            if proof.verdict != "proved":
                raise MilepostError(f"A run that was sealed is {proof.verdict}.", why=str(proof.findings[:1]))

    count = events_of(bench.logged)
    return {
        "seal_us_per_event": wall / count * 1e6, "seal_cpu_us_per_event": cpu / count * 1e6,
        "verify_events_per_s": sum(map(len, lines)) / await bench.best(verify),
    }  # fmt: skip


async def index(bench: Bench) -> Figures:
    """The recorder's index dropped and made anew from the log."""
    from infra.rebuilding import rebuild_index
    from infra.settings import load
    from infra.wiring import open_world

    given = {"home": str(bench.home / "world"), "nats.url": bench.nats, "postgres.url": bench.database}
    world = await open_world(load(given).settings, "bench")
    try:
        begun = time.perf_counter()
        done = await rebuild_index(world, drop=True)
        return {"rebuild_events_per_s": done.events / (time.perf_counter() - begun)}
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
    await _append(bench.nats, Sealing(), [[stored.fact for stored in run.log] for run in [*bench.logged, bench.long]])
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
    "receipts": (receipts, ("seal_us_per_event", "seal_cpu_us_per_event", "verify_events_per_s")),
    "index": (index, ("rebuild_events_per_s",)),
    "cohort": (cohort, ("cohort_1000_s",)),
    "timeline": (timeline, ("timeline_10000_s", "timeline_10000_without_start_s")),
    "LangGraph": (peer, ("langgraph_history_checkpoints_per_s", "langgraph_step_by_step_checkpoints_per_s")),
}  # fmt: skip


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
        print(f"\n{json.dumps(asyncio.run(main(asked.repeats, asked.only)))}")
