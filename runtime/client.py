"""The client of a run: ask, follow, approve, cancel. All it needs is a log and a bus."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from runtime.bus import Bus
from runtime.clock import Clock
from runtime.fold import Folded
from runtime.log import Log, Stored
from runtime.sealing import Erased
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.commands import EndRun, RequestApproval
from schemas.envelope import DECIDER, new_fact, source_of
from schemas.errors import MilepostError
from schemas.events import (
    TERMINAL,
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CancelRequested,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
)
from schemas.ids import CANCEL_SLOT, REQUEST_SLOT, CommandId, RunId, run_id, segment_of

SEGMENT_OVERLAP = timedelta(days=2)


class UnknownRun(MilepostError):
    """No log holds the run."""


class TooLate(MilepostError):
    """The question has been answered, or the run has ended."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that a request led to. fresh: False when the same key had begun it before."""

    run: RunId
    fresh: bool


@dataclass(frozen=True, slots=True)
class Update:
    """One fact of a run, and the state it leads to."""

    stored: Stored
    state: RunState


class Client:
    """Speaks for a user of a tenant."""

    def __init__(self, journal: Log, bus: Bus, clock: Clock, *, tenant: str = "default", user: str = "me") -> None:
        self.log, self.bus, self._clock = journal, bus, clock
        self.tenant, self.user = tenant, user
        self._source = source_of("client", user)

    async def ask(
        self, task: str, *, agent: AgentSpec | None = None, conversation: str | None = None, key: str | None = None
    ) -> Asked:
        """Begin a run. The same key (of the same tenant) is the same run, however often it is asked.

        key: the caller's idempotency key; without one every call is a new run. Raises Unreachable,
        ProtocolError for names that are no tokens, pydantic's ValidationError for an empty task, BeingForgotten.
        """
        now = self._clock.now()
        event = RunRequested(
            agent=agent or AgentSpec(), task=task, user=self.user,
            conversation=conversation or f"c-{secrets.token_hex(8)}", key=key or secrets.token_hex(16),
        )  # fmt: skip
        run = await self._known_before(event.key, key is not None) or run_id(self.tenant, event.key, segment_of(now))
        return Asked(run, await self._state(run, REQUEST_SLOT, event, None))

    async def _known_before(self, key: str, given: bool) -> RunId | None:
        """A run that the key began in the last segment: a retry must not begin a second one at the turn of the month."""
        now = self._clock.now()
        earlier = segment_of(now - SEGMENT_OVERLAP)
        if not given or earlier == segment_of(now):
            return None
        run = run_id(self.tenant, key, earlier)
        return run if await self.log.holds(run, self.tenant, "client", REQUEST_SLOT) else None

    async def state(self, run: RunId) -> RunState:
        """What the run has come to. Raises UnknownRun."""
        return (await self.folded(run)).state

    async def folded(self, run: RunId) -> Folded:
        """The run folded from its log. Raises UnknownRun, Erased."""
        folded = Folded(RunState(run=run))
        for stored in await self.log.read(run):
            folded.add(stored)
        if folded.state.erased:
            raise Erased(f"run {run}")
        if folded.state.request is None:
            raise UnknownRun(f"There is no run {run}.", why="no log holds it", hint="milepost runs ls")
        return folded

    async def follow(self, run: RunId) -> AsyncIterator[Update]:
        """Every fact of the run from its first one to its end, with the state after it. Raises Erased."""
        folded = Folded(RunState(run=run))
        async with aclosing(self.log.follow(run)) as facts:  # type: ignore[type-var]  # both twins are generators
            async for stored in facts:
                folded.add(stored)
                if folded.state.erased:
                    raise Erased(f"run {run}")
                event = stored.fact.body
                if isinstance(event, TERMINAL):
                    yield Update(stored, _ended(folded.state, event, stored.fact.time))
                    return
                yield Update(stored, folded.state)

    async def approve(self, run: RunId, approval: CommandId, *, by: str | None = None) -> None:
        """Allow the planned write that waits under this command. Raises TooLate, UnknownRun."""
        asked, key = await self._asked(run, approval)
        granted = ApprovalGranted(command=asked, by=by or self.user, approval_hash=asked.approval_hash)
        await self._answer(run, approval, granted, key)

    async def refuse(self, run: RunId, approval: CommandId, *, reason: str = "", by: str | None = None) -> None:
        """Refuse the planned write that waits under this command. Raises TooLate, UnknownRun."""
        asked, key = await self._asked(run, approval)
        await self._answer(run, approval, ApprovalRefused(command=asked, by=by or self.user, reason=reason), key)

    async def cancel(self, run: RunId, *, reason: str = "") -> None:
        """Ask the run to stop; writes under way are awaited. Cancelling twice is harmless. Raises TooLate, UnknownRun."""
        state = await self.state(run)
        if state.phase == "ended":
            raise TooLate(f"Run {run} has ended.", hint=f"milepost runs show {run}")
        await self._state(run, CANCEL_SLOT, CancelRequested(by=self.user, reason=reason), state.datakey)

    async def _asked(self, run: RunId, approval: CommandId) -> tuple[RequestApproval, str | None]:
        state = await self.state(run)
        asked = state.approvals().get(approval)
        if asked is None:
            raise TooLate("That approval does not wait any more.", hint=f"milepost runs show {run}")
        return asked, state.datakey

    async def _answer(self, run: RunId, slot: str, event: AnyEvent, datakey: str | None) -> None:
        if not await self._state(run, slot, event, datakey, role="person"):
            raise TooLate("Somebody else answered first.", hint=f"milepost runs show {run}")

    async def _state(self, run: RunId, slot: str, event: AnyEvent, datakey: str | None, *, role: str = "client") -> bool:
        source = source_of("person", self.user) if role == "person" else self._source
        return await self.log.append(new_fact(
            event, run=run, tenant=self.tenant, slot=slot, source=source, time=self._clock.now(), decider=DECIDER,
            datakey=datakey,
        ))  # fmt: skip


def _ended(state: RunState, event: Event, at: datetime) -> RunState:
    """The state after the terminal event, which counts even if this process decides otherwise than its conductor did."""
    if state.phase == "ended" or not isinstance(event, RunCompleted | RunFailed | RunCancelled):
        return state
    ending = event.command if isinstance(event.command, EndRun) else None
    answer = event.answer if isinstance(event, RunCompleted) else None
    failure = event.failure if isinstance(event, RunFailed) else state.failure
    return replace(state, phase="ended", outstanding={}, ending=ending, answer=answer, failure=failure, ended_at=at)


def answer_of(state: RunState) -> str:
    """The answer of a completed run; MilepostError with the reason if it has none."""
    if state.outcome == "completed":
        return state.answer or ""
    failure = state.failure
    raise MilepostError(
        f"Run {state.run} ended without an answer ({state.outcome}).",
        why=f"{failure.what} {failure.why}".strip() if failure else "", hint=f"milepost runs show {state.run}",
    )  # fmt: skip
