"""Segments as an administrator sees them, in the log and in the archive, and what should be done about them."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from infra.archive.dropping import is_closed
from infra.archive.layout import Counts, Done, Segment, get, is_segment, segment_mark, segments_of
from infra.archive.store import Store
from infra.embedded import nats_server
from infra.jetstream import streams
from infra.jetstream.connection import Connection
from infra.jetstream.streams import SegmentState
from infra.settings import Archive
from runtime.client import SEGMENT_OVERLAP
from schemas import subjects

State: TypeAlias = Literal["open", "closed", "archived", "changed", "dropped", "returned"]
"""open: runs may begin in it. closed: they may not, and it is not archived. archived: it is in the log and in the archive.
changed: the log has got more since it was archived. dropped: it is in the archive alone. returned: the log got messages of it
after it was dropped."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Evidence may be lost, or nothing more be taken, if nobody acts. kind: names the sentence; segment: whose it is."""

    kind: Literal["late", "changed", "returned", "unverified", "storage", "disk"]
    days: int = 0
    percent: int = 0
    segment: str = ""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A segment. runs, open: how many, and how many of them have not ended; log_bytes, archive_bytes: where it is."""

    segment: str
    state: State
    runs: int
    open: int
    messages: int
    log_bytes: int
    archive_bytes: int
    tenants: tuple[str, ...] = ()
    archived: datetime | None = None
    verified: datetime | None = None
    dropped: datetime | None = None
    alarms: tuple[Alarm, ...] = field(default=())


async def rows(connection: Connection, store: Store | None, settings: Archive, now: datetime) -> list[SegmentRow]:
    """Every segment, oldest first. Raises Unreachable, ArchiveError."""
    logged = {each.segment: each for each in await streams.states(connection) if is_segment(each.segment)}
    kept = {each.segment: each for each in (await asyncio.to_thread(segments_of, store) if store else [])}
    return [
        await _row(connection, segment, logged.get(segment), kept.get(segment), store, settings, now)
        for segment in sorted({*logged, *kept})
    ]


async def _row(
    connection: Connection, segment: str, logged: SegmentState | None, kept: Segment | None, store: Store | None,
    settings: Archive, now: datetime,
) -> SegmentRow:  # fmt: skip
    dropped = get(store, segment_mark(segment, "dropped"), Done) if store and kept else None
    verified = get(store, segment_mark(segment, "verified"), Done) if store and kept else None
    counts = kept.counts if kept else Counts()
    runs, open_ = counts.runs, counts.open
    if logged is not None:
        runs = await streams.count(connection, segment, subjects.request_subjects(segment))
        open_ = runs - await streams.count(connection, segment, subjects.end_subjects(segment))
    state = _state(segment, logged, kept, now)
    return SegmentRow(
        segment=segment, state=state, runs=runs, open=max(0, open_),
        messages=logged.messages if logged else counts.events + counts.strays, log_bytes=logged.bytes if logged else 0,
        archive_bytes=counts.bytes, tenants=tuple(each.tenant for each in kept.tenants) if kept else (),
        archived=kept.at if kept else None, verified=verified.at if verified else None,
        dropped=dropped.at if dropped else None, alarms=tuple(_alarms(segment, state, kept, verified, settings, now)),
    )  # fmt: skip


def _state(segment: str, logged: SegmentState | None, kept: Segment | None, now: datetime) -> State:
    if logged is None:
        return "dropped"
    if kept is None:
        return "closed" if is_closed(segment, now) else "open"
    if logged.created != kept.created:
        return "returned"
    return "archived" if logged.last == kept.last else "changed"


def _alarms(
    segment: str, state: State, kept: Segment | None, verified: Done | None, settings: Archive, now: datetime
) -> list[Alarm]:
    found = []
    if state == "closed" and (days := (now - closed_at(segment, now)).days) >= settings.late_days:
        found.append(Alarm("late", days=days, segment=segment))
    if state in ("changed", "returned"):
        found.append(Alarm("changed" if state == "changed" else "returned", segment=segment))
    if kept is not None:
        days = (now - (verified.at if verified else kept.at)).days
        if days >= settings.verify_days:
            found.append(Alarm("unverified", days=days, segment=segment))
    return found


def closed_at(segment: str, now: datetime) -> datetime:
    """When a segment closed: so long after its month as a retried request may come."""
    year, month = int(segment[:4]), int(segment[4:])
    after = now.replace(year=year + month // 12, month=month % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)
    return after + SEGMENT_OVERLAP


async def room(connection: Connection, settings: Archive, *, home: Path | None, monitor: str | None) -> list[Alarm]:
    """Whether the log runs full. home: where its disk is, if it is here; monitor: its server's. Raises Unreachable."""
    found = []
    storage = await streams.storage(connection)
    limit = storage.limit or (await nats_server.most_stored(monitor) if monitor else None)
    if limit and (percent := storage.used * 100 // limit) >= settings.full_percent:
        found.append(Alarm("storage", percent=percent))
    there = next((each for each in (home, *home.parents) if each.exists()), None) if home else None
    if there is not None:
        disk = shutil.disk_usage(there)
        percent = disk.used * 100 // max(1, disk.used + disk.free)  # a part of the disk may be nobody's to use
        if percent >= settings.full_percent:
            found.append(Alarm("disk", percent=percent))
    return found
