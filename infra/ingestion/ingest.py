"""The way of a document into the knowledge: read in a process apart, sent in sections, put in at the end.

It may be stopped at any point and begun again: what is unchanged is passed over, and sections that are there stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.ingestion.download import download
from infra.ingestion.originals import Original, fingerprint
from infra.ingestion.reader import Reader
from runtime.errors import Unreachable
from schemas.canonical import Json
from schemas.errors import MilepostError, ProtocolError
from services.retrieval.chunks import sections
from services.retrieval.documents import Extracted
from services.retrieval.ingestion import SectionAdded
from services.retrieval.knowledge_index import Added, Document

Ask = Callable[[str, dict[str, object], float], Awaitable[Json]]

ANSWER_S = 60.0
FINISH_S, FINISH_SECTION_S = 300.0, 3.0
PATIENCE_S = 600.0
AT_ONCE = 2
"""Documents on their way together: while one is embedded the next is read. The embedder gains nothing by more."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is said of all documents of one go. title: in place of the document's own. again: even if nothing changed."""

    tenant: str
    collection: str
    metadata: dict[str, str] = field(default_factory=dict)
    title: str | None = None
    allowed: tuple[str, ...] = ()
    again: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of a document. state: added, unchanged, skipped (of no format that is read) or refused; why: in words."""

    original: Original
    state: str = "added"
    why: str = ""
    hint: str = ""
    title: str = ""
    kept: int = 0
    added: int = 0
    removed: int = 0
    tokens: int = 0


class Watch:
    """Is told how it goes on. Does nothing; made to be overridden."""

    def began(self, original: Original, characters: int) -> None:
        """A document has been read."""

    def moved(self, original: Original, characters: int, added: SectionAdded | None) -> None:
        """So many more of its characters are in; added: None for those that were there from an earlier go."""

    def ended(self, outcome: Outcome) -> None:
        """A document is in, or will not be."""

    def waits(self, error: Unreachable) -> None:
        """A server is away; it is asked again."""


class Ingest:
    """Adds documents. ask: puts a question to the retrieval service."""

    def __init__(self, ask: Ask, plan: Plan, watch: Watch | None = None) -> None:
        self._ask, self._plan, self._watch = ask, plan, watch or Watch()
        self._reader = Reader()
        self._known: dict[str, Document] = {}

    async def run(self, originals: Iterable[Original], at_once: int = AT_ONCE) -> list[Outcome]:
        """Add all of them, and say what became of each, in their order. Raises Unreachable when patience is at its end."""
        try:
            self._known = await self._documents()
            room = asyncio.Semaphore(at_once)
            async with asyncio.TaskGroup() as group:
                tasks = []
                for original in originals:
                    await room.acquire()
                    task = group.create_task(self._add(original))
                    task.add_done_callback(lambda _: room.release())
                    tasks.append(task)
            return [task.result() for task in tasks]
        finally:
            await self._reader.close()

    async def _documents(self) -> dict[str, Document]:
        """What the collection has, by source."""
        found: dict[str, Document] = {}
        after = ""
        while True:
            asked = {"tenant": self._plan.tenant, "collection": self._plan.collection, "after": after, "limit": 500}
            answer = await self._persist("list_documents", asked)
            page = [Document.model_validate(each) for each in answer] if isinstance(answer, list) else []
            if not page:
                return found
            found |= {each.source: each for each in page}
            after = page[-1].id

    async def _add(self, original: Original) -> Outcome:
        outcome = Outcome(original)
        try:
            if original.readable or original.named:
                await self._take(original, outcome)
            else:
                outcome.state, outcome.why = "skipped", "no format that is read"
        except Unreachable:
            raise
        except MilepostError as error:
            outcome.state, outcome.why, outcome.hint = "refused", f"{error.what} {error.why}".strip(), error.hint
        except OSError as error:
            outcome.state, outcome.why = "refused", error.strerror or str(error)
        self._watch.ended(outcome)
        return outcome

    async def _take(self, original: Original, outcome: Outcome) -> None:
        async with AsyncExitStack() as stack:
            path = original.path
            if path is None:
                folder = stack.enter_context(TemporaryDirectory(prefix="milepost-"))
                path = await download(original.source, Path(folder), self._plan.allowed)
            digest = await asyncio.to_thread(fingerprint, path)
            known = self._known.get(original.source)
            if known is not None and not self._plan.again and self._unchanged(known, digest):
                outcome.state, outcome.title, outcome.kept = "unchanged", known.title, known.chunks
                return
            document = await self._reader.read(path, path.name)
        outcome.title = self._plan.title or document.title or original.name
        self._watch.began(original, len(document.text))
        added = await self._send(original, document, digest, outcome)
        outcome.kept, outcome.added, outcome.removed = added.kept, added.added, added.removed
        if known is None:  # asked twice because an answer was lost, retrieval finds its own chunks there and calls them kept
            outcome.kept, outcome.added = 0, added.kept + added.added

    def _unchanged(self, known: Document, digest: str) -> bool:
        plan = self._plan
        titled = plan.title is None or plan.title == known.title
        return known.digest == digest and known.metadata == plan.metadata and titled

    async def _send(self, original: Original, document: Extracted, digest: str, outcome: Outcome) -> Added:
        """All sections that are not there yet, and then the end; from the beginning if what was there has become stale."""
        plan = self._plan
        place = {"tenant": plan.tenant, "collection": plan.collection, "source": original.source}
        upload = sha256("\n".join((*place.values(), digest)).encode()).hexdigest()
        there = set(_numbers(await self._persist("find_upload", {"tenant": plan.tenant, "upload": upload})))
        while True:
            count = 0
            for count, section in enumerate(sections(document), start=1):
                added = None
                if count - 1 not in there:
                    asked = place | {"upload": upload, "number": count - 1, "section": section.model_dump(mode="json")}
                    added = SectionAdded.model_validate(await self._persist("add_section", asked))
                    outcome.tokens += added.tokens
                self._watch.moved(original, len(section.text), added)
            finish = place | {
                "upload": upload, "sections": count, "title": outcome.title[:300], "metadata": plan.metadata, "digest": digest,
            }  # fmt: skip
            try:
                return Added.model_validate(await self._persist("finish_document", finish, FINISH_S + FINISH_SECTION_S * count))
            except Unreachable:
                raise
            except MilepostError:
                known = (await self._documents()).get(original.source)
                if known is not None and self._unchanged(known, digest):  # it was put in, only its answer was lost
                    return Added(document=known.id, kept=0, added=known.chunks, removed=0, version=known.version)
                if not there:
                    raise
                there = set()

    async def _persist(self, verb: str, question: dict[str, object], answer_s: float = ANSWER_S) -> Json:
        """Ask until there is an answer: every question may be asked again. Raises Unreachable after PATIENCE_S."""
        began, pause = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                return await self._ask(verb, question, answer_s)
            except Unreachable as error:
                if time.monotonic() - began > PATIENCE_S:
                    raise
                self._watch.waits(error)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, pause * 2)


def _numbers(answer: Json) -> list[int]:
    if not isinstance(answer, list):
        raise ProtocolError("retrieval answered find_upload with something else than a list.", hint="milepost doctor")
    return [each for each in answer if isinstance(each, int)]
