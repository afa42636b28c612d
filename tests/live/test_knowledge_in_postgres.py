"""Documents in Postgres beyond the contract: equal to the twin over any history, really deleted, filters that lose nothing."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from infra.postgres import knowledge_search
from infra.postgres.engine import connect, transaction
from infra.postgres.knowledge_index import PostgresKnowledgeIndex
from schemas.canonical import digest
from services.retrieval.chunks import Chunk
from services.retrieval.embedder import HashEmbedder
from services.retrieval.knowledge_index import KnowledgeIndex, NewDocument, Wanted
from services.retrieval.memory_knowledge_index import MemoryKnowledgeIndex

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
EMBEDDER = HashEmbedder()
TABLES = ("collections", "lexicon", "documents", "editions", "pieces", "passages")

T = TypeVar("T")


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(postgres_url, role="milepost_service")
    yield engine
    await engine.dispose()


def pieces(*texts: str) -> tuple[Chunk, ...]:
    chunks, at = [], 0
    for each in texts:
        chunks.append(Chunk(text=each, heading="", start=at, end=at + len(each), hash=digest("", each)))
        at += len(each) + 1
    return tuple(chunks)


async def put(index: KnowledgeIndex, document: NewDocument, tenant: str = "acme") -> object:
    missing = await index.missing(tenant, document.collection, document.source, document.chunks)
    texts = {chunk.hash: chunk.text for chunk in document.chunks if chunk.hash in missing}
    vectors = dict(zip(texts, await EMBEDDER.embed(list(texts.values()), "passage"), strict=True))
    return await index.add(tenant, document, vectors, NOW)


def document(source: str, *texts: str, collection: str = "default", **metadata: str) -> NewDocument:
    return NewDocument(collection=collection, source=source, title=source, chunks=pieces(*texts), metadata=metadata)


COLLECTIONS = st.sampled_from(["one", "two"])
SOURCES = st.sampled_from(["a.md", "b.md"])
WORDS = st.lists(st.sampled_from(["renew", "停机 的 费用", "backup", "i-bp1x4", "the"]), max_size=4)
METADATA = st.dictionaries(st.sampled_from(["lang", "product"]), st.sampled_from(["zh", "en"]), max_size=2)


class Histories(RuleBasedStateMachine):
    """Any history of adding, changing, removing and looking back is the same in Postgres and in its twin."""

    url = ""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.engine = connect(self.url, role="milepost_service")
        self.tenant = secrets.token_hex(8)
        self.one, self.other = PostgresKnowledgeIndex(self.engine, EMBEDDER.name), MemoryKnowledgeIndex()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.engine.dispose())
        self.loop.close()

    def both(self, one: Awaitable[T], other: Awaitable[T]) -> tuple[T, T]:
        async def wait(each: Awaitable[T]) -> T:
            return await each

        return self.loop.run_until_complete(wait(one)), self.loop.run_until_complete(wait(other))

    @rule(collection=COLLECTIONS, source=SOURCES, words=WORDS, metadata=METADATA)
    def add(self, collection: str, source: str, words: list[str], metadata: dict[str, str]) -> None:
        new = document(source, *(f"{source} {word}." for word in words), collection=collection, **metadata)
        one, other = self.both(put(self.one, new, self.tenant), put(self.other, new, self.tenant))
        assert one == other

    @rule(collection=COLLECTIONS, source=SOURCES)
    def remove(self, collection: str, source: str) -> None:
        one, other = self.both(*(each.remove(self.tenant, collection, source) for each in (self.one, self.other)))
        assert one == other

    @rule(collection=COLLECTIONS)
    def remove_collection(self, collection: str) -> None:
        one, other = self.both(*(each.remove_collection(self.tenant, collection) for each in (self.one, self.other)))
        assert one == other

    @rule(words=WORDS, filters=METADATA, neighbours=st.integers(0, 2), versions=st.dictionaries(COLLECTIONS, st.integers(0, 8)))
    def search(self, words: list[str], filters: dict[str, str], neighbours: int, versions: dict[str, int]) -> None:
        wanted = Wanted(
            text=" ".join(words), collections=("one", "two"), k=100, filters=filters, neighbours=neighbours, versions=versions
        )  # fmt: skip
        (vector,) = self.loop.run_until_complete(EMBEDDER.embed([wanted.text], "query"))
        one, other = self.both(*(each.search(self.tenant, wanted, vector) for each in (self.one, self.other)))
        left_out = {"score", "similarity", "hash"} if neighbours else {"score", "similarity"}
        assert {each.model_dump_json(exclude=left_out) for each in one} == {
            each.model_dump_json(exclude=left_out) for each in other
        }
        assert max((each.score for each in one), default=0) == pytest.approx(max((each.score for each in other), default=0))

    @invariant()
    def equal(self) -> None:
        if hasattr(self, "one"):
            one, other = self.both(*(each.documents(self.tenant) for each in (self.one, self.other)))
            assert one == other
            now, twin = self.both(*(each.versions(self.tenant, ["one", "two"]) for each in (self.one, self.other)))
            assert now == twin


def test_any_history_is_the_same_in_postgres_and_in_its_twin(postgres_url: str) -> None:
    Histories.url = postgres_url
    limits = settings(max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Histories, settings=limits)


async def test_nothing_of_a_removed_document_stays(engine: AsyncEngine, postgres_url: str) -> None:
    index = PostgresKnowledgeIndex(engine, EMBEDDER.name)
    await put(index, document("kept.md", "The gym opens at six."))
    await put(index, document("secret.md", "Zanzibar opens at seven.", "Old words: quagga."))
    await put(index, document("secret.md", "Zanzibar opens at eight.", owner="ocelot"))
    before = await everything(postgres_url)
    assert all(word in before for word in ("zanzibar", "quagga", "ocelot", "secret"))
    await index.remove("acme", "default", "secret.md")
    after = await everything(postgres_url)
    assert not [word for word in ("zanzibar", "quagga", "ocelot", "secret", "seven", "eight") if word in after]
    assert "gym" in after and "opens" in after
    owner = create_async_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    async with owner.connect() as connection:
        for table in TABLES:
            await connection.execute(text(f"VACUUM {table}"))
        await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        dead = await connection.execute(text("SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE n_dead_tup > 0"))
        assert [row for row in dead if row[0] in TABLES] == []
    await owner.dispose()


async def everything(url: str) -> str:
    """All rows of all tables of this database, as text."""
    engine = connect(url)
    async with transaction(engine) as connection:
        names = await connection.scalars(
            text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        )
        rows = [row for name in names for row in await connection.scalars(text(f'SELECT CAST(t AS text) FROM "{name}" AS t'))]
    await engine.dispose()
    return "\n".join(rows).lower()


async def test_a_passage_that_stays_keeps_its_row(engine: AsyncEngine, postgres_url: str) -> None:
    index = PostgresKnowledgeIndex(engine, EMBEDDER.name)
    await put(index, document("a.md", "First sentence.", "Second sentence.", "Third sentence."))

    async def rows() -> dict[str, tuple[str, str]]:
        async with transaction(engine, "acme") as connection:
            found = await connection.execute(text("SELECT text, CAST(ctid AS text), CAST(xmin AS text) FROM passages"))
            return {said: (place, writer) for said, place, writer in found}

    before = await rows()
    await put(index, document("a.md", "Something new.", "First sentence.", "Third sentence."))
    after = await rows()
    assert after["First sentence."] == before["First sentence."] and after["Third sentence."] == before["Third sentence."]
    assert after.keys() == {"First sentence.", "Second sentence.", "Third sentence.", "Something new."}


async def test_filters_lose_nothing_where_the_graph_is_walked(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    index = PostgresKnowledgeIndex(engine, EMBEDDER.name)
    rng = random.Random(3)
    for number in range(24):
        texts = [f"{rng.choice(['renewal', 'backup', 'price', 'region'])} {rng.random()} of {number}" for _ in range(10)]
        await put(index, document(f"{number}.md", *texts, group=str(number % 12)))
        await put(index, document(f"{number}.md", *texts, group=str(number % 12)), tenant="other")
    (vector,) = await EMBEDDER.embed(["renewal 0.5"], "query")
    for filters in ({}, {"group": "7"}):
        wanted = Wanted(text="", k=10, filters=filters)
        exact = await index.search("acme", wanted, vector)
        monkeypatch.setattr(knowledge_search, "EXACT", 0)
        walked = await index.search("acme", wanted, vector)
        monkeypatch.undo()
        assert len(exact) == 10 and len({each.hash for each in exact} & {each.hash for each in walked}) >= 9


async def test_words_are_looked_up_in_their_index_under_row_level_security(engine: AsyncEngine, postgres_url: str) -> None:
    index = PostgresKnowledgeIndex(engine, EMBEDDER.name)
    await put(index, document("a.md", *(f"sentence number {number}" for number in range(300))))
    owner = connect(postgres_url)
    async with transaction(owner) as connection:
        await connection.execute(text("ANALYZE passages"))
    await owner.dispose()
    async with transaction(engine, "acme") as connection:
        plan = await connection.scalars(
            text(
                "EXPLAIN SELECT 1 FROM passages WHERE tenant = 'acme' AND collection = 'default' AND words @@ '''7'''::tsquery"
            )
        )
        assert "words @@" in next(line for line in plan if "Index Cond" in line)
