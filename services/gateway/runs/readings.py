"""The runs that were looked into lately, kept for a while: a page asks much of one run, and folding one takes time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from runtime.sealing import Erased
from schemas.ids import RunId
from services.gateway.ports.history import History
from services.gateway.runs.view import Reading

P = ParamSpec("P")
T = TypeVar("T")

KEPT = 6
KEPT_BYTES = 48 * 1024 * 1024
KEPT_S = 120.0
_AT_ONCE = 2
_LOCKS = 32


class Readings:
    """Reads runs of a tenant, and works on one in a thread, few at a time, so that nobody else waits for it."""

    def __init__(self, history: History, now: Callable[[], float] = time.monotonic) -> None:
        self._history, self._now = history, now
        self._kept: OrderedDict[tuple[str, str], tuple[float, Reading]] = OrderedDict()
        self._locks = [asyncio.Lock() for _ in range(_LOCKS)]
        self._threads = asyncio.Semaphore(_AT_ONCE)

    async def read(self, tenant: str, name: str) -> Reading:
        """A run with all that its log holds now. Raises UnknownRun, Unreachable."""
        run = await self._history.find(tenant, name)
        async with self._locks[hash((tenant, run)) % _LOCKS]:  # a run is read once, whoever asks meanwhile
            return await self._newest(tenant, run)

    async def open(self, tenant: str, name: str) -> Reading:
        """As read, of a run that says something. Raises Erased, too."""
        found = await self.read(tenant, name)
        if found.erased:
            raise Erased(f"run {found.run}")
        return found

    async def work(self, what: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Compute something in a thread."""
        async with self._threads:
            return await asyncio.to_thread(what, *given, **named)

    async def _newest(self, tenant: str, run: RunId) -> Reading:
        found = await self._still_good(tenant, run) or Reading(run)
        found.extend(await self._history.both(tenant, run, found.position))
        self._keep(tenant, found)
        return found

    async def _still_good(self, tenant: str, run: RunId) -> Reading | None:
        read, found = self._kept.get((tenant, run), (0.0, None))
        if found is None or self._now() - read > KEPT_S:
            return None
        if found.datakey is not None and not found.erased and not await self._history.readable(tenant, found.datakey):
            return None  # its user was forgotten since
        return found

    def _keep(self, tenant: str, found: Reading) -> None:
        self._kept[tenant, found.run] = (self._now(), found)
        self._kept.move_to_end((tenant, found.run))
        while len(self._kept) > KEPT or (
            len(self._kept) > 1 and sum(each.bytes for _, each in self._kept.values()) > KEPT_BYTES
        ):
            self._kept.popitem(last=False)
