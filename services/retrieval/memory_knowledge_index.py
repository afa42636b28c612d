"""Documents in one process: the twin of the Postgres adapter, with the same contract."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import NamedTuple, TypeAlias

from schemas.events import Passage
from services.retrieval import bm25, rank
from services.retrieval.chunks import Chunk
from services.retrieval.knowledge_index import (
    Added,
    Document,
    NewDocument,
    Pieces,
    Shelf,
    Vector,
    VectorsMissing,
    Wanted,
    document_id,
)
from services.retrieval.neighbours import Piece, Place, wanted_places, widened
from services.retrieval.words import words

_Key: TypeAlias = tuple[str, str]  # document and hash


@dataclass(frozen=True)
class _Stored:
    """A passage as it is found, whichever versions it stands in."""

    chunk: Chunk
    weights: dict[str, float]
    vector: Vector


@dataclass(frozen=True)
class _Edition:
    document: Document
    chunks: tuple[Chunk, ...]


@dataclass
class _Book:
    editions: list[_Edition] = field(default_factory=list)
    stored: dict[str, _Stored] = field(default_factory=dict)

    def at(self, version: int | None) -> _Edition | None:
        """The edition that stood in that version of the collection."""
        until = [each for each in self.editions if version is None or each.document.version <= version]
        return until[-1] if until else None


class _Seen(NamedTuple):
    """A passage in the edition that is looked at."""

    edition: _Edition
    number: int
    stored: _Stored
    version: int


class MemoryKnowledgeIndex:
    """Documents in dictionaries."""

    def __init__(self) -> None:
        self._books: dict[tuple[str, str, str], _Book] = {}
        self._versions: dict[tuple[str, str], int] = {}

    async def missing(self, tenant: str, collection: str, source: str, chunks: Sequence[Chunk]) -> set[str]:
        return {chunk.hash for chunk in chunks} - self._book(tenant, collection, source).stored.keys()

    async def add(self, tenant: str, document: NewDocument, vectors: Mapping[str, Vector], now: datetime) -> Added:
        place = tenant, document.collection, document.source
        book = self._book(*place)
        old, key = book.at(None), document_id(*place)
        unique = {chunk.hash: chunk for chunk in document.chunks}
        for unknown in unique.keys() - book.stored.keys() - vectors.keys():
            raise VectorsMissing(f"A chunk of {document.source} has no vector.", why=f"hash {unknown}")
        before = {chunk.hash for chunk in old.chunks} if old else set()
        version = self._versions.get(place[:2], 0)
        if old is None or not _same(old, document):
            version = self._versions[place[:2]] = version + 1
            told = document.model_dump(exclude={"chunks"})
            edition = Document(id=key, chunks=len(unique), added=now, version=version, **told)
            book.editions.append(_Edition(edition, document.chunks))
        for digest, chunk in unique.items():
            if digest not in book.stored:
                book.stored[digest] = _Stored(chunk, bm25.weights(words(chunk.to_embed())), vectors[digest])
        self._books[place] = book
        kept = len(unique.keys() & before)
        return Added(
            document=key, kept=kept, added=len(unique) - kept, removed=len(before - unique.keys()), version=version
        )  # fmt: skip

    async def remove(self, tenant: str, collection: str, source: str) -> bool:
        if self._books.pop((tenant, collection, source), None) is None:
            return False
        self._versions[tenant, collection] += 1
        return True

    async def remove_collection(self, tenant: str, collection: str) -> int:
        gone = [key for key in self._books if key[:2] == (tenant, collection)]
        for key in gone:
            await self.remove(*key)
        return len(gone)

    async def versions(self, tenant: str, collections: Sequence[str]) -> dict[str, int]:
        return {name: self._versions.get((tenant, name), 0) for name in collections}

    async def search(self, tenant: str, wanted: Wanted, vector: Vector | None) -> list[Passage]:
        seen = {(each.edition.document.id, each.stored.chunk.hash): each for each in self._seen(tenant, wanted)}
        dense = {} if vector is None else {key: rank.cosine(vector, each.stored.vector) for key, each in seen.items()}
        scores: dict[_Key, float] = defaultdict(float)
        held, passages = self._held(tenant, wanted)
        lexical = _lexical(held, passages, seen)
        for raw in (dense, lexical, _with_names(bm25.named(wanted.text, held), seen)):
            for key, place in _ranked(raw).items():
                scores[key] += 1 / (rank.RRF_K + place)
        best = _without_copies(rank.best(scores, len(scores)), seen)[: wanted.k]
        found = [_passage(seen[key], scores[key], dense.get(key)) for key in best]
        places = [Place(key[0], seen[key].number) for key in best]
        if not wanted.neighbours:
            return found
        chunks = {key[0]: seen[key].edition.chunks for key in best}
        around = {
            at: _piece(chunks[at.document][at.number])
            for at in wanted_places(places, wanted.neighbours) if at.number < len(chunks[at.document])
        }  # fmt: skip
        return widened(list(zip(found, places, strict=True)), around, wanted.neighbours)

    async def documents(self, tenant: str, collection: str | None = None, after: str = "", limit: int = 1000) -> list[Document]:
        books = (book for key, book in self._books.items() if key[0] == tenant and collection in (None, key[1]))
        found = (book.editions[-1].document for book in books)
        return sorted((each for each in found if each.id > after), key=lambda each: each.id)[:limit]

    async def shelves(self, tenant: str) -> list[Shelf]:
        found: dict[str, list[Document]] = defaultdict(list)
        for each in await self.documents(tenant):
            found[each.collection].append(each)
        return [
            Shelf(
                name=name, documents=len(held), chunks=sum(each.chunks for each in held),
                version=self._versions[tenant, name], changed=max(each.added for each in held),
            )
            for name, held in sorted(found.items())
        ]  # fmt: skip

    async def pieces(self, tenant: str, document: str, after: int = -1, limit: int = 200) -> Pieces | None:
        for (owner, _, _), book in self._books.items():
            edition = book.editions[-1]
            if owner == tenant and edition.document.id == document:
                end = after + 1 + limit
                more = end - 1 if end < len(edition.chunks) else None
                return Pieces(document=edition.document, chunks=edition.chunks[after + 1 : end], after=more)
        return None

    def _book(self, tenant: str, collection: str, source: str) -> _Book:
        return self._books.get((tenant, collection, source)) or _Book()

    def _seen(self, tenant: str, wanted: Wanted) -> Iterator[_Seen]:
        """What stood in the collections as they are looked at, each passage at its first place."""
        for (owner, collection, _), book in self._books.items():
            if owner != tenant or collection not in wanted.collections:
                continue
            now = self._versions[tenant, collection]
            version = min(wanted.versions.get(collection, now), now)
            edition = book.at(version)
            if edition and wanted.filters.items() <= edition.document.metadata.items():
                for number, chunk in reversed(list(enumerate(edition.chunks))):
                    yield _Seen(edition, number, book.stored[chunk.hash], version)

    def _held(self, tenant: str, wanted: Wanted) -> tuple[dict[str, int], int]:
        """In how many passages of the collections each word of the question stands, and how many they are."""
        held: Counter[str] = Counter()
        passages = 0
        asked = set(list(dict.fromkeys(words(wanted.text)))[: bm25.QUESTION_WORDS])
        for (owner, collection, _), book in self._books.items():
            if owner == tenant and collection in wanted.collections:
                passages += len(book.stored)
                for stored in book.stored.values():
                    held.update(asked & stored.weights.keys())
        return held, passages


def _same(old: _Edition, new: NewDocument) -> bool:
    told = old.document.model_dump(include=set(NewDocument.model_fields) - {"chunks"})
    return old.chunks == new.chunks and told == new.model_dump(exclude={"chunks"})


def _lexical(held: Mapping[str, int], passages: int, seen: Mapping[_Key, _Seen]) -> dict[_Key, float]:
    rarity, telling = bm25.rarity(held, passages), set(bm25.telling(held))
    return {
        key: sum(rarity[word] * each.stored.weights.get(word, 0.0) for word in rarity)
        for key, each in seen.items() if telling & each.stored.weights.keys()
    }  # fmt: skip


def _with_names(names: Mapping[str, float], seen: Mapping[_Key, _Seen]) -> dict[_Key, float]:
    scores = {key: sum(names[name] for name in names.keys() & each.stored.weights.keys()) for key, each in seen.items()}
    return {key: score for key, score in scores.items() if score > 0}


def _ranked(scores: Mapping[_Key, float]) -> dict[_Key, int]:
    """Ranks from 1 of the best; equal scores have the same."""
    places: dict[_Key, int] = {}
    for _, equals in groupby(rank.best(scores), key=lambda key: scores[key]):
        places.update(dict.fromkeys(equals, len(places) + 1))
    return places


def _without_copies(keys: Sequence[_Key], seen: Mapping[_Key, _Seen]) -> list[_Key]:
    first: dict[str, _Key] = {}
    for key in keys:
        first.setdefault(seen[key].stored.chunk.text, key)
    return list(first.values())


def _piece(chunk: Chunk) -> Piece:
    return Piece(chunk.text, chunk.start, chunk.end, chunk.page)


def _passage(seen: _Seen, score: float, similarity: float | None) -> Passage:
    chunk = seen.edition.chunks[seen.number]
    document = seen.edition.document
    return Passage(
        document=document.id, title=document.title, heading=chunk.heading, start=chunk.start, end=chunk.end,
        text=chunk.text, hash=chunk.hash, score=score, similarity=similarity, source=document.source,
        version=seen.version, page=chunk.page,
    )  # fmt: skip
