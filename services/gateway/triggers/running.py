"""Clocks and subjects: every gateway watches all of them, and the key of what it sees lets there be one run."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime

import structlog

from runtime.errors import Retryable
from schemas.errors import MilepostError, ProtocolError
from services.gateway.gateway import Gateway
from services.gateway.triggers import schedule
from services.gateway.triggers.event import Event, digest_of, read_payload
from services.gateway.triggers.firing import fire
from services.gateway.triggers.trigger import Cron, Kept, Subject

log = structlog.get_logger("services.gateway.triggers")

TICK_S = 1.0
REFRESH_S = 2.0
WAITING = 1000
"""Messages of a subject that may wait to be fired; what comes beyond is dropped, and said so."""
_REPEATED_S = 10.0  # a message has no name: the copies of the gateway hear the same one within moments


class Running:
    """Watches while `run` runs."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._watched: dict[tuple[str, str], Kept] = {}
        self._since: dict[tuple[str, str], datetime] = {}
        self._ears: dict[tuple[str, str], tuple[Kept, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        looked = 0.0
        try:
            while True:
                now = asyncio.get_running_loop().time()
                try:
                    if now - looked >= REFRESH_S or not looked:
                        await self._look()
                        looked = now
                    await self.tick()
                except Retryable as error:
                    log.warning("triggers wait", why=str(error))
                await asyncio.sleep(TICK_S)
        finally:
            for _, ear in self._ears.values():
                ear.cancel()
            await asyncio.gather(*(ear for _, ear in self._ears.values()), return_exceptions=True)

    async def tick(self) -> None:
        """Fire what the clocks say is due. Raises Unreachable, after which the same is due again."""
        now = self._gateway.clock.now()
        for place, kept in list(self._watched.items()):
            source = kept.trigger.source
            if not isinstance(source, Cron):
                continue
            since = min(self._since.setdefault(place, _since(kept)), now)  # a clock that went back begins again from there
            self._since[place] = since
            for moment in schedule.due(source.expression, source.timezone, since, now, source.catch_up):
                said = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
                await self._fire(kept, Event(payload={"scheduled": said}, key=said, at=moment))
                await self._gateway.triggers.scheduled(*place, moment)
                self._since[place] = moment
            self._since[place] = now

    async def _look(self) -> None:
        """What there is to watch now."""
        found = {(each.tenant, each.trigger.name): each for each in await self._gateway.triggers.watched()}
        for place, kept in found.items():
            before = self._watched.get(place)
            if before is not None and before.version != kept.version:
                self._since.pop(place, None)
        for place in self._watched.keys() - found.keys():
            self._since.pop(place, None)
        self._watched = found
        for place, (kept, ear) in list(self._ears.items()):
            if ear.done() or place not in found or found[place].version != kept.version:
                ear.cancel()
                del self._ears[place]
        for place, kept in found.items():
            if isinstance(kept.trigger.source, Subject) and place not in self._ears:
                self._ears[place] = kept, asyncio.create_task(self._hear(kept, kept.trigger.source))

    async def _hear(self, kept: Kept, source: Subject) -> None:
        waiting: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(WAITING)

        async def heard(subject: str, data: bytes) -> None:
            if waiting.full():
                log.warning("a message was dropped", trigger=kept.trigger.name, subject=subject)
            else:
                waiting.put_nowait((subject, data))

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._gateway.bus.hear(source.pattern, heard))
            while True:
                subject, data = await waiting.get()
                try:
                    await self._fire(kept, message(subject, data, self._gateway.clock.now()), quiet=True)
                except Retryable as error:
                    log.warning("a message was not fired", trigger=kept.trigger.name, why=str(error))

    async def _fire(self, kept: Kept, event: Event, *, quiet: bool = False) -> None:
        try:
            firing = await fire(self._gateway, kept, event, quiet=quiet)
        except Retryable:
            raise
        except (MilepostError, ValueError) as error:
            log.warning("a trigger failed", trigger=kept.trigger.name, why=str(error))
        else:
            log.info("fired", trigger=kept.trigger.name, key=firing.key, outcome=firing.outcome, run=firing.run)


def message(subject: str, data: bytes, now: datetime) -> Event:
    """A message of the bus: a JSON object as it is, else its text; and its subject."""
    try:
        said = read_payload(data)
    except ProtocolError:
        said = {"text": data[:10_000].decode("utf-8", "replace").replace("\0", "")}
    return Event(payload=said | {"subject": subject[:1000]}, key=digest_of(subject, data), at=now, window_s=_REPEATED_S)


def _since(kept: Kept) -> datetime:
    """From when on a clock's times count: what was fired last, but not before the trigger was made as it is."""
    return max(kept.scheduled or kept.at, kept.at)
