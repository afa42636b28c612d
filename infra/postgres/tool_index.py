"""The catalogue in Postgres: meaning (pgvector), words (tsvector) and names (pg_trgm), fused in one statement."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import any_, delete, select, text, true
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import array_of, literal, transaction
from infra.postgres.lexemes import tsqueries, tsvector
from infra.postgres.tables import tool_cards
from schemas.events import ScoredCard
from schemas.tools import ToolCard
from services.retrieval.ports import SHARED, Vector
from services.retrieval.rank import DEPTH, RRF_K
from services.retrieval.words import card_fields, identifiers, words

_UPSERT = text("""
INSERT INTO tool_cards AS old (tenant, name, card, hash, words, embedder, vector)
VALUES (:tenant, :name, CAST(:card AS json), :hash, CAST(:words AS tsvector), :embedder, CAST(:vector AS vector))
ON CONFLICT (tenant, name) DO UPDATE SET
    card = excluded.card, hash = excluded.hash, words = excluded.words, updated = now(),
    embedder = CASE WHEN excluded.vector IS NULL AND old.hash = excluded.hash THEN old.embedder ELSE excluded.embedder END,
    vector = CASE WHEN excluded.vector IS NULL AND old.hash = excluded.hash THEN old.vector ELSE excluded.vector END
WHERE old.hash <> excluded.hash
    OR (excluded.vector IS NOT NULL AND (old.vector IS NULL OR old.embedder <> excluded.embedder))
""")

# Words are weighed by rarity as in BM25; hnsw.iterative_scan keeps the filter from starving the vector scan.
_SEARCH = text("""
WITH dense AS (
    SELECT tenant, name, 1 - (vector <=> CAST(:vector AS vector)) AS score
    FROM tool_cards
    WHERE CAST(:vector AS vector) IS NOT NULL AND embedder = :embedder
        AND tenant IN (:tenant, :shared) AND name <> ALL (CAST(:exclude AS text[]))
    ORDER BY vector <=> CAST(:vector AS vector) LIMIT :depth
), terms AS MATERIALIZED (
    SELECT word, ln(1 + (total - held + 0.5) / (held + 0.5)) AS rarity
    FROM (
        SELECT word, (SELECT count(*) FROM tool_cards WHERE words @@ word) AS held
        FROM unnest(CAST(:words AS tsquery[])) AS word
    ) AS counted, (SELECT count(*) AS total FROM tool_cards) AS cards
), lexical AS (
    SELECT c.tenant, c.name, sum(t.rarity * ts_rank('{0.1, 0.4, 0.7, 1.0}', c.words, t.word, 1)) AS score
    FROM terms AS t JOIN tool_cards AS c ON c.words @@ t.word
    WHERE c.tenant IN (:tenant, :shared) AND c.name <> ALL (CAST(:exclude AS text[]))
    GROUP BY c.tenant, c.name ORDER BY score DESC, c.name LIMIT :depth
), name AS (
    SELECT c.tenant, c.name, max(similarity(c.name, asked)) AS score
    FROM unnest(CAST(:identifiers AS text[])) AS asked JOIN tool_cards AS c ON c.name % asked
    WHERE c.tenant IN (:tenant, :shared) AND c.name <> ALL (CAST(:exclude AS text[]))
    GROUP BY c.tenant, c.name ORDER BY score DESC, c.name LIMIT :depth
), parts AS (
    SELECT 'dense' AS part, tenant, name, score, rank() OVER (ORDER BY score DESC, name) AS place FROM dense
    UNION ALL SELECT 'lexical', tenant, name, score, rank() OVER (ORDER BY score DESC, name) FROM lexical
    UNION ALL SELECT 'name', tenant, name, score, rank() OVER (ORDER BY score DESC, name) FROM name
), fused AS (
    SELECT tenant, name, sum(1.0 / (:rrf + place)) AS score,
        json_object_agg(part, score) AS raw, json_object_agg('rrf_' || part, 1.0 / (:rrf + place)) AS shares
    FROM parts GROUP BY tenant, name
)
SELECT c.card, CAST(f.score AS float8) AS score, f.raw, f.shares
FROM fused AS f JOIN tool_cards AS c USING (tenant, name)
WHERE f.tenant = :tenant
    OR NOT EXISTS (SELECT FROM tool_cards AS own WHERE own.tenant = :tenant AND own.name = f.name)
ORDER BY f.score DESC, f.name LIMIT :k
""")


class PostgresToolIndex:
    """ToolIndex over the table tool_cards. embedder: whose vectors are written and compared."""

    def __init__(self, engine: AsyncEngine, embedder: str) -> None:
        self._engine = engine
        self._embedder = embedder

    async def missing(self, tenant: str, cards: Sequence[ToolCard]) -> set[str]:
        table = tool_cards.c
        wanted = select(table.name, table.hash).where(
            table.tenant == tenant,
            table.name == any_(array_of([card.name for card in cards])),
            table.embedder == self._embedder,
            table.vector.is_not(None),
        )
        async with transaction(self._engine) as connection:
            known = {(name, digest) for name, digest in await connection.execute(wanted)}
        return {card.name for card in cards if (card.name, card.hash()) not in known}

    async def upsert(self, tenant: str, card: ToolCard, vector: Vector | None) -> None:
        said = card_fields(card)
        values = {
            "tenant": tenant,
            "name": card.name,
            "card": card.model_dump_json(),
            "hash": card.hash(),
            "words": tsvector(("A", words(said.names)), ("B", words(said.text)), ("C", words(said.parameters))),
            "embedder": None if vector is None else self._embedder,
            "vector": literal(vector),
        }
        async with transaction(self._engine) as connection:
            await connection.execute(_UPSERT, values)

    async def remove(self, tenant: str, name: str) -> None:
        async with transaction(self._engine) as connection:
            await connection.execute(delete(tool_cards).where(tool_cards.c.tenant == tenant, tool_cards.c.name == name))

    async def search(
        self, tenant: str, text: str, vector: Vector | None, k: int, exclude: Sequence[str] = ()
    ) -> list[ScoredCard]:
        values = {
            "tenant": tenant,
            "shared": SHARED,
            "vector": literal(vector),
            "embedder": self._embedder,
            "words": tsqueries(words(text)),
            "identifiers": identifiers(text),
            "exclude": list(exclude),
            "depth": DEPTH,
            "rrf": RRF_K,
            "k": k,
        }
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_SEARCH, values)
            return [
                ScoredCard(card=ToolCard.model_validate(card), score=score, why={**raw, **shares})
                for card, score, raw, shares in rows
            ]

    async def get(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        cards = {card.name: card for card in await self._visible(tenant, names)}
        return [cards[name] for name in dict.fromkeys(names) if name in cards]

    async def all(self, tenant: str) -> list[ToolCard]:
        return await self._visible(tenant, None)

    async def _visible(self, tenant: str, names: Sequence[str] | None) -> list[ToolCard]:
        """By name; of two cards of one name the tenant's own."""
        table = tool_cards.c
        named = true() if names is None else table.name == any_(array_of(names))
        chosen = select(table.name, table.card).where(table.tenant.in_([tenant, SHARED]), named)
        async with transaction(self._engine) as connection:
            rows = await connection.execute(chosen.order_by(table.tenant != SHARED))
        cards = {name: card for name, card in rows}
        return [ToolCard.model_validate(card) for _, card in sorted(cards.items())]
