"""Hosts for what was imported: a worker for each lane that has a source, begun and ended as sources come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass

import structlog

from runtime.bus import Bus
from runtime.errors import Retryable
from schemas import subjects
from schemas.errors import MilepostError
from services.tools.shelf import Shelf
from services.tools.source_shelf import Open, SourceShelf
from services.tools.sources import Source, SourceStore

log = structlog.get_logger("services.tools")

LOOK_S = 30.0
"""How often it looks without having been told: what is told may be missed."""

AGAIN_S = 1.0
"""How soon it looks again after something went wrong."""

Host = Callable[[Shelf, str], Coroutine[None, None, None]]
"""The work of answering the calls of a lane with the tools of a shelf, until it is cancelled."""


@dataclass(slots=True)
class _Lane:
    shelf: SourceShelf
    work: asyncio.Task[None]


class Hosting:
    """Every tools process hosts every lane; they share the calls as workers of a service do."""

    def __init__(self, store: SourceStore, bus: Bus, open_source: Open, host: Host) -> None:
        self._store, self._bus, self._open_source, self._host = store, bus, open_source, host
        self._lanes: dict[str, _Lane] = {}
        self._news = asyncio.Event()

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Host until cancelled; then each lane finishes what is under way. ready: set once it has looked."""
        async with self._bus.hear(subjects.sources("*"), self._told):
            try:
                while True:
                    self._news.clear()
                    pause = await self._look()
                    if ready:
                        ready.set()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._news.wait()
            finally:
                await self._end(list(self._lanes))

    def lanes(self) -> list[str]:
        """The lanes that are hosted now."""
        return sorted(lane for lane, each in self._lanes.items() if not each.work.done())

    async def _told(self, subject: str, raw: bytes) -> None:
        self._news.set()

    async def _look(self) -> float:
        """Host what there is; seconds until it should look again."""
        try:
            by_lane: dict[str, dict[str, Source]] = {}
            for source in await self._store.sources():
                by_lane.setdefault(source.lane, {})[source.tenant] = source
            await self._end([lane for lane in self._lanes if lane not in by_lane])
            for lane, sources in by_lane.items():
                await self._follow(lane, sources)
        except Retryable as error:
            log.warning("sources cannot be looked up", error=error.what, why=error.why)
            return AGAIN_S
        return LOOK_S

    async def _follow(self, lane: str, sources: dict[str, Source]) -> None:
        known = self._lanes.get(lane)
        shelf = known.shelf if known else SourceShelf(self._store, lane, self._open_source)
        await shelf.follow(sources)
        if known is None or known.work.done():
            work = asyncio.get_running_loop().create_task(self._host(shelf, lane), name=f"lane {lane}")
            work.add_done_callback(lambda task: self._ended(lane, task))
            self._lanes[lane] = _Lane(shelf, work)
            log.info("hosts", lane=lane, tools=len(shelf))

    def _ended(self, lane: str, work: asyncio.Task[None]) -> None:
        if work.cancelled():
            return
        error = work.exception()
        why = error.what if isinstance(error, MilepostError) else repr(error)
        log.error("a host of tools ended", lane=lane, why=why)
        asyncio.get_running_loop().call_later(AGAIN_S, self._news.set)

    async def _end(self, lanes: list[str]) -> None:
        ended = [self._lanes.pop(lane) for lane in lanes]
        for each in ended:
            each.work.cancel()
        await asyncio.gather(*(each.work for each in ended), return_exceptions=True)
        await asyncio.gather(*(each.shelf.close() for each in ended))
