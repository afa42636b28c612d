"""What the index holds of a run, summed up fact by fact. Runs that are open stay in memory, of those that ended nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from runtime.fold import Folded
from runtime.log import Stored
from runtime.summing import SEALED_KIND, Sum
from runtime.timeline import summary
from schemas import subjects
from schemas.envelope import Fact
from schemas.events import RunRequested, RunSealed
from schemas.ids import RunId, segment_of_run
from services.recorder.ports import EventRow, RunSummary, Use
from services.recorder.uses import uses_of


@dataclass(frozen=True, slots=True)
class Said:
    """A fact in its place. size: its bytes as they are stored."""

    stored: Stored
    size: int


@dataclass(frozen=True, slots=True)
class Rows:
    """What some facts add to the index. receipts: numbers of the receipts that they state, by run.

    over: folds of runs that have ended, or were erased.
    """

    events: list[EventRow]
    runs: list[RunSummary]
    uses: list[Use]
    receipts: dict[str, int]
    over: dict[RunId, Folded] = field(default_factory=dict)


class Sums:
    """The sums of open runs, so many at most; what is not kept is read from the log again.

    read: the facts of a run after a position. Of runs that have ended the ids are kept, of the last so many.
    """

    def __init__(
        self, read: Callable[[RunId, int], Awaitable[Sequence[Stored]]], *, open: int = 20_000, ended: int = 100_000
    ) -> None:
        self._read, self._most_open, self._most_ended = read, open, ended
        self._open: OrderedDict[RunId, Sum] = OrderedDict()
        self._ended: OrderedDict[RunId, None] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._open)

    def told(self, run: RunId) -> bool:
        """Whether its summary was made here lately, so that the index has a row of it."""
        return run in self._ended or (run in self._open and self._open[run].state.request is not None)

    async def add(self, run: RunId, facts: Sequence[Stored], *, gap: bool = False) -> Sum:
        """Add facts of a run, in order. gap: others may stand between them and those that were added before."""
        found = self._open.get(run)
        if gap or (found is None and not isinstance(facts[0].fact.body, RunRequested)):
            facts = await self._read(run, found.position if found else 0)
        found = found or Sum(run)
        for stored in facts:
            found.add(stored)
        self._keep(run, found)
        return found

    def _keep(self, run: RunId, found: Sum) -> None:
        self._open.pop(run, None)
        if found.state.phase == "ended":  # what comes late is summed up from the log again
            self._ended[run] = None
            if len(self._ended) > self._most_ended:
                self._ended.popitem(last=False)
            return
        self._open[run] = found
        if len(self._open) > self._most_open:
            self._open.popitem(last=False)

    def forget(self, keys: Container[str | None]) -> None:
        """Drop what these data keys opened."""
        for run in [run for run, found in self._open.items() if found.state.datakey in keys]:
            del self._open[run]


async def rows_of(sums: Sums, facts: Sequence[Said], *, gap: bool = False, in_order: bool = False) -> Rows:
    """What these facts add to the index. in_order: all facts before them were indexed, so that each run has its row.

    A receipt needs no sum then, nor where the run was told of lately.
    """
    rows = Rows([_row(said) for said in facts], [], [use for said in facts for use in uses_of(said.stored.fact)], {})
    by_run = sorted((said.stored for said in facts), key=lambda stored: stored.fact.run)
    for run, own in groupby(by_run, key=lambda stored: stored.fact.run):
        stored = list(own)
        rows.receipts.update((run, each.fact.body.receipt.number) for each in stored if isinstance(each.fact.body, RunSealed))
        if all(each.fact.kind == SEALED_KIND for each in stored) and (in_order or sums.told(run)):
            continue
        total = await sums.add(run, stored, gap=gap)
        if total.state.phase == "ended" or total.state.erased:
            rows.over[run] = total.folded
        if found := total.summary():
            rows.runs.append(found)
    return rows


def _row(said: Said) -> EventRow:
    fact: Fact = said.stored.fact
    return EventRow(
        id=fact.id, run=fact.run, tenant=fact.tenant, type=fact.kind, role=fact.role, slot=fact.slot,
        time=fact.time, stream=subjects.run_stream(segment_of_run(fact.run)), seq=said.stored.position,
        summary=summary(fact), bytes=said.size,
    )  # fmt: skip
