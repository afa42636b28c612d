"""Milepost's side: a conductor and a no-op service, each in its own process, and the client that measures.

    python -m tests.bench.steps.ours conductor|services URL TURNS      works until it is stopped
    python -m tests.bench.steps.ours steps|replay URL TURNS RUNS KEY   prints one line of JSON

--sealed before them all: facts and commands are sealed.

A step is one command with its one result: command decided -> NATS -> service -> fact stored -> seen by the conductor,
which decides the next. A run of T turns has 2T + 5 steps; the 2T + 1 of model and tool come one after the other, so the
time between two of their facts is one whole step. The times are those in the facts: nobody watches the run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise

import structlog
import uvloop

from infra import garbage
from infra.jetstream import streams
from infra.jetstream.bus import JetStreamBus
from infra.jetstream.connection import connect
from infra.jetstream.log import JetStreamLog
from runtime.clock import SystemClock
from runtime.conductor import Conductor
from runtime.log import Stored
from runtime.replay import replay
from runtime.sealing import DataKey, Sealing
from runtime.service import Worker
from schemas.agent import AgentSpec, Budget
from schemas.envelope import decode_fact, encode, new_fact, source_of
from schemas.events import Answered, Generated, RunCompleted, RunRequested, ToolReturned
from schemas.ids import END_SLOT, REQUEST_SLOT, RunId, run_id, segment_of
from tests.bench.steps.noop import services

TENANT = "bench"
SERIES = 4
LOOK_S = 0.01
PATIENCE_S = 120.0
SEALED = "--sealed" in sys.argv
KEY = DataKey("k" * 32, b"k" * 32)


class OneKey:
    """A keyring that has its key at hand, as every process has it after the first message of a user."""

    async def key_of(self, tenant: str, user: str) -> DataKey:
        return KEY

    async def key(self, tenant: str, id: str) -> DataKey:
        return KEY


async def conductor(url: str, turns: int) -> None:
    async with _stores(url, "conductor") as (log, bus):
        await _until_stopped(Conductor(log, bus, SystemClock(), name="bench").run())


async def noop_services(url: str, turns: int) -> None:
    clock = SystemClock()
    async with _stores(url, "services") as (log, bus):
        workers = [Worker(service, log, bus, clock, name="bench") for service in services(turns, clock)]
        await _until_stopped(*(worker.run() for worker in workers))


async def steps(url: str, turns: int, runs: int, key: str) -> dict[str, float]:
    """`runs` runs at once, or SERIES runs one after the other: p50 and p99 of a step in ms, and steps a second."""
    async with _stores(url, "client") as (log, _):
        names: list[RunId] = []
        begun = time.perf_counter()
        for number in range(1 if runs > 1 else SERIES):
            begin = (_request(log, turns, f"{key}-{number}-{beside}") for beside in range(runs))
            latest = await asyncio.gather(*begin)
            for run in latest:
                await _ended(log, run)
            names += latest
        took = time.perf_counter() - begun
        facts = [await log.read(run) for run in names]
    gaps = sorted(gap for run in facts for gap in _gaps(run))
    done = sum(isinstance(stored.fact.body, Answered) and stored.fact.role != "conductor" for run in facts for stored in run)
    return {
        "step_p50_ms": statistics.median(gaps), "step_p99_ms": gaps[int(len(gaps) * 0.99)], "steps_per_s": done / took,
    }  # fmt: skip


async def replayed(url: str, turns: int, runs: int, key: str) -> dict[str, float]:
    """Replay of one run on one core: from the bytes of its facts, and read from JetStream."""
    async with _stores(url, "client") as (log, _):
        run = await _request(log, turns, key)
        await _ended(log, run)
        begun = time.perf_counter()
        stored = await log.read(run)
        _check(run, stored)
        read_s = time.perf_counter() - begun
    raw = [(encode(each.fact), each.position) for each in stored]
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        _check(run, [Stored(decode_fact(data), position) for data, position in raw])
        times.append(time.perf_counter() - begun)
    return {
        "replay_events_per_s": len(raw) / statistics.median(times), "replay_read_events_per_s": len(raw) / read_s,
        "bytes_per_event": statistics.mean(len(data) for data, _ in raw),
    }  # fmt: skip


def _check(run: RunId, facts: list[Stored]) -> None:
    result = replay(run, facts)
    if not result.same or result.outcome != "completed":
        raise SystemExit(f"the replay came out otherwise: {result}")


async def _request(log: JetStreamLog, turns: int, key: str) -> RunId:
    now = SystemClock().now()
    run = run_id(TENANT, key, segment_of(now))
    agent = AgentSpec(budget=Budget(steps=turns + 1, calls=turns))
    request = RunRequested(agent=agent, task="Do nothing, often.", user="bench", conversation=run, key=key)
    source = source_of("client", "bench")
    await log.append(new_fact(request, run=run, tenant=TENANT, slot=REQUEST_SLOT, source=source, time=now))
    return run


async def _ended(log: JetStreamLog, run: RunId) -> None:
    """Looks instead of following: a reader of every fact would take part of the machine from those who work."""
    async with asyncio.timeout(PATIENCE_S):
        while not await log.holds(run, TENANT, "conductor", END_SLOT):  # it ends in another process
            await asyncio.sleep(LOOK_S)


def _gaps(facts: list[Stored]) -> list[float]:
    if not isinstance(facts[-1].fact.body, RunCompleted):
        raise SystemExit(f"a run came out otherwise: {facts[-1].fact.body}")
    times = [each.fact.time for each in facts if isinstance(each.fact.body, Generated | ToolReturned)]
    return [(later - earlier).total_seconds() * 1e3 for earlier, later in pairwise(times)]


@asynccontextmanager
async def _stores(url: str, name: str) -> AsyncIterator[tuple[JetStreamLog, JetStreamBus]]:
    connection = await connect(url, name=name)
    try:
        await streams.ensure(connection, SystemClock().now())
        sealing = Sealing(OneKey(), seal_new=True) if SEALED else Sealing()
        yield JetStreamLog(connection, sealing), JetStreamBus(connection, sealing)
    finally:
        await connection.close()


async def _until_stopped(*work: Coroutine[None, None, None]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    tasks = [asyncio.ensure_future(each) for each in work]
    await stopping.wait()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)


def main(role: str, url: str, turns: int, *rest: str) -> None:
    errors_only = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=errors_only, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    working = {"conductor": conductor, "services": noop_services}
    garbage.settle()
    if role in working:
        uvloop.run(working[role](url, turns))
        return
    runs, key = int(rest[0]), rest[1]
    print(json.dumps(uvloop.run({"steps": steps, "replay": replayed}[role](url, turns, runs, key))))


if __name__ == "__main__":
    given = [each for each in sys.argv[1:] if each != "--sealed"]
    main(given[0], given[1], int(given[2]), *given[3:])
