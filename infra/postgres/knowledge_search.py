"""Searching documents in Postgres: meaning, words, and names or ids that stand in them, fused in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
from sqlalchemy import RowMapping, TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.postgres.engine import array_of, literal
from infra.postgres.lexemes import sparse, tsqueries
from infra.postgres.tables import collections, lexicon
from schemas.events import Passage
from services.retrieval import bm25
from services.retrieval.knowledge_index import Vector, Wanted
from services.retrieval.neighbours import Piece, Place, wanted_places, widened
from services.retrieval.rank import DEPTH, RRF_K
from services.retrieval.words import words

FOREVER = 2**63 - 1
"""Until when an edition stands that no other has replaced."""

EXACT = 5_000
"""Of a collection, or of what fits the filters, up to so many passages' vectors are all compared; the graph would be walked
for long to find them among those of others."""

# What is asked in each collection as of a version; held is the multirange of versions in which a passage stands. The names
# stand there as well, so that the planner knows of a small collection that it is one.
_LOOKED_AT = """
    asked JOIN passages AS p ON p.tenant = :tenant AND p.collection = ANY (CAST(:collections AS text[]))
        AND p.collection = asked.collection AND p.held @> asked.version
"""
_FITTING = """fitting AS MATERIALIZED (
    SELECT document FROM asked JOIN editions AS e ON e.tenant = :tenant AND e.collection = asked.collection
        AND e.since <= asked.version AND asked.version < e.until AND e.metadata @> CAST(:filters AS jsonb)
),"""
_FITS = "AND p.document IN (SELECT document FROM fitting)"
# Adding zero keeps the graph out of it: every vector is compared. For a walk the planner must not know how few passages will
# fit, or it would rather sort all distances; it knows nothing of a CASE.
_FOUND = "p.collection = asked.collection AND p.held @> asked.version {fits}"
_COMPARED = f"{_FOUND} AND p.collection = ANY (CAST(:small AS text[]))"
_WALKED = f"CASE WHEN {_FOUND} THEN true END"
_DISTANCE = "p.vector <=> CAST(:vector AS vector)"
_NEAR = """
    SELECT document, hash, 1 - distance AS score
    FROM asked CROSS JOIN LATERAL (
        SELECT p.document, p.hash, p.vector <=> CAST(:vector AS vector) AS distance
        FROM passages AS p
        WHERE CAST(:vector AS vector) IS NOT NULL AND p.embedder = :embedder AND p.tenant = :tenant
            AND {near}
        ORDER BY {distance} LIMIT :depth
    ) AS near
    WHERE asked.collection {among} (CAST(:small AS text[]))
"""
_SEARCH = """
WITH asked AS MATERIALIZED (
    SELECT collection, version FROM unnest(CAST(:collections AS text[]), CAST(:versions AS int8[])) AS a (collection, version)
), {fitting} dense AS (
    {compared} UNION ALL {walked}
    ORDER BY score DESC, hash LIMIT :depth
), lexical AS (
    SELECT p.document, p.hash, - (p.weights <#> CAST(:rarity AS sparsevec)) AS score
    FROM {looked_at}
    WHERE p.words @@ CAST(:words AS tsquery) {fits}
    ORDER BY score DESC, p.hash LIMIT :depth
), name AS (
    SELECT p.document, p.hash, sum(named.score) AS score
    FROM unnest(CAST(:names AS tsquery[]), CAST(:tells AS float8[])) AS named (word, score)
        CROSS JOIN {looked_at} AND p.words @@ named.word
    WHERE true {fits}
    GROUP BY p.document, p.hash ORDER BY score DESC, p.hash LIMIT :depth
), parts AS (
    SELECT document, hash, rank() OVER (ORDER BY score DESC) AS place FROM dense
    UNION ALL SELECT document, hash, rank() OVER (ORDER BY score DESC) FROM lexical
    UNION ALL SELECT document, hash, rank() OVER (ORDER BY score DESC) FROM name
), fused AS (
    SELECT DISTINCT ON (p.text) p.*, score
    FROM (SELECT document, hash, sum(1.0 / (:rrf + place)) AS score FROM parts GROUP BY document, hash) AS summed
        JOIN passages AS p USING (document, hash)
    ORDER BY p.text, score DESC, document, hash
)
SELECT f.document, e.title, f.heading, at.begins AS start, at.ends AS "end", f.text, f.hash, CAST(f.score AS float8) AS score,
    CASE WHEN f.embedder = :embedder THEN 1 - (f.vector <=> CAST(:vector AS vector)) END AS similarity,
    d.source, least(asked.version, c.version) AS version, at.page, at.place
FROM fused AS f JOIN documents AS d ON d.id = f.document
    JOIN asked ON asked.collection = f.collection
    JOIN collections AS c ON c.tenant = f.tenant AND c.collection = f.collection
    JOIN editions AS e ON e.document = f.document AND e.since <= asked.version AND asked.version < e.until
    CROSS JOIN LATERAL (
        SELECT begins, ends, page, place FROM pieces
        WHERE document = f.document AND since = e.since AND hash = f.hash ORDER BY place LIMIT 1
    ) AS at
ORDER BY f.score DESC, f.document, f.hash LIMIT :k
"""

_AROUND = text("""
SELECT wanted.document, i.place, p.text, i.begins, i.ends, i.page
FROM unnest(CAST(:documents AS text[]), CAST(:versions AS int8[]), CAST(:places AS int4[])) AS wanted (document, version, place)
    JOIN editions AS e ON e.document = wanted.document AND e.since <= wanted.version AND wanted.version < e.until
    JOIN pieces AS i ON i.document = e.document AND i.since = e.since AND i.place = wanted.place
    JOIN passages AS p ON p.document = i.document AND p.hash = i.hash
WHERE e.tenant = :tenant
""")


async def search(
    connection: AsyncConnection, tenant: str, wanted: Wanted, vector: Vector | None, embedder: str
) -> list[Passage]:
    """As KnowledgeIndex.search; vectors of other embedders are not compared."""
    known = await sizes(connection, tenant, wanted.collections)
    held = await _held(connection, tenant, list(known), words(wanted.text))
    names = bm25.named(wanted.text, held)
    total = sum(passages for _, passages in known.values())
    values: dict[str, object] = {
        "tenant": tenant, "collections": list(known), "versions": [wanted.versions.get(name, FOREVER - 1) for name in known],
        "filters": orjson.dumps(wanted.filters).decode(), "vector": literal(vector), "embedder": embedder,
        "words": " | ".join(tsqueries(bm25.telling(held))), "rarity": sparse(bm25.rarity(held, total)),
        "names": tsqueries(list(names)), "tells": list(names.values()),
        "depth": DEPTH, "rrf": RRF_K, "k": wanted.k,
    }  # fmt: skip
    few = bool(wanted.filters) and await _passages_that_fit(connection, values) <= EXACT
    values["small"] = [name for name, (_, passages) in known.items() if few or passages <= EXACT]
    rows = await connection.execute(_statement(bool(wanted.filters)), values)
    found = [_passage(row) for row in rows.mappings()]
    if not wanted.neighbours:
        return [passage for passage, _ in found]
    return widened(found, await _around(connection, tenant, found, wanted.neighbours), wanted.neighbours)


async def sizes(connection: AsyncConnection, tenant: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Version and number of passages of the collections that ever had a document."""
    table = collections.c
    chosen = select(table.collection, table.version, table.passages)
    rows = await connection.execute(chosen.where(table.tenant == tenant, table.collection == func.any(array_of(names))))
    return {name: (version, count) for name, version, count in rows}


def _statement(filtered: bool) -> TextClause:
    fits = _FITS if filtered else ""
    compared = _NEAR.format(near=_COMPARED.format(fits=fits), distance=f"({_DISTANCE}) + 0", among="= ANY")
    walked = _NEAR.format(near=_WALKED.format(fits=fits), distance=_DISTANCE, among="<> ALL")
    fitting = _FITTING if filtered else ""
    return text(_SEARCH.format(looked_at=_LOOKED_AT, fitting=fitting, fits=fits, compared=compared, walked=walked))


async def _held(connection: AsyncConnection, tenant: str, names: Sequence[str], asked: Sequence[str]) -> dict[str, int]:
    """In how many passages of the collections each of the words stands, for those that do in any."""
    first = list(dict.fromkeys(asked))[: bm25.QUESTION_WORDS]
    table = lexicon.c
    chosen = select(table.word, func.sum(table.held)).where(
        table.tenant == tenant, table.collection == func.any(array_of(names)), table.word == func.any(array_of(first))
    )
    return {word: int(held) for word, held in await connection.execute(chosen.group_by(table.word))}


async def _passages_that_fit(connection: AsyncConnection, values: Mapping[str, object]) -> int:
    """How many passages the documents have that the filters let through."""
    counted = text("""
        SELECT coalesce(sum(e.chunks), 0) FROM editions AS e
            JOIN unnest(CAST(:collections AS text[]), CAST(:versions AS int8[])) AS a (collection, version) USING (collection)
        WHERE tenant = :tenant AND since <= version AND version < until AND metadata @> CAST(:filters AS jsonb)
    """)
    names = ("collections", "versions", "tenant", "filters")
    return int((await connection.execute(counted, {name: values[name] for name in names})).scalar_one())


async def _around(
    connection: AsyncConnection, tenant: str, found: Sequence[tuple[Passage, Place]], neighbours: int
) -> dict[Place, Piece]:
    versions = {passage.document: passage.version for passage, _ in found}
    wanted = wanted_places((place for _, place in found), neighbours)
    values = {
        "tenant": tenant,
        "documents": [place.document for place in wanted],
        "versions": [versions[place.document] for place in wanted],
        "places": [place.number for place in wanted],
    }
    rows = await connection.execute(_AROUND, values)
    return {Place(document, number): Piece(*rest) for document, number, *rest in rows}


def _passage(row: RowMapping) -> tuple[Passage, Place]:
    told = dict(row)
    return Passage.model_validate(told), Place(told["document"], told.pop("place"))
