"""How long recall takes in a conversation of 1,000 turns: history, similar turns, summary and facts, in Postgres.

The query's embedding is not counted. `python -m tests.bench.retrieval.memory` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from infra.embedded import postgres
from infra.postgres.conversations import PostgresConversationStore
from infra.postgres.engine import connect, migrate, transaction
from infra.postgres.user_facts import PostgresFactStore
from services.memory.facts import fact_of
from services.memory.ports import EndedTurn, NewTurn, Wanted
from services.memory.similar import Meaning
from services.retrieval.embedder import HashEmbedder

TURNS, OTHERS, RECALLS, WARM = 1_000, 4, 200, 10
NOW = datetime(2026, 11, 21, tzinfo=UTC)
TENANT, TALK = "bench", "talk"


def measure(turns: int = TURNS, recalls: int = RECALLS) -> dict[str, float]:
    """Milliseconds of opening a turn and recalling for it. Keys: memory_recall_p50_ms, memory_recall_p95_ms."""
    home = Path(tempfile.mkdtemp(prefix="mp-"))
    home.chmod(0o711)
    try:
        return asyncio.run(_measure(home, turns, recalls))
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _measure(home: Path, turns: int, recalls: int) -> dict[str, float]:
    server = await postgres.start(home)
    try:
        await migrate(server.url)
        engine = connect(server.url, role="milepost_service")
        store = PostgresConversationStore(engine)
        draw = random.Random(7)
        await _fill(store, PostgresFactStore(engine), draw, turns)
        await _analyse(server.url)
        for number in range(WARM):
            await _recall(store, draw, -number - 1)
        taken = sorted([await _recall(store, draw, number) for number in range(recalls)])
        await engine.dispose()
    finally:
        await postgres.stop(server)
    return {
        "memory_recall_p50_ms": round(taken[len(taken) // 2], 2),
        "memory_recall_p95_ms": round(taken[int(len(taken) * 0.95)], 2),
    }


async def _fill(store: PostgresConversationStore, facts: PostgresFactStore, draw: random.Random, turns: int) -> None:
    """One long conversation among a few others of the same tenant, all with vectors."""
    for number in range(turns):
        for talk in (TALK, f"other-{number % OTHERS}"):
            await _say(store, talk, f"{talk}-{number}", _sentence(draw, 14), _sentence(draw, 40))
    while lacking := await store.unembedded(TENANT, None, 100):
        await store.embedded(TENANT, {turn.run: await _meaning(turn.text) for turn in lacking})
    for number in range(20):
        await facts.remember(TENANT, "ann", fact_of(f"fact {number}", _sentence(draw, 8), "bench"), NOW)
    for number, upto in enumerate(range(50, turns, 50)):
        await store.want_summary(TENANT, TALK, f"{TALK}-{upto}", f"summary-{number}", NOW)
        await store.summarised(TENANT, f"summary-{number}", _sentence(draw, 80))


async def _analyse(url: str) -> None:
    """What Postgres does by itself within a minute: without statistics it reads all turns of the tenant to find one."""
    owner = connect(url)
    async with transaction(owner) as connection:
        await connection.execute(text("ANALYZE"))
    await owner.dispose()


async def _recall(store: PostgresConversationStore, draw: random.Random, number: int) -> float:
    run, query = f"recall-{number}", _sentence(draw, 12)
    wanted = Wanted(
        run=run, history_tokens=800, similar=5, facts=8, summary=True, query=query, meaning=await _meaning(query)
    )  # fmt: skip
    began = time.perf_counter()
    await store.begin_turn(TENANT, _turn(TALK, run), NOW)
    told = await store.recall(TENANT, wanted)
    took = (time.perf_counter() - began) * 1000
    assert told.history and told.similar and told.summary and len(told.facts) == 8
    await store.end_turn(TENANT, _ended(TALK, run, query, None), NOW)
    return took


async def _say(store: PostgresConversationStore, talk: str, run: str, task: str, answer: str) -> None:
    await store.begin_turn(TENANT, _turn(talk, run), NOW)
    await store.end_turn(TENANT, _ended(talk, run, task, answer), NOW)


def _turn(talk: str, run: str) -> NewTurn:
    return NewTurn(conversation=talk, run=run, user="ann", when_busy="queue", deadline=NOW + timedelta(hours=1))


def _ended(talk: str, run: str, task: str, answer: str | None) -> EndedTurn:
    outcome = "failed" if answer is None else "answered"
    return EndedTurn.model_validate(
        {"conversation": talk, "run": run, "user": "ann", "task": task, "answer": answer, "outcome": outcome}
    )


async def _meaning(text: str) -> Meaning:
    (vector,) = await HashEmbedder().embed([text], "query")
    return Meaning(embedder="hashed", fits=0.15, vector=tuple(vector))


_VOCABULARY = [f"word{number}" for number in range(2_000)]
_WEIGHTS = [1 / (number + 5) for number in range(2_000)]


def _sentence(draw: random.Random, words: int) -> str:
    """Words as often as in a language: few of them very often, most of them seldom."""
    return " ".join(draw.choices(_VOCABULARY, _WEIGHTS, k=words))


if __name__ == "__main__":
    print(json.dumps(measure()))
