"""One tenant's part of an archived segment, read byte for byte, and whatever is wrong with it told."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from infra.archive.layout import (
    INDEX,
    MANIFEST,
    PAYLOADS,
    STRAYS,
    BadArchive,
    Counts,
    Entry,
    File,
    KeptPayload,
    Manifest,
    Stray,
    folder,
    lines,
    parsed,
    payload_name,
)
from infra.archive.member import placed, unpacked
from infra.archive.part import counts_of
from infra.archive.reading import entries
from infra.archive.report import Report
from infra.archive.source import fate_of
from infra.archive.store import Store
from runtime.log import Raw
from runtime.proving import Line, prove

_OTHERS = (INDEX, PAYLOADS, STRAYS)


@dataclass(slots=True)
class TenantCheck:
    """Reads what a manifest names, once. trusted: public keys of the recorder by id; without one, who signed is not asked."""

    store: Store
    manifest: Manifest
    trusted: Mapping[str, bytes]
    report: Report
    _counts: Counts = field(default_factory=Counts)

    def runs(self) -> Iterator[tuple[Entry, list[Raw]]]:
        """Every run that is whole, in the order of the index."""
        files = [each for each in self.manifest.files if each.name not in _OTHERS]
        told = _Told(self._entries())
        last = 0
        for file in files:
            reader = _Reader(self.store, self._prefix + file.name)
            while (entry := told.of(file.name)) is not None:
                if entry.position <= last:
                    self._wrong("it stands twice in the index, or in the wrong place", entry)
                last = entry.position
                self._counts = self._counts.plus(counts_of(entry))
                raws = self._run(entry, reader)
                if raws is not None:
                    yield entry, raws
            reader.finish()
            self._same(file, reader.size, reader.digest)
        if (left := told.head) is not None:
            self._wrong("the index names a file that the manifest does not", left)

    def others(self) -> None:
        """All that are no files of runs, and what should not be there; to be called last."""
        named = {MANIFEST, *(each.name for each in self.manifest.files)}
        for file in self.manifest.files:
            if file.name in _OTHERS:
                self._same_content(file)
        for payload in self._payloads():
            named.add(payload_name(payload.name))
            self._counts = self._counts.plus(counts_of(payload))
            if not payload.missing:
                self._same_content(File(name=payload_name(payload.name), bytes=payload.bytes, sha256=payload.sha256))
        self._counts = self._counts.plus(Counts(strays=sum(1 for _ in self.strays())))
        if self._counts != self.manifest.counts:
            self.report.add(f"it counts {self.manifest.counts!r}, there are {self._counts!r}", file=self._prefix + MANIFEST)
        for each in self.store.list(self._prefix):
            if each.name.removeprefix(self._prefix) not in named:
                self.report.add("nothing names it", file=each.name)

    def strays(self) -> Iterator[Stray]:
        """The messages of no run."""
        return strays(self.store, self.manifest, self.report)

    @property
    def _prefix(self) -> str:
        return folder(self.manifest.tenant, self.manifest.segment)

    def _entries(self) -> Iterator[Entry]:
        try:
            yield from entries(self.store, self.manifest)
        except BadArchive as error:
            self.report.add(error.why, file=self._prefix + INDEX)

    def _run(self, entry: Entry, reader: _Reader) -> list[Raw] | None:
        if entry.offset != reader.size:
            self._wrong(f"the index says that it begins at {entry.offset}, the one before ends at {reader.size}", entry)
        member = reader.read(entry.length)
        if hashlib.sha256(member).hexdigest() != entry.sha256:
            self._wrong("its bytes are not those that were archived", entry)
            return None
        try:
            run, raws = unpacked(member, entry.bytes, entry.file)
        except BadArchive as error:
            self._wrong(error.why or error.what, entry)
            return None
        facts = [placed(raw) for raw in raws]
        fate = fate_of(facts)
        if (run, len(raws)) != (entry.run, entry.events):
            self._wrong(f"it holds {len(raws)} messages of {run}", entry)
        if (fate.ended, fate.in_doubt, fate.receipt) != (entry.ended, entry.in_doubt, entry.receipt):
            self._wrong("what the index says became of it is not what its messages say", entry)
        proof = prove([Line(number, raw.data) for number, raw in enumerate(raws, 1)], self.trusted) if entry.receipt else None
        if proof is not None and proof.verdict == "tampered":
            first = next(each for each in proof.findings if each.wrong)
            self._wrong(f"its receipt says otherwise: {first.kind} {first.detail} (event {first.event or first.line})", entry)
        return raws

    def _payloads(self) -> Iterator[KeptPayload]:
        name = self._prefix + PAYLOADS
        try:
            yield from (parsed(each, KeptPayload, name) for each in lines(self.store, name))
        except BadArchive as error:
            self.report.add(error.why, file=name)

    def _same_content(self, file: File) -> None:
        reader = _Reader(self.store, self._prefix + file.name)
        reader.finish()
        self._same(file, reader.size, reader.digest)

    def _same(self, file: File, size: int, digest: str) -> None:
        if size != file.bytes:
            self.report.add(f"it has {size:,} bytes, not {file.bytes:,}", file=self._prefix + file.name)
        elif digest != file.sha256:
            self.report.add("its bytes are not those that were archived", file=self._prefix + file.name)

    def _wrong(self, what: str, entry: Entry) -> None:
        self.report.add(what, file=self._prefix + entry.file, run=entry.run)


def strays(store: Store, manifest: Manifest, report: Report) -> Iterator[Stray]:
    """The messages of no run, in the order of the log."""
    if not manifest.counts.strays:
        return
    name = folder(manifest.tenant, manifest.segment) + STRAYS
    try:
        for each in gzip.decompress(store.read(name) or b"").splitlines():
            yield parsed(each, Stray, name)
    except (BadArchive, OSError, EOFError, zlib.error) as error:
        report.add(error.why if isinstance(error, BadArchive) else str(error), file=name)


class _Told:
    """The entries of an index, file by file."""

    def __init__(self, told: Iterator[Entry]) -> None:
        self._told = told
        self.head = next(told, None)

    def of(self, file: str) -> Entry | None:
        """The next entry, if it is of this file."""
        if self.head is None or self.head.file != file:
            return None
        entry, self.head = self.head, next(self._told, None)
        return entry


class _Reader:
    """An object read from its beginning to its end, with the digest of all that was read."""

    def __init__(self, store: Store, name: str) -> None:
        self._chunks, self._rest = store.chunks(name), b""
        self._sha, self.size = hashlib.sha256(), 0

    @property
    def digest(self) -> str:
        """SHA-256 over what was read, hex."""
        return self._sha.hexdigest()

    def read(self, length: int) -> bytes:
        """The next bytes; fewer at the end."""
        while len(self._rest) < length and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        found, self._rest = self._rest[:length], self._rest[length:]
        self._sha.update(found)
        self.size += len(found)
        return found

    def finish(self) -> None:
        """Read what is left."""
        while self.read(1024 * 1024):
            pass
