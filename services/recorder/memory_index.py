"""The index of the log in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from services.recorder.ports import (
    ERASED,
    OPEN,
    SHORTEST,
    Erasure,
    EventRow,
    Place,
    Rebuilding,
    RunFilter,
    RunRecord,
    RunSummary,
    Use,
    Used,
    Watermark,
)


class MemoryRunIndex:
    """Events and runs in dictionaries."""

    def __init__(self) -> None:
        self._events: dict[str, EventRow] = {}
        self._runs: dict[str, RunSummary] = {}
        self._watermarks: dict[str, Watermark] = {}
        self._uses: dict[tuple[str, ...], Use] = {}
        self._rebuilding = False

    async def record(
        self, events: Sequence[EventRow], runs: Sequence[RunSummary], watermark: Watermark | None = None,
        uses: Sequence[Use] = (), receipts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        erased = {run.run for run in self._runs.values() if run.erased}
        for event in events:
            self._events.setdefault(event.id, _blank(event) if event.run in erased else event)
        for run in runs:
            old = self._runs.get(run.run)
            if old is None or (old.seq <= run.seq and not old.erased):
                self._runs[run.run] = run
                self._give(run.run, old.receipt if old else None)
        for name, number in receipts.items():
            self._give(name, number)
        for use in uses:
            key = (use.run, use.kind, use.id, use.how, use.hash)
            if use.run not in erased and (key not in self._uses or use.time < self._uses[key].time):
                self._uses[key] = use
        if watermark:
            stored = self._watermarks.get(watermark.stream)
            if stored is None or stored.created != watermark.created or stored.seq < watermark.seq:
                self._watermarks[watermark.stream] = watermark

    def _give(self, name: str, number: int | None) -> None:
        run = self._runs.get(name)
        if run and number and number > (run.receipt or 0):
            self._runs[name] = run.model_copy(update={"receipt": number})

    async def watermark(self, stream: str) -> Watermark | None:
        return self._watermarks.get(stream)

    async def list_runs(self, which: RunFilter, limit: int = 50, after: Place | None = None) -> list[RunSummary]:
        found = [run for run in self._runs.values() if _matches(run, which) and self._says(run, which)]
        behind = [run for run in found if after is None or (run.started, run.run) < (after.started, after.run)]
        return sorted(behind, key=lambda run: (run.started, run.run), reverse=True)[:limit]

    def _says(self, run: RunSummary, which: RunFilter) -> bool:
        if which.text is None:
            return True
        text = which.text.lower()
        lines = (event.summary for event in self._events.values() if event.run == run.run) if which.deep else ()
        return any(text in said.lower() for said in (run.task, run.answer or "", *lines))

    async def lines(self, tenant: str, runs: Sequence[str], text: str, each: int = 3) -> list[EventRow]:
        found: list[EventRow] = []
        for run in sorted(set(runs)):
            own = sorted((event for event in self._events.values() if event.run == run), key=lambda event: event.seq)
            found += [event for event in own if event.tenant == tenant and text.lower() in event.summary.lower()][:each]
        return found

    async def show(self, run: str, tenant: str | None = None) -> RunRecord | None:
        summary = self._runs.get(run)
        if summary is None or tenant not in (None, summary.tenant):
            return None
        events = sorted((event for event in self._events.values() if event.run == run), key=lambda event: event.seq)
        return RunRecord(summary=summary, events=tuple(events))

    async def uses(self, tenant: str, names: Sequence[str], limit: int = 200) -> list[Used]:
        mine = [use for use in self._uses.values() if use.tenant == tenant and use.run in self._runs]
        asked = [name for name in names if name]
        begun = tuple(name for name in asked if len(name) >= SHORTEST)
        found = [use for use in mine if {use.id, use.name, use.hash} & set(asked)]
        found = found or [use for use in mine if use.id.startswith(begun) or use.hash.startswith(begun)]
        found.sort(key=lambda use: (use.time, use.kind, use.id))
        found.sort(key=lambda use: (self._runs[use.run].started, use.run), reverse=True)
        return [Used(use=use, run=self._runs[use.run]) for use in found[:limit]]

    async def runs_of(self, tenant: str, user: str, *, after: str = "", limit: int = 500, open: bool = False) -> list[str]:
        self._whole()
        own = (run for run in self._runs.values() if (run.tenant, run.user) == (tenant, user))
        return sorted(run.run for run in own if run.run > after and (not open or run.status in OPEN))[:limit]

    async def forget(self, tenant: str, user: str) -> Erasure:
        self._whole()
        own = [run for run in self._runs.values() if (run.tenant, run.user, run.erased) == (tenant, user, False)]
        for run in own:
            gone = {"task": ERASED, "answer": None, "tools": (), "models": (), "erased": True}
            self._runs[run.run] = run.model_copy(update=gone)
        names = {run.run for run in own}
        events = [event for event in self._events.values() if event.run in names]
        self._events.update((event.id, _blank(event)) for event in events)
        used = [key for key, use in self._uses.items() if use.run in names]
        for key in used:
            del self._uses[key]
        return Erasure(runs=len(own), events=len(events), unsealed=sum(not run.sealed for run in own), uses=len(used))

    async def begin_rebuild(self, *, drop: bool) -> None:
        self._rebuilding = True
        if drop:
            self._events.clear()
            self._uses.clear()
            self._runs = {name: run for name, run in self._runs.items() if run.erased}

    async def end_rebuild(self) -> None:
        self._rebuilding = False

    def _whole(self) -> None:
        if self._rebuilding:
            raise Rebuilding


def _blank(event: EventRow) -> EventRow:
    return event.model_copy(update={"summary": ERASED})


def _matches(run: RunSummary, which: RunFilter) -> bool:
    cost = max(map(float, run.money.values()), default=0.0)
    return (
        which.tenant in (None, run.tenant)
        and (not which.statuses or run.status in which.statuses)
        and which.agent in (None, run.agent)
        and which.user in (None, run.user)
        and which.conversation in (None, run.conversation)
        and which.fork_of in (None, run.fork_of)
        and (which.forks is None or which.fork_of is not None or which.forks == (run.fork_of is not None))
        and (which.tool is None or which.tool in run.tools)
        and (which.model is None or which.model in run.models)
        and (which.runs is None or run.run in which.runs)
        and (which.tokens_over is None or run.tokens > which.tokens_over)
        and (which.cost_over is None or cost > which.cost_over)
        and (which.since is None or run.started >= which.since)
        and (which.before is None or run.started < which.before)
    )
