"""services.gateway.ports.library.Library over infra.ingestion: an upload is a file of ours for as long as it is read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from infra.ingestion.ingest import Ingest, Outcome, Plan, Watch
from infra.ingestion.originals import UPLOADED, Original
from infra.wiring import World
from runtime.errors import Unreachable
from schemas.canonical import Json, canonical, read_json
from schemas.errors import MilepostError, first_error
from schemas.subjects import question
from services.gateway.ports.library import Progress
from services.retrieval.documents import UnsupportedDocument
from services.retrieval.ingestion import SectionAdded
from services.retrieval.loaders.formats import format_of

AT_ONCE = 2
"""Documents that are read together, of all who upload: each has a process of its own. The others wait their turn."""
LONGEST_NAME = 200
_ANSWER_BYTES = 8 * 1024 * 1024


class StackLibrary:
    """Documents through infra.ingestion."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._room = asyncio.Semaphore(AT_ONCE)

    async def add(self, tenant: str, collection: str, name: str, content: bytes) -> AsyncIterator[Progress]:
        called = name_of(name)
        told = Progress(state="waiting", name=called, source=UPLOADED + called)
        try:
            format_of(called)
        except UnsupportedDocument as error:
            yield told.model_copy(update={"state": "refused", "why": f"{error.what} {error.why}", "hint": error.hint})
            return
        if self._room.locked():
            yield told
        async with self._room:
            yield told.model_copy(update={"state": "reading"})
            with TemporaryDirectory(prefix="milepost-") as folder:
                path = Path(folder) / f"document{PurePosixPath(called).suffix.lower()}"
                await asyncio.to_thread(path.write_bytes, content)
                telling = _Telling(told)
                ingest = Ingest(self._ask, Plan(tenant, collection), telling)
                work = asyncio.create_task(_one(ingest, Original(told.source, path)))
                work.add_done_callback(lambda _: telling.queue.put_nowait(None))
                try:
                    while (progress := await telling.queue.get()) is not None:
                        yield progress
                    yield _ended(telling.last, await work)
                finally:
                    work.cancel()
                    await asyncio.wait({work})

    async def _ask(self, verb: str, asked: dict[str, object], timeout_s: float) -> Json:
        raw = await self._world.bus.ask(question("retrieval", verb), canonical(asked), timeout_s)
        return read_json(raw, limit=_ANSWER_BYTES)


def name_of(name: str) -> str:
    """A file's name without the folders and control characters that it may have come with; its suffix stays.

    >>> name_of("../../etc/a\\x00b.md"), name_of("C:\\\\docs\\\\plan.pdf"), name_of("/")
    ('ab.md', 'plan.pdf', 'document')
    """
    last = re.split(r"[/\\]", name)[-1].encode(errors="replace").decode()
    plain = "".join(each for each in last if each.isprintable()).strip()
    stem, dot, suffix = plain.rpartition(".")
    if dot and len(plain) > LONGEST_NAME:
        plain = f"{stem[: LONGEST_NAME - len(suffix) - 1]}.{suffix}"
    return plain[:LONGEST_NAME].strip(". ") or "document"


class _Telling(Watch):
    """What Ingest tells, as progress in a queue; None ends it."""

    def __init__(self, told: Progress) -> None:
        self.last = told
        self.queue: asyncio.Queue[Progress | None] = asyncio.Queue()

    def began(self, original: Original, characters: int) -> None:
        self._tell(state="adding", of=characters)

    def moved(self, original: Original, characters: int, added: SectionAdded | None) -> None:
        chunks = added.chunks if added else 0
        self._tell(state="adding", characters=self.last.characters + characters, chunks=self.last.chunks + chunks, why="")

    def waits(self, error: Unreachable) -> None:
        self._tell(state="waiting", why=error.what)

    def _tell(self, **changes: object) -> None:
        self.last = self.last.model_copy(update=changes)
        self.queue.put_nowait(self.last)


async def _one(ingest: Ingest, original: Original) -> Outcome:
    try:
        return (await ingest.run([original]))[0]
    except BaseExceptionGroup as group:  # of the task group in there
        found = group.subgroup(MilepostError)
        if found is None:
            raise
        raise first_error(found) from group


def _ended(last: Progress, outcome: Outcome) -> Progress:
    update = {"state": outcome.state, "chunks": outcome.kept + outcome.added, "why": outcome.why, "hint": outcome.hint}
    return last.model_copy(update=update)
