"""What goes wrong on a real nats-server: hostile messages, a broker that dies, streams and consumers that vanish."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import orjson
import pytest

from infra.jetstream.connection import Connection
from runtime.clock import SystemClock
from runtime.conductor import Conductor
from runtime.log import Stored
from runtime.replay import replay
from runtime.service import Context, Service, Worker
from runtime.timer import timer_service
from schemas import subjects
from schemas.commands import CallTool, Generate, JudgeCall, PlanCall, RecallMemory, RetrieveKnowledge, SelectTools, StoreTurn
from schemas.envelope import encode, new_fact, source_of
from schemas.errors import PayloadTooLarge, ProtocolError
from schemas.events import (
    TERMINAL,
    AnyEvent,
    CallJudged,
    CancelRequested,
    Generated,
    KnowledgeRetrieved,
    MemoryRecalled,
    RunCompleted,
    ScoredCard,
    ToolReturned,
    ToolsSelected,
    TurnStored,
)
from schemas.ids import CANCEL_SLOT, REQUEST_SLOT, RunId, event_id, run_id, segment_of
from schemas.messages import Generation, Prompt
from schemas.policy import Verdict
from schemas.tools import ToolResult
from tests.support.brokers import Feed, Member, Place
from tests.support.builders import CARDS, CLOCK, TENANT, call, fact_of, order_for, planned, requested, spec
from tests.support.servers import RealNats

AGENT = spec(approval="never", steps=8)
SEGMENT = segment_of(SystemClock().now())
TURNS = (call("clock", "c1"), call("renew", "c2", months=1), call("clock", "c3"))


@dataclass
class Effects:
    """The provider and the ledger of the test: what was really done, how often."""

    done: Counter[str] = field(default_factory=Counter)
    executions: Counter[str] = field(default_factory=Counter)


def services(effects: Effects) -> list[Service]:
    """Quick services: a model that reads, renews, reads and answers."""
    memory, retrieval, llm = Service("memory", "m"), Service("retrieval", "r"), Service("llm", "l", ack_wait_s=2.0)
    policy = Service("policy", "p", ack_wait_s=2.0)
    reads, writes = Service("tools", "reads", lane="builtin"), Service("tools", "writes", lane="cloud", ack_wait_s=2.0)

    @memory.on(RecallMemory)
    async def recall(command: RecallMemory, context: Context) -> AnyEvent:
        return MemoryRecalled(command=command)

    @memory.on(StoreTurn)
    async def store(command: StoreTurn, context: Context) -> AnyEvent:
        return TurnStored(command=command)

    @retrieval.on(SelectTools)
    async def select(command: SelectTools, context: Context) -> AnyEvent:
        found = tuple(ScoredCard(card=card, score=1.0) for card in CARDS)
        return ToolsSelected(command=command, tools=found, catalog="all", searched=3)

    @retrieval.on(RetrieveKnowledge)
    async def retrieve(command: RetrieveKnowledge, context: Context) -> AnyEvent:
        return KnowledgeRetrieved(command=command, passages=())

    @llm.on(Generate)
    async def generate(command: Generate, context: Context) -> AnyEvent:
        said = Prompt.model_validate(context.material["prompt"]).messages
        turn = sum(message.role == "tool" for message in said)
        await asyncio.sleep(0.02)
        generation = Generation(text="", calls=(TURNS[turn],)) if turn < len(TURNS) else Generation(text="All done.")
        return Generated(command=command, generation=generation)

    @policy.on(JudgeCall)
    async def judge(command: JudgeCall, context: Context) -> AnyEvent:
        return CallJudged(command=command, verdict=Verdict(outcome="allow"))

    @writes.on(PlanCall)
    async def plan(command: PlanCall, context: Context) -> AnyEvent:
        return planned(command, state=context.run)

    async def run_tool(command: CallTool, context: Context) -> AnyEvent:
        effects.executions[context.order.id] += 1
        if command.write_key and not effects.done[command.write_key]:
            effects.done[command.write_key] += 1
        await asyncio.sleep(0.02)
        return ToolReturned(command=command, result=ToolResult(text="done"))

    reads.on(CallTool)(run_tool)
    writes.on(CallTool)(run_tool)
    return [memory, retrieval, llm, policy, reads, writes, timer_service(SystemClock())]


@asynccontextmanager
async def system(place: Place, effects: Effects, *, sweep_s: float = 2.0, without: str = "") -> AsyncIterator[Member]:
    """A conductor and a worker of each kind, each with a connection of its own; gives one for the client."""
    tasks = []
    for service in services(effects):
        if service.lane == without:
            continue
        member = await place.member()
        tasks.append(asyncio.create_task(Worker(service, member.log, member.bus, SystemClock(), name="w").run(drain_s=0.1)))
    for name in ("a", "b"):
        member = await place.member()
        conductor = Conductor(member.log, member.bus, SystemClock(), name=name, sweep_s=sweep_s)
        connection_of(member).on_reconnect.append(conductor.resend_all)
        tasks.append(asyncio.create_task(conductor.run()))
    try:
        yield await place.member()
        assert not [task for task in tasks if task.done()], "a conductor or worker died"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def connection_of(member: Member) -> Connection:
    assert member.connection
    return member.connection


def named(key: str) -> RunId:
    return run_id(TENANT, key, SEGMENT)


async def begin(member: Member, key: str) -> RunId:
    event = requested(AGENT, key=key, conversation=key)
    fact = new_fact(
        event, run=named(key), tenant=TENANT, slot=REQUEST_SLOT, source=source_of("client", "t"), time=SystemClock().now()
    )
    await member.log.append(fact)
    return named(key)


async def ended(member: Member, run: RunId) -> list[Stored]:
    """The run's log, once its end is in it."""
    log = []
    async for stored in member.log.follow(run):
        log.append(stored)
        if isinstance(stored.fact.body, TERMINAL):
            return log
    raise AssertionError


def check(logs: list[list[Stored]], effects: Effects) -> None:
    """Every run completed with one write; nothing is there twice; each log replays the same."""
    for log in logs:
        assert isinstance(log[-1].fact.body, RunCompleted)
        assert len({stored.fact.slot for stored in log}) == len(log)
        replayed = replay(log[0].fact.run, log)
        assert replayed.same, replayed.divergence
    assert len(effects.done) == len(logs)
    assert set(effects.done.values()) == {1}


async def raw(member: Member, subject: str, data: bytes) -> None:
    await connection_of(member).client.jetstream().publish(subject, data)


async def dead(member: Member) -> Counter[str]:
    """How many messages were buried, by the subject they came on."""
    js = connection_of(member).client.jetstream()
    info = await js.stream_info(subjects.DEAD_STREAM)
    found = Counter[str]()
    if not info.state.messages:
        return found
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        message = await js.get_msg(subjects.DEAD_STREAM, sequence)
        found[(message.headers or {})["Milepost-Subject"]] += 1
    return found


# --- hostile messages ---------------------------------------------------------------------------------

GOOD = orjson.loads(encode(fact_of(CancelRequested(by="eve"), named("poison"), CANCEL_SLOT)))


def changed(**changes: object) -> bytes:
    return orjson.dumps({**GOOD, **changes})


UNREADABLE = {
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "empty": b"",
    "no object": b"[1]",
    "key twice": encode(fact_of(CancelRequested(by="eve"), named("poison"), CANCEL_SLOT)).replace(
        b'{"spec', b'{"id":"x","spec', 1
    ),
    "NaN": changed(data={"kind": "CancelRequested", "by": "eve", "x": 0}).replace(b'"x":0', b'"x":NaN'),
    "infinite": changed(data={"kind": "CancelRequested", "by": "eve", "x": 0}).replace(b'"x":0', b'"x":1e999'),
    "5,000 digits": changed(data={"by": "eve", "x": 0}).replace(b'"x":0', b'"x":' + b"9" * 5000),
    "too deep": changed(data={"by": "eve", "x": 0}).replace(b'"x":0', b'"x":' + b"[" * 40 + b"]" * 40),
    "far too deep": b"[" * 100_000,
    "NUL": changed(data={"by": "e\x00e"}),
    "lone surrogate": changed(data={"by": "x"}).replace(b'"by":"x"', b'"by":"\\ud800"'),
    "no envelope": b'{"hello":"world"}',
    "missing field": changed(data={}),
    "no time zone": changed(time="2026-11-21T12:00:00"),
    "end of time": changed(time="9999-12-31T23:59:59Z"),
    "another's id": changed(id=event_id(named("other"), TENANT, "client", CANCEL_SLOT)),
    "another run than the subject's": encode(fact_of(CancelRequested(by="eve"), named("other"), CANCEL_SLOT)),
    "another tenant than the subject's": encode(
        fact_of(CancelRequested(by="eve"), named("poison"), CANCEL_SLOT, tenant="other")
    ),
    "a role that may not say it": changed(source="/milepost/tools/eve"),
    "another role than the subject's": changed(source="/milepost/memory/eve"),
    "a source of nobody": changed(source="nobody"),
    "a command": encode(order_for(CallTool(call=call(), card_hash="h", host="builtin"), run=named("poison"))),
}


async def test_unreadable_facts_are_buried_and_the_conductors_go_on(nats: Place) -> None:
    effects = Effects()
    async with system(nats, effects) as client:
        places = {}
        for number, (name, data) in enumerate(UNREADABLE.items()):
            slot = CANCEL_SLOT if number == 0 else f"{number:032x}"
            subject = str(subjects.fact(named("poison"), TENANT, "client", slot))
            if number and GOOD["subject"].encode() in data:  # its own slot, so that only its own fault is wrong with it
                data = data.replace(b'"subject":"cancel"', b'"subject":"' + slot.encode() + b'"')  # noqa: PLW2901
            places[subject] = name
            await raw(client, subject, data)
        run = await begin(client, "good")
        async with asyncio.timeout(20):
            check([await ended(client, run)], effects)
        found = await dead(client)
        assert {name for place, name in places.items() if place not in found} == set()
        assert set(found.values()) == {1}
        assert await client.log.read(named("poison")) == []


async def test_unreadable_commands_are_buried_and_the_workers_go_on(nats: Place) -> None:
    effects = Effects()
    order = order_for(CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin"), run=named("poison"))
    good = encode(order)
    bad = {
        "no JSON": b"{", "NaN": b'{"x":NaN}', "key twice": b'{"a":1,"a":2}', "no envelope": b"{}",
        "a fact": encode(fact_of(CancelRequested(by="eve"), named("poison"), CANCEL_SLOT)),
        "another lane": encode(replace(order, body=order.body.model_copy(update={"host": "cloud"}))),
        "another role": encode(order_for(RetrieveKnowledge(collections=(), k=1), run=named("poison"))),
        "another id": good.replace(order.id.encode(), b"d" * 32),
        "another tenant": good.replace(b'"tenant":"acme"', b'"tenant":"evil"'),
        "material that is no object": good[:-1] + b',"material":[]}',
    }  # fmt: skip
    async with system(nats, effects) as client:
        for number in range(len(bad)):
            subject = subjects.command("tools", "builtin", TENANT, named(f"poison{number}"), order.id)
            await raw(client, str(subject), list(bad.values())[number])
        run = await begin(client, "good")
        async with asyncio.timeout(20):
            check([await ended(client, run)], effects)
        found = await dead(client)
        assert sum(found.values()) == len(found) == len(bad)


async def test_a_type_of_a_newer_version_is_parked_and_not_buried(nats: Place) -> None:
    effects = Effects()
    async with system(nats, effects) as client:
        fact = str(subjects.fact(named("poison"), TENANT, "client", CANCEL_SLOT))
        command = str(subjects.command("tools", "builtin", TENANT, named("poison"), "c" * 32))
        await raw(client, fact, changed(type="io.milepost.CancelRequested.v99"))
        await raw(client, command, changed(type="io.milepost.CallTool.v99"))
        run = await begin(client, "good")
        async with asyncio.timeout(20):
            check([await ended(client, run)], effects)
        assert await dead(client) == {}
        js = connection_of(client).client.jetstream()
        parked = await js.consumer_info(subjects.COMMAND_STREAM, "tools-builtin")
        assert parked.num_ack_pending == 1


async def test_an_unreadable_message_whose_grave_is_gone_stops_nobody(nats: Place) -> None:
    member = await nats.member()
    await connection_of(member).client.jetstream().delete_stream(subjects.DEAD_STREAM)
    feed = Feed(member.bus.orders("tools", "builtin", ack_wait_s=5.0, at_once=4))
    await raw(member, str(subjects.command("tools", "builtin", TENANT, named("poison"), "c" * 32)), b"{")
    order = order_for(CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin"), run=named("good"))
    await member.bus.send(order)
    assert (await feed.have(1))[0].message.id == order.id
    assert sum((await dead(member)).values()) == 1
    await feed.close()


async def test_a_gap_is_told_although_the_message_after_it_was_buried(nats: Place) -> None:
    member = await nats.member()
    await raw(member, str(subjects.fact(named("poison"), TENANT, "client", "x")), b"{")
    await begin(member, "good")
    feed = Feed(member.log.facts("group"))
    assert [delivery.gap for delivery in await feed.have(1)] == [True]
    await begin(member, "better")
    assert [delivery.gap for delivery in await feed.have(2)] == [True, False]
    await feed.close()


@pytest.mark.parametrize("body", [1024 * 1024 - 10, 1024 * 1024 + 1, 3 * 1024 * 1024])
async def test_a_fact_too_large_for_the_bus_is_refused_here_and_the_connection_lives(nats: Place, body: int) -> None:
    member = await nats.member()
    event = ToolReturned(command=CallTool(call=call(), card_hash="h", host="builtin"), result=ToolResult(text=""))
    empty = len(encode(fact_of(event, named("large"), "c" * 32)))
    large = event.model_copy(update={"result": ToolResult(text="x" * (body - empty))})
    fact = fact_of(large, named("large"), "c" * 32)
    assert len(encode(fact)) == body
    with pytest.raises(PayloadTooLarge):
        await member.log.append(fact)
    assert await member.log.append(fact_of(event, named("large"), "c" * 32))
    assert connection_of(member).client.is_connected


async def test_the_largest_fact_that_fits_is_stored(nats: Place) -> None:
    member = await nats.member()
    event = ToolReturned(command=CallTool(call=call(), card_hash="h", host="builtin"), result=ToolResult(text=""))
    connection = connection_of(member)
    text = 1024 * 1024 - len(encode(fact_of(event, named("large"), "c" * 32)))
    while True:
        fact = fact_of(event.model_copy(update={"result": ToolResult(text="x" * text)}), named("large"), "c" * 32)
        try:
            assert await member.log.append(fact)
            break
        except PayloadTooLarge as error:
            text -= error.actual - error.limit
    assert [stored.fact for stored in await member.log.read(named("large"))] == [fact]
    assert connection.client.is_connected


HOSTILE = ["", "*", ">", "a.b", "a b", "a\r\nPUB mp.cmd.x 1\r\nx", "a\n", "ü", "用户", "x" * 65, "x" * 5000, "a\x00"]


@pytest.mark.parametrize("token", HOSTILE)
async def test_a_hostile_name_never_becomes_part_of_a_subject(nats: Place, token: str) -> None:
    run = named("good")
    for build in (
        lambda: subjects.fact(run, token, "client", REQUEST_SLOT),
        lambda: subjects.fact(run, TENANT, "client", token),
        lambda: subjects.fact(RunId(token), TENANT, "client", REQUEST_SLOT),
        lambda: subjects.command("tools", token, TENANT, run, "c" * 32),
        lambda: subjects.command("tools", "main", token, run, "c" * 32),
        lambda: subjects.command("tools", "main", TENANT, run, token),
        lambda: subjects.ask(token, run, "c" * 32),
        lambda: subjects.stop("tools", f"{token}x"),
        lambda: subjects.card(token, "main", "clock") if token != "*" else subjects.card(TENANT, token, "clock"),
        lambda: subjects.card(TENANT, "main", token),
        lambda: subjects.question("tools", token),
        lambda: subjects.dead(token),
        lambda: subjects.run_stream(token),
    ):
        with pytest.raises(ProtocolError):
            build()
    with pytest.raises(ValueError, match=r"tenant|subject"):
        fact_of(CancelRequested(by="eve"), run, CANCEL_SLOT, tenant=token)
    member = await nats.member()
    await begin(member, "good")
    assert len(await member.log.read(run)) == 1


# --- a broker that dies -------------------------------------------------------------------------------


async def facts_reach(client: Member, count: int) -> None:
    """Wait until the log holds so many facts."""
    feed = Feed(client.log.facts("watcher"))
    await feed.have(count, limit_s=30)
    await feed.close()


async def test_runs_survive_a_broker_that_is_killed_twice_in_their_middle(nats_alone: RealNats, nats: Place) -> None:
    effects = Effects()
    async with system(nats, effects) as client:
        runs = [await begin(client, f"run{number}") for number in range(20)]
        for facts in (60, 160):
            await facts_reach(client, facts)
            await nats_alone.kill_and_restart()
        async with asyncio.timeout(60):
            check(await asyncio.gather(*(ended(client, run) for run in runs)), effects)


async def test_the_sweep_brings_back_commands_that_are_lost_without_a_word(nats: Place) -> None:
    effects = Effects()
    async with system(nats, effects, sweep_s=1.0, without="builtin") as client:
        run = await begin(client, "run")
        waiting = Feed(client.bus.orders("tools", "builtin", ack_wait_s=30.0, at_once=1))
        (lost,) = await waiting.have(1)
        await waiting.close()
        await connection_of(client).client.jetstream().delete_stream(subjects.COMMAND_STREAM)
        found = Feed((await nats.member()).bus.orders("tools", "builtin", ack_wait_s=30.0, at_once=1))
        (again,) = await found.have(1)
        assert (again.message.id, again.message.run) == (lost.message.id, run)
        await found.close()


async def test_after_a_reconnection_lost_commands_are_sent_at_once(nats_alone: RealNats, nats: Place) -> None:
    effects = Effects()
    async with system(nats, effects, sweep_s=3600.0, without="builtin") as client:
        await begin(client, "run")
        waiting = Feed(client.bus.orders("tools", "builtin", ack_wait_s=30.0, at_once=1))
        (lost,) = await waiting.have(1)
        await waiting.close()
        await connection_of(client).client.jetstream().delete_stream(subjects.COMMAND_STREAM)
        await nats_alone.kill_and_restart()
        found = Feed((await nats.member()).bus.orders("tools", "builtin", ack_wait_s=30.0, at_once=1))
        assert (await found.have(1))[0].message.id == lost.message.id
        await found.close()


async def test_commands_that_a_dead_broker_brings_back_are_marked(nats_alone: RealNats, nats: Place) -> None:
    member = await nats.member()
    command = CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin")
    feed = Feed(member.bus.orders("tools", "builtin", ack_wait_s=30.0, at_once=200))
    await feed.have(0)
    for number in range(100):
        await member.bus.send(order_for(command, run=named("run"), id=f"{number:032x}"))
    for delivery in await feed.have(100):
        await delivery.ack()
    await nats_alone.kill_and_restart()  # acknowledgements of commands are not fsynced: some may be forgotten
    await member.bus.send(order_for(command, run=named("run"), id="f" * 32))
    async with asyncio.timeout(20):
        while "f" * 32 not in [delivery.message.id for delivery in feed.got]:
            await asyncio.sleep(0.01)
    assert all(delivery.resent for delivery in feed.got[100:] if delivery.message.id != "f" * 32)
    await feed.close()


async def test_runs_survive_the_loss_of_all_commands_and_consumers(nats: Place) -> None:
    effects = Effects()
    async with system(nats, effects) as client:
        js = connection_of(client).client.jetstream()
        runs = [await begin(client, f"run{number}") for number in range(8)]
        await facts_reach(client, 30)
        await js.delete_stream(subjects.COMMAND_STREAM)
        for name in ("conductor", "conductor-open"):
            await js.delete_consumer(subjects.run_stream(SEGMENT), name)
        async with asyncio.timeout(45):
            check(await asyncio.gather(*(ended(client, run) for run in runs)), effects)


async def test_a_follower_misses_nothing_when_the_broker_dies(nats_alone: RealNats, nats: Place) -> None:
    writer, reader = await nats.member(), await nats.member()
    run = named("followed")
    event = ToolReturned(command=CallTool(call=call(), card_hash="h", host="builtin"), result=ToolResult(text="x"))
    seen: list[Stored] = []

    async def follow() -> None:
        async for stored in reader.log.follow(run):
            seen.append(stored)
            if len(seen) == 60:
                return

    await writer.log.append(fact_of(event, run, f"{0:032x}"))
    following = asyncio.create_task(follow())
    for number in range(1, 60):
        if number == 30:
            await nats_alone.kill_and_restart()
        await writer.log.append(fact_of(event, run, f"{number:032x}"))
    async with asyncio.timeout(20):
        await following
    assert [int(stored.fact.slot, 16) for stored in seen] == list(range(60))


async def test_what_was_acknowledged_is_there_after_a_kill(nats_alone: RealNats, nats: Place) -> None:
    member = await nats.member()
    run = named("kept")
    event = ToolReturned(command=CallTool(call=call(), card_hash="h", host="builtin"), result=ToolResult(text="x"))
    kept: list[str] = []

    async def write(number: int) -> None:
        fact = fact_of(event, run, f"{number:032x}")
        await member.log.append(fact)
        kept.append(fact.slot)

    writing = [asyncio.create_task(write(number)) for number in range(200)]
    await writing[20]
    await nats_alone.kill_and_restart()
    async with asyncio.timeout(30):
        await asyncio.gather(*writing)
    assert sorted(stored.fact.slot for stored in await member.log.read(run)) == sorted(kept)
    assert len(kept) == 200
