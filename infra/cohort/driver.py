"""Drives a cohort to its end: reads the runs that are left, has them driven, keeps what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.cohort.driving import Result
from infra.cohort.over_bus import Item, items_of, spread
from infra.cohort.pool import Processes, in_processes, processes_of, side_by_side
from infra.cohort.recorded import Recorded
from infra.cohort.speaking import speaker
from infra.cohort.store import Cohort
from infra.cohort.swap import Swap
from infra.cohort.worker import models_of
from schemas.errors import ProtocolError
from schemas.ids import RunId

if TYPE_CHECKING:
    from infra.jetstream.connection import Connection
    from infra.settings import Settings

READ_AT_ONCE = 32
Tell = Callable[[int], None]
"""Hears how many results there are."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where runs come from. query: what was asked for, in words; runs: their ids, in order."""

    query: str
    runs: tuple[RunId, ...]
    read: Callable[[RunId], Awaitable[Recorded]]


async def drive_here(
    cohort: Cohort, source: Source, swap: Swap, settings: Settings, *, tell: Tell, processes: int | None = None
) -> None:
    """Drive what is left on this machine; models are brought before anything runs.

    Raises Broken, Unreachable, and what keeps a model from being brought.
    """
    left = [RunId(run) for run in cohort.left]
    if swap.speaks:
        speak, at_once = await speaker(swap, settings, await _models(source, left, swap))
        async with aclosing(side_by_side(_read(source, left), swap, speak, at_once)) as results:
            await _keep(cohort, results, tell)
    elif left:
        with Processes(processes_of(processes, len(left))) as workers:
            async with aclosing(in_processes(_read(source, left), swap, workers)) as results:
                await _keep(cohort, results, tell)


async def drive_over_bus(cohort: Cohort, swap: Swap, connection: Connection, tenant: str, *, tell: Tell) -> None:
    """Have what is left driven by whoever works on cohorts (`milepost cohort work`). Raises Unreachable."""

    def items() -> Sequence[Item]:
        return items_of(cohort.about.id, tenant, cohort.about.runs, cohort.left, swap)

    if not cohort.left:
        return
    async with aclosing(spread(connection, items, cohort.about.id)) as told:
        async for results, kept in told:
            cohort.add(results.results)
            kept()
            tell(len(cohort.results))
            if not cohort.left:
                return


async def _keep(cohort: Cohort, results: AsyncIterator[list[Result]], tell: Tell) -> None:
    async for each in results:
        cohort.add(each)
        tell(len(cohort.results))


async def _read(source: Source, runs: Sequence[RunId]) -> AsyncIterator[Recorded]:
    for start in range(0, len(runs), READ_AT_ONCE):
        for each in await asyncio.gather(*(_readable(source, run) for run in runs[start : start + READ_AT_ONCE])):
            yield each


async def _readable(source: Source, run: RunId) -> Recorded:
    try:
        return await source.read(run)
    except ProtocolError:  # no key has its name: its result will say that it cannot be read
        return Recorded(run)


async def _models(source: Source, runs: Sequence[RunId], swap: Swap) -> set[str]:
    """The models that the runs may ask, so that one that is missing is known before anything runs."""
    if swap.llm is not None:
        return set()
    if swap.agent is not None:
        return {swap.agent.model, *swap.agent.fallback}
    found: set[str] = set()
    async for each in _read(source, runs):
        found |= models_of(each, swap)
    return found
