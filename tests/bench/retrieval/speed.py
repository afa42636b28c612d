"""How fast tools are put in and found, in a PostgreSQL of its own: 16,861 tools, and 100,000 vectors.

Tools are the 15,920 APIs of Alibaba Cloud (zh and en) and those of HammerBench; requests are HammerBench's, half zh, half en.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import numpy as np
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.embedded import nats_server, postgres
from infra.jetstream.bus import JetStreamBus
from infra.jetstream.connection import connect as open_connection
from infra.postgres.engine import connect, migrate, transaction
from infra.postgres.tool_index import PostgresToolIndex
from runtime.bus import Bus
from runtime.clock import SystemClock
from schemas.tools import ToolCard
from services.retrieval.embedder import Embedder
from services.retrieval.embedding_queue import EmbeddingQueue
from services.retrieval.tool_index import SHARED
from services.retrieval.tuned import TunedEmbedder, for_tools
from services.retrieval.words import card_text
from tests.bench.retrieval import places
from tests.bench.retrieval.places import Matrix
from tests.bench.retrieval.vectors import hundred_thousand, share_found
from tests.support.servers import open_folder

TENANT = "bench"
LANGUAGES: tuple[places.Language, ...] = ("zh", "en")
EACH = 150
"""Requests of a language."""

ROUNDS = 3
AT_ONCE = 500
"""Cards that an import puts in at a time."""

EMBEDDED_AT_ONCE = 8
"""As the service's queue does it."""

SINGLES = 8
PATIENCE_S = 60.0
FEW_LANES = 40
K = 10

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Bench:
    """A catalogue under measurement. questions: vectors of the requests; passages: those of the cards, in their order."""

    service: AsyncEngine
    owner: AsyncEngine
    index: PostgresToolIndex
    embedding: Embedder
    cards: Sequence[ToolCard]
    passages: Matrix
    requests: Sequence[str]
    questions: Matrix


def measure() -> Figures:
    """All figures of this half. Raises MilepostError when data or model are missing."""
    return asyncio.run(_measure())


async def _measure() -> Figures:
    cards = [*places.alibaba(), *places.hammerbench("zh")[0]]
    plain = await places.embedder()
    tuned = for_tools(plain)
    requests = [request for language in LANGUAGES for request in _some(language)]
    questions = np.array(await tuned.embed(requests, "query"), np.float32)
    passages = await _passages(plain, tuned, [card.name for card in cards])
    async with url() as address:
        service, keeper = connect(address, role="milepost_service"), connect(address, role="milepost_keeper")
        owner = connect(address)
        index = PostgresToolIndex(service, tuned.name, keeper)
        bench = Bench(service, owner, index, tuned, cards, passages, requests, questions)
        figures: Figures = {}
        for part in (imported, singles_beside_import, vectors_follow, searched, nearest, filtered, hundred_thousand_nearest):
            figures |= await part(bench)
        for engine in (service, keeper, owner):
            await engine.dispose()
    return figures


async def _passages(plain: Embedder, tuned: Embedder, names: Sequence[str]) -> Matrix:
    """The vectors of the zh cards of these names, which `quality` needs as well: what a vector says does not change speed."""
    cards = {card.name: card for card in (*places.alibaba("zh"), *places.hammerbench("zh")[0])}
    vectors = await places.passages(plain, [card_text(cards[name]) for name in names])
    return tuned.moved(vectors, "passage") if isinstance(tuned, TunedEmbedder) else vectors


def _some(language: places.Language) -> list[str]:
    texts = [request.text for request in places.hammerbench(language)[1]]
    return random.Random(4).sample(texts, EACH)


@asynccontextmanager
async def url() -> AsyncIterator[str]:
    """A PostgreSQL as a stack has it, empty but for its tables; gone afterwards."""
    with open_folder() as folder:
        server = await postgres.start(folder)
        try:
            await migrate(server.url)
            yield server.url
        finally:
            await postgres.stop(server)


@asynccontextmanager
async def database() -> AsyncIterator[AsyncEngine]:
    """The same as its owner."""
    async with url() as address:
        engine = connect(address)
        yield engine
        await engine.dispose()


# --- putting in ---------------------------------------------------------------------------------------------------


async def imported(bench: Bench) -> Figures:
    """All cards, found by their words at once; the same again, which changes nothing; 10,000 more that come at once."""
    seconds = await _timed(lambda: _put(bench, bench.cards))
    again = await _timed(lambda: _put(bench, bench.cards))
    burst = [card.model_copy(update={"name": f"burst_{number}"}) for number, card in enumerate(bench.cards[:10_000])]
    began, slowest = time.perf_counter(), 0.0
    for batch in _batches(burst, AT_ONCE):
        put_at = time.perf_counter()
        await bench.index.put("another", batch)
        slowest = max(slowest, time.perf_counter() - put_at)
    burst_s = time.perf_counter() - began
    await bench.index.remove("another", [card.name for card in burst])
    return {"import_s": seconds, "import_again_s": again, "burst_10000_s": burst_s, "burst_batch_max_ms": slowest * 1000}


async def _put(bench: Bench, cards: Sequence[ToolCard]) -> None:
    for batch in _batches(cards, AT_ONCE):
        await bench.index.put(SHARED, batch)


async def singles_beside_import(bench: Bench) -> Figures:
    """While the queue embeds the import: from putting one new card in until a search finds it by its vector."""
    queue = EmbeddingQueue(bench.index, bench.embedding, SystemClock(), "bench")
    waits = []
    async with _bus() as bus:
        embedding = asyncio.create_task(queue.run(bus))
        for number in range(SINGLES):
            card = ToolCard(name=f"late_{number}", description=f"Tells what sort {number} of tea tastes like.", parameters={})
            (question,) = await bench.embedding.embed([card.description], "query")
            began = time.perf_counter()
            await bench.index.put(TENANT, [card])
            queue.wake([card])
            async with asyncio.timeout(PATIENCE_S):
                while "dense" not in await _why(bench, card, question):
                    await asyncio.sleep(0.01)
            waits.append((time.perf_counter() - began) * 1000)
        embedding.cancel()
        with suppress(asyncio.CancelledError):
            await embedding
    return {"register_to_vector_ms": float(np.median(waits)), "register_to_vector_max_ms": max(waits)}


@asynccontextmanager
async def _bus() -> AsyncIterator[Bus]:
    with open_folder() as folder:
        server = await nats_server.start(folder)
        try:
            connection = await open_connection(server.url, name="bench")
            yield JetStreamBus(connection)
            await connection.close()
        finally:
            await nats_server.stop(server)


async def _why(bench: Bench, card: ToolCard, question: Sequence[float]) -> dict[str, float]:
    found = await bench.index.search(TENANT, card.description, question, K)
    return next((each.why for each in found if each.card.name == card.name), {})


async def vectors_follow(bench: Bench) -> Figures:
    """How long the index takes to store the vectors of the whole import, and the embedder to make them."""
    texts = [card_text(card) for card in bench.cards]
    began = time.perf_counter()
    for at in range(0, len(texts), EMBEDDED_AT_ONCE * 8):
        rows = range(at, min(at + EMBEDDED_AT_ONCE * 8, len(texts)))
        await bench.index.embedded({texts[row]: bench.passages[row].tolist() for row in rows})
    stored = time.perf_counter() - began
    sample = random.Random(4).sample(texts, 64)
    made = await _timed(lambda: bench.embedding.embed(sample, "passage")) / len(sample) * len(texts)
    async with transaction(bench.owner) as connection:
        await connection.execute(text("ANALYZE"))
    return {"vectors_stored_s": stored, "vectors_made_s": made}


# --- finding ------------------------------------------------------------------------------------------------------


async def searched(bench: Bench) -> Figures:
    """A search alone, and with the embedding of its request; with the statistics that autovacuum makes after an import."""
    async with transaction(bench.owner) as connection:
        await connection.execute(text("ANALYZE"))
    alone, together = [], []
    for _ in range(ROUNDS):
        for request, question in zip(bench.requests, bench.questions.tolist(), strict=True):
            alone.append(await _timed(lambda: bench.index.search(TENANT, request, question, K)))  # noqa: B023
    for request in bench.requests:
        began = time.perf_counter()
        await bench.index.search(TENANT, request, (await bench.embedding.embed([request], "query"))[0], K)
        together.append(time.perf_counter() - began)
    return {
        "search_p50_ms": _percentile(alone, 50),
        "search_p95_ms": _percentile(alone, 95),
        "search_embed_p95_ms": _percentile(together, 95),
    }


async def nearest(bench: Bench) -> Figures:
    """The vectors alone: by the index (HNSW) and one by one (exact), and how many of the exact ten HNSW finds."""
    figures: Figures = {}
    for name, setting in (("hnsw", "on"), ("exact", "off")):
        times, found = [], []
        async with transaction(bench.service) as connection:
            await connection.execute(text(f"SET LOCAL enable_indexscan = {setting}"))
            for question in bench.questions:
                began = time.perf_counter()
                rows = await connection.execute(_NEAREST, {"vector": str(question.tolist()), "k": K})
                found.append([digest for (digest,) in rows])
                times.append(time.perf_counter() - began)
        figures[f"{name}_p95_ms"] = _percentile(times, 95)
        exact = found
        if name == "hnsw":
            by_hnsw = found
    return figures | {"hnsw_recall_10": share_found(by_hnsw, exact)}


_NEAREST = text("SELECT digest FROM tool_vectors ORDER BY vector <#> CAST(:vector AS halfvec) LIMIT :k")


async def filtered(bench: Bench) -> Figures:
    """Recall of the nearest ten when only one card in forty may be found (by its lane), and how long that takes."""
    few = [card.model_copy(update={"lane": "few"}) for card in bench.cards[::FEW_LANES]]
    rows = bench.passages[::FEW_LANES]
    await bench.index.put(SHARED, few)
    found, exact, times = [], [], []
    for question in bench.questions:
        began = time.perf_counter()
        hits = await bench.index.search(TENANT, "", question.tolist(), K, lanes=["few"])
        times.append(time.perf_counter() - began)
        found.append([hit.card.name for hit in hits])
        exact.append([few[row].name for row in np.argsort(-(rows @ question), kind="stable")[:K]])
    await bench.index.put(SHARED, bench.cards[::FEW_LANES])
    return {"filtered_recall_10": share_found(found, exact), "filtered_p95_ms": _percentile(times, 95)}


async def hundred_thousand_nearest(bench: Bench) -> Figures:
    """Vectors between those of the cards."""
    return await hundred_thousand(bench.owner, bench.passages, bench.questions)


def _batches(cards: Sequence[ToolCard], size: int) -> Iterator[Sequence[ToolCard]]:
    for at in range(0, len(cards), size):
        yield cards[at : at + size]


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def _percentile(seconds: Sequence[float], percent: float) -> float:
    """In milliseconds."""
    return float(np.percentile(seconds, percent)) * 1000
