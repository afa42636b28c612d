"""What the index holds of a run, summed up fact by fact. Runs that are open stay in memory, of those that ended nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import get_args

from runtime.fold import Folded
from runtime.log import Stored
from runtime.state import RunState
from runtime.timeline import summary
from schemas import subjects
from schemas.envelope import Fact
from schemas.events import Generated, RunRequested, RunSealed
from schemas.ids import RunId, segment_of_run
from services.recorder.ports import EventRow, RunSummary, Status, Use
from services.recorder.uses import uses_of

SEALED_KIND = RunSealed.__name__


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


class Sum:
    """One run as far as its log was read: its fold, and what is counted beside it."""

    def __init__(self, run: RunId) -> None:
        self.folded = Folded(RunState(run=run))
        self._events = self._tokens = self._cached = self._seq = 0
        self._models: dict[str, None] = {}
        self._receipt: int | None = None
        self.position = 0

    @property
    def state(self) -> RunState:
        """What the run has come to."""
        return self.folded.state

    def add(self, stored: Stored) -> None:
        """Count one more fact; older ones are passed over."""
        if stored.position <= self.position:
            return
        self.position = stored.position
        body = stored.fact.body
        if stored.fact.kind == SEALED_KIND:
            self._receipt = body.receipt.number if isinstance(body, RunSealed) else self._receipt
            return
        self._events, self._seq = self._events + 1, stored.position
        if isinstance(body, Generated):
            usage = body.generation.usage
            self._tokens += usage.prompt_tokens + usage.completion_tokens
            self._cached += usage.cached_tokens
            if body.generation.model:
                self._models[body.generation.model] = None
        self.folded.add(stored)

    def summary(self) -> RunSummary | None:
        """The run as lists show it; None as long as nobody knows what was asked."""
        state = self.state
        request = state.request
        if request is None or state.requested_at is None:
            return None
        status: Status = state.outcome if state.outcome in get_args(Status) else "open"  # type: ignore[assignment]
        paid = not request.fork  # a fork changes nothing: what it copies was paid by the run that it left
        return RunSummary(
            run=state.run, tenant=state.tenant, status=status, agent=request.agent.name, user=request.user,
            conversation=request.conversation, task=request.task, answer=state.answer, started=state.requested_at,
            ended=state.ended_at, steps=state.steps, tools=_called(state), seq=self._seq, sealed=state.datakey is not None,
            events=self._events, models=tuple(self._models), tokens=self._tokens, cached=self._cached,
            writes=state.writes if paid else 0,
            money={currency: f"{amount:f}" for currency, amount in sorted(state.spent.items()) if amount and paid},
            parent=request.parent.run if request.parent else None, fork_of=request.fork.run if request.fork else None,
            receipt=self._receipt,
        )  # fmt: skip


def _called(state: RunState) -> tuple[str, ...]:
    return tuple(dict.fromkeys(call.name for message in state.messages for call in message.calls))


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
