"""The recorder's index made anew from where the log lies, by several processes: each takes part after part of it.

The log lies in the segments on the server, and those that were dropped there in the archive.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.sharedctypes import Synchronized
from typing import TYPE_CHECKING

from infra import garbage
from infra.jetstream import streams
from infra.settings import Settings
from infra.wiring import World, open_receipts, open_run_index, open_world
from runtime.log import Raw
from runtime.sealing import Sealing
from schemas import subjects
from schemas.envelope import Fact, decode_fact
from schemas.errors import MilepostError, ProtocolError
from schemas.events import RunSealed
from schemas.ids import PARTITIONS
from services.recorder.rebuild import Batches, Rebuilt, Reindexing, Restore

if TYPE_CHECKING:
    from infra.archive.whole import WholeLog

BATCH = 1_000
SMALL = 20_000
"""A log of fewer events is read sooner than processes start."""

MOST_PROCESSES = 4
LOOK_S = 0.2


class NotRebuilt(MilepostError):
    """The index could not be made anew; it counts as incomplete until that is done again."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment on the server up to a position, or a partition of one. events: how many messages the segment has."""

    segment: str
    last: int
    events: int
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class ArchivedPart:
    """What a tenant has in a segment that lies in the archive alone."""

    segment: str
    tenant: str
    events: int


async def rebuild_index(
    world: World, *, drop: bool = False, processes: int | None = None,
    moved: Callable[[int, int], None] = lambda done, total: None,
) -> Rebuilt:  # fmt: skip
    """Make the index of the log anew; recorders may go on meanwhile. Raises Unreachable, ArchiveError, BadArchive, NotRebuilt.

    drop: what the log can tell again is dropped first. moved: hears now and then how many messages were read, and of how many.
    """
    index = open_run_index(world)
    await index.begin_rebuild(drop=drop)
    parts: list[Part | ArchivedPart] = [*await asyncio.to_thread(_archived, world), *await _logged(world)]
    total = sum(each.events for each in parts)
    wanted = processes or min(MOST_PROCESSES, os.cpu_count() or 1)
    if wanted == 1 or (processes is None and total < SMALL):
        done = await _here(world, parts, lambda count: moved(count, total))
    else:
        done = await _in_processes(world.settings, parts, wanted, lambda count: moved(count, total))
    await index.end_rebuild()
    return done


async def _logged(world: World) -> list[Part]:
    return [Part(each.segment, each.last, each.messages) for each in await streams.states(world.connection)]


def _archived(world: World) -> list[ArchivedPart]:
    """The segments that were dropped from the server; of those that lie in both places the log tells."""
    from infra.archive.layout import Done, get, segment_mark, segments_of

    store = whole_log(world).archive
    if store is None:
        return []
    dropped = [each for each in segments_of(store) if get(store, segment_mark(each.segment, "dropped"), Done)]
    return [ArchivedPart(each.segment, part.tenant, part.counts.events) for each in dropped for part in each.tenants]


async def _here(world: World, parts: Sequence[Part | ArchivedPart], moved: Callable[[int], None]) -> Rebuilt:
    done, read = Rebuilt(), 0

    def more(count: int) -> None:
        nonlocal read
        read += count
        moved(read)

    reindexing = _reindexing(world)
    for part in parts:
        done.add(await reindexing.add(_batches(world, part), more))
    return done


async def _in_processes(
    settings: Settings, parts: Sequence[Part | ArchivedPart], processes: int, moved: Callable[[int], None]
) -> Rebuilt:
    """Partitions hold whole runs, so they may be read side by side."""
    context = multiprocessing.get_context("spawn")
    read: Synchronized[int] = context.Value("q", 0)
    done, loop = Rebuilt(), asyncio.get_running_loop()
    with ProcessPoolExecutor(processes, context, _begin, (read,)) as pool:
        small = [each for part in parts for each in _split(part)]
        waiting = {loop.run_in_executor(pool, _index_part, settings, part) for part in small}
        while waiting:
            finished, waiting = await asyncio.wait(waiting, timeout=LOOK_S)
            moved(read.value)
            for each in finished:
                result = each.result()
                if isinstance(result, NotRebuilt):
                    pool.shutdown(cancel_futures=True)
                    raise result
                done.add(result)
    return done


def _split(part: Part | ArchivedPart) -> list[Part | ArchivedPart]:
    return [part] if isinstance(part, ArchivedPart) else [replace(part, partition=number) for number in range(PARTITIONS)]


class _Worker:
    """What a process of the pool keeps between its parts."""

    def __init__(self, settings: Settings, read: Synchronized[int]) -> None:
        self._read = read
        self._runner = asyncio.Runner()
        self._world = self._runner.run(open_world(settings, f"rebuild-{os.getpid()}"))
        self._reindexing = _reindexing(self._world)

    def index(self, part: Part | ArchivedPart) -> Rebuilt:
        """Index one part."""
        return self._runner.run(self._reindexing.add(_batches(self._world, part), self._more))

    def _more(self, count: int) -> None:
        with self._read.get_lock():
            self._read.value += count


_WORKER: list[_Worker] = []


def _begin(read: Synchronized[int]) -> None:
    """In a new process: where to count what was read. What can go wrong waits for the first part."""
    _COUNT.append(read)
    garbage.settle()


_COUNT: list[Synchronized[int]] = []


def _index_part(settings: Settings, part: Part | ArchivedPart) -> Rebuilt | NotRebuilt:
    """In a process of the pool; errors are given back, since not all of them can be sent as they are raised."""
    try:
        if not _WORKER:
            _WORKER.append(_Worker(settings, _COUNT[0]))
        return _WORKER[0].index(part)
    except MilepostError as error:
        return NotRebuilt(error.what, why=error.why, hint="milepost runs rebuild, once that is put right")


def _reindexing(world: World) -> Reindexing:
    sealing = Sealing(world.keyring)

    async def opened(raw: Raw) -> Fact:
        fact = decode_fact(raw.data)
        if str(subjects.FactSubject(fact.run, fact.tenant, fact.role, fact.slot)) != raw.subject:
            raise ProtocolError("The fact says other things than its subject.", why=raw.subject)
        return await sealing.fact(fact) if fact.header.datakey else fact

    return Reindexing(open_run_index(world), opened, whole_log(world).read, _restore(world))


def _restore(world: World) -> Restore | None:
    """Puts receipts back as far as this stack's own keys signed them; None where no such key is known."""
    from infra.receipt_keys import key_file, public_file, read_public
    from services.recorder.sealing import restore

    public, store = read_public(public_file(key_file(world.settings))), open_receipts(world)
    if public is None:
        return None
    trusted = public.by_id()

    async def put_back(facts: Sequence[Fact]) -> None:
        await restore(store, [fact.body for fact in facts if isinstance(fact.body, RunSealed)], trusted)

    return put_back


def whole_log(world: World) -> WholeLog:
    """The log with the archive behind it, of all tenants. Raises ArchiveError."""
    from infra.archive.store import open_store
    from infra.archive.whole import WholeLog

    return WholeLog(world.log, world.keyring, open_store(world.settings.archive) if world.settings.archive.to else None)


async def _batches(world: World, part: Part | ArchivedPart) -> Batches:
    batch: list[Raw] = []
    async for raw in _archived_messages(world, part) if isinstance(part, ArchivedPart) else _messages(world, part):
        batch.append(raw)
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _messages(world: World, part: Part) -> AsyncIterator[Raw]:
    """The messages of a part; those that came after the rebuild began are the recorders' own to index."""
    wanted = subjects.segment_subjects(part.segment)
    if part.partition is not None:
        wanted = subjects.partition_subjects(part.segment, part.partition)
    async for raw in world.log.messages(part.segment, wanted):
        if raw.position > part.last:
            break
        yield raw


async def _archived_messages(world: World, part: ArchivedPart) -> AsyncIterator[Raw]:
    from infra.archive.reading import ArchivedTenant

    store = whole_log(world).archive
    runs = iter(ArchivedTenant(store, part.tenant).runs(part.segment)) if store else iter(())
    while found := await asyncio.to_thread(next, runs, None):
        for raw in found[1]:
            yield raw
