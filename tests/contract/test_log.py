"""What every log promises, held against the one in memory and the one on a real nats-server."""

from __future__ import annotations

import asyncio

import pytest

from runtime.errors import Unreachable
from schemas.commands import CallTool
from schemas.envelope import new_fact, source_of
from schemas.errors import ProtocolError
from schemas.events import CancelRequested, ToolReturned
from schemas.ids import CANCEL_SLOT, RunId, run_id
from schemas.tools import ToolResult
from tests.support.brokers import Feed, Place, first, shared
from tests.support.builders import CLOCK, NOW, TENANT, call, fact_of, request_fact, requested, run_of
from tests.support.servers import RealNats

COMMAND = CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin")


def answer(number: int, run: RunId | None = None, text: str = "noon"):  # type: ignore[no-untyped-def]
    """The fact that stands in the slot of a run's number-th command."""
    event = ToolReturned(command=COMMAND, result=ToolResult(text=text))
    return fact_of(event, run or run_of(), f"{number:032x}")


async def test_what_was_appended_is_read_back_whole_and_in_order(place: Place) -> None:
    log = (await place.member()).log
    facts = [request_fact(), answer(1), answer(2)]
    assert [await log.append(fact) for fact in facts] == [True] * 3
    stored = await (await place.member()).log.read(run_of())
    assert [each.fact for each in stored] == facts
    assert [each.position for each in stored] == sorted({each.position for each in stored})


async def test_reading_goes_on_after_a_position(place: Place) -> None:
    log = (await place.member()).log
    for number in range(4):
        await log.append(answer(number))
    stored = await log.read(run_of())
    assert await log.read(run_of(), stored[1].position) == stored[2:]
    assert await log.read(run_of(), stored[-1].position) == []


async def test_an_unknown_run_has_no_facts(place: Place) -> None:
    log = (await place.member()).log
    assert await log.read(run_of("nobody")) == []
    assert await log.read(run_id(TENANT, "old", "202001")) == []
    assert not await log.holds(run_id(TENANT, "old", "202001"), TENANT, "client", "request")


async def test_a_slot_takes_one_event_for_ever(place: Place) -> None:
    log = (await place.member()).log
    assert await log.append(answer(1, text="first"))
    assert not await log.append(answer(1, text="first"))  # a retry after a lost acknowledgement
    assert not await log.append(answer(1, text="second"))
    (stored,) = await log.read(run_of())
    assert stored.fact == answer(1, text="first")


async def test_of_racing_appenders_exactly_one_wins(place: Place) -> None:
    logs = [(await place.member()).log for _ in range(4)]
    for number in range(5):
        facts = [answer(number, text=f"{writer}") for writer in range(20)]
        won = await asyncio.gather(*(logs[i % 4].append(fact) for i, fact in enumerate(facts)))
        assert sum(won) == 1
        stored = (await logs[0].read(run_of()))[-1]
        assert stored.fact == facts[won.index(True)]


async def test_nobody_can_take_a_slot_away_by_using_its_event_id_elsewhere(place: Place) -> None:
    log = (await place.member()).log
    cancel = CancelRequested(by="ann")
    assert await log.append(fact_of(cancel, run_of(), CANCEL_SLOT, role="memory"))
    assert await log.append(fact_of(cancel, run_of(), CANCEL_SLOT, role="client"))  # the same event id, another subject
    assert await log.append(fact_of(cancel, run_of(), CANCEL_SLOT, role="client", tenant="other"))


async def test_the_log_says_whether_a_slot_is_taken(place: Place) -> None:
    log = (await place.member()).log
    await log.append(answer(1))
    assert await log.holds(run_of(), TENANT, "tools", f"{1:032x}")
    assert not await log.holds(run_of(), TENANT, "tools", f"{2:032x}")
    assert not await log.holds(run_of(), TENANT, "llm", f"{1:032x}")
    assert not await log.holds(run_of("other"), TENANT, "tools", f"{1:032x}")


async def test_a_long_run_is_read_whole_and_in_order(place: Place) -> None:
    log = (await place.member()).log
    other = run_of("other")
    for begin in range(0, 1200, 100):
        await asyncio.gather(*(log.append(answer(number)) for number in range(begin, begin + 100)))
        await log.append(answer(begin, other))
    stored = await log.read(run_of())
    assert [each.position for each in stored] == sorted(each.position for each in stored)
    blocks = [[int(each.fact.slot, 16) for each in stored[i : i + 100]] for i in range(0, 1200, 100)]
    assert [sorted(block) for block in blocks] == [list(range(i, i + 100)) for i in range(0, 1200, 100)]
    assert await log.read(run_of(), stored[599].position) == stored[600:]


@pytest.mark.parametrize("text", ["NUL \x00", "lone \ud800"])
async def test_text_that_cannot_be_stored_is_refused_where_it_is_written(place: Place, text: str) -> None:
    log = (await place.member()).log
    event = ToolReturned(command=COMMAND, result=ToolResult(text=text))
    slot = f"{1:032x}"
    with pytest.raises(ProtocolError):
        await log.append(new_fact(event, run=run_of(), tenant=TENANT, slot=slot, source=source_of("tools", "t"), time=NOW))
    assert await log.append(answer(1))


# --- following one run --------------------------------------------------------------------------------


async def test_a_follower_sees_what_was_and_what_comes_in_order(place: Place) -> None:
    writer, reader = (await place.member()).log, (await place.member()).log
    for number in range(3):
        await writer.append(answer(number))
    following = asyncio.create_task(first(reader.follow(run_of()), 200))
    for number in range(3, 200):
        await writer.append(answer(number))
        await writer.append(answer(number, run_of("other")))
    stored = await following
    assert [int(each.fact.slot, 16) for each in stored] == list(range(200))
    assert stored == await reader.read(run_of())


async def test_followers_do_not_take_from_each_other(place: Place) -> None:
    member = await place.member()
    followers = [asyncio.create_task(first(member.log.follow(run_of()), 5)) for _ in range(3)]
    for number in range(5):
        await member.log.append(answer(number))
    seen = await asyncio.gather(*followers)
    assert seen[0] == seen[1] == seen[2]


async def test_a_new_fact_is_heard_at_once(place: Place) -> None:
    log = (await place.member()).log
    await log.append(answer(0))
    follower = log.follow(run_of())
    await anext(follower)
    took = []
    for number in range(1, 11):
        waiting = asyncio.create_task(anext(follower))
        await asyncio.sleep(0)
        begun = asyncio.get_running_loop().time()
        await log.append(answer(number))
        await waiting
        took.append(asyncio.get_running_loop().time() - begun)
    await follower.aclose()  # type: ignore[attr-defined]
    assert sorted(took)[5] < 0.25


# --- the shared feed ----------------------------------------------------------------------------------


async def test_a_group_gets_every_fact_of_every_run_in_order(place: Place) -> None:
    log = (await place.member()).log
    await log.append(request_fact())
    feed = Feed(log.facts("group"))
    await feed.have(1)
    for number in range(50):
        await log.append(answer(number))
        await log.append(answer(number, run_of("other")))
    got = await feed.have(101)
    assert [each.position for each in got] == sorted(each.position for each in got)
    assert {each.message.run for each in got} == {run_of(), run_of("other")}
    assert [each.attempt for each in got] == [1] * 101
    assert [each.gap for each in got] == [True] + [False] * 100
    await feed.close()


async def test_two_members_share_each_fact_once_and_know_of_their_gaps(place: Place) -> None:
    members, changed = [await place.member(), await place.member()], asyncio.Condition()
    feeds = [Feed(member.log.facts("group"), changed) for member in members]
    total = 0
    while total < 40 or not all(len(feed.got) > 5 for feed in feeds):  # until both have been given some
        await members[0].log.append(answer(total))
        total += 1
        await shared(changed, feeds, total)
        for feed in feeds:
            await asyncio.gather(*(delivery.ack() for delivery in feed.got))
    by_position = sorted((each.position, index, each.gap) for index, feed in enumerate(feeds) for each in feed.got)
    assert len({position for position, _, _ in by_position}) == total  # each once
    turns = {position: place for place, (position, _, _) in enumerate(by_position)}
    for feed in feeds:
        for before, delivery in zip(feed.got, feed.got[1:], strict=False):
            alone = turns[delivery.position] == turns[before.position] + 1
            assert delivery.gap is not alone
        assert feed.got[0].gap
        await feed.close()


async def test_two_groups_each_get_everything(place: Place) -> None:
    log = (await place.member()).log
    feeds = [Feed(log.facts(name)) for name in ("one", "two")]
    await log.append(answer(1))
    for feed in feeds:
        assert [each.message for each in await feed.have(1)] == [answer(1)]
        await feed.close()


async def test_what_is_not_acknowledged_comes_again_and_what_is_does_not(place: Place) -> None:
    log = (await place.member()).log
    await log.append(answer(1))
    await log.append(answer(2))
    feed = Feed(log.facts("group"))
    got = await feed.have(2)
    await got[0].ack()
    again = (await feed.have(3))[2]
    assert (again.message, again.attempt) == (answer(2), 2)
    await again.ack()
    await feed.close()
    later = Feed(log.facts("group"))
    await log.append(answer(3))
    assert [each.message for each in await later.have(1)] == [answer(3)]
    await later.close()


async def test_a_member_that_dies_leaves_its_facts_to_the_others(place: Place) -> None:
    dying, living = await place.member(), await place.member()
    feed = Feed(dying.log.facts("group"))
    await dying.log.append(answer(1))
    await feed.have(1)
    await feed.close()
    if dying.connection:
        await dying.connection.client.close()
    heir = Feed(living.log.facts("group"))
    (got,) = await heir.have(1)
    assert (got.message, got.attempt, got.gap) == (answer(1), 2, True)
    await heir.close()


async def test_again_brings_a_fact_back_after_its_delay(place: Place) -> None:
    log = (await place.member()).log
    await log.append(answer(1))
    feed = Feed(log.facts("group"))
    (got,) = await feed.have(1)
    begun = asyncio.get_running_loop().time()
    await got.again(0.4)
    await feed.have(2)
    assert 0.35 < asyncio.get_running_loop().time() - begun < 2.0
    await feed.close()


async def test_a_segment_that_begins_later_joins_the_feed(place: Place) -> None:
    log = (await place.member()).log
    feed = Feed(log.facts("group"))
    await log.append(answer(1))
    await (await feed.have(1))[0].ack()
    december = run_id(TENANT, "key", "202612")
    await log.append(answer(1, december))
    assert (await feed.have(2, limit_s=15))[1].message.run == december
    assert len(await log.read(december)) == 1
    await feed.close()


# --- open requests ------------------------------------------------------------------------------------


async def test_requests_come_again_and_again_until_they_are_acknowledged(place: Place) -> None:
    log = (await place.member()).log
    await log.append(request_fact())
    await log.append(answer(1))
    await log.append(request_fact(requested(key="other")))
    feed = Feed(log.requests("group", 0.5))
    got = await feed.have(2)
    assert {each.message.run for each in got} == {run_of(), run_of("other")}
    await next(each for each in got if each.message.run == run_of("other")).ack()
    repeated = (await feed.have(4))[2:]
    assert {each.message.run for each in repeated} == {run_of()}
    assert [each.attempt for each in repeated] == [2, 3]
    await feed.close()


# --- only with a server -------------------------------------------------------------------------------


async def test_a_lost_acknowledgement_is_no_error(nats: Place) -> None:
    member = await nats.member()
    log = member.log
    js = member.connection.jetstream  # type: ignore[union-attr]
    publish, lost = js.publish, 0

    async def forgetful(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal lost
        reply = await publish(*args, **kwargs)
        if not lost:
            lost += 1
            raise TimeoutError
        return reply

    js.publish = forgetful  # type: ignore[method-assign]
    assert not await log.append(answer(1))  # the retry finds its own fact in the slot
    assert lost == 1
    assert [each.fact for each in await log.read(run_of())] == [answer(1)]


async def test_a_log_that_does_not_answer_is_unreachable(nats_alone: RealNats, nats: Place) -> None:
    member = await nats.member()
    await member.log.append(answer(1))
    await member.connection.client.close()  # type: ignore[union-attr]
    with pytest.raises(Unreachable):
        await member.log.append(answer(2))
    with pytest.raises(Unreachable):
        await member.log.read(run_of())
    with pytest.raises(Unreachable):
        await member.log.holds(run_of(), TENANT, "tools", "s")
