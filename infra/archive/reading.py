"""Runs read back from the archive, as the log would have given them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infra.archive.layout import INDEX, BadArchive, Entry, Manifest, folder, lines, manifest_of, parsed
from infra.archive.member import unpacked
from infra.archive.store import Store
from runtime.log import Raw
from schemas.ids import RunId, segment_of_run


@dataclass(frozen=True, slots=True)
class ArchivedTenant:
    """One tenant's runs in an archive. All calls raise ArchiveError, BadArchive."""

    store: Store
    tenant: str

    def run(self, run: RunId) -> list[Raw] | None:
        """A run's messages, numbered from 1; None if it was not archived, or has expired."""
        segment = segment_of_run(run)
        if manifest_of(self.store, self.tenant, segment) is None:
            return None
        entry = self.entry(run)
        return None if entry is None else self._messages(entry, segment)

    def entry(self, run: RunId) -> Entry | None:
        """What the index says of a run."""
        name = folder(self.tenant, segment_of_run(run)) + INDEX
        sought, rest = b'"run":"%s"' % run.encode(), b""
        for chunk in self.store.chunks(name):
            rest += chunk
            at = rest.find(sought)
            end = rest.find(b"\n", at)
            if at >= 0 and end >= 0:
                return parsed(rest[rest.rfind(b"\n", 0, at) + 1 : end], Entry, name)
            if at < 0:
                rest = rest[rest.rfind(b"\n") + 1 :]
        return None

    def beginning(self, segment: str, prefix: str) -> list[RunId]:
        """The runs of a segment whose ids begin so."""
        if manifest_of(self.store, self.tenant, segment) is None:
            return []
        sought = f'"run":"{prefix}'.encode()
        name = folder(self.tenant, segment) + INDEX
        return [RunId(parsed(each, Entry, name).run) for each in lines(self.store, name) if sought in each]

    def runs(self, segment: str) -> Iterator[tuple[Entry, list[Raw]]]:
        """Every run of a segment, in the order in which they were requested."""
        manifest = manifest_of(self.store, self.tenant, segment)
        for entry in entries(self.store, manifest) if manifest else ():
            yield entry, self._messages(entry, segment)

    def _messages(self, entry: Entry, segment: str) -> list[Raw]:
        name = folder(self.tenant, segment) + entry.file
        member = self.store.read(name, entry.offset, entry.length)
        if member is None:
            raise BadArchive(f"{name} is missing.", hint=f"milepost archive verify {segment}")
        run, raws = unpacked(member, entry.bytes, name)
        if run != entry.run:
            raise BadArchive(f"{name} holds another run than the index says.", hint=f"milepost archive verify {segment}")
        return raws


def entries(store: Store, manifest: Manifest) -> Iterator[Entry]:
    """The index of one tenant's segment. Raises BadArchive."""
    name = folder(manifest.tenant, manifest.segment) + INDEX
    return (parsed(each, Entry, name) for each in lines(store, name))
