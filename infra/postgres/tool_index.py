"""The catalogue in Postgres: meaning (pgvector), words (tsvector) and names (pg_trgm), fused in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import orjson
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from infra.postgres.engine import literal, transaction
from infra.postgres.lexemes import PLACES, lexemes, place, sparse, tsqueries
from schemas.canonical import digest
from schemas.events import ScoredCard
from schemas.tools import ToolCard
from services.retrieval import rank
from services.retrieval.bm25 import LOOKED_AT
from services.retrieval.rank import DEPTH, RRF_K
from services.retrieval.tool_index import SHARED, CardVersion, CatalogueState, Host, Put, Vector, check_holders
from services.retrieval.words import asked_words, card_text, card_weights, identifiers

BATCH = 1000
"""Cards put in at a time."""

_KNOWN = text("SELECT name, hash, lane FROM tool_cards WHERE tenant = :tenant AND name = ANY(CAST(:names AS text[]))")

# The lock is held until the commit, so that revisions are seen in their order.
_REVISE = text("SELECT nextval('tool_revision') FROM (SELECT pg_advisory_xact_lock(:lock)) AS held")
_LOCK = 0x544F4F4C  # "TOOL"

# All parts see the cards as they were before. Rows come as JSON: psycopg takes ten times as long over arrays of texts.
_PUT = text("""
WITH new AS MATERIALIZED (
    SELECT n.*, old.words AS old_words, old.since AS old_since, old.name IS NULL AS added,
        coalesce(known.embedder, '') AS embedder
    FROM json_to_recordset(CAST(:rows AS json))
        AS n (name text COLLATE "C", card text, lane text, hash text, digest text, words tsvector, weights sparsevec)
    LEFT JOIN tool_cards AS old ON old.tenant = :tenant AND old.name = n.name
    LEFT JOIN tool_vectors AS known ON known.embedder = :embedder AND known.digest = n.digest
    WHERE old.hash IS DISTINCT FROM n.hash
), closed AS (
    UPDATE tool_versions AS v SET until = :revision FROM new
    WHERE v.tenant = :tenant AND v.name = new.name AND v.since = new.old_since
), opened AS (
    INSERT INTO tool_versions (tenant, name, since, card) SELECT :tenant, name, :revision, CAST(card AS json) FROM new
), recounted AS (
    INSERT INTO tool_words AS old (tenant, word, cards)
    SELECT :tenant, word, sum(change) FROM (
        SELECT unnest(tsvector_to_array(words)) AS word, 1 AS change FROM new
        UNION ALL SELECT unnest(tsvector_to_array(old_words)), -1 FROM new
    ) AS changes GROUP BY word HAVING sum(change) <> 0
    ON CONFLICT (tenant, word) DO UPDATE SET cards = old.cards + excluded.cards
), written AS (
    INSERT INTO tool_cards (tenant, name, since, lane, hash, digest, embedder, words, weights)
    SELECT :tenant, name, :revision, lane, hash, digest, embedder, words, weights FROM new
    ON CONFLICT (tenant, name) DO UPDATE SET since = excluded.since, lane = excluded.lane, hash = excluded.hash,
        digest = excluded.digest, embedder = excluded.embedder, words = excluded.words, weights = excluded.weights
), counted AS (
    INSERT INTO tool_catalogues AS old (tenant, revision, cards)
    SELECT :tenant, :revision, count(*) FILTER (WHERE added) FROM new HAVING count(*) > 0
    ON CONFLICT (tenant) DO UPDATE SET revision = excluded.revision, cards = old.cards + excluded.cards
)
SELECT count(*) AS changed, count(*) FILTER (WHERE embedder <> :embedder) AS unembedded FROM new
""")
_REMOVE = text("""
WITH gone AS (
    DELETE FROM tool_cards WHERE tenant = :tenant AND name = ANY(CAST(:names AS text[])) RETURNING name, since, words
), closed AS (
    UPDATE tool_versions AS v SET until = :revision FROM gone
    WHERE v.tenant = :tenant AND v.name = gone.name AND v.since = gone.since
), recounted AS (
    UPDATE tool_words AS w SET cards = w.cards - less.cards
    FROM (SELECT unnest(tsvector_to_array(words)) AS word, count(*) AS cards FROM gone GROUP BY 1) AS less
    WHERE w.tenant = :tenant AND w.word = less.word
)
UPDATE tool_catalogues AS c SET revision = :revision, cards = c.cards - less.cards
FROM (SELECT count(*) AS cards FROM gone) AS less WHERE c.tenant = :tenant AND less.cards > 0
""")

# Ranges of an index instead of a <>, so that what is done is not read. Those with a vector of another embedder come last.
_UNEMBEDDED = text("""
WITH waiting AS (
    (SELECT tenant, name, since FROM tool_cards WHERE embedder = '' ORDER BY since DESC LIMIT :limit)
    UNION ALL (SELECT tenant, name, since FROM tool_cards WHERE embedder > '' AND embedder < :embedder LIMIT :limit)
    UNION ALL (SELECT tenant, name, since FROM tool_cards WHERE embedder > :embedder LIMIT :limit)
)
SELECT tenant, v.card FROM waiting JOIN tool_versions AS v USING (tenant, name, since)
ORDER BY since DESC, tenant, name LIMIT :limit
""")
_LEARN = text("""
INSERT INTO tool_vectors (embedder, digest, vector)
SELECT :embedder, digest, vector FROM json_to_recordset(CAST(:rows AS json)) AS new (digest text, vector halfvec)
ORDER BY digest ON CONFLICT DO NOTHING
""")
_EMBEDDED = text("""
UPDATE tool_cards SET embedder = :embedder WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM tool_cards WHERE digest = ANY(CAST(:digests AS text[])) AND embedder <> :embedder
    ORDER BY tenant, name FOR UPDATE
))
""")

# The tenant's cards, and of the shared ones those of which it has none of its own. One look into an index for each shared
# card that is met: an EXISTS would be answered by reading all names of the tenant.
_OFFERED = """
    c.tenant IN (:tenant, :shared)
    AND (c.tenant = :tenant OR (SELECT true FROM tool_cards AS own WHERE own.tenant = :tenant AND own.name = c.name) IS NULL)
    AND c.name <> ALL (CAST(:exclude AS text[])) AND (:anywhere OR c.lane = ANY (CAST(:lanes AS text[])))
"""

# asked: the words that any card holds. query: rarer words lead to cards, common ones only add to the score of those.
# hnsw.iterative_scan keeps the filter from starving the scan of the vectors.
_SEARCH = text(f"""
WITH asked AS MATERIALIZED (
    SELECT lexeme, place, held, ln(1 + (total - held + 0.5) / (held + 0.5)) AS rarity,
        sum(held) OVER (ORDER BY held, lexeme COLLATE "C") AS reached
    FROM unnest(CAST(:words AS text[]), CAST(:lexemes AS text[]), CAST(:places AS int[])) AS a (word, lexeme, place),
        LATERAL (SELECT sum(cards) AS held FROM tool_words AS w WHERE w.tenant IN (:tenant, :shared) AND w.word = a.word) AS w,
        (SELECT sum(cards) AS total FROM tool_catalogues WHERE tenant IN (:tenant, :shared)) AS t
    WHERE held > 0
), query AS MATERIALIZED (
    SELECT CAST(string_agg(lexeme, ' | ') FILTER (WHERE reached <= :enough OR reached = held) AS tsquery) AS leads,
        CAST('{{' || string_agg(place || ':' || rarity, ',') || '}}/' || :dimensions AS sparsevec) AS rarities
    FROM asked
), lexical AS (
    SELECT c.tenant, c.name, -(c.weights <#> query.rarities) AS score FROM query, tool_cards AS c
    WHERE c.words @@ query.leads AND {_OFFERED}
    ORDER BY score DESC, c.name LIMIT :depth
), dense AS (
    SELECT c.tenant, c.name, -(v.vector <#> CAST(:vector AS halfvec)) AS score
    FROM tool_vectors AS v JOIN tool_cards AS c USING (digest)
    WHERE CAST(:vector AS halfvec) IS NOT NULL AND v.embedder = :embedder AND {_OFFERED}
    ORDER BY v.vector <#> CAST(:vector AS halfvec) LIMIT :depth
), name AS (
    SELECT c.tenant, c.name, max(similarity(c.name, asked)) AS score
    FROM unnest(CAST(:identifiers AS text[])) AS asked JOIN tool_cards AS c ON c.name % asked
    WHERE {_OFFERED}
    GROUP BY c.tenant, c.name ORDER BY score DESC, c.name LIMIT :depth
), lists AS (
    SELECT 'lexical' AS list, tenant, name, score, row_number() OVER (ORDER BY score DESC, name) AS place FROM lexical
    UNION ALL SELECT 'dense', tenant, name, score, row_number() OVER (ORDER BY score DESC, name) FROM dense
    UNION ALL SELECT 'name', tenant, name, score, row_number() OVER (ORDER BY score DESC, name) FROM name
), found AS (
    SELECT tenant, name, sum(1.0 / (:rrf + place)) AS rrf, max(score) FILTER (WHERE list = 'name') AS alike
    FROM lists GROUP BY tenant, name
)
SELECT c.tenant, c.name, c.since, CAST(rrf AS float8) AS rrf, CAST(alike AS float8) AS alike,
    -(v.vector <#> CAST(:vector AS halfvec)) AS dense, 0 - (c.weights <#> query.rarities) AS lexical
FROM found JOIN tool_cards AS c USING (tenant, name)
    LEFT JOIN tool_vectors AS v ON v.embedder = :embedder AND v.digest = c.digest, query
""")
_CARDS = text("""
SELECT v.card FROM unnest(CAST(:tenants AS text[]), CAST(:names AS text[]), CAST(:sinces AS bigint[])) WITH ORDINALITY
    AS best (tenant, name, since, place) JOIN tool_versions AS v USING (tenant, name, since) ORDER BY place
""")

_GET = text("""
SELECT v.card FROM tool_cards AS now JOIN tool_versions AS v USING (tenant, name, since)
WHERE tenant IN (:tenant, :shared) AND name = ANY(CAST(:names AS text[])) ORDER BY tenant = :tenant
""")
_PAGE = text("""
WITH page AS (
    (SELECT tenant, name, since FROM tool_cards WHERE tenant = :tenant AND name > :after ORDER BY name LIMIT :limit)
    UNION ALL
    (SELECT tenant, name, since FROM tool_cards AS shared WHERE tenant = :shared AND name > :after
        AND NOT EXISTS (SELECT FROM tool_cards AS own WHERE own.tenant = :tenant AND own.name = shared.name)
    ORDER BY name LIMIT :limit)
)
SELECT v.card FROM page JOIN tool_versions AS v USING (tenant, name, since) ORDER BY name LIMIT :limit
""")
_STATE = text("""
SELECT coalesce(max(revision), 0), coalesce(sum(cards), 0),
    (SELECT count(*) FROM tool_cards WHERE tenant IN (:tenant, :shared) AND embedder < :embedder)
    + (SELECT count(*) FROM tool_cards WHERE tenant IN (:tenant, :shared) AND embedder > :embedder)
FROM tool_catalogues WHERE tenant IN (:tenant, :shared)
""")
_VERSIONS = text("""
SELECT card, since, until FROM tool_versions WHERE tenant IN (:tenant, :shared) AND name = :name ORDER BY since
""")

_HEARD = text("""
INSERT INTO tool_hosts AS old (lane, seen, queue, failing)
SELECT * FROM unnest(CAST(:lanes AS text[]), CAST(:seen AS timestamptz[]), CAST(:queues AS int[]), CAST(:failing AS float8[]))
ORDER BY 1
ON CONFLICT (lane) DO UPDATE SET seen = excluded.seen, queue = excluded.queue, failing = excluded.failing
WHERE old.seen < excluded.seen
""")
_HOSTS = text("SELECT lane, seen, queue, failing FROM tool_hosts")


class PostgresToolIndex:
    """ToolIndex over the tables tool_*.

    embedder: whose vectors are written and compared. keeper: the engine of a role that sees the cards of every tenant, for
    their vectors; without one, `engine` must be such.
    """

    def __init__(self, engine: AsyncEngine, embedder: str, keeper: AsyncEngine | None = None) -> None:
        self._engine = engine
        self._embedder = embedder
        self._keeper = keeper or engine

    async def put(
        self, tenant: str, cards: Sequence[ToolCard], vectors: Mapping[str, Vector] | None = None,
        holders: Mapping[str, str] | None = None,
    ) -> Put:  # fmt: skip
        if vectors:
            await self.embedded(vectors)
        changed = unembedded = 0
        for some in _batches(list({card.name: card for card in cards}.values())):
            put = await self._put(tenant, some, holders)
            changed, unembedded = changed + put.changed, unembedded + put.unembedded
        return Put(changed=changed, unembedded=unembedded)

    async def _put(self, tenant: str, cards: Sequence[ToolCard], holders: Mapping[str, str] | None) -> Put:
        hashes = {card.name: card.hash() for card in cards}
        named: dict[str, object] = {"tenant": tenant, "names": list(hashes)}
        async with transaction(self._engine, tenant) as connection:
            known = {row.name: row.hash for row in await connection.execute(_KNOWN, named)}
        changed = [card for card in cards if known.get(card.name) != hashes[card.name]]
        if not changed:
            return Put(changed=0, unembedded=0)
        said = await asyncio.to_thread(_rows, changed)
        async with transaction(self._engine, tenant) as connection:
            revision = await connection.scalar(_REVISE, {"lock": _LOCK})
            if holders is not None:
                lanes = {row.name: row.lane for row in await connection.execute(_KNOWN, named)}
                check_holders(holders, lanes, (card.name for card in changed))
            values = {"tenant": tenant, "revision": revision, "embedder": self._embedder, "rows": said}
            done = (await connection.execute(_PUT, values)).one()
        return Put(changed=done.changed, unembedded=done.unembedded)

    async def unembedded(self, limit: int) -> list[tuple[str, ToolCard]]:
        async with transaction(self._keeper) as connection:
            rows = await connection.execute(_UNEMBEDDED, {"embedder": self._embedder, "limit": limit})
            return [(tenant, ToolCard.model_validate(card)) for tenant, card in rows]

    async def embedded(self, vectors: Mapping[str, Vector]) -> None:
        by_digest = {_digest(said): vector for said, vector in vectors.items()}
        rows = [{"digest": key, "vector": literal(vector)} for key, vector in by_digest.items()]
        values = {"embedder": self._embedder, "digests": list(by_digest), "rows": orjson.dumps(rows).decode()}
        async with transaction(self._keeper) as connection:
            await connection.execute(_LEARN, values)
            await connection.execute(_EMBEDDED, values)

    async def remove(self, tenant: str, names: Sequence[str]) -> None:
        values = {"tenant": tenant, "names": list(names)}
        async with transaction(self._engine, tenant) as connection:
            if not (await connection.execute(_KNOWN, values)).first():
                return
            revision = await connection.scalar(_REVISE, {"lock": _LOCK})
            await connection.execute(_REMOVE, {**values, "revision": revision})

    async def search(
        self, tenant: str, text: str, vector: Vector | None, k: int, exclude: Sequence[str] = (),
        lanes: Sequence[str] | None = None,
    ) -> list[ScoredCard]:  # fmt: skip
        values = {
            "tenant": tenant,
            "shared": SHARED,
            "vector": literal(vector),
            "embedder": self._embedder,
            "identifiers": identifiers(text),
            "exclude": list(exclude),
            "anywhere": lanes is None,
            "lanes": list(lanes or ()),
            "enough": LOOKED_AT,
            "depth": DEPTH,
            "rrf": RRF_K,
            **_asked(text),
        }
        async with transaction(self._engine, tenant) as connection:
            found = {row["name"]: row for row in (await connection.execute(_SEARCH, values)).mappings()}
            raw = {name: _raw(row) for name, row in found.items()}
            shares = rank.score(raw)
            best = sorted(found, key=lambda name: (-shares[name]["fused"], name))[:k]
            cards = await self._cards(connection, [found[name] for name in best])
        return [
            ScoredCard(card=card, score=why["fused"], why={**raw[name], "rrf": found[name]["rrf"], **why})
            for name, card, why in ((card.name, card, shares[card.name]) for card in cards)
        ]

    async def _cards(self, connection: AsyncConnection, rows: Sequence[RowMapping]) -> list[ToolCard]:
        """The versions that were found, in their order."""
        values = {f"{field}s": [row[field] for row in rows] for field in ("tenant", "name", "since")}
        return [ToolCard.model_validate(card) for card in await connection.scalars(_CARDS, values)]

    async def get(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        return await self._get(tenant, names, SHARED)

    async def own(self, tenant: str, names: Sequence[str]) -> list[ToolCard]:
        return await self._get(tenant, names, tenant)

    async def _get(self, tenant: str, names: Sequence[str], shared: str) -> list[ToolCard]:
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(_GET, {"tenant": tenant, "shared": shared, "names": list(names)})
            cards = {card.name: card for card in map(ToolCard.model_validate, rows.scalars())}
        return [cards[name] for name in dict.fromkeys(names) if name in cards]

    async def page(self, tenant: str, after: str = "", limit: int = 200) -> list[ToolCard]:
        values = {"tenant": tenant, "shared": SHARED, "after": after, "limit": limit}
        async with transaction(self._engine, tenant) as connection:
            return [ToolCard.model_validate(card) for card in (await connection.execute(_PAGE, values)).scalars()]

    async def state(self, tenant: str) -> CatalogueState:
        values = {"tenant": tenant, "shared": SHARED, "embedder": self._embedder}
        async with transaction(self._engine, tenant) as connection:
            revision, cards, unembedded = (await connection.execute(_STATE, values)).one()
        return CatalogueState(revision=revision, cards=cards, unembedded=unembedded)

    async def versions(self, tenant: str, name: str) -> list[CardVersion]:
        async with transaction(self._engine, tenant) as connection:
            rows = await connection.execute(_VERSIONS, {"tenant": tenant, "shared": SHARED, "name": name})
            return [CardVersion(card=ToolCard.model_validate(card), since=since, until=until) for card, since, until in rows]

    async def heard(self, hosts: Sequence[Host]) -> None:
        latest = {host.lane: host for host in sorted(hosts, key=lambda host: host.seen)}.values()
        values = {
            "lanes": [host.lane for host in latest],
            "seen": [host.seen for host in latest],
            "queues": [host.queue for host in latest],
            "failing": [host.failing for host in latest],
        }
        async with transaction(self._engine) as connection:
            await connection.execute(_HEARD, values)

    async def hosts(self) -> dict[str, Host]:
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_HOSTS)
            return {row.lane: Host.model_validate(row, from_attributes=True) for row in rows}


def _asked(text: str) -> dict[str, object]:
    """The words of a request as one statement unnests them; of two words of one place the second counts."""
    asked = list({place(word): word for word in asked_words(text)}.values())
    return {"words": asked, "lexemes": tsqueries(asked), "places": [place(word) for word in asked], "dimensions": PLACES}


def _raw(row: RowMapping) -> dict[str, float]:
    """The scores of a candidate by list; of those that it has."""
    scores = {"dense": row["dense"], "lexical": row["lexical"], "name": row["alike"]}
    return {part: score for part, score in scores.items() if score is not None}


def _batches(cards: Sequence[ToolCard]) -> Iterator[Sequence[ToolCard]]:
    """So few at a time that others need not wait long for their turn."""
    for at in range(0, len(cards), BATCH):
        yield cards[at : at + BATCH]


def _rows(cards: Sequence[ToolCard]) -> str:
    """The rows of cards as a JSON list."""
    return orjson.dumps([_row(card) for card in cards]).decode()


def _row(card: ToolCard) -> dict[str, object]:
    weights = card_weights(card)
    return {
        "name": card.name,
        "card": card.model_dump_json(),  # a text: a JSON value would be read, and Postgres reads no \u0000
        "lane": card.lane,
        "hash": card.hash(),
        "digest": _digest(card_text(card)),
        "words": lexemes(weights),
        "weights": sparse(weights),
    }


def _digest(said: str) -> str:
    return digest("text", said)
