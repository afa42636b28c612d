"""Documents in Postgres: each in editions, one for each version of its collection in which it changed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, Select, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.engine import array_of, literal, transaction
from infra.postgres.knowledge_search import FOREVER, search, sizes
from infra.postgres.lexemes import sparse, tsvector
from infra.postgres.tables import collections, documents, editions, passages, pieces
from schemas.events import Passage
from services.retrieval import bm25
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
from services.retrieval.words import words

_ROWS = 500

_LOCK = text("""
INSERT INTO collections AS held (tenant, collection) VALUES (:tenant, :collection)
ON CONFLICT (tenant, collection) DO UPDATE SET version = held.version RETURNING version
""")

_STAY_OUT = text("""
UPDATE passages SET held = held - int8multirange(int8range(:version, NULL))
WHERE document = :document AND upper_inf(held) AND hash <> ALL (CAST(:hashes AS text[]))
""")
_COME_BACK = text("""
UPDATE passages SET held = held + int8multirange(int8range(:version, NULL))
WHERE document = :document AND NOT upper_inf(held) AND hash = ANY (CAST(:hashes AS text[]))
""")
_PUT = text("""
INSERT INTO passages (document, hash, tenant, collection, held, heading, text, words, weights, embedder, vector)
VALUES (:document, :hash, :tenant, :collection, int8multirange(int8range(:version, NULL)), :heading, :text,
    strip(CAST(:words AS tsvector)), CAST(:weights AS sparsevec), :embedder, CAST(:vector AS vector))
ON CONFLICT (document, hash) DO UPDATE SET embedder = excluded.embedder, vector = excluded.vector
""")

_LEARN_WORDS = text("""
INSERT INTO lexicon AS known (tenant, collection, word, held)
SELECT :tenant, :collection, word, n FROM unnest(CAST(:words AS text[]), CAST(:counts AS int8[])) AS new (word, n) ORDER BY word
ON CONFLICT (tenant, collection, word) DO UPDATE SET held = known.held + excluded.held
""")
_UNLEARN_WORDS = text("""
INSERT INTO lexicon AS known (tenant, collection, word, held)
SELECT tenant, collection, word, count(*) FROM passages, unnest(tsvector_to_array(words)) AS word
WHERE document = ANY (CAST(:documents AS text[])) GROUP BY tenant, collection, word ORDER BY word
ON CONFLICT (tenant, collection, word) DO UPDATE SET held = known.held - excluded.held
""")
_FORGET_WORDS = text("DELETE FROM lexicon WHERE tenant = :tenant AND collection = :collection AND held <= 0")
_SHRINK = text("""
UPDATE collections SET version = version + :changes,
    passages = passages - (SELECT count(*) FROM passages WHERE document = ANY (CAST(:documents AS text[])))
WHERE tenant = :tenant AND collection = :collection
""")


class PostgresKnowledgeIndex:
    """KnowledgeIndex over collections, documents, editions, pieces, passages and lexicon. embedder: whose vectors it has.

    Who changes a collection holds its row until the end: versions come one after the other.
    """

    def __init__(self, engine: AsyncEngine, embedder: str) -> None:
        self._engine = engine
        self._embedder = embedder

    async def missing(self, tenant: str, collection: str, source: str, chunks: Sequence[Chunk]) -> set[str]:
        async with transaction(self._engine, tenant) as connection:
            stored = await self._stored(connection, document_id(tenant, collection, source))
        return {chunk.hash for chunk in chunks} - {digest for digest, embedder in stored.items() if embedder == self._embedder}

    async def add(self, tenant: str, document: NewDocument, vectors: Mapping[str, Vector], now: datetime) -> Added:
        place = {"tenant": tenant, "collection": document.collection}
        key = document_id(tenant, document.collection, document.source)
        unique = {chunk.hash: chunk for chunk in document.chunks}
        async with transaction(self._engine, tenant) as connection:
            version: int = (await connection.execute(_LOCK, place)).scalar_one()
            stored = await self._stored(connection, key)
            fresh = [chunk for digest, chunk in unique.items() if stored.get(digest) != self._embedder]
            old = await _edition(connection, key)
            before = set(await connection.scalars(_hashes_of(key))) if old else set()
            if old is None or not await _same(connection, old, document):
                version += 1
                await _put_edition(connection, place, key, document, version, now)
                await connection.execute(_STAY_OUT, {"document": key, "version": version, "hashes": list(unique)})
                await connection.execute(_COME_BACK, {"document": key, "version": version, "hashes": list(unique)})
            for first in range(0, len(fresh), _ROWS):  # a long document's rows are never all in memory
                batch = fresh[first : first + _ROWS]
                some = await asyncio.to_thread(self._rows, batch, vectors, document.source)  # cutting words takes its time
                await connection.execute(_PUT, [row | place | {"document": key, "version": version} for row in some])
            await _learn(connection, place, [chunk for chunk in fresh if chunk.hash not in stored])
        kept = len(unique.keys() & before)
        return Added(
            document=key, kept=kept, added=len(unique) - kept, removed=len(before - unique.keys()), version=version
        )  # fmt: skip

    async def remove(self, tenant: str, collection: str, source: str) -> bool:
        return await self._remove(tenant, collection, source) > 0

    async def remove_collection(self, tenant: str, collection: str) -> int:
        return await self._remove(tenant, collection, None)

    async def versions(self, tenant: str, collections: Sequence[str]) -> dict[str, int]:
        async with transaction(self._engine, tenant) as connection:
            known = await sizes(connection, tenant, collections)
        return {name: known[name][0] if name in known else 0 for name in collections}

    async def search(self, tenant: str, wanted: Wanted, vector: Vector | None) -> list[Passage]:
        async with transaction(self._engine, tenant) as connection:
            return await search(connection, tenant, wanted, vector, self._embedder)

    async def documents(self, tenant: str, collection: str | None = None, after: str = "", limit: int = 1000) -> list[Document]:
        chosen = _standing(tenant).where(documents.c.id > after).order_by(documents.c.id).limit(limit)
        if collection is not None:
            chosen = chosen.where(documents.c.collection == collection)
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(chosen)
            return [_document(row) for row in rows.mappings()]

    async def shelves(self, tenant: str) -> list[Shelf]:
        held = editions.c
        counted = (
            select(
                held.collection.label("name"), func.count().label("documents"), func.sum(held.chunks).label("chunks"),
                collections.c.version, func.max(held.added).label("changed"),
            )
            .join(collections, (collections.c.tenant == held.tenant) & (collections.c.collection == held.collection))
            .where(held.tenant == tenant, held.until == FOREVER)
            .group_by(held.collection, collections.c.version)
            .order_by(held.collection.collate("C"))
        )  # fmt: skip
        async with transaction(self._engine, tenant) as connection:
            return [Shelf.model_validate(dict(row)) for row in (await connection.execute(counted)).mappings()]

    async def pieces(self, tenant: str, document: str, after: int = -1, limit: int = 200) -> Pieces | None:
        stands, said = pieces.c, passages.c
        async with transaction(self._engine, tenant) as connection:
            found = (await connection.execute(_standing(tenant).where(documents.c.id == document))).mappings().one_or_none()
            if found is None:
                return None
            chosen = (
                select(stands.place, said.text, said.heading, stands.begins, stands.ends, stands.hash, stands.page)
                .join(passages, (said.document == stands.document) & (said.hash == stands.hash))
                .where(stands.document == document, stands.since == found["version"], stands.place > after)
                .order_by(stands.place)
                .limit(limit + 1)
            )
            rows = (await connection.execute(chosen)).all()
        chunks = [
            Chunk(text=words, heading=heading, start=start, end=end, hash=digest, page=page)
            for _, words, heading, start, end, digest, page in rows[:limit]
        ]
        return Pieces(document=_document(found), chunks=tuple(chunks), after=rows[limit - 1][0] if len(rows) > limit else None)

    async def _stored(self, connection: AsyncConnection, document: str) -> dict[str, str]:
        """By the hash of each passage of any version: whose vector it has."""
        rows = await connection.execute(select(passages.c.hash, passages.c.embedder).where(passages.c.document == document))
        return {digest: embedder for digest, embedder in rows}

    def _rows(self, chunks: Sequence[Chunk], vectors: Mapping[str, Vector], source: str) -> list[dict[str, object]]:
        return [self._row(chunk, vectors, source) for chunk in chunks]

    def _row(self, chunk: Chunk, vectors: Mapping[str, Vector], source: str) -> dict[str, object]:
        vector = vectors.get(chunk.hash)
        if vector is None:
            raise VectorsMissing(f"A chunk of {source} has no vector.", why=f"hash {chunk.hash}")
        said = words(chunk.to_embed())
        return {
            "hash": chunk.hash,
            "heading": chunk.heading,
            "text": chunk.text,
            "words": tsvector(("D", list(dict.fromkeys(said)))),
            "weights": sparse(bm25.weights(said)),
            "embedder": self._embedder,
            "vector": literal(vector),
        }

    async def _remove(self, tenant: str, collection: str, source: str | None) -> int:
        """Delete one document, or all of the collection; how many there were."""
        place = {"tenant": tenant, "collection": collection}
        chosen = select(documents.c.id).where(documents.c.tenant == tenant, documents.c.collection == collection)
        if source is not None:
            chosen = chosen.where(documents.c.source == source)
        async with transaction(self._engine, tenant) as connection:
            await connection.execute(
                select(collections.c.version)
                .where(collections.c.tenant == tenant, collections.c.collection == collection)
                .with_for_update()
            )
            gone = list(await connection.scalars(chosen))
            if gone:
                values = place | {"documents": gone, "changes": len(gone)}
                await connection.execute(_UNLEARN_WORDS, values)
                await connection.execute(_FORGET_WORDS, values)
                await connection.execute(_SHRINK, values)
                await connection.execute(delete(documents).where(documents.c.id == func.any(array_of(gone))))
        return len(gone)


def _standing(tenant: str) -> Select[tuple[object, ...]]:
    """The documents of a tenant as they are now."""
    held = editions.c
    return (
        select(documents, held.title, held.chunks, held.added, held.metadata, held.digest, held.since.label("version"))
        .join(editions, held.document == documents.c.id)
        .where(documents.c.tenant == tenant, held.until == FOREVER)
    )


def _document(row: RowMapping) -> Document:
    return Document.model_validate({name: row[name] for name in Document.model_fields})


async def _edition(connection: AsyncConnection, document: str) -> RowMapping | None:
    chosen = select(editions).where(editions.c.document == document, editions.c.until == FOREVER)
    return (await connection.execute(chosen)).mappings().one_or_none()


async def _same(connection: AsyncConnection, old: RowMapping, new: NewDocument) -> bool:
    """Whether the document is as the edition has it, each piece in its place."""
    if (old["title"], old["metadata"], old["digest"]) != (new.title, new.metadata, new.digest):
        return False
    table = pieces.c
    standing = select(table.hash, table.begins, table.ends, table.page).order_by(table.place)
    rows = await connection.execute(standing.where(table.document == old["document"], table.since == old["since"]))
    return [tuple(row) for row in rows] == [(each.hash, each.start, each.end, each.page) for each in new.chunks]


async def _put_edition(
    connection: AsyncConnection, place: Mapping[str, str], key: str, new: NewDocument, version: int, now: datetime
) -> None:
    """The document's edition from this version of the collection on; the one before ends here."""
    of_collection = (collections.c.tenant == place["tenant"], collections.c.collection == place["collection"])
    await connection.execute(collections.update().where(*of_collection).values(version=version))
    await connection.execute(upsert(documents).values(id=key, source=new.source, **place).on_conflict_do_nothing())
    present = editions.update().where(editions.c.document == key, editions.c.until == FOREVER)
    await connection.execute(present.values(until=version))
    edition = {
        "document": key, "since": version, "until": FOREVER, "title": new.title, "added": now, "digest": new.digest,
        "chunks": len({chunk.hash for chunk in new.chunks}), "metadata": new.metadata, **place,
    }  # fmt: skip
    await connection.execute(editions.insert().values(edition))
    standing = [
        {
            "document": key, "since": version, "place": number, "tenant": place["tenant"], "hash": chunk.hash,
            "begins": chunk.start, "ends": chunk.end, "page": chunk.page,
        }
        for number, chunk in enumerate(new.chunks)
    ]  # fmt: skip
    if standing:
        await connection.execute(pieces.insert(), standing)


def _hashes_of(document: str) -> Select[tuple[str]]:
    return select(passages.c.hash).where(passages.c.document == document, func.upper_inf(passages.c.held))


async def _learn(connection: AsyncConnection, place: Mapping[str, str], new: Sequence[Chunk]) -> None:
    """Count the words of passages that were not there before."""
    if not new:
        return
    counts = await asyncio.to_thread(lambda: Counter(word for chunk in new for word in set(words(chunk.to_embed()))))
    await connection.execute(_LEARN_WORDS, {**place, "words": list(counts), "counts": list(counts.values())})
    of_collection = (collections.c.tenant == place["tenant"], collections.c.collection == place["collection"])
    await connection.execute(collections.update().where(*of_collection).values(passages=collections.c.passages + len(new)))
