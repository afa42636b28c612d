"""The service loop: a fact before the acknowledgement, patience by type of error, and an end in good order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest

from runtime.errors import NotAsked, NotYet, Permanent, Retryable, Unreachable
from runtime.log import Delivery, Stored
from runtime.memory_broker import MemoryBroker
from runtime.service import Context, Service, Worker, serve
from runtime.timer import timer_service
from schemas import subjects
from schemas.commands import AnyCommand, CallTool, Command, Generate, PlanCall, Role, StartTimer, StoreTurn
from schemas.envelope import Fact, Order, encode
from schemas.errors import PayloadTooLarge
from schemas.events import AnyEvent, StepFailed, TimerFired, ToolReturned, TurnReleased, TurnStored
from schemas.ids import RELEASE_SLOT
from schemas.tools import ToolResult
from tests.support.builders import CLOCK, NOW, TENANT, call, fact_of, order_for, run_of
from tests.support.simulation import Killed, LoopClock, Process, in_virtual_time

READ = CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin")
WRITE = READ.model_copy(update={"write_key": "k", "plan": "p"})
Handler = Callable[[CallTool, Context], Awaitable[AnyEvent]]


def done(command: CallTool, text: str = "noon") -> ToolReturned:
    return ToolReturned(command=command, result=ToolResult(text=text))


def tools(handle: Handler, *, attempts: int = 5, at_once: int = 16, ack_wait_s: float = 10.0) -> Service:
    service = Service("tools", "test", lane="builtin", attempts=attempts, at_once=at_once, ack_wait_s=ack_wait_s)
    service.on(CallTool)(handle)
    return service


@asynccontextmanager
async def started(service: Service, broker: MemoryBroker | Process, **options: float) -> AsyncIterator[Worker]:
    worker = Worker(service, broker, broker, LoopClock(), name="w")
    ready = asyncio.Event()
    task = asyncio.create_task(worker.run(ready, **options))
    await ready.wait()
    yield worker
    task.cancel()
    await asyncio.wait({task})


async def facts(broker: MemoryBroker, count: int) -> list[Stored]:
    """The first facts of the test's run, waited for."""
    found = []
    async for stored in broker.follow(run_of()):
        found.append(stored)
        if len(found) == count:
            return found
    raise AssertionError


async def failure_of(broker: MemoryBroker) -> StepFailed:
    (stored,) = await facts(broker, 1)
    assert isinstance(stored.fact.body, StepFailed)
    return stored.fact.body


@in_virtual_time
async def test_an_order_is_answered_in_its_slot_by_the_workers_role() -> None:
    broker = MemoryBroker()

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        assert (context.run, context.tenant, context.attempt) == (run_of(), TENANT, 1)
        return done(command)

    async with started(tools(handle), broker) as worker:
        await broker.send(order_for(READ))
        (stored,) = await facts(broker, 1)
    assert (stored.fact.slot, stored.fact.role, stored.fact.body) == ("c" * 32, "tools", done(READ))
    assert stored.fact.causes == ("e" * 32,)
    assert worker.stats()["done"] == 1


class Witness(MemoryBroker):
    """Notes the order in which facts are stored and orders acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.acknowledged = asyncio.Event()

    async def append(self, fact: Fact) -> bool:
        fresh = await super().append(fact)
        self.seen.append("fact")
        return fresh

    async def orders(self, role: Role, lane: str, *, ack_wait_s: float, at_once: int) -> AsyncIterator[Delivery[Order]]:
        async for delivery in super().orders(role, lane, ack_wait_s=ack_wait_s, at_once=at_once):
            yield replace(delivery, ack=partial(self._ack, delivery))

    async def _ack(self, delivery: Delivery[Order]) -> None:
        self.seen.append("ack")
        self.acknowledged.set()
        await delivery.ack()


@in_virtual_time
async def test_the_fact_is_stored_before_the_order_is_acknowledged() -> None:
    broker = Witness()

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        return done(command)

    async with started(tools(handle), broker):
        await broker.send(order_for(READ))
        await broker.acknowledged.wait()
    assert broker.seen == ["fact", "ack"]


@in_virtual_time
async def test_a_retryable_error_is_tried_again_with_growing_pauses() -> None:
    broker, times = MemoryBroker(), []

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        times.append(asyncio.get_running_loop().time())
        if context.attempt < 4:
            raise Retryable("Not now.")
        return done(command)

    async with started(tools(handle), broker) as worker:
        await broker.send(order_for(READ))
        await facts(broker, 1)
    pauses = [round(late - early, 3) for early, late in pairwise(times)]
    assert pauses == [0.2, 0.4, 0.8]
    assert worker.stats()["retried"] == 3


@pytest.mark.parametrize("error", [Retryable("Full."), ValueError("a bug")])
def test_after_as_many_attempts_as_allowed_the_step_fails(error: Exception) -> None:
    @in_virtual_time
    async def check() -> None:
        broker, tried = MemoryBroker(), []

        async def handle(command: CallTool, context: Context) -> AnyEvent:
            tried.append(context.attempt)
            raise error

        async with started(tools(handle, attempts=3), broker) as worker:
            await broker.send(order_for(READ))
            failed = await failure_of(broker)
        assert tried == [1, 2, 3]
        assert (failed.failure.attempts, worker.stats()["failed"]) == (3, 1)
        assert str(error).split(".", maxsplit=1)[0] in failed.failure.what + failed.failure.why

    check()


@in_virtual_time
async def test_a_permanent_error_fails_the_step_at_once_with_its_words() -> None:
    broker, tried = MemoryBroker(), []

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        tried.append(context.attempt)
        raise Permanent("No such server.", why="it was deleted", hint="milepost tools ls")

    async with started(tools(handle), broker):
        await broker.send(order_for(READ))
        failed = await failure_of(broker)
    assert tried == [1]
    assert (failed.failure.what, failed.failure.why, failed.failure.hint) == (
        "No such server.", "it was deleted", "milepost tools ls",
    )  # fmt: skip


@in_virtual_time
async def test_a_store_that_is_away_is_waited_for_and_counts_no_attempt() -> None:
    broker, tried = MemoryBroker(), []

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        tried.append(context.attempt)
        if len(tried) <= 20:
            raise Unreachable("Postgres is away.")
        return done(command)

    async with started(tools(handle, attempts=2), broker):
        await broker.send(order_for(READ))
        (stored,) = await facts(broker, 1)
    assert isinstance(stored.fact.body, ToolReturned)
    assert tried == [1] * 21


@in_virtual_time
async def test_a_command_nobody_handles_fails_at_once() -> None:
    broker = MemoryBroker()

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        return done(command)

    async with started(tools(handle), broker):
        await broker.send(order_for(PlanCall(call=call("renew"), card_hash="h", host="builtin")))
        failed = await failure_of(broker)
    assert failed.failure.type == "NoHandler"


@pytest.mark.parametrize("text", ["x" * 2_000_000, "NUL \x00", "lone \ud800"])
def test_a_result_that_the_log_can_never_hold_fails_the_step(text: str) -> None:
    @in_virtual_time
    async def check() -> None:
        class Small(MemoryBroker):
            async def append(self, fact: Fact) -> bool:
                if len(encode(fact)) > 1_000_000:
                    raise PayloadTooLarge(actual=len(encode(fact)), limit=1_000_000)
                return await super().append(fact)

        broker, tried = Small(), []

        async def handle(command: CallTool, context: Context) -> AnyEvent:
            tried.append(context.attempt)
            return done(command, text)

        async with started(tools(handle), broker):
            await broker.send(order_for(READ))
            failed = await failure_of(broker)
        assert tried == [1]
        assert failed.failure.type in ("PayloadTooLarge", "ProtocolError")

    check()


@in_virtual_time
async def test_a_command_that_kills_each_worker_fails_after_the_last_attempt() -> None:
    broker, tried = MemoryBroker(), []

    async def worker() -> None:
        process = Process(broker)

        async def handle(command: CallTool, context: Context) -> AnyEvent:
            tried.append(context.attempt)
            process.dead.set()
            raise Killed

        async with started(tools(handle, attempts=3, ack_wait_s=2.0), process, drain_s=0.0):
            await process.dead.wait()

    await broker.send(order_for(READ))
    for _ in range(3):
        await worker()
    async with started(tools(lambda *_: pytest.fail("a fourth attempt"), attempts=3), broker):
        failed = await failure_of(broker)
    assert tried == [1, 2, 3]
    assert failed.failure.type == "TooManyAttempts"


@in_virtual_time
async def test_a_timer_that_is_not_due_waits_and_is_no_failure() -> None:
    broker = MemoryBroker()
    timer = StartTimer(at=NOW + timedelta(hours=30), purpose="deadline")
    async with started(timer_service(LoopClock()), broker) as worker:
        await broker.send(order_for(timer))
        (stored,) = await facts(broker, 1)
    assert isinstance(stored.fact.body, TimerFired)
    assert stored.fact.body.fired >= timer.at
    assert stored.fact.body.fired - timer.at < timedelta(seconds=1)
    assert (worker.failed, worker.retried) == (0, 0)


@in_virtual_time
async def test_a_heartbeat_keeps_a_long_command_from_other_workers() -> None:
    broker, tried = MemoryBroker(), []

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        tried.append(context.attempt)
        await asyncio.sleep(300)
        return done(command)

    async with started(tools(handle, ack_wait_s=2.0), broker), started(tools(handle, ack_wait_s=2.0), broker):
        await broker.send(order_for(READ))
        await facts(broker, 1)
    assert tried == [1]


@in_virtual_time
async def test_a_silent_workers_command_goes_to_another() -> None:
    broker, tried = MemoryBroker(), []
    process = Process(broker)

    async def hangs(command: CallTool, context: Context) -> AnyEvent:
        process.dead.set()
        await asyncio.sleep(3600)
        raise AssertionError

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        tried.append(context.attempt)
        return done(command)

    async with started(tools(hangs, ack_wait_s=2.0), process, drain_s=0.0):
        await broker.send(order_for(READ))
        await process.dead.wait()
        async with started(tools(handle, ack_wait_s=2.0), broker):
            await facts(broker, 1)
    assert len(tried) == 1 < tried[0]


@pytest.mark.parametrize("how", ["sent again", "delivered again"])
def test_a_command_whose_answer_exists_is_not_run_again(how: str) -> None:
    @in_virtual_time
    async def check() -> None:
        broker, tried = MemoryBroker(), []

        async def handle(command: CallTool, context: Context) -> AnyEvent:
            tried.append(context.order.id)
            return done(command)

        await broker.append(fact_of(done(READ), run_of(), "c" * 32))
        await broker.send(order_for(READ), resent=how == "sent again")
        if how == "delivered again":
            async for delivery in broker.orders("tools", "builtin", ack_wait_s=1.0, at_once=1):
                await delivery.again(0)
                break
        async with started(tools(handle, at_once=1), broker):
            await broker.send(order_for(READ, id="d" * 32))
            await facts(broker, 2)
        assert tried == ["d" * 32]

    check()


@in_virtual_time
async def test_no_more_than_at_once_are_worked_on_side_by_side() -> None:
    broker = MemoryBroker()
    now = most = 0

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(1)
        now -= 1
        return done(command)

    async with started(tools(handle, at_once=3), broker):
        for number in range(10):
            await broker.send(order_for(READ, id=f"{number:032x}"))
        await facts(broker, 10)
    assert most == 3


@in_virtual_time
async def test_a_worker_that_is_stopped_finishes_its_work_and_takes_nothing_new() -> None:
    broker, begun, stopping = MemoryBroker(), asyncio.Event(), asyncio.Event()

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        begun.set()
        await asyncio.sleep(5)
        return done(command)

    worker = Worker(tools(handle), broker, broker, LoopClock(), name="w")
    serving = asyncio.create_task(serve(worker.run(), stopping))
    await broker.send(order_for(READ))
    await begun.wait()
    stopping.set()
    await asyncio.sleep(1)
    await broker.send(order_for(READ, id="d" * 32))
    await serving
    assert [stored.fact.slot for stored in await broker.read(run_of())] == ["c" * 32]


@in_virtual_time
async def test_what_is_not_finished_in_time_is_given_back_at_once() -> None:
    broker, begun, stopping = MemoryBroker(), asyncio.Event(), asyncio.Event()

    async def hangs(command: CallTool, context: Context) -> AnyEvent:
        begun.set()
        await asyncio.sleep(1e6)
        raise AssertionError

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        return done(command)

    worker = Worker(tools(hangs, ack_wait_s=600), broker, broker, LoopClock(), name="w")
    serving = asyncio.create_task(serve(worker.run(drain_s=1), stopping))
    await broker.send(order_for(READ))
    await begun.wait()
    stopping.set()
    await serving
    before = asyncio.get_running_loop().time()
    async with started(tools(handle), broker):
        await facts(broker, 1)
    assert asyncio.get_running_loop().time() - before < 1


@pytest.mark.parametrize(
    ("command", "stopped"),
    [(READ, True), (WRITE, False), (StoreTurn(conversation="t", user="u", outcome="cancelled"), False)],
)
def test_a_cancelled_run_stops_its_reads_but_neither_its_writes_nor_the_end_of_its_turn(
    command: AnyCommand, stopped: bool
) -> None:
    @in_virtual_time
    async def check() -> None:
        broker, begun = MemoryBroker(), asyncio.Event()
        ended: list[str] = []

        async def handle(command: Command, context: Context) -> AnyEvent:
            begun.set()
            try:
                await asyncio.sleep(50)
            except asyncio.CancelledError:
                ended.append("stopped")
                raise
            ended.append("done")
            return done(command) if isinstance(command, CallTool) else TurnStored(command=command)

        service = Service(command.role, "test", lane=command.lane)
        service.on(type(command))(handle)
        async with started(service, broker):
            await broker.send(order_for(command))
            await broker.send(order_for(command, run=run_of("other"), id="d" * 32))
            await begun.wait()
            await broker.tell(subjects.stop(command.role, run_of()), b"")
            await asyncio.sleep(200)
        assert sorted(ended) == (["done", "stopped"] if stopped else ["done", "done"])
        assert len(await broker.read(run_of())) == (0 if stopped else 1)
        left = broker.orders(command.role, command.lane, ack_wait_s=1, at_once=1)
        with pytest.raises(TimeoutError):  # the stopped one does not come again
            await asyncio.wait_for(anext(left), 100)

    check()


@in_virtual_time
async def test_a_handler_may_state_a_fact_in_another_run_from_any_task_of_its_own() -> None:
    broker = MemoryBroker()

    async def handle(command: StoreTurn, context: Context) -> AnyEvent:
        event = TurnReleased(after=context.run)
        assert await asyncio.gather(context.append(run_of("next"), RELEASE_SLOT, event)) == [True]
        return TurnStored(command=command, released=run_of("next"))

    service = Service("memory", "test")
    service.on(StoreTurn)(handle)
    async with started(service, broker):
        await broker.send(order_for(StoreTurn(conversation="t", user="u", outcome="answered")))
        await facts(broker, 1)
    (released,) = await broker.read(run_of("next"))
    assert (released.fact.tenant, released.fact.role, released.fact.slot) == (TENANT, "memory", "release")


@in_virtual_time
async def test_a_log_that_is_away_for_a_while_loses_nothing() -> None:
    class Away(MemoryBroker):
        left = 3

        async def append(self, fact: Fact) -> bool:
            if self.left:
                self.left -= 1
                raise Unreachable("NATS does not answer.")
            return await super().append(fact)

    broker, tried = Away(), []

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        tried.append(context.attempt)
        return done(command)

    async with started(tools(handle), broker):
        await broker.send(order_for(READ))
        (stored,) = await facts(broker, 1)
    assert isinstance(stored.fact.body, ToolReturned)
    assert tried == [1]  # the result was kept, not computed anew


def test_a_handler_is_found_by_the_exact_type_of_its_command() -> None:
    service = Service("llm", "test")

    @service.on(Generate)
    async def generate(command: Generate, context: Context) -> AnyEvent:
        raise NotYet(1)

    assert service.handlers == {Generate: generate}


@in_virtual_time
async def test_an_order_that_is_nobodys_is_dropped_and_leaves_its_place_to_the_genuine_one() -> None:
    broker, handled = MemoryBroker(), []

    async def handle(command: CallTool, context: Context) -> AnyEvent:
        handled.append(command.call.arguments)
        if command.call.arguments:
            raise NotAsked("other arguments")
        return done(command)

    altered = READ.model_copy(update={"call": call("clock", zone="elsewhere")})
    async with started(tools(handle), broker):
        await broker.send(order_for(altered))
        await asyncio.sleep(60)
        assert await broker.read(run_of()) == []
        await broker.send(order_for(READ))
        (fact,) = await facts(broker, 1)
    assert handled == [{"zone": "elsewhere"}, {}], "it does not come again"
    assert fact.fact.body == done(READ)
