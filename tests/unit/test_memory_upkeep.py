"""What memory does after a turn, what it asks of retrieval, and what people ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from runtime.bus import ServiceInfo
from runtime.errors import Unreachable
from runtime.memory_broker import MemoryBroker
from schemas.errors import MilepostError, ProtocolError
from services.memory.memory_store import MemoryConversationStore
from services.memory.over_the_bus import embedding, meaning_of
from services.memory.ports import EndedTurn, Kind, NewTurn, Wanted
from services.memory.questions import Questions
from services.memory.similar import Meaning
from services.memory.summaries import Request
from services.memory.upkeep import Upkeep
from services.retrieval.embedder import HashEmbedder
from services.retrieval.embedding import MOST_TEXTS, Embedding
from tests.support.simulation import working

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RETRIEVAL = ServiceInfo("retrieval", "1", "")


class FixedClock:
    def now(self) -> datetime:
        return NOW


@pytest.fixture
def store() -> MemoryConversationStore:
    return MemoryConversationStore()


async def talk_of(store: MemoryConversationStore, count: int, tokens: int = 100) -> None:
    for number in range(count):
        run = f"r{number}"
        turn = NewTurn(conversation="talk", run=run, user="ann", when_busy="queue", deadline=NOW + timedelta(hours=1))
        await store.begin_turn("acme", turn, NOW)
        await store.recall("acme", Wanted(run=run, history_tokens=400, summary=True))
        said = EndedTurn(conversation="talk", run=run, user="ann", task="t" * 4 * tokens, answer="a", outcome="answered")
        await store.end_turn("acme", said, NOW)


async def until(holds: object) -> None:
    """Wait for a condition, given as a coroutine function."""
    async with asyncio.timeout(10):
        while not await holds():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def hashed(texts: Sequence[str], kind: Kind) -> list[Meaning]:
    vectors = await HashEmbedder().embed(texts, kind)
    return [Meaning(embedder="hashed", fits=0.15, vector=tuple(vector)) for vector in vectors]


async def test_turns_get_their_vectors_when_somebody_makes_vectors_again(
    store: MemoryConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.memory.upkeep.PAUSE_S", 0.01)
    tries = 0

    async def embed(texts: Sequence[str], kind: Kind) -> list[Meaning]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unreachable("Nobody answers.")
        return await hashed(texts, kind)

    async def all_have_one() -> bool:
        return not await store.unembedded("acme", "hashed", 99)

    await talk_of(store, 40)
    upkeep = Upkeep(store, FixedClock(), embed=embed)
    upkeep.stored("acme", "talk", "ann", None)
    async with working(upkeep.run()):
        await until(all_have_one)
    assert tries == 5


async def test_one_summary_is_asked_for_when_it_is_due(store: MemoryConversationStore) -> None:
    asked: list[Request] = []

    async def ask(tenant: str, request: Request) -> None:
        asked.append(request)

    upkeep = Upkeep(store, FixedClock(), ask=ask)
    await talk_of(store, 3)
    await upkeep.summarise("acme", "talk", "ann", 400)
    assert asked == []
    await talk_of(store, 5)
    await asyncio.gather(*(upkeep.summarise("acme", "talk", "ann", 400) for _ in range(4)))
    (request,) = asked
    assert (request.upto, request.user) == ("r4", "ann")


async def test_a_summary_that_cannot_be_asked_for_harms_nobody(store: MemoryConversationStore) -> None:
    async def ask(tenant: str, request: Request) -> None:
        raise Unreachable("The log does not answer.")

    async def embedded() -> bool:
        return not await store.unembedded("acme", "hashed", 99)

    await talk_of(store, 5)
    upkeep = Upkeep(store, FixedClock(), embed=hashed, ask=ask)
    upkeep.stored("acme", "talk", "ann", 400)
    async with working(upkeep.run()):
        await until(embedded)


async def test_a_summarising_run_is_not_looked_after(store: MemoryConversationStore) -> None:
    async def ask(tenant: str, request: Request) -> None:
        raise AssertionError("a summary of a summary")

    upkeep = Upkeep(store, FixedClock(), ask=ask)
    upkeep.stored("acme", "summary-" + "0123" * 8, "ann", 400)
    assert not upkeep.pending


async def test_vectors_come_over_the_bus_as_retrieval_makes_them() -> None:
    broker, embed = MemoryBroker(), embedding(MemoryBroker())
    async with broker.serve(RETRIEVAL, Embedding(HashEmbedder()).answers, dict):
        (meaning, _) = await embedding(broker)(["hello 你好", "مرحبا"], "query")
        with pytest.raises(ProtocolError):
            await embedding(broker)(["x"] * (MOST_TEXTS + 1), "passage")
        with pytest.raises(ProtocolError):
            await embedding(broker)(["x" * 20_001], "passage")
    assert meaning.embedder == HashEmbedder.name and len(meaning.vector) == 384
    assert sum(part * part for part in meaning.vector) == pytest.approx(1.0, abs=1e-5)
    assert await meaning_of("hello", embed) is None, "nobody answers there"
    assert await meaning_of("   ", hashed) is None


async def test_of_a_huge_request_the_beginning_is_embedded() -> None:
    broker = MemoryBroker()
    async with broker.serve(RETRIEVAL, Embedding(HashEmbedder()).answers, dict):
        assert await meaning_of("字" * 100_000, embedding(broker)) is not None


@pytest.mark.parametrize(
    "answer", [b"[]", b'{"embedder": "e", "fits": 1}', b'{"embedder": "e", "fits": 1, "vectors": [[1], [2]]}', b"x"]
)
async def test_an_answer_that_is_no_vectors_is_a_protocol_error(answer: bytes) -> None:
    async def odd(_: bytes) -> bytes:
        return answer

    broker = MemoryBroker()
    async with broker.serve(RETRIEVAL, {"embed": odd}, dict):
        with pytest.raises(ProtocolError):
            await embedding(broker)(["one"], "query")


async def test_people_read_page_by_page(store: MemoryConversationStore) -> None:
    await talk_of(store, 12, tokens=20_000)
    questions = Questions(store, store, FixedClock())
    page = orjson.loads(await questions.turns(b'{"tenant": "acme", "conversation": "talk", "limit": 12}'))
    assert 1 <= len(page) < 12 and page[-1]["turn"]["run"] == "r11", "a message holds no more"
    earlier = orjson.dumps({"tenant": "acme", "conversation": "talk", "limit": 3, "before": page[0]["ended"]})
    assert [each["ended"] < page[0]["ended"] for each in orjson.loads(await questions.turns(earlier))] == [True] * 3


@pytest.mark.parametrize(
    ("verb", "question"),
    [
        ("turns", b"{}"), ("turns", b'{"conversation": "a b"}'), ("turns", b'{"conversation": "c", "limit": 0}'),
        ("turns", b'{"conversation": "c", "before": 99999999999999999999}'), ("talks", b'{"before": "yesterday"}'),
        ("search_turns", b'{"text": ""}'), ("search_turns", b"[]"), ("remember", b'{"key": "", "text": "x"}'),
        ("remember", b'{"key": "k", "text": "x", "user": "a.b"}'), ("facts", b"\xff"), ("forget_fact", b'{"user": ""}'),
        ("search_turns", orjson.dumps({"text": "x" * 20_001})), ("remember", b"{" * 10_000),
    ],
)  # fmt: skip
async def test_a_bad_question_gets_an_error_that_says_why(store: MemoryConversationStore, verb: str, question: bytes) -> None:
    with pytest.raises(MilepostError):
        await Questions(store, store, FixedClock()).answers[verb](question)
