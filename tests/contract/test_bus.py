"""What every bus promises, held against the one in memory and the one on a real nats-server."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace

import pytest

from runtime.bus import CardChange, ServiceInfo
from runtime.errors import Retryable, Unreachable
from schemas import subjects
from schemas.commands import CallTool
from schemas.envelope import Order
from schemas.errors import MilepostError, PayloadTooLarge
from tests.support.brokers import Feed, Place, first, shared
from tests.support.builders import CLOCK, RENEW, call, order_for, run_of

INFO = ServiceInfo("tools", "1.0.0", "a service under test")


def order(number: int, key: str = "key", host: str = "builtin", **material: object) -> Order:
    command = CallTool(call=call("clock", n=number), card_hash=CLOCK.hash(), host=host)
    return replace(order_for(command, run=run_of(key), id=f"{number:032x}"), material=material)


async def orders(place: Place, *, lane: str = "builtin", ack_wait_s: float = 0.6, at_once: int = 16) -> Feed:
    bus = (await place.member()).bus
    return Feed(bus.orders("tools", lane, ack_wait_s=ack_wait_s, at_once=at_once))


# --- orders -------------------------------------------------------------------------------------------


async def test_an_order_waits_for_its_worker_and_arrives_whole(place: Place) -> None:
    bus = (await place.member()).bus
    await bus.send(order(1, query="what time is it?"))
    feed = await orders(place)
    (got,) = await feed.have(1)
    assert got.message == order(1, query="what time is it?")
    assert got.attempt == 1
    await bus.send(order(2))
    assert [each.resent for each in await feed.have(2)][1] is False
    await feed.close()


async def test_orders_of_another_lane_or_role_go_elsewhere(place: Place) -> None:
    bus = (await place.member()).bus
    await bus.send(order(1, host="cloud"))
    await bus.send(order(2))
    feed, cloud = await orders(place), await orders(place, lane="cloud")
    assert [each.message.id for each in await feed.have(1)] == [order(2).id]
    assert [each.message.id for each in await cloud.have(1)] == [order(1).id]
    await feed.close()
    await cloud.close()


async def test_an_order_goes_to_one_worker(place: Place) -> None:
    bus, changed = (await place.member()).bus, asyncio.Condition()
    feeds = [Feed((await place.member()).bus.orders("tools", "builtin", ack_wait_s=5.0, at_once=8), changed) for _ in range(2)]
    for number in range(16):
        await bus.send(order(number))
    await shared(changed, feeds, 16)
    ids = [each.message.id for feed in feeds for each in feed.got]
    assert sorted(ids) == [order(number).id for number in range(16)]
    for feed in feeds:
        await feed.close()


async def test_an_order_sent_twice_waits_once(place: Place) -> None:
    members = [await place.member(), await place.member()]
    await asyncio.gather(*(member.bus.send(order(1), resent=bool(i)) for i in range(5) for member in members))
    await members[0].bus.send(order(2))
    feed = await orders(place, ack_wait_s=5.0)
    assert [each.message.id for each in await feed.have(2)] == [order(1).id, order(2).id]
    await members[0].bus.send(order(1), resent=True)  # it is being worked on
    await members[0].bus.send(order(3))
    assert (await feed.have(3))[2].message.id == order(3).id
    await feed.close()


async def test_an_order_that_is_gone_can_be_sent_again_and_says_so(place: Place) -> None:
    bus = (await place.member()).bus
    feed = await orders(place)
    await bus.send(order(1))
    await (await feed.have(1))[0].ack()
    while len(feed.got) < 2:  # the acknowledgement is on its way
        await bus.send(order(1), resent=True)
        await asyncio.sleep(0.01)
    assert (feed.got[1].message, feed.got[1].resent) == (order(1), True)
    await feed.close()


async def test_an_acknowledged_order_does_not_come_again_and_a_silent_one_does(place: Place) -> None:
    bus = (await place.member()).bus
    await bus.send(order(1))
    await bus.send(order(2))
    feed = await orders(place)
    await (await feed.have(2))[0].ack()
    again = (await feed.have(3))[2]
    assert (again.message.id, again.attempt) == (order(2).id, 2)
    await again.ack()
    await bus.send(order(3))
    assert (await feed.have(4))[3].message.id == order(3).id
    await feed.close()


async def test_again_brings_an_order_back_after_its_delay(place: Place) -> None:
    bus = (await place.member()).bus
    feed = await orders(place, ack_wait_s=30.0)
    await bus.send(order(1))
    begun = asyncio.get_running_loop().time()
    await (await feed.have(1))[0].again(0.3)
    again = (await feed.have(2))[1]
    assert 0.25 < asyncio.get_running_loop().time() - begun < 2.0
    begun = asyncio.get_running_loop().time()
    await again.again(0.0)
    await feed.have(3)
    assert asyncio.get_running_loop().time() - begun < 0.25
    await feed.close()


async def test_working_keeps_an_order(place: Place) -> None:
    bus = (await place.member()).bus
    feed = await orders(place, ack_wait_s=0.6)
    await bus.send(order(1))
    (got,) = await feed.have(1)
    for _ in range(8):
        await asyncio.sleep(0.2)
        await got.working()
    assert len(feed.got) == 1
    await got.ack()
    await feed.close()


async def test_a_worker_that_dies_leaves_its_orders_to_another(place: Place) -> None:
    dying, living = await place.member(), await place.member()
    feed = Feed(dying.bus.orders("tools", "builtin", ack_wait_s=0.6, at_once=4))
    await living.bus.send(order(1))
    await feed.have(1)
    await feed.close()
    if dying.connection:
        await dying.connection.client.close()
    heir = Feed(living.bus.orders("tools", "builtin", ack_wait_s=0.6, at_once=4))
    (got,) = await heir.have(1)
    assert (got.message.id, got.attempt) == (order(1).id, 2)
    await heir.close()


async def test_hundreds_of_orders_flow_through_few_hands(place: Place) -> None:
    bus = (await place.member()).bus
    seen: list[str] = []

    async def work() -> None:
        async with aclosing((await place.member()).bus.orders("tools", "builtin", ack_wait_s=5.0, at_once=4)) as deliveries:
            async for delivery in deliveries:
                seen.append(delivery.message.id)
                await delivery.ack()
                if len(seen) == 300:
                    return

    workers = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.gather(*(bus.send(order(number)) for number in range(300)))
    async with asyncio.timeout(15):
        await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
    for worker in workers:
        worker.cancel()
    assert sorted(seen) == [order(number).id for number in range(300)]


async def test_what_waits_for_a_run_that_ended_is_dropped(place: Place) -> None:
    bus = (await place.member()).bus
    await bus.send(order(1))
    await bus.send(order(2, "other"))
    await bus.forget(run_of())
    feed = await orders(place)
    assert [each.message.id for each in await feed.have(1)] == [order(2, "other").id]
    await feed.close()


# --- words --------------------------------------------------------------------------------------------


async def test_what_is_told_is_heard_by_all_who_listen_and_by_nobody_else(place: Place) -> None:
    speaker, bus = (await place.member()).bus, (await place.member()).bus
    heard: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()

    async def note(name: str, subject: str, data: bytes) -> None:
        await heard.put((name, subject, data))

    one, all_of_run = subjects.delta("acme", run_of(), "c" * 32), subjects.delta("acme", run_of(), "*")
    async with (
        bus.hear(one, lambda subject, data: note("one", subject, data)),
        bus.hear(all_of_run, lambda subject, data: note("all", subject, data)),
    ):
        await speaker.tell(subjects.delta("acme", run_of("other"), "c" * 32), b"not for us")
        await speaker.tell(one, b"hello")
        got = {await asyncio.wait_for(heard.get(), 5) for _ in range(2)}
    assert got == {("one", one, b"hello"), ("all", one, b"hello")}
    await speaker.tell(one, b"too late")
    assert heard.empty()


async def test_whoever_listens_hears_what_is_said_right_after(place: Place) -> None:
    speaker, bus = (await place.member()).bus, (await place.member()).bus
    for number in range(50):
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def note(subject: str, data: bytes, heard: asyncio.Queue[bytes] = heard) -> None:
            await heard.put(data)

        await asyncio.gather(*(bus.tell("mp.noise", b"x" * 2000) for _ in range(100)))  # something to be sent first
        subject = subjects.delta("acme", run_of(str(number)), "c" * 32)
        async with bus.hear(subject, note):
            await speaker.tell(subject, b"hello")
            assert await asyncio.wait_for(heard.get(), 5) == b"hello"


async def test_a_listener_that_fails_harms_neither_the_speaker_nor_itself(place: Place) -> None:
    speaker, bus = (await place.member()).bus, (await place.member()).bus
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def receive(subject: str, data: bytes) -> None:
        if data == b"bad":
            raise ValueError("a bug of the listener")
        await heard.put(data)

    subject = subjects.stop("tools", run_of())
    async with bus.hear(subjects.stop("tools", "*"), receive):
        await speaker.tell(subject, b"bad")
        await speaker.tell(subject, b"good")
        assert await asyncio.wait_for(heard.get(), 5) == b"good"


# --- questions ----------------------------------------------------------------------------------------


async def echo(data: bytes) -> bytes:
    return data.upper()


async def refuses(data: bytes) -> bytes:
    raise MilepostError("Nein, ü.", why="it is Sunday", hint="come back\ntomorrow")


async def breaks(data: bytes) -> bytes:
    raise ZeroDivisionError("a bug")


async def test_a_question_is_answered(place: Place) -> None:
    asker, server = (await place.member()).bus, (await place.member()).bus
    async with server.serve(INFO, {"echo": echo}, dict):
        assert await asker.ask(subjects.question("tools", "echo"), b"hello", 2.0) == b"HELLO"


async def test_an_error_crosses_with_its_cause_and_its_hint(place: Place) -> None:
    asker, server = (await place.member()).bus, (await place.member()).bus
    async with server.serve(INFO, {"refuses": refuses, "breaks": breaks, "echo": echo}, dict):
        with pytest.raises(MilepostError) as refused:
            await asker.ask(subjects.question("tools", "refuses"), b"", 2.0)
        with pytest.raises(MilepostError) as broken:
            await asker.ask(subjects.question("tools", "breaks"), b"", 2.0)
        assert await asker.ask(subjects.question("tools", "echo"), b"still here", 2.0) == b"STILL HERE"
    error = refused.value
    assert (error.what, error.why, error.hint) == ("Nein, ü.", "it is Sunday", "come back\ntomorrow")
    assert "ZeroDivisionError" in broken.value.why


async def test_nobody_there_or_nobody_in_time_is_unreachable(place: Place) -> None:
    asker, server = (await place.member()).bus, (await place.member()).bus

    async def sleeps(data: bytes) -> bytes:
        await asyncio.sleep(5)
        return b""

    with pytest.raises(Unreachable):
        await asker.ask(subjects.question("tools", "echo"), b"", 2.0)
    async with server.serve(INFO, {"sleeps": sleeps}, dict):
        with pytest.raises(Unreachable):
            await asker.ask(subjects.question("tools", "sleeps"), b"", 0.2)


async def test_a_service_tells_its_numbers_and_is_gone_when_it_ends(place: Place) -> None:
    asker, server = (await place.member()).bus, (await place.member()).bus
    question = subjects.question("tools", "stats")
    async with server.serve(INFO, {}, lambda: {"done": 7}):
        assert json.loads(await asker.ask(question, b"", 2.0)) == {"done": 7}
    with pytest.raises(Unreachable):
        await asker.ask(question, b"", 2.0)


# --- cards --------------------------------------------------------------------------------------------


async def card_changes(place: Place, group: str, count: int) -> list[CardChange]:
    changes = await first((await place.member()).bus.cards(group), count)
    for change in changes:
        await change.ack()
    return changes


async def test_the_last_card_of_a_tool_counts(place: Place) -> None:
    bus = (await place.member()).bus
    newer = CLOCK.model_copy(update={"description": "tells the time, newly"})
    await bus.publish_card("*", CLOCK)
    await bus.publish_card("acme", RENEW)
    await bus.publish_card("*", newer)
    changes = await card_changes(place, "late", 2)
    assert {(each.tenant, each.lane, each.name): each.card for each in changes} == {
        ("*", "builtin", "clock"): newer, ("acme", "cloud", "renew"): RENEW,
    }  # fmt: skip


async def test_changes_come_as_they_happen_and_a_withdrawn_card_is_none(place: Place) -> None:
    bus, reader = (await place.member()).bus, (await place.member()).bus
    await bus.publish_card("*", CLOCK)
    changes = reader.cards("group")
    assert (await anext(changes)).card == CLOCK
    coming = asyncio.create_task(anext(changes))
    await asyncio.sleep(0)
    await bus.withdraw_card("*", CLOCK)
    change = await asyncio.wait_for(coming, 5)
    assert (change.tenant, change.lane, change.name, change.card) == ("*", "builtin", "clock", None)
    await changes.aclose()


async def test_a_change_that_was_not_taken_in_comes_again(place: Place) -> None:
    bus, reader = (await place.member()).bus, (await place.member()).bus
    await bus.publish_card("*", CLOCK)
    changes = reader.cards("group")
    await (await anext(changes)).again(0.1)
    assert (await asyncio.wait_for(anext(changes), 5)).card == CLOCK
    await changes.aclose()


async def test_a_change_that_comes_again_says_so(place: Place) -> None:
    bus, reader = (await place.member()).bus, (await place.member()).bus
    await bus.publish_card("*", CLOCK)
    changes = reader.cards("group")
    first_time = await anext(changes)
    await first_time.again(0.1)
    assert (first_time.attempt, (await asyncio.wait_for(anext(changes), 5)).attempt) == (1, 2)
    await changes.aclose()


async def test_dropped_cards_come_to_nobody_any_more(place: Place) -> None:
    bus = (await place.member()).bus
    other = CLOCK.model_copy(update={"name": "calendar"})
    for tenant, card in (("*", CLOCK), ("*", other), ("acme", CLOCK), ("acme", RENEW)):
        await bus.publish_card(tenant, card)
    await bus.drop_cards("*", CLOCK.lane, CLOCK.name)
    await bus.drop_cards("acme", RENEW.lane)
    left = await card_changes(place, "late", 2)
    assert {(each.tenant, each.name) for each in left} == {("*", "calendar"), ("acme", "clock")}


async def test_an_answer_that_says_later_is_told_apart_from_one_that_says_no(place: Place) -> None:
    server, asker = (await place.member()).bus, (await place.member()).bus

    async def away(_: bytes) -> bytes:
        raise Retryable("The database does not answer.", hint="wait")

    async def never(_: bytes) -> bytes:
        raise MilepostError("No.")

    async with server.serve(ServiceInfo("retrieval", "1.0.0", "answers"), {"away": away, "never": never}, dict):
        with pytest.raises(Retryable, match="does not answer") as caught:
            await asker.ask(subjects.question("retrieval", "away"), b"", 5.0)
        assert caught.value.hint == "wait"
        with pytest.raises(MilepostError, match="No") as caught_no:
            await asker.ask(subjects.question("retrieval", "never"), b"", 5.0)
        assert not isinstance(caught_no.value, Retryable)


async def test_each_group_of_readers_gets_every_card(place: Place) -> None:
    bus = (await place.member()).bus
    await bus.publish_card("*", CLOCK)
    for group in ("one", "two"):
        assert [each.card for each in await card_changes(place, group, 1)] == [CLOCK]


# --- only with a server -------------------------------------------------------------------------------


async def test_an_order_that_is_too_large_is_refused_before_it_is_sent(nats: Place) -> None:
    member = await nats.member()
    with pytest.raises(PayloadTooLarge):
        await member.bus.send(order(1, query="x" * 1024 * 1024))
    await member.bus.send(order(2))
    feed = await orders(nats)
    assert (await feed.have(1))[0].message.id == order(2).id
    await feed.close()


async def test_what_is_buried_is_kept_with_its_reason(nats: Place) -> None:
    member = await nats.member()
    await member.bus.bury("llm", b"\xff\x00", "no JSON\r\nX-Evil: 1 ü")
    message = await member.connection.client.jetstream().get_last_msg(subjects.DEAD_STREAM, subjects.dead("llm"))
    assert message.data == b"\xff\x00"
    assert message.headers["Milepost-Why"] == "no JSON  X-Evil: 1 ?"
