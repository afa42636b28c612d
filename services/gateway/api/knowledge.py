"""The console's knowledge: collections, their documents and chunks, documents on their way in, and who used them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, File, Path, Query, UploadFile
from pydantic import Field
from sse_starlette import ServerSentEvent
from starlette.requests import Request

from runtime.timeline import short
from schemas.canonical import Json
from schemas.errors import MilepostError, ProtocolError
from schemas.events import Passage
from schemas.ids import TOKEN
from schemas.runs import RunSummary
from schemas.tools import Value
from services.gateway.answers import NotThere
from services.gateway.door import Asker, Builder, Here, Reader
from services.gateway.gateway import Gateway
from services.gateway.streaming import Stream, stream

router = APIRouter()

REMOVE_S = 120.0
HELD = 4
"""Uploads whose bytes are in memory together; others wait on disk."""
_room = asyncio.Semaphore(HELD)
_TOLD = 300

Name = Annotated[str, Path(pattern=TOKEN)]
DocumentId = Annotated[str, Path(min_length=1, max_length=128)]
Limit = Annotated[int, Query(ge=1, le=500)]


class Collection(Value):
    """A collection that has documents. version: counted from 1, one more with every change."""

    name: str
    documents: int
    chunks: int
    version: int
    changed: datetime


class Collections(Value):
    """All of the tenant's."""

    collections: tuple[Collection, ...]


class Document(Value):
    """A document. source: what it is known by; version: of the collection in which it last changed."""

    id: str
    collection: str
    source: str
    title: str
    chunks: int
    added: datetime
    metadata: dict[str, str] = Field(default_factory=dict)
    version: int = 0


class Documents(Value):
    """A page, in the order of ids. after: where the next one begins; None at the end."""

    documents: tuple[Document, ...]
    after: str | None


class Chunk(Value):
    """A piece of a document. start, end: character offsets; heading: the path of headings above it; page: from 1."""

    text: str
    heading: str
    start: int
    end: int
    hash: str
    page: int | None = None


class Chunks(Value):
    """Some of a document's chunks in their order. after: the place to go on from; None at the end."""

    document: Document
    chunks: tuple[Chunk, ...]
    after: int | None = None


class Hit(Passage):
    """A passage that was found. fits: whether it is near enough to the question to be shown to a model."""

    fits: bool


class Hits(Value):
    """Best first. least: how similar a passage must be for that."""

    passages: tuple[Hit, ...]
    least: float


class Use(Value):
    """That a run used a thing. kind: document, chunk, tool or model; how: retrieved, cited, offered, called."""

    kind: str
    id: str
    name: str = ""
    how: str
    detail: str = ""
    time: datetime
    run: str
    status: str
    agent: str
    user: str
    task: str
    answer: str | None = None


class Uses(Value):
    """Newest runs first."""

    uses: tuple[Use, ...]


class Gone(Value):
    """What was forgotten."""

    source: str
    chunks: int


@router.get("/api/knowledge")
async def collections(gateway: Here, who: Reader) -> Collections:
    """The collections that have documents, by name."""
    return Collections(collections=tuple(await _collections(gateway, who.tenant)))


@router.get("/api/knowledge/search")
async def search(
    gateway: Here, who: Reader, text: Annotated[str, Query(max_length=2000)],
    collections: Annotated[str, Query(max_length=4000, description="Names, with commas; all if empty.")] = "",
    k: Annotated[int, Query(ge=1, le=50)] = 8,
) -> Hits:  # fmt: skip
    """The passages that an agent would be given, with the others that come near; each with its scores."""
    names = [each.strip() for each in collections.split(",") if each.strip()]
    if not names:
        names = [each.name for each in (await _collections(gateway, who.tenant))[:64]]
    if not names or not text.strip():
        return Hits(passages=(), least=0.0)
    if len(names) > 64:
        raise ProtocolError("Too many collections.", why=f"{len(names)} of them; at most 64 are searched together")
    asked = {"tenant": who.tenant, "text": text, "k": k, "collections": names}
    found = [Passage.model_validate(each) for each in await gateway.ask_list("retrieval", "find_knowledge", asked)]
    least = await _least(gateway) if found else 0.0
    fits = [each.similarity is None or each.similarity >= least for each in found]
    hits = (Hit.model_validate({**each.model_dump(), "fits": fit}) for each, fit in zip(found, fits, strict=True))
    return Hits(passages=tuple(hits), least=least)


@router.get("/api/knowledge/used")
async def used(
    gateway: Here, who: Reader, name: Annotated[str, Query(min_length=1, max_length=1000)],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Uses:  # fmt: skip
    """The runs that used a document, a chunk, a tool or a model, by its id, source, name or hash."""
    found = await gateway.ask_list("recorder", "uses", {"tenant": who.tenant, "names": [name], "limit": limit})
    return Uses(uses=tuple(_use(each) for each in found))


@router.get("/api/knowledge/{collection}/documents")
async def documents(
    gateway: Here, who: Reader, collection: Name, after: Annotated[str, Query(max_length=128)] = "", limit: Limit = 200
) -> Documents:
    """A page of a collection's documents."""
    asked = {"tenant": who.tenant, "collection": collection, "after": after, "limit": limit}
    found = [Document.model_validate(each) for each in await gateway.ask_list("retrieval", "list_documents", asked)]
    return Documents(documents=tuple(found), after=found[-1].id if found else None)


@router.post("/api/knowledge/{collection}/documents", response_class=Stream)
async def upload(request: Request, gateway: Here, who: Asker, collection: Name, file: Annotated[UploadFile, File()]) -> Stream:
    """Put a document in; answered with events `progress` until its state is added, unchanged, skipped or refused.

    An event `error` (what, why, hint) ends it when a server is away. Raises TooMany.
    """

    async def events() -> AsyncIterator[ServerSentEvent]:
        try:
            async with _room:
                added = gateway.library.add(who.tenant, collection, file.filename or "", await file.read())
                async with aclosing(added) as told:  # type: ignore[type-var]  # a generator
                    async for progress in told:
                        yield ServerSentEvent(event="progress", data=progress.model_dump_json())
        except MilepostError as error:
            said = {"what": error.what, "why": error.why, "hint": error.hint}
            yield ServerSentEvent(event="error", data=json.dumps(said))

    return stream(request, who, events())


@router.delete("/api/knowledge/{collection}/documents/{id}")
async def remove(gateway: Here, who: Builder, collection: Name, id: DocumentId) -> Gone:
    """Forget a document; nothing of its text stays, in no version of the collection. Raises NotThere."""
    found = (await _chunks(gateway, who.tenant, collection, id, -1, 1)).document
    asked = {"tenant": who.tenant, "collection": collection, "source": found.source}
    if not await gateway.ask("retrieval", "remove_document", asked, REMOVE_S):
        raise _not_there(collection)
    return Gone(source=found.source, chunks=found.chunks)


@router.get("/api/knowledge/{collection}/documents/{id}/chunks")
async def chunks(
    gateway: Here, who: Reader, collection: Name, id: DocumentId,
    after: Annotated[int, Query(ge=-1, le=10_000_000)] = -1, limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> Chunks:  # fmt: skip
    """A document and its chunks, page by page. Raises NotThere."""
    return await _chunks(gateway, who.tenant, collection, id, after, limit)


async def _collections(gateway: Gateway, tenant: str) -> list[Collection]:
    found = await gateway.ask_list("retrieval", "shelves", {"tenant": tenant})
    return [Collection.model_validate(each) for each in found]


async def _chunks(gateway: Gateway, tenant: str, collection: str, id: str, after: int, limit: int) -> Chunks:
    asked = {"tenant": tenant, "document": id, "after": after, "limit": limit}
    said = await gateway.ask("retrieval", "pieces", asked)
    found = None if said is None else Chunks.model_validate(said)
    if found is None or found.document.collection != collection:
        raise _not_there(collection)
    return found


def _not_there(collection: str) -> NotThere:
    return NotThere(f"There is no such document in {collection}.", hint="GET /api/knowledge/{collection}/documents lists them")


async def _least(gateway: Gateway) -> float:
    """How similar a passage must be to be shown to a model."""
    said = await gateway.ask("retrieval", "embed", {"texts": ["?"], "kind": "query"})
    least = said.get("fits") if isinstance(said, dict) else None
    return float(least) if isinstance(least, int | float) else 0.0


def _use(said: Json) -> Use:
    use = said.get("use") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(use, dict):
        raise ProtocolError("The recorder's answer about uses cannot be read.", hint="milepost doctor")
    run = RunSummary.model_validate(said["run"])
    answer = None if run.answer is None else short(run.answer, _TOLD)
    told = {"status": run.status, "agent": run.agent, "user": run.user, "task": short(run.task, _TOLD), "answer": answer}
    return Use.model_validate({**use, **told})
