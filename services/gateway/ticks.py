"""That something happened in a tenant's runs: one ear on the bus for all streams that are open, told a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from runtime.bus import Bus
from runtime.errors import Unreachable
from schemas import subjects
from schemas.errors import ProtocolError

GATHER_S = 0.25
_MOST = 500

Count = Callable[[str], Awaitable[int]]
"""How many of a tenant's runs wait for a person. Raises Unreachable."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Runs that changed since the last one, and how many of all wait for a person."""

    runs: frozenset[str]
    waiting: int


@dataclass(slots=True)
class _Ear:
    listeners: set[asyncio.Queue[Tick]] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    some: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Ticks:
    """Which runs of a tenant have changed. Facts are heard as they are published; nothing of them but their subject is read."""

    def __init__(self, bus: Bus, count: Count) -> None:
        self._bus, self._count = bus, count
        self._ears: dict[str, _Ear] = {}

    async def of(self, tenant: str) -> AsyncIterator[Tick]:
        """How it stands now, and then each change; a listener that is slow gets several together."""
        ear = self._ears.setdefault(tenant, _Ear())
        mine: asyncio.Queue[Tick] = asyncio.Queue(maxsize=1)
        ear.listeners.add(mine)
        if ear.task is None:
            ear.task = asyncio.create_task(self._hear(tenant, ear))
        try:
            await ear.begun.wait()
            yield Tick(frozenset(), ear.waiting)
            while True:
                yield await mine.get()
        finally:
            ear.listeners.discard(mine)
            if not ear.listeners and ear.task is not None:
                ear.task.cancel()
                self._ears.pop(tenant, None)

    async def _hear(self, tenant: str, ear: _Ear) -> None:
        async def heard(subject: str, data: bytes) -> None:
            with suppress(ProtocolError):
                ear.heard.add(subjects.parse_fact(subject).run)
                ear.some.set()

        async with self._bus.hear(subjects.facts_of_tenant(tenant), heard):
            while True:
                with suppress(Unreachable, ProtocolError):  # the last known number is told on
                    ear.waiting = await self._count(tenant)
                changed, ear.heard = frozenset(list(ear.heard)[:_MOST]), set()
                if ear.begun.is_set():
                    _tell(ear, changed)
                ear.begun.set()
                await ear.some.wait()
                await asyncio.sleep(GATHER_S)
                ear.some.clear()


def _tell(ear: _Ear, changed: frozenset[str]) -> None:
    for each in ear.listeners:
        missed = each.get_nowait().runs if each.full() else frozenset()
        each.put_nowait(Tick(changed | missed, ear.waiting))
