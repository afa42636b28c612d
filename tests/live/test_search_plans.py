"""How much of a large catalogue, and of many documents, a search reads, as the role that the services have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres import knowledge_search
from infra.postgres.engine import connect, transaction
from infra.postgres.knowledge_index import PostgresKnowledgeIndex
from infra.postgres.tool_index import PostgresToolIndex
from runtime.clock import SystemClock
from schemas.tools import ToolCard
from services.retrieval.embedder import HashEmbedder
from services.retrieval.knowledge import Knowledge
from services.retrieval.knowledge_index import Wanted
from services.retrieval.tool_index import SHARED

CARDS = 1500
READ_AT_MOST = 500
VECTOR = [1.0] + [0.0] * 383

_IMPORTED = text("""
    INSERT INTO tool_cards (tenant, name, since, lane, hash, digest, embedder, words, weights)
    SELECT tenant, 'tool_' || n, n, 'far', repeat('h', 900), 'd' || n, :embedder, '', '{}/1000000000'
    FROM generate_series(1, :cards) AS n, unnest(CAST(:tenants AS text[])) AS tenant
""")

_VECTORS = text("""
    INSERT INTO tool_vectors (embedder, digest, vector)
    SELECT :embedder, 'd' || n, CAST(ARRAY(SELECT random() FROM generate_series(1, 384) WHERE n > 0) AS vector)
    FROM generate_series(1, :cards) AS n
""")


@pytest.fixture
async def service(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine, keeper = connect(postgres_url, role="milepost_service", pool=1), connect(postgres_url, role="milepost_keeper")
    values = {"embedder": HashEmbedder().name, "cards": CARDS, "tenants": ["acme", SHARED]}
    async with transaction(keeper) as connection:
        await connection.execute(_IMPORTED, values)
        await connection.execute(_VECTORS, values)
    owner = connect(postgres_url)
    async with transaction(owner) as connection:
        await connection.execute(text("ANALYZE tool_cards, tool_vectors"))
    for each in (keeper, owner):
        await each.dispose()
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("lanes", [["near"], None])
async def test_a_search_reads_few_of_many_cards(service: AsyncEngine, lanes: list[str] | None) -> None:
    plans = explained(service)
    index = PostgresToolIndex(service, HashEmbedder().name)
    await index.put("acme", [ToolCard(name="renew", description="renews it", parameters={"type": "object"}, lane="near")])
    found = await index.search("acme", "renew", VECTOR, 3, (), lanes)
    assert "renew" in {each.card.name for each in found}
    (plan,) = plans
    assert max(read_by(plan)) <= READ_AT_MOST


async def test_a_search_is_planned_for_what_it_asks_however_often_it_is_asked(service: AsyncEngine) -> None:
    index = PostgresToolIndex(service, HashEmbedder().name)
    for _ in range(16):
        await index.search("acme", "renew", VECTOR, 3, (), ["near"])
    async with transaction(service) as connection:
        kept = await connection.scalar(text("SELECT coalesce(sum(generic_plans), -1) FROM pg_prepared_statements"))
    assert kept == 0


_PASSAGES = [
    text("INSERT INTO collections VALUES ('acme', 'large', 1, :passages)"),
    text("INSERT INTO documents VALUES ('d', 'acme', 'large', 'd.txt')"),
    text("""
        INSERT INTO passages
        SELECT 'd', 'h' || n, 'acme', 'large', '{[1,)}', '', repeat('quagga ' || n, 90), array_to_tsvector(ARRAY['quagga']),
            '{1:1}/1000000000', :embedder, CAST(ARRAY(SELECT random() FROM generate_series(1, 384) WHERE n > 0) AS vector)
        FROM generate_series(1, :passages) AS n
    """),
    text("INSERT INTO lexicon VALUES ('acme', 'large', 'quagga', :passages)"),
]


async def test_a_small_collection_is_found_without_reading_the_large_one_beside_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge_search, "EXACT", 100)
    service, owner, embedder = connect(postgres_url, role="milepost_service"), connect(postgres_url), HashEmbedder()
    index = PostgresKnowledgeIndex(service, embedder.name)
    asked = {"source": "s.md", "text": "# Zoo\n\nThe quagga eats grass at noon.", "tenant": "acme", "collection": "small"}
    await Knowledge(index, embedder, SystemClock()).add_document(json.dumps(asked).encode())
    async with transaction(owner, "acme") as connection:
        for statement in _PASSAGES:
            await connection.execute(statement, {"passages": CARDS, "embedder": embedder.name})
        await connection.execute(text("ANALYZE"))
    plans = explained(service)
    (vector,) = await embedder.embed(["quagga grass"], "query")
    for collections in (("small",), ("small", "large")):
        found = await index.search("acme", Wanted(text="quagga grass", collections=collections), vector)
        assert found[0].source == "s.md"
    assert max(read_by(plans[0], "passages")) <= READ_AT_MOST
    for each in (service, owner):
        await each.dispose()


def explained(engine: AsyncEngine) -> list[dict[str, object]]:
    """The plans of the searches that follow, as they were run."""
    plans: list[dict[str, object]] = []

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def explain(_: object, cursor: DBAPICursor, statement: str, parameters: object, *__: object) -> None:
        if "lexical" in statement:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            said = cursor.fetchone()[0]
            plans.append((json.loads(said) if isinstance(said, str) else said)[0]["Plan"])

    return plans


def read_by(plan: dict[str, object], table: str = "tool_cards") -> Iterator[float]:
    """The rows that each scan of the table read."""
    if plan.get("Relation Name") == table:
        rows = sum(float(str(plan.get(key, 0))) for key in ("Actual Rows", "Rows Removed by Filter"))
        yield rows * float(str(plan["Actual Loops"]))
    inner = plan.get("Plans")
    for each in inner if isinstance(inner, list) else ():
        yield from read_by(each, table)
