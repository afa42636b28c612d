"""What retrieval needs of the outside to know documents: an index of their pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Protocol, TypeAlias

from pydantic import Field

from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.events import Passage
from schemas.tools import Value
from services.retrieval.chunks import Chunk

Vector: TypeAlias = Sequence[float]
Metadata: TypeAlias = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=1000)]]
"""What is said of a document, as it may come in: it is told with every document of a list."""


class NewDocument(Value):
    """A document to be put in. source: its path or address, unique in the collection; digest: over its original bytes."""

    collection: str
    source: str
    title: str
    chunks: tuple[Chunk, ...]
    metadata: dict[str, str] = Field(default_factory=dict)
    digest: str = ""


class Wanted(Value):
    """What is looked for. filters: what a document's metadata must say, all of it; neighbours: pieces to add before and
    after each found one; versions: collections as they were, by version (those not named: as they are).
    """

    text: str
    collections: tuple[str, ...] = ("default",)
    k: int = 5
    filters: dict[str, str] = Field(default_factory=dict)
    neighbours: int = Field(default=0, ge=0, le=10)
    versions: dict[str, int] = Field(default_factory=dict)


class Added(Value):
    """What adding a document did to its chunks, each counted once. version: of the collection from then on; the same if
    nothing changed.
    """

    document: str
    kept: int
    added: int
    removed: int
    version: int = 0


class Document(Value):
    """A document of a collection. version: of the collection in which it last changed."""

    id: str
    collection: str
    source: str
    title: str
    chunks: int
    added: datetime
    metadata: dict[str, str] = Field(default_factory=dict)
    digest: str = ""
    version: int = 0


class Shelf(Value):
    """A collection that has documents. chunks: of all of them; changed: when the last one came in."""

    name: str
    documents: int
    chunks: int
    version: int
    changed: datetime


class Pieces(Value):
    """A document as it is now, and some of its chunks in their order. after: the place to go on from; None at the end."""

    document: Document
    chunks: tuple[Chunk, ...]
    after: int | None = None


class VectorsMissing(MilepostError):
    """A chunk that is new came without its vector."""


class KnowledgeIndex(Protocol):
    """Documents in chunks, found by meaning, by words and by ids that stand in them.

    A collection has versions, counted from 1: each change makes the next one, and the ones before can still be searched.
    Removing a document removes it from all of them: nothing of its text stays.
    """

    async def missing(self, tenant: str, collection: str, source: str, chunks: Sequence[Chunk]) -> set[str]:
        """The hashes among the chunks that have no vector of this embedder yet: these are to be embedded."""
        ...

    async def add(self, tenant: str, document: NewDocument, vectors: Mapping[str, Vector], now: datetime) -> Added:
        """Put a document in place of its older version: chunks of the same hash stay, only the others change.

        Of chunks with the same hash in one document the first is found. vectors: by chunk hash, at least those that
        `missing` named; VectorsMissing if not.
        """
        ...

    async def remove(self, tenant: str, collection: str, source: str) -> bool:
        """Delete a document with all its chunks of all versions; False if it was not there."""
        ...

    async def remove_collection(self, tenant: str, collection: str) -> int:
        """Delete all documents of a collection; how many there were."""
        ...

    async def search(self, tenant: str, wanted: Wanted, vector: Vector | None) -> list[Passage]:
        """The k best passages, best first; of passages with the same text the best only.

        With neighbours, found ones whose surroundings touch become one passage: fewer than k may come back.
        """
        ...

    async def versions(self, tenant: str, collections: Sequence[str]) -> dict[str, int]:
        """The version that each collection has now; 0 for one that never had a document."""
        ...

    async def documents(self, tenant: str, collection: str | None = None, after: str = "", limit: int = 1000) -> list[Document]:
        """What is there now, in the order of ids, from after that one: pages hold although documents come and go."""
        ...

    async def shelves(self, tenant: str) -> list[Shelf]:
        """The tenant's collections that have documents, by name."""
        ...

    async def pieces(self, tenant: str, document: str, after: int = -1, limit: int = 200) -> Pieces | None:
        """Chunks of a document as it is now, from behind that place (counted from 0); None if there is no such document."""
        ...


def document_id(tenant: str, collection: str, source: str) -> str:
    """The id of a document: the same source in the same place is the same document."""
    return digest("document", tenant, collection, source)
