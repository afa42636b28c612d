"""The client of a run: ask, follow, approve, answer, cancel. All it needs is a log and a bus."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from runtime import policy, tracing
from runtime.bus import Bus
from runtime.children import child_key, child_run, children_of
from runtime.clock import Clock
from runtime.fold import Folded
from runtime.forking import Change, Original, copies, fork_request
from runtime.log import Log, Stored
from runtime.sealing import Erased, UnknownKey
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.canonical import JsonObject
from schemas.commands import AskPerson, EndRun, RequestApproval
from schemas.envelope import DECIDER, new_fact, source_of
from schemas.errors import MilepostError
from schemas.events import (
    TERMINAL,
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CancelRequested,
    Event,
    Parent,
    PersonAnswered,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    Triggered,
)
from schemas.ids import CANCEL_SLOT, REQUEST_SLOT, CommandId, RunId, run_id, segment_of
from schemas.messages import Message
from schemas.policy import Scope
from schemas.tools import ToolCard

SEGMENT_OVERLAP = timedelta(days=2)


class UnknownRun(MilepostError):
    """No log holds the run."""


class TooLate(MilepostError):
    """The question has been answered, or the run has ended."""


class NotAllowed(MilepostError):
    """The write is another person's to approve."""

    def __init__(self, run: RunId, asked: RequestApproval, by: str) -> None:
        whose = f"{asked.not_by} may not, who asked for it" if by == asked.not_by else f"it is for {', '.join(asked.approvers)}"
        super().__init__(
            f"{by} may not approve this call of {asked.call.name}.", why=whose,
            hint=f"another person: milepost approvals approve {run} --by NAME",
        )  # fmt: skip


class OnlyOnce(MilepostError):
    """The write can be allowed this once only."""

    def __init__(self, asked: RequestApproval) -> None:
        super().__init__(
            f"This call of {asked.call.name} can be allowed once, not for longer.",
            why="it is a repeat, or has an argument that nobody named",
            hint="approve it without a scope",
        )  # fmt: skip


class UnfittingAnswer(MilepostError):
    """The answer does not have the fields that the tool asked for."""


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
        self, task: str, *, agent: AgentSpec | None = None, conversation: str | None = None, key: str | None = None,
        parent: Parent | None = None, trigger: Triggered | None = None, said: Sequence[Message] = (),
        brought: Sequence[ToolCard] = (),
    ) -> Asked:  # fmt: skip
        """Begin a run. The same key (of the same tenant) is the same run, however often it is asked.

        key: the caller's idempotency key; without one every call is a new run. parent: the call whose run this is to be;
        the key is then the call's. trigger: what begins it in nobody's name. said: what was said before, in place of
        what the conversation remembers; brought: tools whose calls this caller answers (both: RunRequested). Raises
        Unreachable, ProtocolError for names that are no tokens, pydantic's ValidationError for an empty task, BeingForgotten.
        """
        now = self._clock.now()
        key = child_key(parent.command) if parent else key
        event = RunRequested(
            agent=agent or AgentSpec(), task=task, user=self.user, parent=parent, trigger=trigger,
            said=tuple(said), brought=tuple(brought),
            conversation=conversation or f"c-{secrets.token_hex(8)}", key=key or secrets.token_hex(16),
        )  # fmt: skip
        if parent:
            run = child_run(self.tenant, parent.run, parent.command)
        else:
            run = await self._known_before(event.key, key is not None) or run_id(self.tenant, event.key, segment_of(now))
        return Asked(run, await self._state(run, REQUEST_SLOT, event, None))

    async def fork(
        self, original: Original, at: int, change: Change | None = None, *, by: str | None = None, key: str | None = None
    ) -> Asked:
        """Leave a run at one of its events, and go on otherwise; nothing of it happens in the world.

        Raises what `fork_request` and `copies` raise where it cannot be done, and what `ask` raises.
        """
        now, state = self._clock.now(), original.state
        event = fork_request(
            original, at, change or Change(), key=key or f"fork-{secrets.token_hex(16)}", by=by or self.user, now=now
        )
        run = run_id(self.tenant, event.key, segment_of(now))
        request = new_fact(
            event, run=run, tenant=self.tenant, slot=REQUEST_SLOT, source=self._source, time=now, decider=state.decider,
            datakey=state.datakey, traceparent=tracing.begun(run, self.tenant, event),
        )  # fmt: skip
        copies(original, request, source=self._source, now=now)  # what the recorder will do, and may not be able to
        try:
            return Asked(run, await self.log.append(request))
        except UnknownKey:  # it was imported from elsewhere: its user has another key here
            header = request.header.model_copy(update={"datakey": None})
            return Asked(run, await self.log.append(replace(request, header=header)))

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

    async def approve(self, run: RunId, approval: CommandId, *, by: str | None = None, scope: Scope = "once") -> None:
        """Allow the planned write that waits under this command.

        scope: this call; this tool for the rest of the conversation; these arguments for good. Raises NotAllowed, OnlyOnce,
        TooLate, UnknownRun.
        """
        asked, key = await self._asked(run, approval)
        who = by or self.user
        if not policy.may_approve(asked, who):
            raise NotAllowed(run, asked, who)
        if scope != "once" and not policy.may_stand(asked):
            raise OnlyOnce(asked)
        granted = ApprovalGranted(command=asked, by=who, approval_hash=asked.approval_hash, scope=scope)
        await self._answer(run, approval, granted, key)

    async def refuse(self, run: RunId, approval: CommandId, *, reason: str = "", by: str | None = None) -> None:
        """Refuse the planned write that waits under this command. Raises TooLate, UnknownRun."""
        asked, key = await self._asked(run, approval)
        await self._answer(run, approval, ApprovalRefused(command=asked, by=by or self.user, reason=reason), key)

    async def answer(self, run: RunId, question: CommandId, content: JsonObject | None, *, by: str | None = None) -> None:
        """Answer what a tool wants to know; None: the person would not. Raises UnfittingAnswer, TooLate, UnknownRun."""
        state = await self.state(run)
        ask = state.questions().get(question)
        if ask is None:
            raise TooLate("That question does not wait any more.", hint=f"milepost runs show {run}")
        if content is not None:
            _check_answer(ask, content)
        answered = PersonAnswered(command=ask, by=by or self.user, accepted=content is not None, content=content or {})
        await self._answer(run, question, answered, state.datakey)

    async def cancel(self, run: RunId, *, reason: str = "") -> None:
        """Ask the run, and those below it, to stop; writes under way are awaited. Cancelling twice is harmless.

        Raises TooLate, UnknownRun.
        """
        state = await self.state(run)
        if state.phase == "ended":
            raise TooLate(f"Run {run} has ended.", hint=f"milepost runs show {run}")
        await self._state(run, CANCEL_SLOT, CancelRequested(by=self.user, reason=reason), state.datakey)
        for child in children_of(state).values():  # their host does so too, if it lives
            with suppress(TooLate, UnknownRun, Erased):
                await self.cancel(child, reason=f"run {run} was cancelled")

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
        caller = tracing.begun(run, self.tenant, event) if isinstance(event, RunRequested) else None
        return await self.log.append(new_fact(
            event, run=run, tenant=self.tenant, slot=slot, source=source, time=self._clock.now(), decider=DECIDER,
            datakey=datakey, traceparent=caller,
        ))  # fmt: skip


def _check_answer(ask: AskPerson, content: JsonObject) -> None:
    """Raises UnfittingAnswer; a schema that is none itself refuses nothing."""
    import jsonschema_rs  # slow to load, and few tools ask

    def fetch(uri: str) -> JsonObject:
        raise ValueError(f"{uri} is outside the question, and nothing is fetched")

    try:
        fields = jsonschema_rs.Draft202012Validator(ask.question.fields, retriever=fetch)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return
    wrong = next(iter(fields.iter_errors(content)), None)
    if wrong is not None:
        where = ".".join(str(part) for part in wrong.instance_path)
        raise UnfittingAnswer(
            "The answer does not fit the question.", why=f"{where}: {wrong.message}" if where else wrong.message,
            hint="the question says which fields it has",
        )  # fmt: skip


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
