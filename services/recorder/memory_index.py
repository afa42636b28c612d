"""The index of the log in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from collections.abc import Sequence

from services.recorder.ports import (
    ERASED,
    OPEN,
    SHORTEST,
    Erasure,
    EventRow,
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

    async def record(
        self, events: Sequence[EventRow], runs: Sequence[RunSummary], watermark: Watermark | None = None,
        uses: Sequence[Use] = (),
    ) -> None:  # fmt: skip
        erased = {run.run for run in self._runs.values() if run.erased}
        for event in events:
            self._events.setdefault(event.id, _blank(event) if event.run in erased else event)
        for run in runs:
            old = self._runs.get(run.run)
            if old is None or (old.seq <= run.seq and not old.erased):
                self._runs[run.run] = run
        for use in uses:
            if use.run not in erased:
                self._uses.setdefault((use.run, use.kind, use.id, use.how, use.hash), use)
        if watermark:
            stored = self._watermarks.get(watermark.stream)
            if stored is None or stored.created != watermark.created or stored.seq < watermark.seq:
                self._watermarks[watermark.stream] = watermark

    async def watermark(self, stream: str) -> Watermark | None:
        return self._watermarks.get(stream)

    async def list_runs(self, which: RunFilter, limit: int = 50) -> list[RunSummary]:
        found = [run for run in self._runs.values() if _matches(run, which)]
        return sorted(found, key=lambda run: (run.started, run.run), reverse=True)[:limit]

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
        own = (run for run in self._runs.values() if (run.tenant, run.user) == (tenant, user))
        return sorted(run.run for run in own if run.run > after and (not open or run.status in OPEN))[:limit]

    async def forget(self, tenant: str, user: str) -> Erasure:
        own = [run for run in self._runs.values() if (run.tenant, run.user, run.erased) == (tenant, user, False)]
        for run in own:
            self._runs[run.run] = run.model_copy(update={"task": ERASED, "answer": None, "tools": (), "erased": True})
        names = {run.run for run in own}
        events = [event for event in self._events.values() if event.run in names]
        self._events.update((event.id, _blank(event)) for event in events)
        used = [key for key, use in self._uses.items() if use.run in names]
        for key in used:
            del self._uses[key]
        return Erasure(runs=len(own), events=len(events), unsealed=sum(not run.sealed for run in own), uses=len(used))


def _blank(event: EventRow) -> EventRow:
    return event.model_copy(update={"summary": ERASED})


def _matches(run: RunSummary, which: RunFilter) -> bool:
    said = f"{run.task}\n{run.answer or ''}".lower()
    return (
        which.tenant in (None, run.tenant)
        and which.status in (None, run.status)
        and which.agent in (None, run.agent)
        and which.user in (None, run.user)
        and (which.text is None or which.text.lower() in said)
        and (which.before is None or run.started < which.before)
    )
