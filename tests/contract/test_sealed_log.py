"""Sealed facts and commands, over the log and bus in memory and over real ones alike."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.jetstream import streams
from infra.jetstream.bus import JetStreamBus
from infra.jetstream.connection import connect
from infra.jetstream.log import JetStreamLog
from runtime.memory_broker import MemoryBroker
from runtime.sealing import Erased
from schemas.commands import CallTool
from schemas.errors import PayloadTooLarge
from schemas.events import ToolReturned
from schemas.sealing import Sealed
from schemas.tools import ToolResult
from tests.support.brokers import Feed, Member, empty, first
from tests.support.builders import NOW, TENANT, call, fact_of, order_for, request_fact, requested, run_of
from tests.support.sealing import CANARY, Keys, order_under, under
from tests.support.servers import RealNats

COMMAND = CallTool(call=call("clock", city=CANARY), card_hash="h", host="builtin")


@dataclass
class Place:
    """A log and a bus that seal; folder: where they lie on disk."""

    member: Member
    keys: Keys
    folder: Path | None = None


@pytest.fixture(scope="module")
def sealed_nats() -> AsyncIterator[tuple[RealNats, Path]]:
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        Path(folder).chmod(0o711)
        server = RealNats(Path(folder))
        yield server, Path(folder)
        server.close()


@pytest.fixture(params=["memory", "nats"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    keys = Keys()
    if request.param == "memory":
        broker = MemoryBroker(keys.sealing())
        yield Place(Member(broker, broker), keys)
        return
    server, folder = request.getfixturevalue("sealed_nats")
    async with AsyncExitStack() as stack:
        connection = await connect(server.url, name="test")
        stack.push_async_callback(connection.close)
        await empty(connection)
        await streams.ensure(connection, NOW)
        sealing = keys.sealing()
        log, bus = JetStreamLog(connection, sealing), JetStreamBus(connection, sealing)
        yield Place(Member(log, bus, connection), keys, folder)


async def a_run(place: Place) -> list[object]:
    datakey = await place.keys.datakey()
    request = under(request_fact(requested(task=CANARY)), datakey)
    said = ToolReturned(command=COMMAND, result=ToolResult(text=CANARY))
    facts = [request, under(fact_of(said, run_of(), "c" * 32), datakey)]
    assert [await place.member.log.append(fact) for fact in facts] == [True, True]
    return facts


def on_disk(folder: Path, what: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and what.encode() in path.read_bytes()]


async def test_facts_are_read_as_they_were_said_and_lie_sealed_on_disk(place: Place) -> None:
    facts = await a_run(place)
    log = place.member.log
    assert [each.fact for each in await log.read(run_of())] == facts
    assert [each.fact for each in await first(log.follow(run_of()), 2)] == facts
    assert [each.message for each in await first(log.facts("g"), 2)] == facts
    assert [each.message for each in await first(log.requests("g", 30.0), 1)] == facts[:1]
    await place.member.bus.send(order_under(order_for(COMMAND), await place.keys.datakey(), user=CANARY))
    if place.folder:
        assert on_disk(place.folder, run_of()) and not on_disk(place.folder, CANARY)


async def test_a_slot_takes_one_sealed_fact(place: Place) -> None:
    facts = await a_run(place)
    assert not await place.member.log.append(facts[0])  # type: ignore[arg-type]  # sealed anew, so in other bytes
    assert len(await place.member.log.read(run_of())) == 2


async def test_once_the_key_is_destroyed_every_reader_meets_sealed_facts_and_no_writer_adds_one(place: Place) -> None:
    facts = await a_run(place)
    await place.keys.store.destroy(TENANT, "ann")
    log = place.member.log
    bodies = [each.fact.body for each in await log.read(run_of())]
    bodies += [each.fact.body for each in await first(log.follow(run_of()), 2)]
    bodies += [each.message.body for each in await first(log.facts("g"), 2)]
    assert len(bodies) == 6 and all(isinstance(body, Sealed) for body in bodies)
    with pytest.raises(Erased):
        await log.append(facts[0])  # type: ignore[arg-type]


async def test_commands_arrive_opened_and_those_of_a_forgotten_user_are_dropped(place: Place) -> None:
    bus = place.member.bus
    annes, bobs = await place.keys.datakey("ann"), await place.keys.datakey("bob")
    of_bob = order_under(order_for(COMMAND, id="b" * 32), bobs, user="bob")
    await bus.send(order_under(order_for(COMMAND, id="a" * 32), annes, user="ann"))
    await place.keys.store.destroy(TENANT, "ann")
    await bus.send(of_bob)
    (delivery,) = await first(bus.orders("tools", "builtin", ack_wait_s=30.0, at_once=4), 1)
    assert delivery.message == of_bob


async def test_while_the_keys_are_away_what_waits_is_neither_lost_nor_counted_as_tried(place: Place) -> None:
    facts = await a_run(place)
    order = order_under(order_for(COMMAND), await place.keys.datakey(), user="ann")
    await place.member.bus.send(order)
    place.keys.away = True
    feeds = [
        Feed(place.member.log.facts("g")),
        Feed(place.member.bus.orders("tools", "builtin", ack_wait_s=30.0, at_once=4)),  # type: ignore[type-var]
    ]
    await place.keys.missed_by(4)  # both have looked, and looked again
    assert not any(feed.got for feed in feeds)
    place.keys.away = False
    assert [each.message for each in await feeds[0].have(2)] == facts
    (delivery,) = await feeds[1].have(1)
    assert (delivery.message, delivery.attempt) == (order, 1)
    for feed in feeds:
        await feed.close()


@pytest.mark.parametrize("place", ["nats"], indirect=True)
async def test_a_fact_that_is_too_large_once_sealed_is_refused_before_it_is_sent(place: Place) -> None:
    datakey = await place.keys.datakey()
    for size, fits in ((700_000, True), (800_000, False)):
        said = ToolReturned(command=COMMAND, result=ToolResult(text="x" * size))
        fact = under(fact_of(said, run_of(), f"{size:032x}"), datakey)
        if fits:
            assert await place.member.log.append(fact)
        else:
            with pytest.raises(PayloadTooLarge):
                await place.member.log.append(fact)
