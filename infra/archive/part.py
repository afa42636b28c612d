"""A tenant's part of a segment while it is written: runs go into a file of members until it is full, then into the archive.

With each full file goes an object that tells what it holds, so that a killed `archive write` goes on behind the last one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import orjson

from infra.archive.layout import (
    INDEX,
    MANIFEST,
    PAYLOADS,
    STRAYS,
    Counts,
    Entry,
    File,
    KeptPayload,
    folder,
    line,
    lines,
    parsed,
    payload_name,
    progress_name,
    runs_name,
)
from infra.archive.store import Store
from infra.jetstream.streams import SegmentState
from runtime.payloads import Blob
from schemas.ids import Token
from schemas.tools import Value


class Progress(Value):
    """The first line of what is known of a full file. created, last: of the stream as it was then."""

    tenant: Token
    created: datetime
    last: int
    file: File


class TenantPart:
    """Writes one tenant's runs. scratch: a folder for the file that is not full yet."""

    def __init__(self, store: Store, tenant: str, state: SegmentState, scratch: Path, part_bytes: int) -> None:
        self.tenant, self._state, self._part_bytes = tenant, state, part_bytes
        self._store, self._prefix = store, folder(tenant, state.segment)
        self._runs, self._told = scratch / f"{tenant}.jsonl.gz", scratch / f"{tenant}.progress.jsonl"
        self.files: list[File] = []
        self.counts, self.position = Counts(), 0
        self._payloads: set[str] = set()
        self._anew()

    def go_on(self) -> None:
        """Take over what a process has written that did not come to its end, unless the stream has changed since.

        Nothing of the folder counts from here on until there is a manifest again.
        """
        self._store.delete(self._prefix + MANIFEST)
        while self._take_over(len(self.files) + 1):
            pass

    def add(self, entry: Entry, member: bytes) -> bool:
        """One run; tells whether the file is full and to be flushed. entry: without its place, which is given to it here."""
        placed = entry.model_copy(update={"file": runs_name(len(self.files) + 1), "offset": self._size})
        with self._runs.open("ab") as runs:
            runs.write(member)
        self._sha.update(member)
        self._size += len(member)
        self._tell(placed)
        self.position = entry.position
        return self._size >= self._part_bytes

    def has_payload(self, name: str) -> bool:
        """Whether this payload is archived."""
        return name in self._payloads

    def add_payload(self, name: str, blob: Blob | None) -> None:
        """One payload; None if it is not there any more."""
        if blob is None:
            self._tell(KeptPayload(name=name, missing=True))
            return
        self._store.put(self._prefix + payload_name(name), blob.data)
        sha = hashlib.sha256(blob.data).hexdigest()
        self._tell(KeptPayload(name=name, datakey=blob.datakey, bytes=len(blob.data), sha256=sha))

    def flush(self) -> None:
        """Put the file that is written now into the archive."""
        if not self._size:
            return
        file = File(name=runs_name(len(self.files) + 1), bytes=self._size, sha256=self._sha.hexdigest())
        progress = Progress(tenant=self.tenant, created=self._state.created, last=self._state.last, file=file)
        told = line(progress) + self._told.read_bytes()
        self._store.put_file(self._prefix + file.name, self._runs)
        self._store.put(self._prefix + progress_name(len(self.files) + 1), told)
        self.files.append(file)
        self._anew()

    def told(self) -> Iterator[Entry | KeptPayload]:
        """Everything that was added and flushed, in order."""
        for number in range(1, len(self.files) + 1):
            yield from _told(self._store, self._prefix + progress_name(number))

    def tidy(self) -> None:
        """There is a manifest now: remove what it does not name."""
        kept = {each.name for each in self.files} | {INDEX, PAYLOADS, MANIFEST} | ({STRAYS} if self.counts.strays else set())
        kept |= {payload_name(name) for name in self._payloads}
        for each in list(self._store.list(self._prefix)):
            if each.name.removeprefix(self._prefix) not in kept:
                self._store.delete(each.name)

    def _take_over(self, number: int) -> bool:
        name = self._prefix + progress_name(number)
        first = next(lines(self._store, name), None)
        if first is None:
            return False
        progress = parsed(first, Progress, name)
        if (progress.created, progress.last) != (self._state.created, self._state.last):
            return False
        for value in _told(self._store, name):
            self._count(value)
        self.files.append(progress.file)
        return True

    def _tell(self, value: Entry | KeptPayload) -> None:
        with self._told.open("ab") as told:
            told.write(line(value))
        self._count(value)

    def _count(self, value: Entry | KeptPayload) -> None:
        if isinstance(value, KeptPayload):
            self._payloads.add(value.name)
        else:
            self.position = value.position
        self.counts = self.counts.plus(counts_of(value))

    def _anew(self) -> None:
        self._size, self._sha = 0, hashlib.sha256()
        self._runs.unlink(missing_ok=True)
        self._told.unlink(missing_ok=True)


def counts_of(value: Entry | KeptPayload) -> Counts:
    """What one line counts for."""
    if isinstance(value, KeptPayload):
        return Counts(payloads=1, missing_payloads=int(value.missing), bytes=value.bytes)
    return Counts(
        runs=1, open=int(not value.ended), in_doubt=value.in_doubt, sealed=int(bool(value.receipt)), events=value.events,
        bytes=value.length,
    )  # fmt: skip


def _told(store: Store, name: str) -> Iterator[Entry | KeptPayload]:
    for number, each in enumerate(lines(store, name)):
        if number:
            is_run = "run" in orjson.loads(each)
            yield parsed(each, Entry, name) if is_run else parsed(each, KeptPayload, name)
