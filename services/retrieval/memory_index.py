"""Retrieval's indexes in one process: the twin of the Postgres adapters, with the same contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.events import Passage, ScoredCard
from schemas.tools import ToolCard
from services.retrieval import rank
from services.retrieval.chunks import Chunk
from services.retrieval.ports import SHARED, Added, Document, Vector, VectorsMissing, document_id
from services.retrieval.words import card_text, identifiers, words

SIMILAR = 0.3
"""How similar a name must be to count, as pg_trgm's default."""


@dataclass(frozen=True)
class _Entry:
    card: ToolCard
    words: list[str]
    vector: Vector | None


class MemoryToolIndex:
    """The catalogue in a dictionary."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, _Entry]] = {}

    async def upsert(self, tenant: str, card: ToolCard, vector: Vector | None) -> None:
        mine = self._entries.setdefault(tenant, {})
        old = mine.get(card.name)
        if vector is None and old is not None and old.card.hash() == card.hash():
            return
        mine[card.name] = _Entry(card, words(card_text(card)), vector)

    async def missing(self, tenant: str, cards: Sequence[ToolCard]) -> set[str]:
        mine = self._entries.get(tenant, {})
        known = {(name, entry.card.hash()) for name, entry in mine.items() if entry.vector is not None}
        return {card.name for card in cards if (card.name, card.hash()) not in known}

    async def remove(self, tenant: str, name: str) -> None:
        self._entries.get(tenant, {}).pop(name, None)

    async def search(
        self, tenant: str, text: str, vector: Vector | None, k: int, exclude: Sequence[str] = ()
    ) -> list[ScoredCard]:
        entries = {name: entry for name, entry in self._visible(tenant).items() if name not in exclude}
        raw = {
            "dense": _dense({name: entry.vector for name, entry in entries.items()}, vector),
            "lexical": rank.bm25(words(text), {name: entry.words for name, entry in entries.items()}),
            "name": _similar(identifiers(text), entries),
        }
        fused = rank.fuse({part: rank.best(scores) for part, scores in raw.items()})
        totals = {name: sum(parts.values()) for name, parts in fused.items()}
        return [
            ScoredCard(card=entries[name].card, score=totals[name], why=_why(name, raw, fused[name]))
            for name in rank.best(totals, k)
        ]

    async def get(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        entries = self._visible(tenant)
        return [entries[name].card for name in dict.fromkeys(names) if name in entries]

    async def all(self, tenant: str) -> list[ToolCard]:
        return [entry.card for _, entry in sorted(self._visible(tenant).items())]

    def _visible(self, tenant: str) -> dict[str, _Entry]:
        return self._entries.get(SHARED, {}) | self._entries.get(tenant, {})


@dataclass(frozen=True)
class _Stored:
    chunk: Chunk
    words: list[str]
    vector: Vector


@dataclass(frozen=True)
class _Book:
    document: Document
    chunks: list[_Stored]


class MemoryKnowledgeIndex:
    """Documents in a dictionary."""

    def __init__(self) -> None:
        self._books: dict[tuple[str, str, str], _Book] = {}

    async def missing(self, tenant: str, collection: str, source: str, chunks: Sequence[Chunk]) -> set[str]:
        book = self._books.get((tenant, collection, source))
        known = {stored.chunk.hash for stored in book.chunks} if book else set()
        return {chunk.hash for chunk in chunks} - known

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
        old = self._books.get((tenant, collection, source))
        known = {stored.chunk.hash: stored for stored in old.chunks} if old else {}
        unique = {chunk.hash: chunk for chunk in reversed(chunks)}
        new = []
        for digest, chunk in unique.items():
            if digest in known:
                new.append(replace(known[digest], chunk=chunk))
            elif digest in vectors:
                new.append(_Stored(chunk, words(chunk.to_embed()), vectors[digest]))
            else:
                raise VectorsMissing(f"A chunk of {source} has no vector.", why=f"hash {digest}")
        key = document_id(tenant, collection, source)
        document = Document(id=key, collection=collection, source=source, title=title, chunks=len(new), added=now)
        self._books[tenant, collection, source] = _Book(document, new)
        kept = len(unique.keys() & known.keys())
        return Added(document=key, kept=kept, added=len(unique) - kept, removed=len(known.keys() - unique.keys()))

    async def remove(self, tenant: str, collection: str, source: str) -> bool:
        return self._books.pop((tenant, collection, source), None) is not None

    async def search(self, tenant: str, collections: Sequence[str], text: str, vector: Vector | None, k: int) -> list[Passage]:
        found: dict[tuple[str, int], tuple[Document, _Stored]] = {}
        for (owner, collection, _), book in self._books.items():
            if owner == tenant and collection in collections:
                found.update({(book.document.id, stored.chunk.start): (book.document, stored) for stored in book.chunks})
        raw = {
            "dense": _dense({key: stored.vector for key, (_, stored) in found.items()}, vector),
            "lexical": rank.bm25(words(text), {key: stored.words for key, (_, stored) in found.items()}),
            "name": _holding(identifiers(text), {key: stored.chunk.text for key, (_, stored) in found.items()}),
        }
        fused = rank.fuse({part: rank.best(scores) for part, scores in raw.items()})
        totals = {key: sum(parts.values()) for key, parts in fused.items()}
        return [_passage(*found[key], totals[key], raw["dense"].get(key)) for key in rank.best(totals, k)]

    async def documents(self, tenant: str, collection: str | None = None) -> list[Document]:
        keys = sorted(key for key in self._books if key[0] == tenant and collection in (None, key[1]))
        return [self._books[key].document for key in keys]


def _dense(vectors: Mapping[rank.Key, Vector | None], query: Vector | None) -> dict[rank.Key, float]:
    if query is None:
        return {}
    return {key: rank.cosine(query, vector) for key, vector in vectors.items() if vector is not None}


def _similar(asked: Sequence[str], entries: Mapping[str, _Entry]) -> dict[str, float]:
    scores = {name: max((rank.trigram_similarity(word, name) for word in asked), default=0.0) for name in entries}
    return {name: score for name, score in scores.items() if score >= SIMILAR}


def _holding(asked: Sequence[str], texts: Mapping[rank.Key, str]) -> dict[rank.Key, float]:
    scores = {key: float(sum(word in text.lower() for word in asked)) for key, text in texts.items()}
    return {key: score for key, score in scores.items() if score > 0}


def _why(name: str, raw: Mapping[str, Mapping[str, float]], parts: Mapping[str, float]) -> dict[str, float]:
    """The raw score by list, and what each list gave to the fused score."""
    return {part: raw[part][name] for part in parts} | {f"rrf_{part}": share for part, share in parts.items()}


def _passage(document: Document, stored: _Stored, score: float, similarity: float | None) -> Passage:
    chunk = stored.chunk
    return Passage(
        document=document.id,
        title=document.title,
        heading=chunk.heading,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        hash=chunk.hash,
        score=score,
        similarity=similarity,
    )
