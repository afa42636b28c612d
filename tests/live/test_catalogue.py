"""The catalogue over a real bus and a real database: hot registration, many cards at once, restarts."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.embedded import Server, postgres
from infra.jetstream.bus import JetStreamBus
from infra.jetstream.connection import Connection
from infra.postgres.engine import connect, migrate
from infra.postgres.tool_index import PostgresToolIndex
from runtime.bus import ServiceInfo
from schemas import subjects
from schemas.errors import MilepostError
from schemas.tools import Refusal, ToolCard
from services.retrieval.catalogue_questions import Registered, RegisterTool, RegisterTools
from services.retrieval.embedder import HashEmbedder
from services.retrieval.selection import Selection
from tests.support.brokers import Place

SOON_S = 20.0
MANY = 2000


@dataclass
class Catalogue:
    """A retrieval process: its selection, its index, and the bus it answers on."""

    selection: Selection
    index: PostgresToolIndex
    bus: JetStreamBus
    connection: Connection


@asynccontextmanager
async def catalogue(place: Place, engine: AsyncEngine) -> AsyncIterator[Catalogue]:
    member = await place.member()
    assert isinstance(member.bus, JetStreamBus) and member.connection
    embedder = HashEmbedder()
    index = PostgresToolIndex(engine, embedder.name)
    selection = Selection(index, embedder)
    info = ServiceInfo("retrieval", "1.0.0", "keeps the catalogue")
    async with member.bus.serve(info, selection.answers, dict):
        task = asyncio.create_task(selection.follow_cards(member.bus))
        try:
            yield Catalogue(selection, index, member.bus, member.connection)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    made = connect(postgres_url)
    yield made
    await made.dispose()


def card(name: str, description: str = "Renews a server.", *, lane: str = "mine", **fields: object) -> ToolCard:
    parameters = {"type": "object", "properties": {"InstanceId": {"type": "string"}}}
    return ToolCard.model_validate({"name": name, "description": description, "parameters": parameters, "lane": lane, **fields})


async def until(holds: Callable[[], Awaitable[bool]], limit_s: float = SOON_S) -> float:
    """Wait for it; seconds it took."""
    begun = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not await holds():
            await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def test_a_card_published_by_any_process_is_found_by_words_and_by_meaning(nats: Place, engine: AsyncEngine) -> None:
    async with catalogue(nats, engine) as one:
        raw = card("renew_server", "Extends the subscription. 续费云服务器").model_dump_json().encode()
        client = one.connection.client
        await client.publish(subjects.card("default", "mine", "renew_server"), raw)

        async def found() -> bool:
            hits = await one.selection.search.find("default", "续费我的云服务器", 3)
            return bool(hits) and {"dense", "lexical"} <= hits[0].why.keys()

        await until(found)
        assert one.selection.hosts.presence("mine") == "here"


async def test_what_is_no_card_is_buried_and_its_publisher_told(nats: Place, engine: AsyncEngine) -> None:
    async with catalogue(nats, engine) as one:
        told: list[Refusal] = []

        async def hear(_: str, raw: bytes) -> None:
            told.append(Refusal.model_validate_json(raw))

        async with one.bus.hear(subjects.refused_of("mine"), hear):
            client = one.connection.client
            await one.bus.publish_card("default", card("first"))  # the stream is there
            wrong = json.loads(card("other").model_dump_json())
            for name, raw in (
                ("binary", b"\x00\xff\x00"), ("list", b"[]"), ("misnamed", json.dumps(wrong).encode()),
                ("schemaless", json.dumps({**wrong, "name": "schemaless", "parameters": {"type": "nope"}}).encode()),
            ):  # fmt: skip
                await client.publish(subjects.card("default", "mine", name), raw)
            await client.publish("mp.card.short", b"{}")
            await client.publish("mp.card.default.mine.too.long", b"{}")

            async def all_told() -> bool:
                return {each.tool for each in told} == {"binary", "list", "misnamed", "schemaless"}

            await until(all_told)
        assert all(each.what and each.why for each in told)
        assert {each.tool for each in one.selection.refusals.told()} == {"binary", "list", "misnamed", "schemaless"}
        assert [each.name for each in await one.index.page("default")] == ["first"]


async def test_a_card_that_is_asked_in_is_answered_with_what_became_of_it(nats: Place, engine: AsyncEngine) -> None:
    async with catalogue(nats, engine) as one:
        asker = (await nats.member()).bus
        question = subjects.question("retrieval", "register_tool")
        said = await asker.ask(question, RegisterTool(card=card("renew")).model_dump_json().encode(), 10.0)
        assert Registered.model_validate_json(said).changed == 1
        with pytest.raises(MilepostError, match="taken by the host mine") as caught:
            await asker.ask(question, RegisterTool(card=card("renew", lane="other")).model_dump_json().encode(), 10.0)
        assert caught.value.hint
        assert [each.lane for each in await one.index.get("default", ["renew"])] == ["mine"]


async def test_many_cards_at_once_are_all_found_and_none_twice(nats: Place, engine: AsyncEngine) -> None:
    """Two processes share the stream of cards; every card is found by its words, and later by its vector."""
    async with catalogue(nats, engine) as one, catalogue(nats, engine) as two:
        host = (await nats.member()).bus
        cards = [
            card(f"tool_{number:05}", f"Does the thing number{number}. 第{number}件事", lane="mass") for number in range(MANY)
        ]
        for at in range(0, MANY, 500):
            await asyncio.gather(*(host.publish_card("default", each) for each in cards[at : at + 500]))

        async def all_in() -> bool:
            return (await one.index.state("default")).cards == MANY

        await until(all_in, 120.0)
        for number in (0, 777, MANY - 1):
            (hit,) = await one.index.search("default", f"number{number}", None, 1)
            assert hit.card.name == f"tool_{number:05}"

        async def all_embedded() -> bool:
            return (await one.index.state("default")).unembedded == 0

        await until(all_embedded, 120.0)
        embedded = one.selection.queue.embedded + two.selection.queue.embedded
        assert MANY <= embedded <= MANY * 1.05  # two may begin with the same ones


@pytest.fixture
async def own_server(home: Path) -> AsyncIterator[Server]:
    server = await postgres.start(home)
    await migrate(server.url)
    yield server
    await postgres.stop(await postgres.start(home))


async def test_cards_survive_a_kill_of_the_database_while_they_come(nats: Place, own_server: Server, home: Path) -> None:
    """The database is killed in the middle of an import: the import goes on, and every card is there once."""
    engine = connect(own_server.url)
    async with catalogue(nats, engine) as one:
        host = (await nats.member()).bus
        question = subjects.question("retrieval", "register_tools")
        names = [f"tool_{number:04}" for number in range(600)]

        async def register(some: list[str]) -> None:
            raw = RegisterTools(cards=tuple(card(name, lane="catalogue") for name in some)).model_dump_json().encode()
            while True:
                try:
                    await host.ask(question, raw, 10.0)
                    return
                except MilepostError:
                    await asyncio.sleep(0.1)

        async def every() -> None:
            for at in range(0, 600, 50):
                await register(names[at : at + 50])

        importing = asyncio.create_task(every())
        published = [card(f"hosted_{number}") for number in range(50)]

        async def begun() -> bool:
            return (await one.index.state("default")).cards >= 100

        await until(begun, 60.0)
        own_server.process.send(signal.SIGKILL)
        await own_server.process.gone()
        await asyncio.gather(*(host.publish_card("default", each) for each in published))
        await postgres.start(home)
        await asyncio.wait_for(importing, 60.0)

        async def complete() -> bool:
            try:
                state = await one.index.state("default")
            except MilepostError:
                return False
            return (state.cards, state.unembedded) == (650, 0)

        await until(complete, 60.0)
        listed = [each.name for each in await one.index.page("default", limit=1000)]
        assert listed == sorted({*names, *(each.name for each in published)})
        for name in ("tool_0000", "tool_0599", "hosted_49"):
            assert len(await one.index.versions("default", name)) == 1
    await engine.dispose()
