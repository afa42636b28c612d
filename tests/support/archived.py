"""Old months for tests of the archive: runs as they were, in segments that are closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.archive.folder import FolderStore
from infra.archive.layout import Segment, needed
from infra.archive.source import Source
from infra.archive.store import Store
from infra.archive.verifying import Verifier
from infra.archive.writing import Writer
from infra.jetstream.connection import Connection
from infra.jetstream.log import JetStreamLog
from infra.jetstream.payloads import JetStreamBlobs
from runtime.fold import Folded
from runtime.log import Raw
from runtime.payloads import SealedPayloads
from runtime.receipts import count, fact_of, sealed
from runtime.state import RunState
from schemas.commands import CallTool
from schemas.envelope import Fact
from schemas.events import ToolInDoubt, ToolReturned
from schemas.ids import RunId, run_id
from schemas.receipts import NO_HASH
from schemas.tools import Part, ToolResult
from tests.support import receipts
from tests.support.brokers import Place
from tests.support.builders import CLOCK, TENANT, RunUnderTest, call, failure, spec
from tests.support.sealing import Keys, under

JANUARY, MARCH = "202601", "202603"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@dataclass
class Archiving:
    """A log on a real server with an archive beside it."""

    connection: Connection
    log: JetStreamLog
    source: Source
    keys: Keys
    payloads: SealedPayloads
    store: Store

    @classmethod
    async def at(cls, place: Place, store: Store | Path) -> Archiving:
        connection = (await place.member()).connection
        assert connection is not None
        keys = Keys()
        log = JetStreamLog(connection, keys.sealing())
        payloads = SealedPayloads(JetStreamBlobs(connection), keys)
        store = FolderStore(store) if isinstance(store, Path) else store
        return cls(connection, log, Source(connection, log, keys), keys, payloads, store)

    def writer(self, part_bytes: int = 1) -> Writer:
        """With so small a size every run has a file of its own."""
        return Writer(self.source, self.store, "admin", NOW, part_bytes)

    async def archived(self, segment: str = JANUARY, part_bytes: int = 1) -> Segment:
        await self.writer(part_bytes).write(segment)
        return needed(self.store, segment)

    def verifier(self, *, log: bool = True, trusted: dict[str, bytes] | None = None) -> Verifier:
        return Verifier(self.store, self.source if log else None, trusted or {})

    async def say(self, facts: list[Fact], user: str | None = None) -> None:
        """user: under whose key their content is sealed."""
        key = await self.keys.datakey(user) if user else None
        for fact in facts:
            assert await self.log.append(under(fact, key) if key else fact)

    async def lived(
        self, key: str, segment: str = JANUARY, *, tenant: str = TENANT, user: str | None = None, ref: str | None = None
    ) -> RunId:  # fmt: skip
        """A run that called a tool and ended. ref: of a payload in the tool's result."""
        run = begun(key, segment, tenant)
        part = (Part(kind="file", ref=ref, media_type="image/png"),) if ref else ()
        run.answer(ToolReturned(command=run.one(CallTool), result=ToolResult(text="noon", parts=part)))
        run.say(text="It is noon.")
        run.end()
        await self.say([stored.fact for stored in run.log], user)
        return run.id

    async def open(self, key: str, segment: str = JANUARY) -> RunId:
        """A run that has not ended."""
        run = begun(key, segment, TENANT)
        await self.say([stored.fact for stored in run.log])
        return run.id

    async def doubted(self, key: str, segment: str = JANUARY) -> RunId:
        """A run that ended while nobody knows what became of one of its calls."""
        run = begun(key, segment, TENANT)
        run.answer(ToolInDoubt(command=run.one(CallTool), failure=failure()))
        while run.state.phase != "ended":
            run.say(text="Nobody knows.") if run.state.outstanding and not run.open(CallTool) else None
            run.end()
        await self.say([stored.fact for stored in run.log])
        return run.id

    async def sealed(self, run: RunId) -> receipts.Keys:
        """The recorder seals a run; gives its keys."""
        keys = receipts.Keys()
        counted = count(run, await self.log.read_raw(run), {})
        assert counted is not None
        event = sealed(counted, None, number=1, previous=NO_HASH, keys=keys, now=NOW)
        assert event is not None and await self.log.append(fact_of(event))
        return keys


def begun(key: str, segment: str, tenant: str) -> RunUnderTest:
    """A run whose first tool call is open."""
    run = RunUnderTest(spec(), key=key, tenant=tenant)
    run.id = run_id(tenant, key, segment)
    run.folded = Folded(RunState(run=run.id))
    run.begin()
    run.gather(CLOCK)
    run.say(call())
    return run


def contents(raws: list[Raw]) -> list[tuple[str, bytes]]:
    """What is the same in the log and in the archive."""
    return [(raw.subject, raw.data) for raw in raws]
