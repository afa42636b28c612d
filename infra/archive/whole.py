"""The log together with what was taken out of it: a run is read as before wherever its segment lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from infra.archive.layout import Segment as ArchivedSegment
from infra.archive.layout import get, segment_name
from infra.archive.member import placed
from infra.archive.reading import ArchivedTenant
from infra.archive.store import Store, open_store
from infra.jetstream.log import JetStreamLog
from infra.settings import Archive
from runtime.log import Delivery, Raw, Stored
from runtime.sealing import Keyring, Sealing
from schemas import subjects
from schemas.envelope import Fact
from schemas.errors import ProtocolError
from schemas.ids import REQUEST_SLOT, RunId, segment_of_run


@dataclass(frozen=True, slots=True)
class WholeLog:
    """runtime.log.Log. archive: where runs are looked for that the log does not begin; None: nowhere.

    tenant: whose runs are read; None: everybody's. A run in which a tenant has said nothing is none of his. What is read from
    the archive is numbered from 1. Reading raises ArchiveError and BadArchive, too.
    """

    log: JetStreamLog
    keyring: Keyring
    archive: Store | None = None
    tenant: str | None = None

    async def read(self, run: RunId, after: int = 0) -> list[Stored]:
        return [stored for stored, _ in await self.read_both(run, after)]

    async def read_both(self, run: RunId, after: int = 0) -> list[tuple[Stored, bytes]]:
        """As read, with the bytes of each fact exactly as they are stored, sealed or not."""
        kept = await self._kept(run, after)
        if kept is None:
            both = await self.log.read_both(run, after)
            return both if any(self._is_ours(stored.fact.tenant) for stored, _ in both) else []
        sealing, found = Sealing(self.keyring), []
        for raw in kept:
            fact = placed(raw)
            with suppress(ProtocolError):
                if fact is not None:
                    found.append((Stored(await sealing.fact(fact), raw.position), raw.data))
        return found

    async def read_raw(self, run: RunId, after: int = 0) -> list[Raw]:
        kept = await self._kept(run, after)
        if kept is not None:
            return kept
        raws = await self.log.read_raw(run, after)
        return raws if any(self._is_ours(tenant_of(raw)) for raw in raws) else []

    def _is_ours(self, tenant: str) -> bool:
        return self.tenant in (None, tenant)

    async def holds(self, run: RunId, tenant: str, role: str, slot: str) -> bool:
        if await self.log.holds(run, tenant, role, slot):
            return True
        subject = str(subjects.FactSubject(run, tenant, role, slot))
        return any(raw.subject == subject for raw in await self._kept(run, 0) or ())

    async def follow(self, run: RunId) -> AsyncIterator[Stored]:
        """As the log; what is archived comes at once, and then nothing more."""
        if await self._kept(run, 0) is not None:
            for stored in await self.read(run):
                yield stored
            return
        async for stored in self.log.follow(run):
            if self._is_ours(stored.fact.tenant):
                yield stored

    async def append(self, fact: Fact) -> bool:
        return await self.log.append(fact)

    def facts(self, group: str) -> AsyncIterator[Delivery[Fact]]:
        return self.log.facts(group)

    def requests(self, group: str, every_s: float) -> AsyncIterator[Delivery[Fact]]:
        return self.log.requests(group, every_s)

    async def _kept(self, run: RunId, after: int) -> list[Raw] | None:
        """A run's messages as they are archived, and behind them what the log got of it since; None if the log has it."""
        if self.archive is None:
            return None
        logged = await self.log.read_raw(run)
        if any(raw.subject.endswith(f".client.{REQUEST_SLOT}") for raw in logged):
            return None
        kept = await asyncio.to_thread(self._archived, self.archive, run)
        if kept is None:
            return None
        known = {raw.subject for raw in kept}
        late = [raw for raw in logged if raw.subject not in known]
        numbered = [*kept, *(Raw(raw.subject, raw.data, len(kept) + n) for n, raw in enumerate(late, 1))]
        return [raw for raw in numbered if raw.position > after]

    def _archived(self, store: Store, run: RunId) -> list[Raw] | None:
        for tenant in [self.tenant] if self.tenant else _tenants(store, segment_of_run(run)):
            found = ArchivedTenant(store, tenant).run(run)
            if found is not None:
                return found
        return None


def tenant_of(raw: Raw) -> str:
    """Whose message it is, as its subject says; "" where that says nothing."""
    tokens = raw.subject.split(".")
    return tokens[5] if len(tokens) > 5 else ""


def whole_log(log: JetStreamLog, keyring: Keyring, settings: Archive, tenant: str | None = None) -> WholeLog:
    """The log with the archive of the settings behind it, if one is set. Raises MilepostError if that cannot be used here."""
    return WholeLog(log, keyring, open_store(settings) if settings.to else None, tenant)


def _tenants(store: Store, segment: str) -> list[str]:
    archived = get(store, segment_name(segment), ArchivedSegment)
    return [each.tenant for each in archived.tenants] if archived else []
