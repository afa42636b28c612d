"""Where runs are driven again: in processes side by side where no model is needed, else side by side at the models."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache

from infra.cohort.answering import Speak
from infra.cohort.driving import Result, drive
from infra.cohort.recorded import Recorded
from infra.cohort.swap import Swap
from schemas.errors import MilepostError

CHUNK = 16
AHEAD = 2  # chunks a process that are read before they are needed


class Broken(MilepostError):
    """A process that drives runs has ended unexpectedly."""


class Processes:
    """Processes of this machine that drive runs. Use as a context."""

    def __init__(self, count: int) -> None:
        self.count = count
        context = multiprocessing.get_context("spawn")  # this process has an event loop, and may have threads
        self._pool = ProcessPoolExecutor(count, context, initializer=_begin)
        with _deaf():
            for _ in range(count):  # one is spawned for each as long as none is idle
                self._pool.submit(os.getpid)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def drive(self, chunk: Sequence[Recorded], swap: str) -> list[Result]:
        """Drive some runs in one process. swap: a Swap as JSON. Raises Broken."""
        try:
            lines = await asyncio.get_running_loop().run_in_executor(self._pool, _drive_all, chunk, swap)
        except BrokenProcessPool as error:
            hint = "free some memory, then the same command again: it goes on where it stopped"
            raise Broken("A process that drives runs has ended unexpectedly.", why=str(error), hint=hint) from error
        return [Result.model_validate_json(line) for line in lines]


async def in_processes(runs: AsyncIterator[Recorded], swap: Swap, processes: Processes) -> AsyncGenerator[list[Result], None]:
    """Drive runs in processes, and give their results as they come, in chunks. Raises Broken."""
    asked = swap.model_dump_json(by_alias=True)
    async for results in _as_they_come(
        (processes.drive(chunk, asked) async for chunk in _chunks(runs, CHUNK)), processes.count * (1 + AHEAD)
    ):
        yield results


async def side_by_side(
    runs: AsyncIterator[Recorded], swap: Swap, speak: Speak | None, at_once: int
) -> AsyncGenerator[list[Result], None]:
    """Drive runs in this process, as many at once as the models take. Raises what makes a model unreachable."""

    async def alone(run: Recorded) -> list[Result]:
        return [await drive(run, swap, speak)]

    async for results in _as_they_come((alone(run) async for run in runs), at_once):
        yield results


@contextmanager
def _deaf() -> Iterator[None]:
    """What is spawned in here does not hear ctrl-C, from its very beginning: that is the parent's to hear."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


def processes_of(wanted: int | None, runs: int) -> int:
    """How many processes: those that are wanted, else one a core, and none that would find nothing to do."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(wanted or cores, -(-runs // CHUNK)))


async def _as_they_come(works: AsyncIterator[Coroutine[None, None, list[Result]]], at_once: int) -> AsyncIterator[list[Result]]:
    """Results in the order in which they are done, with at most so many under way."""
    under_way: set[asyncio.Task[list[Result]]] = set()
    try:
        async for work in works:
            under_way.add(asyncio.create_task(work))
            if len(under_way) >= at_once:
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        while under_way:
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                yield each.result()
    finally:
        for each in under_way:
            each.cancel()


async def _chunks(runs: AsyncIterator[Recorded], size: int) -> AsyncIterator[Sequence[Recorded]]:
    chunk: list[Recorded] = []
    async for run in runs:
        chunk.append(run)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _begin() -> None:
    """In a new process: its collector has little to do."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)  # what is read and folded is dropped whole, without cycles


def _drive_all(chunk: Sequence[Recorded], swap: str) -> list[bytes]:
    async def all_of_them() -> list[bytes]:
        return [(await drive(each, _swap(swap))).line() for each in chunk]

    return asyncio.run(all_of_them())


@lru_cache(maxsize=4)
def _swap(asked: str) -> Swap:
    return Swap.model_validate_json(asked)
