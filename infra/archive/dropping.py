"""Dropping a segment: its stream is deleted once its archive was found whole, and nothing in it can still go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.archive.layout import Counts, Done, Segment, needed, put, segment_mark
from infra.archive.report import Report, Tell, tell_nobody
from infra.archive.source import Source
from infra.archive.store import NotArchived
from infra.archive.verifying import Verifier, hash_of
from infra.jetstream import streams
from runtime.client import SEGMENT_OVERLAP
from schemas.errors import MilepostError
from schemas.ids import segment_of


class NotDroppable(MilepostError):
    """The segment has to stay in the log."""


def is_closed(segment: str, now: datetime) -> bool:
    """Whether no run can begin in a segment any more: its month is over, and as long ago as a retried request may come."""
    return segment < segment_of(now - SEGMENT_OVERLAP)


def needs_closed(segment: str, now: datetime) -> None:
    """Raises NotDroppable for a segment in which runs may still begin."""
    if not is_closed(segment, now):
        raise NotDroppable(
            f"Segment {segment} is not closed.",
            why=f"runs may begin in it until {SEGMENT_OVERLAP.days} days after its month", hint="milepost archive ls",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dropper:
    """Drops segments in the name of an administrator. unproved: also with runs that no receipt proves."""

    verifier: Verifier
    source: Source
    by: str
    at: datetime
    unproved: bool = False

    async def drop(self, segment: str, tell: Tell = tell_nobody) -> Counts:
        """Verify a segment, then delete its stream. Raises NotDroppable, NotArchived, Unreachable."""
        needs_closed(segment, self.at)
        store = self.verifier.store
        archived = needed(store, segment)
        if await self.source.state(segment) is None:
            raise NotArchived(f"The log has no segment {segment}.", why="it was dropped before", hint="milepost archive ls")
        _needs_ended(archived)
        if not self.unproved:
            _needs_receipts(archived)
        report = await self.verifier.verify(archived, tell)
        if not report.ok:
            raise NotDroppable(
                f"The archive of segment {segment} is not what the log holds.", why=_first(report),
                hint=f"milepost archive verify {segment}; milepost archive write {segment} --again",
            )  # fmt: skip
        state = await self.source.state(segment)
        if state is None or (state.created, state.last) != (archived.created, archived.last):
            raise NotDroppable(f"Segment {segment} has changed just now.", hint=f"milepost archive write {segment}")
        self.verifier.mark(archived, report, self.by, self.at)
        done = Done(at=self.at, by=self.by, manifest=hash_of(archived), counts=archived.counts, log=True)
        put(store, segment_mark(segment, "dropped"), done)
        await streams.drop(self.source.connection, segment)
        return archived.counts


def _needs_ended(archived: Segment) -> None:
    counts, segment = archived.counts, archived.segment
    if counts.open:
        raise NotDroppable(
            f"{counts.open} runs of segment {segment} have not ended.", why="they could not go on",
            hint=f"answer or cancel them: milepost runs ls --status waiting; then milepost archive write {segment}",
        )  # fmt: skip
    if counts.in_doubt:
        raise NotDroppable(
            f"Of {counts.in_doubt} writes in segment {segment} nobody knows whether they happened.",
            why="what is found out is told in their run's log", hint="milepost effects ls",
        )  # fmt: skip


def _needs_receipts(archived: Segment) -> None:
    counts, segment = archived.counts, archived.segment
    if counts.sealed < counts.runs:
        raise NotDroppable(
            f"{counts.runs - counts.sealed} of {counts.runs} runs of segment {segment} have no receipt in the archive.",
            why="once their stream is gone, nobody can seal them",
            hint=f"is the recorder up (milepost status)? then milepost archive write {segment} --again; or add --unproved",
        )  # fmt: skip


def _first(report: Report) -> str:
    first = report.problems[0]
    where = ", ".join(each for each in (first.file, f"run {first.run}" if first.run else "") if each)
    more = len(report.problems) + report.more - 1
    return f"{where}: {first.what}".removeprefix(": ") + (f" (and {more} more)" if more else "")
