"""Many runs in which everything is drawn from one seed: models, people, tools, schedules, deaths.

`Cluster` runs real conductors and workers on the memory broker in virtual time and kills them between any two of their
operations. One run by itself: drawn_run.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import wraps
from typing import ClassVar, TypeVar

import structlog

from runtime.bus import CardChange, Hear, Reply, ServiceInfo
from runtime.conductor import Conductor
from runtime.log import Delivery, Stored
from runtime.memory_broker import MemoryBroker
from runtime.service import Context, Service, Worker
from runtime.timer import timer_service
from schemas import subjects
from schemas.agent import AgentSpec
from schemas.commands import (
    AskPerson,
    CallTool,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RequestApproval,
    RetrieveKnowledge,
    Role,
    SelectTools,
)
from schemas.envelope import Fact, Order, decode_order
from schemas.events import (
    AnyEvent,
    CallJudged,
    Generated,
    GrantKept,
    KnowledgeRetrieved,
    ScoredCard,
    ToolAsked,
    ToolReturned,
    ToolsSelected,
)
from schemas.ids import END_SLOT, CommandId, RunId
from schemas.messages import Prompt
from schemas.tools import ToolCard, ToolResult, call_key
from services.memory.memory_store import MemoryConversationStore
from services.memory.service import memory_service
from tests.support.builders import (
    CARDS,
    NOW,
    TENANT,
    fact_of,
    passage,
    planned,
    request_fact,
    requested,
    run_of,
    spec,
)
from tests.support.drawn_run import QUESTION, drawn_answer, drawn_decision, drawn_generation, drawn_question, drawn_verdict

T = TypeVar("T")
M = TypeVar("M", Fact, Order)


# --- virtual time -------------------------------------------------------------------------------------


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever nothing is ready."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise AssertionError("everything waits for ever")
        self._loop.now += timeout
        return ready


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test on a virtual loop: hours of waiting take no time, and waiting for ever is an error."""

    @wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(_within(test()))

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would take it for an async test
    return run


async def _within(work: Awaitable[None]) -> None:
    async with asyncio.timeout(30 * 86400):
        await work


class LoopClock:
    """The virtual loop's time as a date."""

    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())


# --- processes that die -------------------------------------------------------------------------------


class Killed(BaseException):
    """kill -9, as seen from inside: whatever the process does next does not happen."""


class Process:
    """The broker as one process sees it. It dies at its `life`-th operation, before or after that took effect."""

    def __init__(self, broker: MemoryBroker, life: int | None = None, *, after: bool = False) -> None:
        self._broker, self._life, self._after = broker, life, after
        self._operations = 0
        self.dead = asyncio.Event()

    async def step(self) -> None:
        """A moment at which the process may die."""
        if self.dead.is_set():
            raise Killed
        self._operations += 1
        if self._operations == self._life:
            self.dead.set()
            raise Killed

    async def _do(self, work: Callable[[], Awaitable[T]]) -> T:
        if self._after and not self.dead.is_set() and self._operations + 1 == self._life:
            await work()
        await self.step()
        return await work()

    async def append(self, fact: Fact) -> bool:
        return await self._do(lambda: self._broker.append(fact))

    async def read(self, run: RunId, after: int = 0) -> list[Stored]:
        return await self._do(lambda: self._broker.read(run, after))

    async def holds(self, run: RunId, tenant: str, role: str, slot: str) -> bool:
        return await self._do(lambda: self._broker.holds(run, tenant, role, slot))

    async def facts(self, group: str) -> AsyncIterator[Delivery[Fact]]:
        async for delivery in self._broker.facts(group):
            yield self._wrapped(delivery)

    async def requests(self, group: str, every_s: float) -> AsyncIterator[Delivery[Fact]]:
        async for delivery in self._broker.requests(group, every_s):
            yield self._wrapped(delivery)

    async def follow(self, run: RunId) -> AsyncIterator[Stored]:
        async for stored in self._broker.follow(run):
            yield stored

    async def send(self, order: Order, *, resent: bool = False) -> None:
        await self._do(lambda: self._broker.send(order, resent=resent))

    async def orders(self, role: Role, lane: str, *, ack_wait_s: float, at_once: int) -> AsyncIterator[Delivery[Order]]:
        async for delivery in self._broker.orders(role, lane, ack_wait_s=ack_wait_s, at_once=at_once):
            yield self._wrapped(delivery)

    def _wrapped(self, delivery: Delivery[M]) -> Delivery[M]:
        if self.dead.is_set():
            raise Killed
        return replace(
            delivery,
            ack=lambda: self._do(delivery.ack),
            again=lambda delay_s: self._do(lambda: delivery.again(delay_s)),
            working=lambda: self._do(delivery.working),
        )

    async def forget(self, run: RunId) -> None:
        await self._do(lambda: self._broker.forget(run))

    async def tell(self, subject: str, data: bytes) -> None:
        await self._do(lambda: self._broker.tell(subject, data))

    @asynccontextmanager
    async def hear(self, subject: str, receive: Hear) -> AsyncIterator[None]:
        async def while_alive(spoken_on: str, data: bytes) -> None:
            if not self.dead.is_set():
                await receive(spoken_on, data)

        async with self._broker.hear(subject, while_alive):
            yield

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        return await self._do(lambda: self._broker.ask(subject, data, timeout_s))

    @asynccontextmanager
    async def serve(
        self, info: ServiceInfo, answers: dict[str, Reply], stats: Callable[[], dict[str, object]]
    ) -> AsyncIterator[None]:
        async with self._broker.serve(info, answers, stats):
            yield

    async def publish_card(self, tenant: str, card: ToolCard) -> None:
        await self._do(lambda: self._broker.publish_card(tenant, card))

    async def withdraw_card(self, tenant: str, card: ToolCard) -> None:
        await self._do(lambda: self._broker.withdraw_card(tenant, card))

    def cards(self, group: str) -> AsyncIterator[CardChange]:
        return self._broker.cards(group)

    async def bury(self, role: str, raw: bytes, why: str) -> None:
        await self._broker.bury(role, raw, why)


# --- a world for them ---------------------------------------------------------------------------------


@dataclass
class World:
    """What outlives every process: the provider's servers, the effect ledger, conversations."""

    conversations: MemoryConversationStore = field(default_factory=MemoryConversationStore)
    begun: dict[str, CommandId] = field(default_factory=dict)
    effects: Counter[str] = field(default_factory=Counter)
    by_run: Counter[tuple[RunId, str]] = field(default_factory=Counter)
    under_way: dict[str, list[Process]] = field(default_factory=dict)
    most_at_once: int = 0


def services(world: World, process: Process, seed: int, clock: LoopClock) -> dict[str, Service]:
    """One service of each kind; tools are slow, die between intent and effect, and ask the provider afterwards."""
    llm = Service("llm", "a random model", ack_wait_s=5.0)
    retrieval = Service("retrieval", "finds everything", ack_wait_s=5.0)
    policy = Service("policy", "rules at random", ack_wait_s=5.0)
    reads = Service("tools", "reads", ack_wait_s=5.0)
    writes = Service("tools", "writes", lane="cloud", ack_wait_s=5.0, attempts=0)

    @llm.on(Generate)
    async def generate(command: Generate, context: Context) -> AnyEvent:
        said = Prompt.model_validate(context.material["prompt"])
        assert said.hash() == command.prompt_hash, "the log does not tell what the model read"
        draw = random.Random(f"{seed} {context.run} {len(said.messages)}")
        await asyncio.sleep(draw.choice([0, 1, 40]))
        return Generated(command=command, generation=drawn_generation(draw))

    @retrieval.on(SelectTools)
    async def select(command: SelectTools, context: Context) -> AnyEvent:
        found = tuple(ScoredCard(card=card, score=1.0) for card in CARDS)
        return ToolsSelected(command=command, tools=found, catalog="all", searched=3)

    @retrieval.on(RetrieveKnowledge)
    async def retrieve(command: RetrieveKnowledge, context: Context) -> AnyEvent:
        return KnowledgeRetrieved(command=command, passages=(passage(),))

    @policy.on(JudgeCall)
    async def judge(command: JudgeCall, context: Context) -> AnyEvent:
        agent = AgentSpec(approval=context.material["agent"]["approval"])  # type: ignore[index]
        return CallJudged(command=command, verdict=drawn_verdict(command, agent, random.Random(context.order.id)))

    @policy.on(KeepGrant)
    async def keep(command: KeepGrant, context: Context) -> AnyEvent:
        return GrantKept(command=command, grant=context.order.id)

    @reads.on(CallTool)
    async def read(command: CallTool, context: Context) -> AnyEvent:
        if drawn_question(command, random.Random(context.order.id)):
            return ToolAsked(command=command, question=QUESTION)
        assert not command.answers or context.material["answers"]
        await asyncio.sleep(random.Random(context.order.id).choice([0, 3, 100]))
        return ToolReturned(command=command, result=ToolResult(text="noon"))

    @writes.on(PlanCall)
    async def plan(command: PlanCall, context: Context) -> AnyEvent:
        return planned(command, state=f"{context.run} {sum(world.effects.values())}")

    @writes.on(CallTool)
    async def write(command: CallTool, context: Context) -> AnyEvent:
        if drawn_question(command, random.Random(context.order.id)):
            return ToolAsked(command=command, question=QUESTION)
        key = command.write_key or ""
        at_once = world.under_way.setdefault(key, [])
        at_once.append(process)
        world.most_at_once = max(world.most_at_once, sum(not each.dead.is_set() for each in at_once))  # the dead do nothing
        try:
            await process.step()
            world.begun.setdefault(key, context.order.id)  # type: ignore[arg-type]
            await asyncio.sleep(random.Random(key).choice([0, 2, 200]))
            await process.step()
            if not world.effects[key]:  # the provider is asked before the effect is caused again
                world.effects[key] += 1
                world.by_run[context.run, call_key(command.call.name, command.call.arguments)] += 1
            await process.step()
            return ToolReturned(command=command, result=ToolResult(text="renewed"))
        finally:
            at_once.remove(process)

    memory = memory_service(world.conversations, clock)
    return {
        "llm": llm,
        "retrieval": retrieval,
        "policy": policy,
        "reads": reads,
        "writes": writes,
        "memory": memory,
        "timer": timer_service(clock),
    }


class Cluster:
    """Two conductors and two of each worker, each killed some times, until every run has ended."""

    NAMES: ClassVar[tuple[str, ...]] = ("conductor", "llm", "retrieval", "policy", "reads", "writes", "memory", "timer")

    def __init__(self, seed: int, *, kills: int = 2) -> None:
        self._draw = random.Random(seed)
        self.seed, self.kills_each, self.killed = seed, kills, 0
        self.broker, self.world, self.clock = MemoryBroker(), World(), LoopClock()
        self.runs: list[RunId] = []

    def play(self, runs: int = 6) -> None:
        """Begin the runs and let them end, in virtual time."""
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        try:
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                runner.run(self._play(runs))
        finally:
            structlog.reset_defaults()

    def log_of(self, run: RunId) -> list[Stored]:
        return asyncio.run(self.broker.read(run))

    async def _play(self, runs: int) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # the dead tell no tales
        lives = [asyncio.create_task(self._live(name)) for name in self.NAMES for _ in range(2)]
        async with self.broker.hear("mp.ask.>", self._person):
            for number in range(runs):
                await self._begin(number)
                await asyncio.sleep(self._draw.choice([0, 0.5, 5]))
            async with asyncio.timeout(7 * 86400):
                await asyncio.gather(*(self._ended(run) for run in self.runs))
                await self._afterwards()
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    async def _afterwards(self) -> None:
        """What else is to happen while all of them live."""

    async def _begin(self, number: int) -> None:
        busy = self._draw.choice(["queue", "queue", "interrupt", "refuse"])
        agent = spec(steps=8, calls=12, approval_s=60, deadline_s=self._draw.choice([60, 7200, 7200]), when_busy=busy)
        event = requested(agent, key=f"{self.seed}-{number}", conversation=f"talk-{number % 4}")
        self.runs.append(run_of(event.key))
        await self.broker.append(request_fact(event, time=self.clock.now()))

    async def _ended(self, run: RunId) -> None:
        async for stored in self.broker.follow(run):
            if stored.fact.slot == END_SLOT:
                return

    async def _live(self, name: str) -> None:
        """One place for a process: it is started again after each death."""
        for _ in range(self.kills_each):
            process = Process(self.broker, self._draw.randint(1, 60), after=self._draw.random() < 0.5)
            task = asyncio.create_task(self._start(name, process))
            dead = asyncio.create_task(process.dead.wait())
            await asyncio.wait({task, dead}, return_when=asyncio.FIRST_COMPLETED)
            self.killed += process.dead.is_set()
            process.dead.set()
            for each in (task, dead):
                each.cancel()
            await asyncio.wait({task})
            await asyncio.sleep(self._draw.choice([0, 1, 20]))
        await self._start(name, Process(self.broker))

    async def _start(self, name: str, process: Process) -> None:
        if name == "conductor":
            await Conductor(process, process, self.clock, name="c").run()
        else:
            service = services(self.world, process, self.seed, self.clock)[name]
            await Worker(service, process, process, self.clock, name="w").run(drain_s=0.001 if process.dead else 1.0)

    async def _person(self, subject: str, data: bytes) -> None:
        order = decode_order(data)
        assert isinstance(order.body, RequestApproval | AskPerson)
        draw = random.Random(f"{self.seed} {order.id}")
        asked = order.body
        event = drawn_answer(asked, draw) if isinstance(asked, AskPerson) else drawn_decision(asked, draw)
        if event is not None:
            await self.broker.append(fact_of(event, order.run, order.id, time=self.clock.now()))


@asynccontextmanager
async def working(*works: Awaitable[None]) -> AsyncIterator[None]:
    """Conductors and workers that run while the context is open."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


__all__ = ["TENANT", "Cluster", "Killed", "Process", "VirtualLoop", "subjects", "working"]
