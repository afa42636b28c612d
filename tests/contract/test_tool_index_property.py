"""Whatever is done to a catalogue, the one in memory and the one in Postgres agree on what it is and what is found."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import connect, transaction
from infra.postgres.tool_index import PostgresToolIndex
from schemas.events import ScoredCard
from schemas.tools import ToolCard
from services.retrieval.memory_tool_index import MemoryToolIndex
from services.retrieval.tool_index import SHARED
from services.retrieval.words import card_text

T = TypeVar("T")

NAMES = ("RenewInstance", "StopInstance", "get_weather", "renew_instance")
WORDS = ("renew", "instance", "weather", "city", "续费", "实例", "天气", "renewals")
LANES = ("here", "there")
DIMENSIONS = 384

tenants = st.sampled_from((SHARED, "acme", "globex"))
names = st.sampled_from(NAMES)
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
cards = st.builds(
    lambda name, said, lane: ToolCard(name=name, description=said, parameters={}, lane=lane),
    names, texts, st.sampled_from(LANES),
)  # fmt: skip


def vector_for(said: str) -> list[float]:
    """One of a few vectors that half precision holds exactly, so that both compute the same cosines."""
    vector = [0.0] * DIMENSIONS
    vector[len(said) % 5] = 1.0
    return vector


ALL = 1000


class Catalogues(RuleBasedStateMachine):
    """The same done to both."""

    engine: AsyncEngine
    loop: asyncio.AbstractEventLoop

    @initialize()
    def empty(self) -> None:
        self.twin, self.real = MemoryToolIndex(), PostgresToolIndex(self.engine, "e")
        self.loop.run_until_complete(self._empty())

    async def _empty(self) -> None:
        tables = "tool_cards, tool_versions, tool_catalogues, tool_words, tool_vectors, tool_hosts"
        async with transaction(self.engine) as connection:
            await connection.execute(text(f"TRUNCATE {tables}"))
            await connection.execute(text("ALTER SEQUENCE tool_revision RESTART"))

    def both(self, one: Coroutine[object, object, T], other: Coroutine[object, object, T]) -> tuple[T, T]:
        return self.loop.run_until_complete(one), self.loop.run_until_complete(other)

    @rule(tenant=tenants, put=st.lists(cards, max_size=3), with_vectors=st.booleans())
    def put(self, tenant: str, put: list[ToolCard], with_vectors: bool) -> None:
        vectors = {card_text(card): vector_for(card_text(card)) for card in put} if with_vectors else None
        one, other = self.both(self.twin.put(tenant, put, vectors), self.real.put(tenant, put, vectors))
        assert one == other

    @rule(tenant=tenants, gone=st.lists(names, max_size=2))
    def remove(self, tenant: str, gone: list[str]) -> None:
        self.both(self.twin.remove(tenant, gone), self.real.remove(tenant, gone))

    @rule(limit=st.integers(1, 3))
    def embed(self, limit: int) -> None:
        one, other = self.both(self.twin.unembedded(ALL), self.real.unembedded(ALL))
        assert one == other
        some, others = self.both(self.twin.unembedded(limit), self.real.unembedded(limit))
        assert len(some) == len(others) == min(limit, len(one))  # which of those that were put at once is nobody's matter
        vectors = {card_text(card): vector_for(card_text(card)) for _, card in some}
        self.both(self.twin.embedded(vectors), self.real.embedded(vectors))

    @rule(tenant=tenants)
    def same_state(self, tenant: str) -> None:
        one, other = self.both(self.twin.state(tenant), self.real.state(tenant))
        assert one == other

    @rule(
        tenant=tenants, said=st.one_of(texts, names), k=st.integers(1, 5), exclude=st.lists(names, max_size=1),
        lanes=st.one_of(st.none(), st.lists(st.sampled_from(LANES), max_size=1)), with_vector=st.booleans(),
    )  # fmt: skip
    def search(self, tenant: str, said: str, k: int, exclude: list[str], lanes: list[str] | None, with_vector: bool) -> None:
        vector = vector_for(said) if with_vector else None
        one, other = self.both(
            self.twin.search(tenant, said, vector, k, exclude, lanes),
            self.real.search(tenant, said, vector, k, exclude, lanes),
        )
        assert_alike(one, other)

    def teardown(self) -> None:
        if not hasattr(self, "twin"):
            return
        for tenant in (SHARED, "acme"):
            for one, other in (
                self.both(self.twin.state(tenant), self.real.state(tenant)),
                self.both(self.twin.page(tenant, limit=3), self.real.page(tenant, limit=3)),
                self.both(self.twin.get(tenant, NAMES), self.real.get(tenant, NAMES)),
                self.both(self.twin.versions(tenant, NAMES[0]), self.real.versions(tenant, NAMES[0])),
            ):
                assert one == other


def assert_alike(one: Sequence[ScoredCard], other: Sequence[ScoredCard]) -> None:
    """The same scores in the same order; of cards with equal scores either may come first or be left out."""
    assert [hit.score for hit in other] == pytest.approx([hit.score for hit in one], abs=1e-4)
    least = one[-1].score + 1e-4 if one else 0.0
    whys = [{hit.card.name: _raw(hit) for hit in hits if hit.score > least} for hits in (one, other)]
    assert whys[0].keys() == whys[1].keys()
    for name, why in whys[0].items():
        assert whys[1][name] == pytest.approx(why, abs=1e-4)


def _raw(hit: ScoredCard) -> dict[str, float]:
    """Without the place by which equal ones are told apart."""
    return {name: value for name, value in hit.why.items() if name != "rrf"}


def test_memory_and_postgres_agree(postgres_url: str) -> None:
    loop = asyncio.new_event_loop()
    engine = connect(postgres_url)
    machine = type("Machine", (Catalogues,), {"engine": engine, "loop": loop})
    try:
        run_state_machine_as_test(
            machine, settings=settings(max_examples=8, stateful_step_count=12, deadline=None, database=None)
        )
    finally:
        loop.run_until_complete(engine.dispose())
        loop.close()
