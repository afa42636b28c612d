"""The conductor: hears facts, folds them, sends what they cause. Holds nothing that the log does not hold."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace

import structlog
from pydantic import ValidationError

from runtime import capability
from runtime.advance import Decision
from runtime.bus import Bus, Reply, ServiceInfo
from runtime.capability import Issuer, Wanted
from runtime.clock import Clock
from runtime.ending import ending_event
from runtime.errors import Retryable, Unreachable
from runtime.fold import Folded
from runtime.forked import is_sent, writes_the_world
from runtime.keyring import read_forgotten
from runtime.log import Delivery, Log, Stored
from runtime.orders import order_of
from runtime.sealing import Erased
from runtime.state import RunState
from runtime.steps import RECORDED_LANE
from runtime.tracing import step_of
from schemas import subjects
from schemas.canonical import canonical, read_json
from schemas.commands import AnyCommand, AskPerson, CallTool, EndRun, PlanCall, RequestApproval
from schemas.envelope import DECIDERS, Fact, Order, encode, new_fact, source_of
from schemas.errors import ProtocolError
from schemas.events import AnyEvent, Failure, RunSealed, StepFailed
from schemas.ids import END_SLOT, CommandId, RunId, checked_run
from schemas.sealing import Sealed

log = structlog.get_logger("runtime.conductor")

GROUP = "conductor"
KEPT_RUNS = 20_000
QUESTION_BYTES = 4096


class _Run:
    """A run in memory. epoch: the count of gaps up to which its fold was complete."""

    __slots__ = ("epoch", "folded", "lock")

    def __init__(self, run: RunId) -> None:
        self.folded = Folded(RunState(run=run))
        self.lock = asyncio.Lock()
        self.epoch = -1


class Conductor:
    """Folds every run's facts and sends the commands they cause.

    Any number may run at once: they decide the same, ids make repeated sending harmless. A gap in the
    shared feed means that another conductor took a fact, so what is in memory is read up from the log
    before it is used. Every run that has not ended is looked at again every `sweep_s`
    seconds, whoever began it. issuer: signs what it asks of hosts of tools. traced: its commands say whose trace they
    are part of.
    """

    def __init__(
        self, journal: Log, bus: Bus, clock: Clock, *, name: str, sweep_s: float = 30.0, issuer: Issuer | None = None,
        traced: bool = False,
    ) -> None:  # fmt: skip
        self._log, self._bus, self._clock, self._issuer, self._traced = journal, bus, clock, issuer, traced
        self._source, self._name = source_of("conductor", name), name
        self._sweep_s = sweep_s
        self._runs: OrderedDict[RunId, _Run] = OrderedDict()
        self._epoch = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.facts = 0
        self.decisions = 0
        self.failures = 0

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Conduct until cancelled; what is under way is finished first."""
        about = "folds the facts of runs and decides what comes next"
        info = ServiceInfo("conductor", "1.0.0", about, {"lane": "main", "instance": self._name})
        answers: dict[str, Reply] = {"capability": self._vouch, "capability_keys": self._keys} if self._issuer else {}
        async with self._bus.serve(info, answers, self.stats), self._bus.hear(subjects.forget("*"), self._on_forget):
            if ready:
                ready.set()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._hear_facts())
                    group.create_task(self._sweep())
            finally:
                if self._tasks:
                    await asyncio.wait(self._tasks, timeout=5)

    def stats(self) -> dict[str, object]:
        """What this conductor has done since it began."""
        kept = {"facts": self.facts, "decisions": self.decisions, "failures": self.failures, "runs": len(self._runs)}
        return dict(kept)

    async def resend_all(self) -> None:
        """Send again what is outstanding in every run in memory: the queue may have lost it with its server."""
        for run in list(self._runs.values()):
            if run.folded.state.phase != "ended":
                with suppress(Retryable, Erased):  # the sweep comes by again
                    await self._carry_out(run, tuple(run.folded.open.values()), resent=True)

    async def _hear_facts(self) -> None:
        async for delivery in self._log.facts(GROUP):
            self._epoch += delivery.gap
            self._spawn(self._on_fact(delivery, self._epoch))

    async def _sweep(self) -> None:
        async for delivery in self._log.requests(GROUP, self._sweep_s):
            self._spawn(self._on_request(delivery))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _on_fact(self, delivery: Delivery[Fact], epoch: int) -> None:
        fact = delivery.message
        if fact.kind == RunSealed.__name__:  # it tells of a run that is over, and asks for nothing
            with suppress(Retryable):
                await delivery.ack()
            return
        if fact.header.decider not in DECIDERS:
            log.warning("another decider's run", run=fact.run, decider=fact.header.decider)
            await delivery.again(5.0)
            return
        run = self._run(fact.run)
        try:
            async with run.lock:
                before = run.folded.state
                known = run.epoch == epoch and delivery.attempt == 1
                if known:
                    decisions = run.folded.add(Stored(fact, delivery.position))
                    if before.held and not run.folded.state.held:
                        decisions = tuple(run.folded.open.values())
                else:
                    decisions = await self._read_up(run, epoch)
                    if run.folded.position < delivery.position:
                        raise Unreachable("The log does not show a fact that it has handed out.", why=fact.id)
            if run.folded.state.decider not in DECIDERS:
                await delivery.again(5.0)
                return
            if run.folded.state.erased:
                await self._drop(run.folded.state.run, delivery)
                return
            self.facts += 1
            self.decisions += len(decisions)
            await self._carry_out(run, decisions, resent=not known)
            await self._after(run, before)
            await delivery.ack()
        except Erased:
            await self._drop(fact.run, delivery)
        except Retryable as error:
            self.failures += 1
            log.warning("fact not handled yet", run=fact.run, event_id=fact.id, error=error.what)
            run.epoch = -1
            with suppress(Retryable):
                await delivery.again(0.5)
        except Exception:
            self.failures += 1
            run.epoch = -1
            log.exception("fact not handled", run=fact.run, event_id=fact.id, type=fact.header.type)
            with suppress(Retryable):
                await delivery.again(min(30.0, 0.5 * 2 ** min(delivery.attempt, 6)))

    async def _read_up(self, run: _Run, epoch: int) -> tuple[Decision, ...]:
        for stored in await self._log.read(run.folded.state.run, run.folded.position):
            run.folded.add(stored)
        run.epoch = epoch
        return tuple(run.folded.open.values())

    async def _on_request(self, delivery: Delivery[Fact]) -> None:
        run = self._run(delivery.message.run)
        try:
            if delivery.message.header.decider not in DECIDERS:
                await delivery.again(self._sweep_s)
                return
            if delivery.attempt > 1 and run.folded.state.phase != "ended":
                async with run.lock:
                    before = run.folded.state
                    decisions = await self._read_up(run, -1)
                await self._carry_out(run, decisions, resent=True)
                await self._after(run, before)
            if run.folded.state.erased or isinstance(delivery.message.body, Sealed):
                await self._drop(delivery.message.run, delivery)
            elif run.folded.state.phase == "ended" or (run.folded.position and run.folded.state.phase == "new"):
                await delivery.ack()  # over, or a request that begins nothing: its run id is not its key's
            else:
                await delivery.again(self._sweep_s)
        except Erased:
            await self._drop(delivery.message.run, delivery)
        except Exception as error:
            log.warning("run not swept", run=delivery.message.run, error=str(error))
            with suppress(Retryable):
                await delivery.again(self._sweep_s)

    async def _drop(self, run: RunId, delivery: Delivery[Fact]) -> None:
        """A run whose user was forgotten: nothing of it is decided or sent again."""
        self._runs.pop(run, None)
        with suppress(Retryable):
            await self._bus.forget(run)
            await delivery.ack()

    async def _on_forget(self, subject: str, raw: bytes) -> None:
        """Keys were destroyed: their runs leave this process's memory."""
        keys = read_forgotten(raw)
        for run_id, run in list(self._runs.items()):
            if run.folded.state.datakey in keys:
                del self._runs[run_id]

    async def _carry_out(self, run: _Run, decisions: tuple[Decision, ...], *, resent: bool) -> None:
        state = run.folded.state
        wanted = [
            each for each in decisions
            if each.id in state.outstanding and not state.erased and is_sent(state, each.command)
        ]  # fmt: skip
        if len(wanted) == 1:
            await self._send(state, wanted[0], resent)
        else:
            await asyncio.gather(*(self._send(state, each, resent) for each in wanted))

    async def _send(self, state: RunState, decision: Decision, resent: bool) -> None:
        command, now = decision.command, self._clock.now()
        if isinstance(command, EndRun):
            await self._state(state, END_SLOT, ending_event(command, state), decision)
            return
        try:
            order = self._signed(order_of(decision, state, source=self._source, time=now), state)
            if self._traced:
                place = step_of(state.run, decision.id, state.request)
                order = replace(order, header=order.header.model_copy(update={"traceparent": place.traceparent}))
            if isinstance(command, RequestApproval | AskPerson):
                await self._bus.tell(subjects.ask(state.tenant, state.run, decision.id), encode(order))
            else:
                await self._bus.send(order, resent=resent)
        except ProtocolError as error:  # it can never be sent: too large, or nothing the bus may carry
            failure = Failure(type=type(error).__name__, what=error.what, why=error.why, hint=error.hint)
            await self._state(state, decision.id, StepFailed(command=command, failure=failure), decision)

    def _signed(self, order: Order, state: RunState) -> Order:
        """With the right to do it, if it is for a host of tools; there is none to a write of a fork, whatever is decided."""
        command = order.body
        if self._issuer is None or state.request is None or not isinstance(command, PlanCall | CallTool):
            return order
        if command.host == RECORDED_LANE or writes_the_world(state, command):
            return order
        right = self._issuer.issue(order, state.request, self._clock.now())
        return replace(order, material={**order.material, capability.MATERIAL: right})

    async def _vouch(self, raw: bytes) -> bytes:
        """Wanted -> a fresh capability for the command as it is outstanding now, or none."""
        try:
            wanted = Wanted.model_validate(read_json(raw, limit=QUESTION_BYTES))
        except ValidationError as error:
            raise ProtocolError("The question names no command.", why=str(error)[:300]) from error
        run = self._runs.get(checked_run(wanted.run)) or _Run(RunId(wanted.run))
        with suppress(Erased):
            async with run.lock:
                await self._read_up(run, -1)
        state, decision = run.folded.state, run.folded.open.get(CommandId(wanted.command))
        if decision is None or decision.id not in state.outstanding or state.tenant != wanted.tenant or state.erased:
            return canonical({"capability": None})
        order = self._signed(order_of(decision, state, source=self._source, time=self._clock.now()), state)
        return canonical({"capability": order.material.get(capability.MATERIAL)})

    async def _keys(self, _: bytes) -> bytes:
        """The public keys that its capabilities are verified with, base64 by id."""
        return canonical({"keys": self._issuer.told() if self._issuer else {}})

    async def _state(self, state: RunState, slot: str, event: AnyEvent, decision: Decision) -> None:
        await self._log.append(new_fact(
            event, run=state.run, tenant=state.tenant, slot=slot, source=self._source, time=self._clock.now(),
            causes=(decision.cause,), decider=state.decider, datakey=state.datakey,
        ))  # fmt: skip

    async def _after(self, run: _Run, before: RunState) -> None:
        state = run.folded.state
        if state.phase in ("closing", "ended") and before.phase not in ("closing", "ended"):
            await self._stop_dropped(before.outstanding, state)
        if state.phase == "ended" and before.phase != "ended":
            await self._bus.forget(state.run)
            async with run.lock:
                run.folded.state = _over(run.folded.state)

    async def _stop_dropped(self, before: Mapping[CommandId, AnyCommand], state: RunState) -> None:
        dropped = [command for id, command in before.items() if id not in state.outstanding]
        for role in {command.role for command in dropped}:
            with suppress(Retryable):
                await self._bus.tell(subjects.stop(role, state.run), b"")

    def _run(self, run_id: RunId) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = _Run(run_id)
            self._make_room()
        self._runs.move_to_end(run_id)
        return run

    def _make_room(self) -> None:
        for run_id in list(self._runs)[: max(0, len(self._runs) - KEPT_RUNS)]:
            if not self._runs[run_id].lock.locked():
                del self._runs[run_id]


def _over(state: RunState) -> RunState:
    """What is needed of a run that has ended: that it has. What was said in it is not kept in memory."""
    return RunState(run=state.run, tenant=state.tenant, decider=state.decider, datakey=state.datakey, phase="ended")
