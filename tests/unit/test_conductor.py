"""The conductor: every fact's commands are sent, whoever else conducts, whatever fails in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from runtime.capability import MATERIAL, Capability, Issuer, check, public_keys, read_capability
from runtime.conductor import Conductor
from runtime.errors import Unreachable
from runtime.log import Stored
from runtime.memory_broker import MemoryBroker
from schemas import subjects
from schemas.canonical import canonical
from schemas.commands import (
    CallTool,
    Command,
    Generate,
    PlanCall,
    RecallMemory,
    RequestApproval,
    Role,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Fact, Order, decode_order
from schemas.errors import PayloadTooLarge, ProtocolError
from schemas.events import (
    AnyEvent,
    ApprovalGranted,
    CancelRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    StepFailed,
    ToolReturned,
    TurnStored,
)
from schemas.ids import CANCEL_SLOT, END_SLOT
from schemas.tools import ToolResult
from tests.support.builders import RunUnderTest, call, fact_of, request_fact, requested, run_of, spec
from tests.support.rights import KEYS
from tests.support.simulation import LoopClock, in_virtual_time

ALONE = spec(tool_k=0, knowledge_k=0)


class Watched(MemoryBroker):
    """A broker that notes what is sent and told; it can be away, and it can be small."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[Order, bool]] = []
        self.told: list[tuple[str, bytes]] = []
        self.forgotten: list[str] = []
        self.reads = 0
        self.away = False
        self.too_large: type[Command] | None = None
        self._changed = asyncio.Condition()

    async def send(self, order: Order, *, resent: bool = False) -> None:
        if self.away:
            raise Unreachable("NATS does not answer.")
        if self.too_large and isinstance(order.body, self.too_large):
            raise PayloadTooLarge(actual=2_000_000, limit=1_000_000)
        await super().send(order, resent=resent)
        async with self._changed:
            self.sent.append((order, resent))
            self._changed.notify_all()

    async def tell(self, subject: str, data: bytes) -> None:
        async with self._changed:
            self.told.append((subject, data))
            self._changed.notify_all()

    async def forget(self, run: str) -> None:  # type: ignore[override]
        async with self._changed:
            self.forgotten.append(run)
            self._changed.notify_all()

    async def read(self, run, after: int = 0) -> list[Stored]:  # type: ignore[no-untyped-def]
        self.reads += 1
        return await super().read(run, after)

    async def waits_for(self, kind: type[Command], count: int = 1) -> Order:
        """The count-th order of a kind, as soon as it was sent."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.orders_of(kind)) >= count)
        return self.orders_of(kind)[count - 1]

    async def waits(self, condition) -> None:  # type: ignore[no-untyped-def]
        async with self._changed:
            await self._changed.wait_for(condition)

    def orders_of(self, kind: type[Command]) -> list[Order]:
        return [order for order, _ in self.sent if isinstance(order.body, kind)]


class Driver:
    """States facts as the services would, with a fold of its own to know what is open."""

    def __init__(self, broker: Watched, key: str = "key", agent=ALONE) -> None:  # type: ignore[no-untyped-def]
        self.broker, self.model = broker, RunUnderTest(agent, key=key)

    async def state(self, fact: Fact) -> None:
        self.model.hear(fact)
        await self.broker.append(fact)

    async def begin(self) -> None:
        await self.state(request_fact(self.model.request))

    async def answer(self, event: AnyEvent) -> None:
        await self.state(fact_of(event, self.model.id, self.model.id_of(event.command)))  # type: ignore[union-attr]

    async def until_generate(self) -> None:
        await self.begin()
        before = len(self.model.log)
        self.model.gather()
        await self._publish(before)

    async def say(self, *calls, text: str = "") -> None:  # type: ignore[no-untyped-def]
        before = len(self.model.log)
        self.model.say(*calls, text=text)
        await self._publish(before)

    async def plan(self) -> None:
        """The write is planned, and the rules leave it to the agent's own setting."""
        before = len(self.model.log)
        self.model.plans()
        await self._publish(before)

    async def _publish(self, before: int) -> None:
        for stored in self.model.log[before:]:
            await self.broker.append(stored.fact)

    async def terminal(self) -> AnyEvent:
        async for stored in self.broker.follow(self.model.id):
            if stored.fact.slot == END_SLOT:
                return stored.fact.body
        raise AssertionError


@asynccontextmanager
async def conducting(
    broker: MemoryBroker, *, count: int = 1, sweep_s: float = 30.0, issuer: Issuer | None = None
) -> AsyncIterator[list[Conductor]]:
    conductors = [
        Conductor(broker, broker, LoopClock(), name=f"c{number}", sweep_s=sweep_s, issuer=issuer) for number in range(count)
    ]
    tasks = [asyncio.create_task(conductor.run()) for conductor in conductors]
    try:
        yield conductors
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@in_virtual_time
async def test_a_request_sends_its_commands_with_what_they_need() -> None:
    broker = Watched()
    async with conducting(broker):
        await Driver(broker, agent=spec()).begin()
        order = await broker.waits_for(RecallMemory)
        await broker.waits_for(StartTimer)
    assert sorted(each.body.kind for each, _ in broker.sent) == [
        "RecallMemory",
        "RetrieveKnowledge",
        "SelectTools",
        "StartTimer",
    ]
    assert order.material == {"query": "what time is it?"}
    assert order.causes[0] == request_fact().id
    assert [resent for _, resent in broker.sent if not resent] == []  # the first fold of a run is read from the log


@in_virtual_time
async def test_a_whole_run_ends_in_one_terminal_fact_however_many_conduct() -> None:
    broker = Watched()
    async with conducting(broker, count=3):
        drivers = [Driver(broker, key=f"key{number}") for number in range(5)]
        for driver in drivers:
            await driver.until_generate()
        for driver in drivers:
            await driver.say(text="noon")
        await broker.waits_for(StoreTurn, 5)
        for driver in drivers:
            await driver.answer(TurnStored(command=driver.model.one(StoreTurn)))
        for driver in drivers:
            assert await driver.terminal() == RunCompleted(command=driver.model.state.ending, answer="noon")
        await broker.waits(lambda: len(set(broker.forgotten)) == 5)
    ids = {order.id for order, _ in broker.sent}
    assert ids <= {each.id for driver in drivers for each in driver.model.decided if each.command.kind != "EndRun"}


@in_virtual_time
async def test_a_conductor_that_missed_facts_reads_them_before_it_decides() -> None:
    broker = Watched()
    driver = Driver(broker, agent=spec(knowledge_k=0))
    other = broker.facts("conductor")
    async with conducting(broker, sweep_s=1e6):
        await asyncio.sleep(0.1)
        stolen = asyncio.create_task(anext(other))  # the second fact goes to another conductor, which dies with it
        await asyncio.sleep(0.1)
        await driver.begin()
        await broker.waits_for(RecallMemory)
        driver.model.gather()
        for stored in driver.model.log[1:]:
            await broker.append(stored.fact)
        begun = asyncio.get_running_loop().time()
        order = await broker.waits_for(Generate)
        assert asyncio.get_running_loop().time() - begun < 1.0  # not only when the stolen fact comes again
    assert (await stolen).message.body == driver.model.log[1].fact.body
    assert order.id == driver.model.id_of(driver.model.one(Generate))


@in_virtual_time
async def test_a_bus_that_is_away_delays_commands_and_loses_none() -> None:
    broker = Watched()
    async with conducting(broker):
        broker.away = True
        await Driver(broker).begin()
        await asyncio.sleep(20)
        assert broker.sent == []
        broker.away = False
        await broker.waits_for(RecallMemory)
        await broker.waits_for(StartTimer)


@in_virtual_time
async def test_a_command_that_can_never_be_sent_fails_its_step_and_not_the_conductor() -> None:
    broker = Watched()
    broker.too_large = Generate
    async with conducting(broker):
        driver = Driver(broker)
        await driver.until_generate()
        store = await broker.waits_for(StoreTurn)
        assert isinstance(store.body, StoreTurn)
        await broker.append(fact_of(TurnStored(command=store.body), driver.model.id, store.id))
        end = await driver.terminal()
    assert isinstance(end, RunFailed)
    assert end.failure.type == "PayloadTooLarge"
    (failed,) = [stored.fact for stored in await broker.read(driver.model.id) if isinstance(stored.fact.body, StepFailed)]
    assert failed.role == "conductor"


@in_virtual_time
async def test_the_sweep_sends_again_what_the_queue_has_lost() -> None:
    broker = Watched()
    async with conducting(broker, sweep_s=30.0):
        driver = Driver(broker)
        await driver.begin()
        await broker.waits_for(StartTimer)
        broker.sent.clear()
        before = asyncio.get_running_loop().time()
        await broker.waits_for(RecallMemory)
        assert asyncio.get_running_loop().time() - before <= 61
        assert all(resent for _, resent in broker.sent)


@in_virtual_time
async def test_after_a_reconnection_everything_open_is_sent_again() -> None:
    broker = Watched()
    async with conducting(broker, sweep_s=1e6) as (conductor,):
        await Driver(broker).begin()
        await Driver(broker, key="other").begin()
        await broker.waits_for(StartTimer, 2)
        broker.sent.clear()
        broker.away = True
        await conductor.resend_all()  # fails quietly: the sweep comes by
        broker.away = False
        await conductor.resend_all()
    assert sorted(order.body.kind for order, _ in broker.sent) == ["RecallMemory", "RecallMemory", "StartTimer", "StartTimer"]
    assert all(resent for _, resent in broker.sent)


@in_virtual_time
async def test_a_person_is_asked_again_until_there_is_an_answer() -> None:
    broker = Watched()
    async with conducting(broker, sweep_s=30.0):
        driver = Driver(broker, agent=spec(knowledge_k=0))
        await driver.until_generate()
        await broker.waits_for(Generate)
        await driver.say(call("renew"))
        await broker.waits_for(PlanCall)
        await driver.plan()
        await broker.waits(lambda: len(broker.told) >= 3)
    ask = driver.model.one(RequestApproval)
    slot = driver.model.id_of(ask)
    assert {subject for subject, _ in broker.told} == {subjects.ask("acme", driver.model.id, slot)}
    order = decode_order(broker.told[0][1])
    assert (order.body, order.id) == (ask, slot)
    assert order.material["preview"]["summary"] == "one month more"  # type: ignore[index]
    assert broker.orders_of(RequestApproval) == []


@in_virtual_time
async def test_a_cancel_tells_the_roles_whose_work_is_given_up() -> None:
    broker = Watched()
    async with conducting(broker):
        driver = Driver(broker, agent=spec(approval="never", knowledge_k=0))
        await driver.until_generate()
        await driver.say(call("renew", "c1"), call("clock", "c2"))
        await broker.waits_for(CallTool)
        await driver.state(fact_of(CancelRequested(by="ann"), driver.model.id, CANCEL_SLOT))
        await broker.waits(lambda: len(broker.told) >= 3)
        store = await broker.waits_for(StoreTurn)
        await broker.append(fact_of(TurnStored(command=store.body), driver.model.id, store.id))  # type: ignore[arg-type]
        assert isinstance(await driver.terminal(), RunCancelled)
    wanted: set[Role] = {"tools", "policy", "timer"}
    assert {subject for subject, _ in broker.told} == {subjects.stop(role, driver.model.id) for role in wanted}


@in_virtual_time
async def test_a_request_that_begins_nothing_is_not_looked_at_for_ever() -> None:
    broker = Watched()
    async with conducting(broker, sweep_s=1.0):
        event = requested(key="not the run's key")
        await broker.append(fact_of(event, run_of("key"), "request"))
        await asyncio.sleep(10)
        reads = broker.reads
        await asyncio.sleep(1000)
    assert broker.reads == reads
    assert broker.sent == []


@in_virtual_time
async def test_the_run_of_another_decider_is_left_alone() -> None:
    broker = Watched()
    fact = request_fact(requested(ALONE))
    async with conducting(broker):
        await broker.append(replace(fact, header=fact.header.model_copy(update={"decider": "999"})))
        await asyncio.sleep(100)
        assert broker.sent == []
        await Driver(broker, key="ours").begin()
        await broker.waits_for(RecallMemory)


@in_virtual_time
async def test_what_a_fact_caused_is_sent_before_it_is_acknowledged() -> None:
    broker = Watched()
    blocked, sending = asyncio.Event(), asyncio.Event()
    send = broker.send

    async def slow(order: Order, *, resent: bool = False) -> None:
        sending.set()
        await blocked.wait()
        await send(order, resent=resent)

    broker.send = slow  # type: ignore[method-assign]
    async with conducting(broker, sweep_s=1e6):
        await Driver(broker).begin()
        await sending.wait()
    # the conductor died while it was sending: another one is given the same fact
    broker.send = send  # type: ignore[method-assign]
    async with conducting(broker, sweep_s=1e6), asyncio.timeout(60):
        await broker.waits_for(RecallMemory)


# --- rights to call tools ---


def right_of(order: Order) -> Capability:
    """The capability that an order carries, verified against the order."""
    right = read_capability(order.material[MATERIAL], public_keys(KEYS.trusted()))
    check(right, order, LoopClock().now())
    return right


@in_virtual_time
async def test_every_order_for_a_host_of_tools_is_signed_and_no_other() -> None:
    broker = Watched()
    async with conducting(broker, issuer=Issuer(KEYS)):
        driver = Driver(broker, agent=spec(knowledge_k=0))
        await driver.until_generate()
        await driver.say(call("renew", "c1"), call("clock", "c2"))
        plan, read = await broker.waits_for(PlanCall), await broker.waits_for(CallTool)
        await driver.plan()
        asked = driver.model.one(RequestApproval)
        await driver.answer(ApprovalGranted(command=asked, by="ann", approval_hash=asked.approval_hash))
        write = await broker.waits_for(CallTool, 2)
    assert (right_of(plan).want, right_of(plan).tool, right_of(read).want, right_of(read).tool) == (
        "plan",
        "renew",
        "call",
        "clock",
    )
    body = write.body
    assert isinstance(body, CallTool) and body.write_key and body.approval
    assert (right_of(write).write_key, right_of(write).approval) == (body.write_key, body.approval)
    others = [order for order, _ in broker.sent if not isinstance(order.body, PlanCall | CallTool)]
    assert others and not [order for order in others if MATERIAL in order.material]


@in_virtual_time
async def test_the_conductor_vouches_for_what_is_outstanding_and_for_nothing_else() -> None:
    broker = Watched()
    question = subjects.question("conductor", "capability")

    async def vouched(run: str, command: str, tenant: str = "acme") -> object:
        raw = canonical({"tenant": tenant, "run": run, "command": command})
        return json.loads(await broker.ask(question, raw, 1.0))["capability"]

    async with conducting(broker, issuer=Issuer(KEYS)) as (conductor,):
        driver = Driver(broker, agent=spec(knowledge_k=0))
        await driver.until_generate()
        await driver.say(call("clock", "c2"))
        order = await broker.waits_for(CallTool)
        run, generate = driver.model.id, next(each.id for each in driver.model.decided if isinstance(each.command, Generate))
        for lost in (False, True):
            if lost:
                conductor._runs.clear()  # another conductor's run, or before a restart
            fresh = replace(order, material={**order.material, MATERIAL: await vouched(run, order.id)})
            assert right_of(fresh).command == order.id
        assert await vouched(run, order.id, tenant="umbrella") is None
        assert await vouched(run_of("nobody's"), order.id) is None
        assert await vouched(run, generate) is None, "it has been answered"
        await driver.answer(ToolReturned(command=order.body, result=ToolResult(text="noon")))  # type: ignore[arg-type]
        assert await vouched(run, order.id) is None
        assert run_of("nobody's") not in conductor._runs, "questions leave nothing behind"
        keys = json.loads(await broker.ask(subjects.question("conductor", "capability_keys"), b"{}", 1.0))["keys"]
        assert list(keys) == [KEYS.signing().id]
        with pytest.raises(ProtocolError):
            await broker.ask(question, b'{"run": 1}', 1.0)
