"""That something happened in a tenant's runs: one ear on the bus for all streams that are open, told a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from runtime.bus import Bus
from schemas import subjects
from schemas.errors import ProtocolError

GATHER_S = 0.25
_MOST = 500


@dataclass(slots=True)
class _Ear:
    listeners: set[asyncio.Queue[frozenset[str]]] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Ticks:
    """Which runs of a tenant have changed. Facts are heard as they are published; nothing of them but their subject is read."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._ears: dict[str, _Ear] = {}

    async def of(self, tenant: str) -> AsyncIterator[frozenset[str]]:
        """Sets of runs that changed, as they change; a listener that is slow gets them together."""
        ear = self._ears.setdefault(tenant, _Ear())
        mine: asyncio.Queue[frozenset[str]] = asyncio.Queue(maxsize=8)
        ear.listeners.add(mine)
        if ear.task is None:
            ear.task = asyncio.create_task(self._hear(tenant, ear))
        try:
            while True:
                changed = await mine.get()
                while not mine.empty():
                    changed |= mine.get_nowait()
                yield changed
        finally:
            ear.listeners.discard(mine)
            if not ear.listeners and ear.task is not None:
                ear.task.cancel()
                self._ears.pop(tenant, None)

    async def _hear(self, tenant: str, ear: _Ear) -> None:
        some = asyncio.Event()

        async def heard(subject: str, data: bytes) -> None:
            with suppress(ProtocolError):
                ear.heard.add(subjects.parse_fact(subject).run)
                some.set()

        async with self._bus.hear(subjects.facts_of_tenant(tenant), heard):
            while True:
                await some.wait()
                await asyncio.sleep(GATHER_S)
                some.clear()
                changed, ear.heard = frozenset(list(ear.heard)[:_MOST]), set()
                for each in ear.listeners:
                    if each.full():  # what it has not taken yet goes together
                        changed |= each.get_nowait()
                    each.put_nowait(changed)
