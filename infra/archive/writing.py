"""Writing a segment into the archive: run after run, with what they refer to; the manifests come last."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.archive.layout import (
    INDEX,
    MANIFEST,
    PAYLOADS,
    STRAYS,
    Counts,
    Entry,
    File,
    Manifest,
    Part,
    Segment,
    Stray,
    folder,
    get,
    line,
    put,
    segment_mark,
    segment_name,
)
from infra.archive.member import packed
from infra.archive.part import TenantPart
from infra.archive.source import SegmentRun, Source, fate_of, tenant_of
from infra.archive.store import NotArchived, Store
from infra.jetstream.streams import SegmentState
from schemas import subjects

PART_BYTES = 64 * 1024 * 1024

Tell = Callable[[int, int], None]
"""Hears how many messages of how many are done."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes segments. by, at: who writes, and when; part_bytes: how large a file of runs grows."""

    source: Source
    store: Store
    by: str
    at: datetime
    part_bytes: int = PART_BYTES

    async def write(self, segment: str, tell: Tell = lambda done, all: None) -> Segment:
        """Write a segment whole; what an earlier try has left is gone on with. Raises NotArchived, Unreachable.

        What was archived of the same stream before counts no more from the beginning on.
        """
        state = await self.source.state(segment)
        if state is None:
            raise NotArchived(f"The log has no segment {segment}.", hint="milepost archive ls")
        _needs_the_same(await asyncio.to_thread(get, self.store, segment_name(segment), Segment), state, self.store)
        for name in (segment_name(segment), segment_mark(segment, "verified")):
            await asyncio.to_thread(self.store.delete, name)
        with self.store.scratch() as scratch:
            parts = _Parts(self.store, state, scratch, self.part_bytes)
            done = 0
            async for run in self.source.runs(segment):
                await self._add(parts.of(run.tenant), run)
                done += len(run.messages)
                tell(done, state.messages)
            for part in parts.all.values():
                await asyncio.to_thread(part.flush)
            if done != state.messages:
                await self._add_strays(parts, segment, scratch)
            return await asyncio.to_thread(self._close, parts, state, scratch)

    async def _add(self, part: TenantPart, run: SegmentRun) -> None:
        if run.position <= part.position:
            return  # an earlier try has written it
        names = await self.source.payloads_of(run)
        for name in names:
            if not part.has_payload(name):
                await asyncio.to_thread(part.add_payload, name, await self.source.blobs.get(run.tenant, name))
        member, size = packed(run.run, run.tenant, run.messages, self.at)
        fate = fate_of([fact for _, fact in run.messages])
        entry = Entry(
            run=run.run, file="", offset=0, length=len(member), bytes=size, sha256=hashlib.sha256(member).hexdigest(),
            events=len(run.messages), position=run.position, ended=fate.ended, in_doubt=fate.in_doubt, receipt=fate.receipt,
            payloads=tuple(names),
        )  # fmt: skip
        if part.add(entry, member):
            await asyncio.to_thread(part.flush)

    async def _add_strays(self, parts: _Parts, segment: str, scratch: Path) -> None:
        async for raw in self.source.strays(segment):
            part = parts.of(tenant_of(raw.subject))
            stray = Stray(subject=raw.subject, position=raw.position, data=base64.b64encode(raw.data).decode())
            with (scratch / f"{part.tenant}.strays").open("ab") as out:
                out.write(gzip.compress(line(stray), mtime=0))
            part.counts = part.counts.plus(Counts(strays=1))

    def _close(self, parts: _Parts, state: SegmentState, scratch: Path) -> Segment:
        described = []
        for tenant, part in sorted(parts.all.items()):
            data = self._describe(part, state, scratch)
            described.append(Part(tenant=tenant, counts=part.counts, sha256=hashlib.sha256(data).hexdigest()))
        written = Segment(
            segment=state.segment, stream=subjects.run_stream(state.segment),
            created=state.created, last=state.last, messages=state.messages,
            tenants=tuple(described), at=self.at, by=self.by,
        )  # fmt: skip
        put(self.store, segment_name(state.segment), written)
        for part in parts.all.values():
            part.tidy()
        return written

    def _describe(self, part: TenantPart, state: SegmentState, scratch: Path) -> bytes:
        """Index, payloads, strays and manifest of one tenant; gives the manifest's bytes."""
        index, payloads = scratch / f"{part.tenant}.index", scratch / f"{part.tenant}.payloads"
        with index.open("wb") as runs, payloads.open("wb") as others:
            for value in part.told():
                (runs if isinstance(value, Entry) else others).write(line(value))
        prefix, files = folder(part.tenant, state.segment), list(part.files)
        strays = scratch / f"{part.tenant}.strays"
        for name, file in ((INDEX, index), (PAYLOADS, payloads), (STRAYS, strays)):
            if file.exists():
                files.append(_file(name, file))
                self.store.put_file(prefix + name, file)
        manifest = Manifest(
            tenant=part.tenant, segment=state.segment, stream=subjects.run_stream(state.segment),
            created=state.created, last=state.last, counts=part.counts, files=tuple(files), at=self.at, by=self.by,
        )  # fmt: skip
        return put(self.store, prefix + MANIFEST, manifest)


def _needs_the_same(archived: Segment | None, state: SegmentState, store: Store) -> None:
    """What was archived of another stream may be all that is left of it. Raises NotArchived."""
    if archived is not None and archived.created != state.created:
        raise NotArchived(
            f"The archive of segment {state.segment} is of another stream, and is not written over.",
            why=f"that one was made at {archived.created}, the log's at {state.created}; it was dropped or lost in between",
            hint=f"keep what came since elsewhere: milepost archive write {state.segment} --to ...",
        )


class _Parts:
    """The parts of all tenants of a segment, made as their first runs come."""

    def __init__(self, store: Store, state: SegmentState, scratch: Path, part_bytes: int) -> None:
        self._store, self._state, self._scratch, self._part_bytes = store, state, scratch, part_bytes
        self.all: dict[str, TenantPart] = {}

    def of(self, tenant: str) -> TenantPart:
        """The part of a tenant."""
        if tenant not in self.all:
            part = self.all[tenant] = TenantPart(self._store, tenant, self._state, self._scratch, self._part_bytes)
            part.go_on()
        return self.all[tenant]


def _file(name: str, file: Path) -> File:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
    return File(name=name, bytes=file.stat().st_size, sha256=digest.hexdigest())
