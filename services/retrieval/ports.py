"""What retrieval needs of the outside: an index of tools and an index of knowledge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from schemas.canonical import digest
from schemas.errors import MilepostError
from schemas.events import Passage, ScoredCard
from schemas.tools import ToolCard, Value
from services.retrieval.chunks import Chunk

SHARED = "*"
"""The tenant whose tools every tenant sees; its own tool of the same name comes first."""

Vector = Sequence[float]


class ToolIndex(Protocol):
    """The catalogue: found by meaning, by words and by name.

    `why` of a found card holds the raw scores (dense, lexical, name) and its part of the fused score by list
    (rrf_dense, ...). Vectors are only compared with vectors of the same embedder.
    """

    async def upsert(self, tenant: str, card: ToolCard, vector: Vector | None) -> None:
        """Put a card in, or in place of the one of that name.

        Without a vector it is found by words only; an equal card keeps the vector it has.
        """
        ...

    async def missing(self, tenant: str, cards: Sequence[ToolCard]) -> set[str]:
        """The names of those that are not there, or differ, or have no vector of this embedder."""
        ...

    async def remove(self, tenant: str, name: str) -> None:
        """Take a card out; nothing happens if it is not there."""
        ...

    async def search(
        self, tenant: str, text: str, vector: Vector | None, k: int, exclude: Sequence[str] = ()
    ) -> list[ScoredCard]:
        """The k best of the tenant's and the shared cards, best first."""
        ...

    async def get(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        """The cards of these names, in that order; names that are not there are left out."""
        ...

    async def all(self, tenant: str) -> list[ToolCard]:
        """Every card the tenant sees, by name."""
        ...


class Added(Value):
    """What adding a document did to its chunks."""

    document: str
    kept: int
    added: int
    removed: int


class Document(Value):
    """A document of a collection. source: its path or address, unique in the collection."""

    id: str
    collection: str
    source: str
    title: str
    chunks: int
    added: datetime


class VectorsMissing(MilepostError):
    """A chunk that is new came without its vector."""


class KnowledgeIndex(Protocol):
    """Documents in chunks, found by meaning, by words and by ids that stand in them."""

    async def missing(self, tenant: str, collection: str, source: str, chunks: Sequence[Chunk]) -> set[str]:
        """The hashes among the chunks that have no vector of this embedder yet: these are to be embedded."""
        ...

    async def add_document(
        self,
        tenant: str,
        collection: str,
        source: str,
        title: str,
        chunks: Sequence[Chunk],
        vectors: Mapping[str, Vector],
        now: datetime,
    ) -> Added:
        """Put a document in place of its older version: chunks of the same hash stay, only the others change.

        Of chunks with the same hash in one document the first is kept.

        vectors: by chunk hash, at least those that `missing` named; VectorsMissing if not.
        """
        ...

    async def remove(self, tenant: str, collection: str, source: str) -> bool:
        """Delete a document with all its chunks; False if it was not there."""
        ...

    async def search(self, tenant: str, collections: Sequence[str], text: str, vector: Vector | None, k: int) -> list[Passage]:
        """The k best passages of these collections, best first."""
        ...

    async def documents(self, tenant: str, collection: str | None = None) -> list[Document]:
        """What is there, by collection and source."""
        ...


def document_id(tenant: str, collection: str, source: str) -> str:
    """The id of a document: the same source in the same place is the same document."""
    return digest("document", tenant, collection, source)
