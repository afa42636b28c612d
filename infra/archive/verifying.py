"""Is the archive what was put there? Every byte against its manifest and, while the stream is there, every message both ways.

That no message of the stream is missing follows from three things: each archived run is the same, message for message, as the
log's run of that id; no run is archived twice, since entries are in the order of their requests' positions; and runs and
strays, which are compared as well, are together as many messages as the stream has.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TypeVar

from infra.archive.checking import TenantCheck, strays
from infra.archive.layout import (
    EXPIRED,
    MANIFEST,
    BadArchive,
    Done,
    Entry,
    Manifest,
    Part,
    Segment,
    folder,
    line,
    parsed,
    put,
    segment_mark,
)
from infra.archive.report import Report, Tell, tell_nobody
from infra.archive.source import AT_ONCE, Source, tenant_of
from infra.archive.store import Store
from infra.jetstream.streams import SegmentState
from runtime.log import Raw
from schemas.ids import RunId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies segments. source: the log, if it can be asked; trusted: public keys of the recorder by id."""

    store: Store
    source: Source | None = None
    trusted: Mapping[str, bytes] = field(default_factory=dict)

    async def verify(self, archived: Segment, tell: Tell = tell_nobody) -> Report:
        """Hold a whole segment against what is said of it. Raises Unreachable, ArchiveError."""
        state = await self.source.state(archived.segment) if self.source else None
        report = Report(archived.segment, log=state is not None)
        if state is not None:
            _same_stream(archived, state, report)
        manifests, done = [], 0
        for part in archived.tenants:
            manifest = await asyncio.to_thread(self._manifest, archived, part, report)
            if manifest is None:
                continue
            manifests.append(manifest)
            check = TenantCheck(self.store, manifest, self.trusted, report)
            for some in _by(AT_ONCE, check.runs()):
                if state is not None:
                    await asyncio.gather(*(self._same_run(entry, raws, manifest, report) for entry, raws in some))
                done += sum(entry.events for entry, _ in some)
                tell(done, archived.messages)
                await asyncio.sleep(0)
            await asyncio.to_thread(check.others)
            report.counts = report.counts.plus(manifest.counts)
        if state is not None and (archived.counts.strays or report.counts.events != state.messages):
            await self._same_strays(manifests, archived.segment, report)
        return report

    def mark(self, archived: Segment, report: Report, by: str, at: datetime) -> None:
        """Remember that a segment was found whole."""
        done = Done(at=at, by=by, manifest=hash_of(archived), counts=report.counts, log=report.log)
        put(self.store, segment_mark(archived.segment, "verified"), done)

    def _manifest(self, archived: Segment, part: Part, report: Report) -> Manifest | None:
        name = folder(part.tenant, archived.segment) + MANIFEST
        data = self.store.read(name)
        if data is None:
            if self.store.read(folder(part.tenant, archived.segment) + EXPIRED) is None:
                report.add("it is missing", file=name)
            return None
        if hashlib.sha256(data).hexdigest() != part.sha256:
            report.add("its bytes are not those that were archived", file=name)
        try:
            manifest = parsed(data, Manifest, name)
        except BadArchive as error:
            report.add(error.why, file=name)
            return None
        if (manifest.tenant, manifest.segment) != (part.tenant, archived.segment):
            report.add("it is of another tenant or segment", file=name)
            return None
        return manifest

    async def _same_run(self, entry: Entry, raws: list[Raw], manifest: Manifest, report: Report) -> None:
        assert self.source is not None
        name = folder(manifest.tenant, manifest.segment) + entry.file
        there = await self.source.run(RunId(entry.run))
        if there is None or (there.tenant, there.position) != (manifest.tenant, entry.position):
            report.add("the log has no such run, or another one in its place", file=name, run=entry.run)
            return
        logged, kept = ([(raw.subject, raw.data) for raw in side] for side in (there.raws, raws))
        if logged == kept:
            return
        same = 0
        while same < min(len(logged), len(kept)) and logged[same] == kept[same]:
            same += 1
        what = f"the log has {len(logged)} messages of it, the archive {len(kept)}; they differ from number {same + 1} on"
        report.add(what, file=name, run=entry.run)

    async def _same_strays(self, manifests: list[Manifest], segment: str, report: Report) -> None:
        """Messages of no run, tenant by tenant in the order of the log."""
        assert self.source is not None
        kept = {each.tenant: strays(self.store, each, report) for each in manifests}
        async for raw in self.source.strays(segment):
            tenant = tenant_of(raw.subject)
            stray = next(kept.get(tenant, iter(())), None)
            there = (raw.subject, raw.position, raw.data)
            if stray is None or (stray.subject, stray.position, base64.b64decode(stray.data)) != there:
                report.add(f"the log has a message at {raw.position} that the archive does not have: {raw.subject}")
                return
        for tenant, left in kept.items():
            if next(left, None) is not None:
                report.add(f"the archive has messages of {tenant} that the log does not have")


def _by(count: int, items: Iterator[T]) -> Iterator[list[T]]:
    while some := list(islice(items, count)):
        yield some


def hash_of(archived: Segment) -> str:
    """What names exactly this archive of a segment."""
    return hashlib.sha256(line(archived)).hexdigest()


def _same_stream(archived: Segment, state: SegmentState, report: Report) -> None:
    if archived.created != state.created:
        report.add(f"the log's segment was made at {state.created}, the archived one at {archived.created}")
    elif (archived.last, archived.messages) != (state.last, state.messages):
        more = state.last - archived.last
        report.add(f"the log has {more} messages more since it was archived: milepost archive write {archived.segment}")
