"""Forks: the recorder copies into a fork what the run that it leaves was told, or calls the fork off.

Any number of recorders may do so at once, and any of them may die: what is copied follows from the two runs alone, and each
answer has its slot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import structlog

from runtime.clock import Clock
from runtime.errors import Retryable
from runtime.forking import Original, copies
from runtime.log import Delivery, Log, Stored
from schemas.envelope import DECIDERS, Fact, new_fact, source_of
from schemas.errors import MilepostError
from schemas.events import AnyEvent, CancelRequested, RunRequested
from schemas.ids import CANCEL_SLOT, RunId, checked_run

log = structlog.get_logger("services.recorder.forking")

GROUP = "forks"
AGAIN_S = 5.0

Past: TypeAlias = Callable[[RunId], Awaitable[Sequence[tuple[Stored, bytes]]]]
"""The facts of a run with their bytes as they are stored, wherever it is kept by now; none for none. Raises Unreachable."""


class Forker:
    """Looks at every request, and does what a fork asks for."""

    def __init__(self, journal: Log, past: Past, clock: Clock, *, name: str) -> None:
        self._log, self._past, self._clock = journal, past, clock
        self._source = source_of("recorder", name)

    async def run(self) -> None:
        """Copy for ever."""
        async for delivery in self._log.requests(GROUP, AGAIN_S):
            with suppress(Retryable):  # then the delivery comes again
                await self._on_request(delivery)

    async def _on_request(self, delivery: Delivery[Fact]) -> None:
        fact = delivery.message
        if isinstance(fact.body, RunRequested) and fact.body.fork:
            if fact.header.decider not in DECIDERS:
                await delivery.again(AGAIN_S)
                return
            try:
                await self._copy(fact, checked_run(fact.body.fork.run))
            except Retryable as error:
                log.warning("not copied yet", run=fact.run, error=error.what, why=error.why)
                await delivery.again(1.0)
                return
            except MilepostError as error:
                log.warning("a fork is called off", run=fact.run, error=error.what, why=error.why)
                await self._call_off(fact, error)
            except Exception as error:  # whatever a request says, the next one's turn comes
                log.exception("a fork is called off", run=fact.run)
                await self._call_off(fact, MilepostError("The fork cannot be made.", why=repr(error)[:200]))
        await delivery.ack()

    async def _copy(self, request: Fact, run: RunId) -> None:
        original = Original(run, await self._past(run))
        for fact in copies(original, request, source=self._source, now=self._clock.now()):
            await self._log.append(fact)

    async def _call_off(self, request: Fact, error: MilepostError) -> None:
        why = CancelRequested(by="the recorder", reason=f"{error.what} {error.why}".strip())
        await self._state(request, CANCEL_SLOT, why)

    async def _state(self, request: Fact, slot: str, event: AnyEvent) -> None:
        header = request.header
        await self._log.append(new_fact(
            event, run=request.run, tenant=request.tenant, slot=slot, source=self._source, time=self._clock.now(),
            causes=(request.id,), decider=header.decider, datakey=header.datakey,
        ))  # fmt: skip
