"""Whole runs in which everything is drawn from one seed: models, people, tools, schedules, deaths.

Two levels. `play` folds one run by itself, in any order of answers. `Cluster` runs real conductors and workers on the
memory broker in virtual time and kills them between any two of their operations.
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
from typing import TypeVar

import structlog

from runtime.advance import advance
from runtime.bus import CardChange, Hear, Reply, ServiceInfo
from runtime.conductor import Conductor
from runtime.fold import fold
from runtime.log import Delivery, Stored
from runtime.memory_broker import MemoryBroker
from runtime.service import Context, Service, Worker
from runtime.timer import timer_service
from schemas import subjects
from schemas.agent import AgentSpec
from schemas.commands import (
    AnyCommand,
    CallTool,
    EndRun,
    Generate,
    PlanCall,
    RecallMemory,
    RequestApproval,
    RetrieveKnowledge,
    Role,
    SelectTools,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Fact, Order, decode_order
from schemas.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CancelRequested,
    Generated,
    KnowledgeRetrieved,
    MemoryRecalled,
    ScoredCard,
    StepFailed,
    TimerFired,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
    TurnQueued,
    TurnRefused,
    TurnStored,
)
from schemas.ids import END_SLOT, CommandId, RunId
from schemas.messages import Generation, Prompt
from schemas.tools import ToolCall, ToolCard, ToolResult, call_key
from services.memory.memory_store import MemoryConversationStore
from services.memory.service import memory_service
from tests.support.builders import (
    CARDS,
    NOW,
    TENANT,
    RunUnderTest,
    ending,
    fact_of,
    failure,
    passage,
    planned,
    request_fact,
    requested,
    run_of,
    spec,
)

T = TypeVar("T")
M = TypeVar("M", Fact, Order)


# --- one run, folded ----------------------------------------------------------------------------------


def play(seed: int) -> RunUnderTest:
    """One run from its request to its end, answered at random; checks the fold at every step."""
    draw = random.Random(seed)
    run = RunUnderTest(_agent(draw), key=f"seed {seed}")
    run.begin()
    unanswered: set[CommandId] = set()
    for _ in range(500):
        if run.state.phase == "ended":
            return run
        run.later(draw.choice([0.0, 0.01, 2.0]))
        if draw.random() < 0.02:
            _cancel(run, draw.choice(["client", "memory"]))
        else:
            _answer_something(run, draw, unanswered)
        _check_fold(run, draw)
    raise AssertionError(f"seed {seed}: the run does not end: {run.state.phase}, {list(run.state.outstanding.values())}")


def _agent(draw: random.Random) -> AgentSpec:
    return spec(
        steps=draw.randint(1, 9), calls=draw.randint(0, 12), deadline_s=draw.choice([5, 600, 600]),
        approval_s=draw.choice([1, 60]), approval=draw.choice(["writes", "destructive", "never"]),
        tool_k=draw.choice([0, 3]), knowledge_k=draw.choice([0, 2]),
    )  # fmt: skip


def _cancel(run: RunUnderTest, role: Role) -> None:
    taken = {stored.fact.role for stored in run.log if isinstance(stored.fact.body, CancelRequested)}
    if role not in taken:  # the broker takes one event a place
        run.cancel(role=role)


def _answer_something(run: RunUnderTest, draw: random.Random, unanswered: set[CommandId]) -> None:
    open_commands = {id: each for id, each in run.state.outstanding.items() if id not in unanswered}
    work = [id for id, each in open_commands.items() if not isinstance(each, StartTimer)]
    id = draw.choice(work if work and draw.random() < 0.9 else list(open_commands))
    event = _event(open_commands[id], run, draw)
    if event is None:
        unanswered.add(id)  # a person who never answers: the timer must do it
    elif isinstance(event, TurnQueued):
        steps = [lambda: run.answer(event), run.release]
        draw.shuffle(steps)
        for step in steps:
            step()
    else:
        run.answer(event)


def _event(command: AnyCommand, run: RunUnderTest, draw: random.Random) -> AnyEvent | None:
    if draw.random() < 0.015 and not isinstance(command, EndRun):
        return StepFailed(command=command, failure=failure())
    match command:
        case RecallMemory():
            kinds = [MemoryRecalled(command=command)] * 8
            first = run.count(RecallMemory) == 1  # a run waits in the queue once
            others = [TurnQueued(command=command, behind="x"), TurnRefused(command=command, by="x")]
            return draw.choice([*kinds, *(others if first else ())])
        case SelectTools():
            found = tuple(ScoredCard(card=card, score=1.0) for card in CARDS if draw.random() < 0.8)
            return ToolsSelected(command=command, tools=found, catalog="all", searched=3)
        case RetrieveKnowledge():
            return KnowledgeRetrieved(command=command, passages=(passage(),))
        case Generate():
            return Generated(command=command, generation=_generation(draw))
        case PlanCall():
            return planned(command) if draw.random() < 0.9 else ToolFailed(command=command, failure=failure())
        case CallTool():
            return _called(command, draw)
        case RequestApproval():
            return _decided(command, draw)
        case StartTimer():
            run.now = max(run.now, command.at) if draw.random() < 0.9 else run.now  # another clock may run behind
            return TimerFired(command=command, fired=run.now)
        case StoreTurn():
            return TurnStored(command=command)
        case EndRun():
            return ending(command, run.state.answer or "")


def _generation(draw: random.Random) -> Generation:
    if draw.random() < 0.25:
        return Generation(text=f"answer {draw.random()}")
    return Generation(text="", calls=tuple(_call(draw) for _ in range(draw.randint(1, 3))))


def _call(draw: random.Random) -> ToolCall:
    name = draw.choice(["clock", "renew", "renew", "destroy", "no_such_tool"])
    return ToolCall(id=f"c{draw.randint(1, 4)}", name=name, arguments={"n": draw.randint(1, 2)})


def _called(command: CallTool, draw: random.Random) -> AnyEvent:
    if draw.random() < 0.75:
        return ToolReturned(command=command, result=ToolResult(text=f"result {draw.random()}"))
    kind = ToolInDoubt if command.write_key and draw.random() < 0.5 else ToolFailed
    return kind(command=command, failure=failure())


def _decided(command: RequestApproval, draw: random.Random) -> AnyEvent | None:
    how = draw.random()
    if how < 0.5:
        return ApprovalGranted(command=command, by="ann", approval_hash=command.approval_hash)
    if how < 0.6:
        return ApprovalGranted(command=command, by="eve", approval_hash="0" * 32)
    return ApprovalRefused(command=command, by="ann") if how < 0.75 else None


def _check_fold(run: RunUnderTest, draw: random.Random) -> None:
    for stored in draw.sample(run.log, min(3, len(run.log))):  # told again: by position and, for answers, by content
        before = run.state
        assert run.folded.add(stored) == ()
        if stored.fact.slot in {each.id for each in run.decided}:
            assert advance(run.state, stored.fact) == (before, ())
        assert run.state == before
    if draw.random() < 0.15:  # another conductor, or this one after its death
        other = fold(run.id, run.log)
        assert other.state == run.state
        assert list(other.open.values()) == [each for each in run.decided if each.id in run.state.outstanding]


def check_writes(run: RunUnderTest) -> None:
    """No write without a plan and, where the agent asks for it, a matching approval; none twice once it may have happened."""
    facts = {stored.fact.id: stored.fact.body for stored in run.log}
    tried: Counter[str] = Counter()
    settled: set[str] = set()
    decided_at = {each.id: index for index, each in enumerate(run.decided)}
    assert len(decided_at) == len(run.decided), "an id was decided twice"
    order = {stored.fact.id: index for index, stored in enumerate(run.log)}
    for each in run.decided:
        if not isinstance(each.command, CallTool) or each.command.write_key is None:
            continue
        command = each.command
        key = call_key(command.call.name, command.call.arguments)
        tried[key] += 1
        plan = facts[command.plan]  # type: ignore[index]  # a missing plan fails here
        assert plan.write_key == command.write_key  # type: ignore[union-attr]
        if run.request.agent.approval != "never" and (command.call.name == "destroy" or run.request.agent.approval == "writes"):
            grant = facts[command.approval]  # type: ignore[index]
            assert isinstance(grant, ApprovalGranted)
            assert grant.approval_hash == grant.command.approval_hash
        answers = [s for s in run.log if s.fact.slot == each.id]
        maybe = [s for s in answers if isinstance(s.fact.body, ToolReturned | ToolInDoubt | StepFailed)]
        assert key not in settled, "a write that may have happened was tried again"
        if maybe:
            settled.add(key)
            later = [d for d in run.decided if isinstance(d.command, CallTool) and order[d.cause] > order[maybe[0].fact.id]]
            assert all(call_key(d.command.call.name, d.command.call.arguments) != key or not d.command.write_key for d in later)  # type: ignore[union-attr]


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
    at_once: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0


def services(world: World, process: Process, seed: int, clock: LoopClock) -> dict[str, Service]:
    """One service of each kind; tools are slow, die between intent and effect, and ask the provider afterwards."""
    llm = Service("llm", "a random model", ack_wait_s=5.0)
    retrieval = Service("retrieval", "finds everything", ack_wait_s=5.0)
    reads = Service("tools", "reads", ack_wait_s=5.0)
    writes = Service("tools", "writes", lane="cloud", ack_wait_s=5.0, attempts=0)

    @llm.on(Generate)
    async def generate(command: Generate, context: Context) -> AnyEvent:
        said = Prompt.model_validate(context.material["prompt"])
        assert said.hash() == command.prompt_hash, "the log does not tell what the model read"
        draw = random.Random(f"{seed} {context.run} {len(said.messages)}")
        await asyncio.sleep(draw.choice([0, 1, 40]))
        return Generated(command=command, generation=_generation(draw))

    @retrieval.on(SelectTools)
    async def select(command: SelectTools, context: Context) -> AnyEvent:
        found = tuple(ScoredCard(card=card, score=1.0) for card in CARDS)
        return ToolsSelected(command=command, tools=found, catalog="all", searched=3)

    @retrieval.on(RetrieveKnowledge)
    async def retrieve(command: RetrieveKnowledge, context: Context) -> AnyEvent:
        return KnowledgeRetrieved(command=command, passages=(passage(),))

    @reads.on(CallTool)
    async def read(command: CallTool, context: Context) -> AnyEvent:
        await asyncio.sleep(random.Random(context.order.id).choice([0, 3, 100]))
        return ToolReturned(command=command, result=ToolResult(text="noon"))

    @writes.on(PlanCall)
    async def plan(command: PlanCall, context: Context) -> AnyEvent:
        return planned(command, state=f"{context.run} {sum(world.effects.values())}")

    @writes.on(CallTool)
    async def write(command: CallTool, context: Context) -> AnyEvent:
        key = command.write_key or ""
        world.at_once[key] += 1
        world.most_at_once = max(world.most_at_once, world.at_once[key])
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
            world.at_once[key] -= 1

    memory = memory_service(world.conversations, clock)
    return {
        "llm": llm,
        "retrieval": retrieval,
        "reads": reads,
        "writes": writes,
        "memory": memory,
        "timer": timer_service(clock),
    }


class Cluster:
    """Two conductors and two of each worker, each killed some times, until every run has ended."""

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
        names = ["conductor", "llm", "retrieval", "reads", "writes", "memory", "timer"]
        lives = [asyncio.create_task(self._live(name)) for name in names for _ in range(2)]
        async with self.broker.hear("mp.ask.>", self._person):
            for number in range(runs):
                await self._begin(number)
                await asyncio.sleep(self._draw.choice([0, 0.5, 5]))
            async with asyncio.timeout(7 * 86400):
                await asyncio.gather(*(self._ended(run) for run in self.runs))
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

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
        assert isinstance(order.body, RequestApproval)
        event = _decided(order.body, random.Random(f"{self.seed} {order.id}"))
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


__all__ = ["TENANT", "Cluster", "Killed", "Process", "VirtualLoop", "check_writes", "play", "subjects", "working"]
