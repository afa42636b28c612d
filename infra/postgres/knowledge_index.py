"""Documents in Postgres: passages found by meaning, by words and by ids that stand in them, fused in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import all_, bindparam, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.engine import array_of, literal, pattern, transaction
from infra.postgres.lexemes import tsqueries, tsvector
from infra.postgres.tables import documents, passages
from schemas.events import Passage
from services.retrieval.chunks import Chunk
from services.retrieval.ports import Added, Document, Vector, VectorsMissing, document_id
from services.retrieval.rank import DEPTH, RRF_K
from services.retrieval.words import identifiers, words

_SEARCH = text("""
WITH dense AS (
    SELECT document, hash, 1 - (vector <=> CAST(:vector AS vector)) AS score
    FROM passages
    WHERE CAST(:vector AS vector) IS NOT NULL AND embedder = :embedder
        AND tenant = :tenant AND collection = ANY (CAST(:collections AS text[]))
    ORDER BY vector <=> CAST(:vector AS vector) LIMIT :depth
), terms AS MATERIALIZED (
    SELECT word, ln(1 + (total - held + 0.5) / (held + 0.5)) AS rarity
    FROM (
        SELECT word, (SELECT count(*) FROM passages WHERE words @@ word) AS held
        FROM unnest(CAST(:words AS tsquery[])) AS word
    ) AS counted, (SELECT count(*) AS total FROM passages) AS everything
), lexical AS (
    SELECT p.document, p.hash, sum(t.rarity * ts_rank('{0.1, 0.4, 0.7, 1.0}', p.words, t.word, 1)) AS score
    FROM terms AS t JOIN passages AS p ON p.words @@ t.word
    WHERE p.tenant = :tenant AND p.collection = ANY (CAST(:collections AS text[]))
    GROUP BY p.document, p.hash ORDER BY score DESC, p.hash LIMIT :depth
), name AS (
    SELECT p.document, p.hash, count(*) AS score
    FROM unnest(CAST(:patterns AS text[])) AS asked JOIN passages AS p ON p.text ILIKE asked
    WHERE p.tenant = :tenant AND p.collection = ANY (CAST(:collections AS text[]))
    GROUP BY p.document, p.hash ORDER BY score DESC, p.hash LIMIT :depth
), parts AS (
    SELECT document, hash, rank() OVER (ORDER BY score DESC, hash) AS place FROM dense
    UNION ALL SELECT document, hash, rank() OVER (ORDER BY score DESC, hash) FROM lexical
    UNION ALL SELECT document, hash, rank() OVER (ORDER BY score DESC, hash) FROM name
)
SELECT d.id, d.title, p.heading, p.begins, p.ends, p.text, p.hash, CAST(sum(1.0 / (:rrf + place)) AS float8) AS score,
    1 - (p.vector <=> CAST(:vector AS vector)) AS similarity
FROM parts JOIN passages AS p USING (document, hash) JOIN documents AS d ON d.id = document
GROUP BY d.id, p.document, p.hash, p.vector ORDER BY score DESC, d.id, p.begins LIMIT :k
""")


class PostgresKnowledgeIndex:
    """KnowledgeIndex over the tables documents and passages. embedder: whose vectors are written and compared."""

    def __init__(self, engine: AsyncEngine, embedder: str) -> None:
        self._engine = engine
        self._embedder = embedder

    async def missing(self, tenant: str, collection: str, source: str, chunks: Sequence[Chunk]) -> set[str]:
        document = document_id(tenant, collection, source)
        async with transaction(self._engine) as connection:
            stored = await self._stored(connection, document)
        return {chunk.hash for chunk in chunks} - stored

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
        key = document_id(tenant, collection, source)
        unique = {chunk.hash: chunk for chunk in reversed(chunks)}
        changing = {"title": title, "chunks": len(unique), "added": now}
        place = {"tenant": tenant, "collection": collection}
        async with transaction(self._engine) as connection:
            await connection.execute(
                upsert(documents)
                .values(id=key, source=source, **place, **changing)
                .on_conflict_do_update(index_elements=["id"], set_=changing)
            )
            staying = all_(array_of(list(unique)))
            gone = delete(passages).where(passages.c.document == key, passages.c.hash != staying)
            removed = (await connection.execute(gone)).rowcount
            stored = await self._stored(connection, key)
            fresh = [chunk for digest, chunk in unique.items() if digest not in stored]
            await self._insert(connection, [self._row(chunk, vectors, key, source) | place for chunk in fresh])
            await _move(connection, key, [chunk for digest, chunk in unique.items() if digest in stored])
        return Added(document=key, kept=len(unique) - len(fresh), added=len(fresh), removed=removed)

    async def remove(self, tenant: str, collection: str, source: str) -> bool:
        key = document_id(tenant, collection, source)
        async with transaction(self._engine) as connection:
            return (await connection.execute(delete(documents).where(documents.c.id == key))).rowcount > 0

    async def search(self, tenant: str, collections: Sequence[str], text: str, vector: Vector | None, k: int) -> list[Passage]:
        values = {
            "tenant": tenant,
            "collections": list(collections),
            "vector": literal(vector),
            "embedder": self._embedder,
            "words": tsqueries(words(text)),
            "patterns": [pattern(identifier) for identifier in identifiers(text)],
            "depth": DEPTH,
            "rrf": RRF_K,
            "k": k,
        }
        fields = ("document", "title", "heading", "start", "end", "text", "hash", "score", "similarity")
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_SEARCH, values)
            return [Passage.model_validate(dict(zip(fields, row, strict=True))) for row in rows]

    async def documents(self, tenant: str, collection: str | None = None) -> list[Document]:
        table = documents.c
        chosen = select(table.id, table.collection, table.source, table.title, table.chunks, table.added).where(
            table.tenant == tenant
        )
        if collection is not None:
            chosen = chosen.where(table.collection == collection)
        async with transaction(self._engine) as connection:
            rows = await connection.execute(chosen.order_by(table.collection, table.source))
            return [Document.model_validate(dict(row)) for row in rows.mappings()]

    async def _stored(self, connection: AsyncConnection, document: str) -> set[str]:
        """Hashes of the passages that have a vector of this embedder."""
        mine = (passages.c.document == document, passages.c.embedder == self._embedder)
        return set(await connection.scalars(select(passages.c.hash).where(*mine)))

    async def _insert(self, connection: AsyncConnection, rows: list[dict[str, object]]) -> None:
        if not rows:
            return
        statement = upsert(passages)
        changed = {name: statement.excluded[name] for name in ("begins", "ends", "embedder", "vector")}
        await connection.execute(statement.on_conflict_do_update(index_elements=["document", "hash"], set_=changed), rows)

    def _row(self, chunk: Chunk, vectors: Mapping[str, Vector], document: str, source: str) -> dict[str, object]:
        vector = vectors.get(chunk.hash)
        if vector is None:
            raise VectorsMissing(f"A chunk of {source} has no vector.", why=f"hash {chunk.hash}")
        return {
            "document": document,
            "heading": chunk.heading,
            "text": chunk.text,
            "begins": chunk.start,
            "ends": chunk.end,
            "hash": chunk.hash,
            "words": tsvector(("A", words(chunk.heading)), ("B", words(chunk.text))),
            "embedder": self._embedder,
            "vector": list(vector),
        }


async def _move(connection: AsyncConnection, document: str, chunks: Sequence[Chunk]) -> None:
    """Tell kept passages where they stand now."""
    if not chunks:
        return
    moved = (
        update(passages)
        .where(passages.c.document == document, passages.c.hash == bindparam("kept"))
        .values(begins=bindparam("start"), ends=bindparam("stop"))
    )
    places = [{"kept": chunk.hash, "start": chunk.start, "stop": chunk.end} for chunk in chunks]
    await connection.execute(moved, places)
