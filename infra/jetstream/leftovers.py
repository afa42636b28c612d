"""Commands that wait for nobody: a broker that was killed may show again what had been taken out of its queue.

COMMANDS is not fsynced at every change (ADR 0003), so after a kill -9 of the broker messages may be back that were done with.
No consumer gets them, for each knows how far it was; they only take room. Those of runs that have ended are dropped.
"""

from __future__ import annotations

import asyncio

import structlog

from infra.jetstream.connection import Connection
from runtime.bus import Bus
from runtime.errors import Unreachable
from runtime.log import Log
from schemas import subjects
from schemas.ids import END_SLOT, RunId

log = structlog.get_logger("infra.jetstream")

SETTLED_S = 15.0
"""How long after a reconnection: what is sent again then is there by now."""

EVERY_S = 3600.0


class Leftovers:
    """Drops them some time after each reconnection, and once an hour."""

    def __init__(self, connection: Connection, journal: Log, bus: Bus) -> None:
        self._connection, self._log, self._bus = connection, journal, bus
        self._back = asyncio.Event()
        connection.on_reconnect.append(self.came_back)

    async def came_back(self) -> None:
        """The broker is there again."""
        self._back.set()

    async def run(self) -> None:
        """Look after them, without end."""
        while True:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._back.wait()
            except TimeoutError:
                pass
            self._back.clear()
            await asyncio.sleep(SETTLED_S)
            try:
                await self.drop()
            except Unreachable as error:
                log.info("leftovers are not looked after yet", why=error.what)

    async def drop(self) -> int:
        """Drop the commands of runs that have ended; how many runs there were. Raises Unreachable."""
        ended = [(run, tenant) for run, tenant in await self._waiting() if await self._over(run, tenant)]
        for run, _ in ended:
            await self._bus.forget(run)
        if ended:
            log.info("commands dropped", runs=len(ended), why="their runs have ended")
        return len(ended)

    async def _over(self, run: RunId, tenant: str) -> bool:
        return await self._log.holds(run, tenant, "conductor", END_SLOT)

    async def _waiting(self) -> set[tuple[RunId, str]]:
        import nats.errors

        try:
            found = await self._connection.client.jetstream().stream_info(
                subjects.COMMAND_STREAM, subjects_filter=subjects.COMMAND_SUBJECTS
            )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Unreachable("The queue of commands cannot be looked at.", why=str(error)) from error
        parsed = (subjects.parse_command(each) for each in found.state.subjects or {})
        return {(each.run, each.tenant) for each in parsed}
