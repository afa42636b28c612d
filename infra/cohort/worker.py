"""A worker of `milepost cohort work`: takes items of any cohort from the bus, and drives their runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from infra.cohort.answering import Speak
from infra.cohort.driving import Result, drive
from infra.cohort.over_bus import Item, Taken, taken
from infra.cohort.pool import Processes
from infra.cohort.recorded import Recorded, recorded_in
from infra.cohort.speaking import speaker
from infra.cohort.swap import Swap
from infra.wiring import World
from schemas.errors import MilepostError
from schemas.events import RunRequested
from schemas.ids import RunId

log = structlog.get_logger("infra.cohort")

TRIES = 5
Tell = Callable[[Item, Sequence[Result], str], None]
"""Hears of each item: its results, or why it could not be worked on."""


class CohortWorker:
    """Drives the runs of items; those without a model in processes, the others at the models that this machine has."""

    def __init__(self, world: World, processes: Processes, tell: Tell) -> None:
        self._world, self._processes, self._tell = world, processes, tell
        self._speakers: dict[str, asyncio.Task[tuple[Speak, int]]] = {}

    async def run(self) -> None:
        """Work until cancelled. Raises Unreachable when there is no bus at the start."""
        async with asyncio.TaskGroup() as group:
            async for item, held in taken(self._world.connection, self._processes.count * 2):
                group.create_task(self._work(item, held))

    async def _work(self, item: Item, held: Taken) -> None:
        async with held:
            try:
                await held.done(item, await self._results(item), self._world.name)
            except MilepostError as error:
                why = f"{error.what} {error.why}".strip()
                log.warning("an item goes to another worker", cohort=item.cohort, item=item.item, why=why)
                self._tell(item, (), why)
                if held.attempt >= TRIES:
                    troubled = [Result(run=run, trouble=f"{type(error).__name__}: {why}"[:500]) for run in item.runs]
                    await held.done(item, troubled, self._world.name)

    async def _results(self, item: Item) -> list[Result]:
        runs = [await self._read(RunId(run), item.tenant) for run in item.runs]
        if not item.swap.speaks:
            results = await self._processes.drive(runs, item.swap.model_dump_json(by_alias=True))
        else:
            speak, _ = await self._speaker(item.swap, runs)
            results = [await drive(run, item.swap, speak) for run in runs]
        self._tell(item, results, "")
        return results

    async def _read(self, run: RunId, tenant: str) -> Recorded:
        found = await recorded_in(self._world, run)
        return found if found.tenant == tenant else Recorded(run)  # of another tenant: as if it were not there

    async def _speaker(self, swap: Swap, runs: Sequence[Recorded]) -> tuple[Speak, int]:
        """The models of a swap, brought once; again after they could not be."""
        named = sorted({name for run in runs for name in models_of(run, swap)})
        key = swap.hash() + " ".join(named)
        task = self._speakers.get(key)
        if task is None or (task.done() and task.exception()):
            task = self._speakers[key] = asyncio.create_task(speaker(swap, self._world.settings, named))
        return await asyncio.shield(task)


def models_of(run: Recorded, swap: Swap) -> set[str]:
    """The models that a run may ask when it is driven again."""
    if swap.llm is not None:
        return set()
    try:
        asked = next((each.fact.body for each in run.facts() if isinstance(each.fact.body, RunRequested)), None)
    except MilepostError:  # its result will say that it cannot be read
        return set()
    agent = swap.agent or (asked.agent if asked else None)
    return {agent.model, *agent.fallback} if agent else set()
