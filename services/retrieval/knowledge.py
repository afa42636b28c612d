"""Finding passages for runs, and keeping the documents they come from."""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from pydantic import Field

from runtime.bus import Reply
from runtime.clock import Clock
from runtime.service import Context
from schemas.canonical import MAX_INTEGER
from schemas.commands import RetrieveKnowledge
from schemas.events import AnyEvent, KnowledgeRetrieved, Passage
from schemas.ids import Token
from schemas.tools import Value
from services.retrieval.chunks import chunk
from services.retrieval.embedder import Embedder
from services.retrieval.knowledge_index import KnowledgeIndex, Metadata, NewDocument, Wanted
from services.retrieval.questions import read, within, write
from services.retrieval.search import essence


class FindKnowledge(Value):
    """A question to the documents. filters, neighbours, versions: see Wanted."""

    tenant: Token = "default"
    text: str = Field(default="", max_length=20_000)
    k: int = Field(default=5, ge=1, le=100)
    collections: tuple[Token, ...] = Field(default=("default",), max_length=64)
    filters: dict[str, str] = Field(default_factory=dict, max_length=16)
    neighbours: int = Field(default=0, ge=0, le=10)
    versions: dict[Token, Annotated[int, Field(ge=0, le=MAX_INTEGER)]] = Field(default_factory=dict, max_length=64)


class CollectionVersions(Value):
    """Which versions the collections have now."""

    tenant: Token = "default"
    collections: tuple[Token, ...] = Field(default=("default",), max_length=64)


class ListDocuments(Value):
    """A page of the documents, from the one after that id; the last page is the one that is empty."""

    tenant: Token = "default"
    collection: Token | None = None
    after: str = ""
    limit: int = Field(default=500, ge=1, le=1000)


class ListShelves(Value):
    """Which collections have documents."""

    tenant: Token = "default"


class ShowPieces(Value):
    """Chunks of a document as it is now, from behind that place; by the document's id."""

    tenant: Token = "default"
    document: str = Field(min_length=1, max_length=128)
    after: int = Field(default=-1, ge=-1, le=MAX_INTEGER)
    limit: int = Field(default=100, ge=1, le=200)


class AddDocument(Value):
    """A document to be known. source: its path or address; the same source again replaces it."""

    tenant: Token = "default"
    collection: Token = "default"
    source: str = Field(min_length=1, max_length=1000)
    title: str = Field(default="", max_length=300)
    text: str = Field(min_length=1)
    metadata: Metadata = Field(default_factory=dict, max_length=32)
    digest: str = Field(default="", max_length=128)


class RemoveDocument(Value):
    """A document to be forgotten."""

    tenant: Token = "default"
    collection: Token = "default"
    source: str = Field(min_length=1, max_length=1000)


class RemoveCollection(Value):
    """A collection of which all documents are to be forgotten."""

    tenant: Token = "default"
    collection: Token


class Knowledge:
    """What the handlers about documents share."""

    def __init__(self, index: KnowledgeIndex, embedder: Embedder, clock: Clock) -> None:
        self.index, self.embedder, self.clock = index, embedder, clock
        self.answers: dict[str, Reply] = {
            "find_knowledge": self.find_knowledge, "add_document": self.add_document,
            "remove_document": self.remove_document, "remove_collection": self.remove_collection,
            "list_documents": self.list_documents, "collection_versions": self.collection_versions,
            "shelves": self.shelves, "pieces": self.pieces,
        }  # fmt: skip

    async def retrieve(self, command: RetrieveKnowledge, context: Context) -> AnyEvent:
        """The passages nearest to the request, as far as they fit it at all."""
        versions = await self.index.versions(context.tenant, command.collections)
        wanted = Wanted(
            text=context.text("query"), collections=command.collections, k=command.k, filters=command.filters,
            versions=versions,
        )  # fmt: skip
        found = await self._search(context.tenant, wanted)
        fitting = (each for each in found if each.similarity is None or each.similarity >= self.embedder.fits)
        return KnowledgeRetrieved(command=command, passages=tuple(fitting), versions=versions)

    async def find_knowledge(self, raw: bytes) -> bytes:
        """FindKnowledge -> Passage list, as far as they fit into one answer."""
        asked = read(FindKnowledge, raw)
        return write(within(await self._search(asked.tenant, Wanted.model_validate(asked.model_dump(exclude={"tenant"})))))

    async def _search(self, tenant: str, wanted: Wanted) -> list[Passage]:
        text = essence(wanted.text)
        if not text.strip():
            return []
        vector = (await self.embedder.embed([text], "query"))[0]
        return await self.index.search(tenant, wanted.model_copy(update={"text": text}), vector)

    async def add_document(self, raw: bytes) -> bytes:
        """AddDocument -> Added. Only chunks that are new are embedded."""
        asked = read(AddDocument, raw)
        chunks = await asyncio.to_thread(chunk, asked.source, asked.text, await self.embedder.counter())
        new = await self.index.missing(asked.tenant, asked.collection, asked.source, chunks)
        fresh = list({each.hash: each for each in chunks if each.hash in new}.values())
        texts = [each.to_embed() for each in fresh]
        vectors = dict(zip((each.hash for each in fresh), await self.embedder.embed(texts, "passage"), strict=True))
        document = NewDocument(
            collection=asked.collection, source=asked.source, title=asked.title or asked.source.rsplit("/", 1)[-1],
            chunks=tuple(chunks), metadata=asked.metadata, digest=asked.digest,
        )  # fmt: skip
        added = await self.index.add(asked.tenant, document, vectors, self.clock.now())
        return added.model_dump_json().encode()

    async def remove_document(self, raw: bytes) -> bytes:
        """RemoveDocument -> whether it was there."""
        asked = read(RemoveDocument, raw)
        return orjson.dumps(await self.index.remove(asked.tenant, asked.collection, asked.source))

    async def remove_collection(self, raw: bytes) -> bytes:
        """RemoveCollection -> how many documents it had."""
        asked = read(RemoveCollection, raw)
        return orjson.dumps(await self.index.remove_collection(asked.tenant, asked.collection))

    async def collection_versions(self, raw: bytes) -> bytes:
        """CollectionVersions -> version by collection."""
        asked = read(CollectionVersions, raw)
        return orjson.dumps(await self.index.versions(asked.tenant, asked.collections))

    async def list_documents(self, raw: bytes) -> bytes:
        """ListDocuments -> Document list, as far as they fit into one answer."""
        asked = read(ListDocuments, raw)
        return write(within(await self.index.documents(asked.tenant, asked.collection, asked.after, asked.limit)))

    async def shelves(self, raw: bytes) -> bytes:
        """ListShelves -> Shelf list."""
        return write(within(await self.index.shelves(read(ListShelves, raw).tenant)))

    async def pieces(self, raw: bytes) -> bytes:
        """ShowPieces -> Pieces, as far as they fit into one answer; null if there is no such document."""
        asked = read(ShowPieces, raw)
        found = await self.index.pieces(asked.tenant, asked.document, asked.after, asked.limit)
        if found is None:
            return b"null"
        kept = within(found.chunks)
        after = found.after if len(kept) == len(found.chunks) else asked.after + len(kept)
        return found.model_copy(update={"chunks": tuple(kept), "after": after}).model_dump_json().encode()
