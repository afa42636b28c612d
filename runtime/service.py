"""A service is a function from a command to an event; the loop around it owns delivery, retries and drain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog

from runtime import tracing
from runtime.bus import Bus, Hear, Reply, ServiceInfo
from runtime.clock import Clock
from runtime.errors import NotAsked, NotYet, Retryable, Unreachable
from runtime.histogram import Histogram
from runtime.log import Delivery, Log
from runtime.sealing import Erased
from schemas import subjects
from schemas.commands import AnyCommand, CallTool, Command, Role, StoreTurn
from schemas.envelope import Order, new_fact, source_of
from schemas.errors import MilepostError
from schemas.events import AnyEvent, Failure, StepFailed
from schemas.ids import RunId
from schemas.tools import Beat

log = structlog.get_logger("runtime.service")

T = TypeVar("T")
CommandT = TypeVar("CommandT", bound=Command)

BEAT_S = 2.0


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler knows beside its command. attempt: 1 at first.

    append: state a fact in another run's slot, in the clear: nothing personal; tell: say something to whoever listens now.
    """

    order: Order
    attempt: int
    append: Callable[[RunId, str, AnyEvent], Awaitable[bool]]
    tell: Callable[[str, bytes], Awaitable[None]]

    @property
    def run(self) -> RunId:
        return self.order.run

    @property
    def tenant(self) -> str:
        return self.order.tenant

    @property
    def material(self) -> dict[str, object]:
        return self.order.material

    def text(self, name: str) -> str:
        """A text of the material, empty when it is not there."""
        return str(self.order.material.get(name, ""))


Handle = Callable[[CommandT, Context], Awaitable[AnyEvent]]


@dataclass(slots=True)
class Service:
    """Who answers which commands and questions, and what it hears beside (subject -> receiver).

    attempts: how often a command is tried before StepFailed; 0 is without end. at_once: commands worked
    on side by side. ack_wait_s: how long a silent worker keeps a command before another gets it.
    pulse: for a host of tools, how it does; its worker tells it every BEAT_S seconds.
    """

    role: Role
    description: str
    version: str = "1.0.0"
    lane: str = "main"
    attempts: int = 5
    at_once: int = 16
    ack_wait_s: float = 10.0
    handlers: dict[type[Command], Handle[Command]] = field(default_factory=dict)
    answers: dict[str, Reply] = field(default_factory=dict)
    hears: dict[str, Hear] = field(default_factory=dict)
    stats: Callable[[], dict[str, object]] = dict
    pulse: Callable[[], Beat] | None = None

    def on(self, command: type[CommandT]) -> Callable[[Handle[CommandT]], Handle[CommandT]]:
        """Register the handler of a command."""

        def register(handle: Handle[CommandT]) -> Handle[CommandT]:
            self.handlers[command] = handle  # type: ignore[assignment]  # the loop looks it up by this very type
            return handle

        return register

    def answer(self, verb: str) -> Callable[[Reply], Reply]:
        """Register the reply to a question asked with `mp.svc.{role}.{verb}`."""

        def register(reply: Reply) -> Reply:
            self.answers[verb] = reply
            return reply

        return register


class Worker:
    """Runs one service: takes orders, writes their facts, acknowledges after the fact is stored."""

    def __init__(
        self, service: Service, journal: Log, bus: Bus, clock: Clock, *, name: str, spans: tracing.Spans | None = None
    ) -> None:
        self._service, self._log, self._bus, self._clock, self._spans = service, journal, bus, clock, spans
        self._source, self._name = source_of(service.role, name), name
        self._working: dict[asyncio.Task[None], Delivery[Order]] = {}
        self._room = asyncio.Semaphore(service.at_once)
        self._given_up: set[str] = set()
        self.done = 0
        self.failed = 0
        self.retried = 0
        self.busy_s = 0.0
        self._took: dict[str, Histogram] = {}
        self._waited = Histogram()

    async def run(self, ready: asyncio.Event | None = None, drain_s: float = 20.0) -> None:
        """Work until cancelled, then take nothing new and finish what is under way within drain_s seconds."""
        service = self._service
        about = {"lane": service.lane, "instance": self._name}
        info = ServiceInfo(service.role, service.version, service.description, about)
        async with (
            self._bus.serve(info, service.answers, self.stats),
            self._bus.hear(subjects.stop(service.role, "*"), self._stop),
            AsyncExitStack() as hearing,
        ):
            for subject, receive in service.hears.items():
                await hearing.enter_async_context(self._bus.hear(subject, receive))
            if ready:
                ready.set()
            hearts = [asyncio.create_task(self._keep_working()), asyncio.create_task(self._beat())]
            try:
                await self._take()
            finally:
                await self._drain(drain_s)
                for heart in hearts:
                    heart.cancel()

    def stats(self) -> dict[str, object]:
        """Commands done, failed and retried, those under way, the time spent, in seconds, and what the service adds.

        took, waited: how long tries took, by kind of command, and how long commands waited before their first one.
        """
        own = {"done": self.done, "failed": self.failed, "retried": self.retried, "working": len(self._working)}
        times = {"took": {kind: each.told() for kind, each in self._took.items()}, "waited": self._waited.told()}
        return {**own, "busy_s": round(self.busy_s, 3), **self._service.stats(), **(times if self._took else {})}

    async def _take(self) -> None:
        service = self._service
        if not service.handlers:
            await asyncio.Event().wait()
        orders = self._bus.orders(service.role, service.lane, ack_wait_s=service.ack_wait_s, at_once=service.at_once)
        async for delivery in orders:
            await self._room.acquire()
            task = asyncio.get_running_loop().create_task(self._work(delivery))
            self._working[task] = delivery
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._working.pop(task, None)
        self._room.release()

    async def _work(self, delivery: Delivery[Order]) -> None:
        order, begun, at = delivery.message, time.perf_counter(), self._clock.now()
        trouble: str | None = ""
        self._bind(order)
        if delivery.attempt == 1:
            self._waited.observe((at - order.time).total_seconds())
        try:
            trouble = await self._answer(delivery)
            await delivery.ack()
        except NotYet as later:
            trouble = None  # nothing was done
            with suppress(Retryable):
                await delivery.again(later.delay_s)
        except asyncio.CancelledError:
            trouble = tracing.CANCELLED
            with suppress(Retryable):
                await delivery.ack() if self._stopped(order) else await delivery.again(0.0)
            raise
        except Retryable as error:
            trouble = type(error).__name__
            self.retried += 1
            pause = min(30.0, 0.1 * 2 ** min(delivery.attempt, 9))
            log.warning("tried again", error=error.what, why=error.why, attempt=delivery.attempt, pause_s=pause)
            with suppress(Retryable):
                await delivery.again(pause)
        except (Erased, NotAsked) as error:
            log.info("dropped", why="its user was forgotten" if isinstance(error, Erased) else str(error))
            with suppress(Retryable):
                await delivery.ack()
        except Exception as error:
            trouble = type(error).__name__
            log.exception("order not handled", attempt=delivery.attempt)
            with suppress(Retryable):
                await delivery.again(min(30.0, 0.5 * 2 ** min(delivery.attempt, 6)))
        finally:
            self._given_up.discard(order.id)
            self._count(delivery, at, time.perf_counter() - begun, trouble)

    def _count(self, delivery: Delivery[Order], at: datetime, took: float, trouble: str | None) -> None:
        """One try is over. trouble: the type of what went wrong; None: it was put off."""
        order = delivery.message
        self.busy_s += took
        if trouble is None:
            return
        self._took.setdefault(order.body.kind, Histogram()).observe(took)
        if self._spans is not None:
            done = tracing.handled(order, at, at + timedelta(seconds=took), attempt=delivery.attempt, error=trouble)
            if done is not None:
                self._spans(done)

    def _bind(self, order: Order) -> None:
        """Whatever is logged from here on in this task says what it is about."""
        step = tracing.read(order.header.traceparent)
        known = {"trace": step.trace} if step else {}
        structlog.contextvars.bind_contextvars(
            run=order.run, command=order.id, tenant=order.tenant, kind=order.body.kind, **known
        )

    async def _answer(self, delivery: Delivery[Order]) -> str:
        """Answer a command in the log; gives the type of what failed, if the answer is that it did."""
        order = delivery.message
        role = self._service.role
        if (delivery.attempt > 1 or delivery.resent) and await self._log.holds(order.run, order.tenant, role, order.id):
            return ""
        event = await self._event(delivery)
        try:
            await self._state(order, event)
        except (Retryable, Erased):
            raise
        except MilepostError as error:  # the log may never hold it: too large, or text that cannot be stored
            event = _gave_up(order.body, type(error).__name__, error.what, error.why, error.hint, delivery.attempt)
            await self._state(order, event)
        if isinstance(event, StepFailed):
            self.failed += 1
            log.error("gave up", failure=event.failure.what, why=event.failure.why)
            return event.failure.type
        self.done += 1
        return ""

    async def _state(self, order: Order, event: AnyEvent) -> None:
        fact = new_fact(
            event, run=order.run, tenant=order.tenant, slot=order.id, source=self._source, time=self._clock.now(),
            causes=order.causes, decider=order.header.decider, datakey=order.header.datakey,
        )  # fmt: skip
        await self._patiently(lambda: self._log.append(fact))  # what was done is not done again for want of a log

    async def _event(self, delivery: Delivery[Order]) -> AnyEvent:
        order, limit = delivery.message, self._service.attempts
        if limit and delivery.attempt > limit:
            return _gave_up(order.body, "TooManyAttempts", f"The command was tried {limit} times.",
                            "its worker failed or died each time", "milepost runs show " + order.run, limit)  # fmt: skip
        handle = self._service.handlers.get(type(order.body))
        if handle is None:
            return _gave_up(order.body, "NoHandler", f"{self._service.role} does not answer {order.body.kind}.")
        try:
            context = Context(order, delivery.attempt, partial(self._append, order), self._bus.tell)
            return await self._patiently(lambda: handle(order.body, context))
        except (NotYet, NotAsked, asyncio.CancelledError):
            raise
        except Retryable as error:
            if limit and delivery.attempt >= limit:
                return _gave_up(order.body, type(error).__name__, error.what, error.why, error.hint, delivery.attempt)
            raise
        except MilepostError as error:
            return _gave_up(order.body, type(error).__name__, error.what, error.why, error.hint, delivery.attempt)
        except Exception as error:
            log.exception("handler failed", attempt=delivery.attempt)
            if limit and delivery.attempt >= limit:
                why = f"{type(error).__name__}: {error}"[:500]
                return _gave_up(order.body, "Unexpected", "The service failed unexpectedly.", why, "", delivery.attempt)
            raise Retryable("The service failed unexpectedly.", why=repr(error)[:500]) from error

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """While a store or the log is away, wait for it here: that is no failure of the command."""
        pause = 0.1
        while True:
            try:
                return await work()
            except Unreachable as error:
                self.retried += 1
                log.warning("waits", error=error.what, why=error.why, pause_s=pause)
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)

    async def _append(self, order: Order, run: RunId, slot: str, event: AnyEvent) -> bool:
        """A fact of another run, which may be another user's: under this one's key it could be lost to that run."""
        fact = new_fact(
            event, run=run, tenant=order.tenant, slot=slot, source=self._source, time=self._clock.now(), causes=(order.id,)
        )
        return await self._log.append(fact)

    async def _beat(self) -> None:
        service = self._service
        while service.pulse:
            with suppress(Unreachable):  # silence is what is heard then, and is meant
                await self._bus.tell(subjects.beat(service.lane), service.pulse().model_dump_json().encode())
            await asyncio.sleep(BEAT_S)

    async def _keep_working(self) -> None:
        while True:
            await asyncio.sleep(self._service.ack_wait_s / 3)
            for delivery in list(self._working.values()):
                with suppress(Retryable):
                    await delivery.working()

    async def _stop(self, subject: str, _: bytes) -> None:
        run = subject.rsplit(".", 1)[-1]
        for task, delivery in list(self._working.items()):
            order = delivery.message
            if order.run == run and _stoppable(order.body):
                self._given_up.add(order.id)
                task.cancel()

    def _stopped(self, order: Order) -> bool:
        return order.id in self._given_up

    async def _drain(self, seconds: float) -> None:
        if not self._working:
            return
        _, late = await asyncio.wait(list(self._working), timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1)


def _stoppable(command: AnyCommand) -> bool:
    """A write under way is never broken off, and neither is the closing of the turn that follows every stop."""
    return not (isinstance(command, StoreTurn) or (isinstance(command, CallTool) and command.write_key))


def _gave_up(command: AnyCommand, kind: str, what: str, why: str = "", hint: str = "", attempts: int = 1) -> StepFailed:
    return StepFailed(command=command, failure=Failure(type=kind, what=what, why=why, hint=hint, attempts=attempts))


async def serve(work: Coroutine[None, None, None], stopping: asyncio.Event) -> None:
    """Run a conductor or worker until `stopping` is set, then let it end in good order."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
