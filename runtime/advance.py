"""The decision function: (state, fact) -> (state, decisions). Pure; replay is a for-loop over it.

Decisions caused by a fact depend on the facts before it alone, so every conductor that folds the same
prefix decides the same, with the same ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias, TypeVar

from runtime import policy, prompt
from runtime.state import OpenCall, Plan, RunState, changed
from schemas.agent import AgentSpec, Recall
from schemas.commands import (
    AnyCommand,
    CallTool,
    EndRun,
    Generate,
    PlanCall,
    RecallMemory,
    RequestApproval,
    RetrieveKnowledge,
    SelectTools,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Fact
from schemas.events import (
    TERMINAL,
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    CallPlanned,
    CancelRequested,
    Event,
    Failure,
    Generated,
    KnowledgeRetrieved,
    MemoryRecalled,
    RunRequested,
    StepFailed,
    TimerFired,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
    TurnQueued,
    TurnRefused,
    TurnReleased,
    TurnResult,
    TurnStored,
)
from schemas.ids import REQUEST_SLOT, CommandId, EventId, command_id, run_id, segment_of_run
from schemas.messages import Message
from schemas.sealing import Sealed
from schemas.tools import ToolCall, ToolResult, call_key


@dataclass(frozen=True, slots=True)
class Decision:
    """A command with the id that its cause and its content give it."""

    id: CommandId
    command: AnyCommand
    cause: EventId


Step: TypeAlias = tuple[RunState, tuple[AnyCommand, ...]]
OBSERVATION_CHARACTERS = 12_000
# Of a turn's results, what later turns may use: so many of the last, each with so much of what it says.
KEPT_RESULTS = 8
RESULT_CHARACTERS = 500
REF_CHARACTERS = 500  # longer ones are no references: bytes written as a URL

_EventT = TypeVar("_EventT", bound=Event)
_NOTHING: tuple[AnyCommand, ...] = ()


def advance(state: RunState, fact: Fact) -> tuple[RunState, tuple[Decision, ...]]:
    """Fold one fact. A fact that answers nothing that is open (late, repeated, foreign) changes nothing."""
    event = fact.body
    if isinstance(event, Sealed):
        return _erased(state, fact), ()
    if state.phase == "ended" or fact.run != state.run or fact.tenant != (state.tenant or fact.tenant):
        return state, ()
    if isinstance(event, TERMINAL):
        return _end(state, fact), ()
    if isinstance(event, Answered):
        if state.outstanding.get(CommandId(fact.slot)) != event.command:
            return state, ()
        left = {id: command for id, command in state.outstanding.items() if id != fact.slot}
        state = changed(state, outstanding=left)
    state, commands = _REACTIONS[type(event)](state, fact)
    decisions = tuple(_decide(state, fact, command) for command in commands)
    if decisions:
        state = changed(
            state, outstanding={**state.outstanding, **{each.id: each.command for each in decisions}},
            last_generate=next((each.id for each in decisions if isinstance(each.command, Generate)), state.last_generate),
        )  # fmt: skip
    return state, decisions


def _erased(state: RunState, fact: Fact) -> RunState:
    """What was erased is not known, so nothing follows from it - if it was this run's, and not put there by somebody else."""
    ours = (state.tenant, state.datakey) == (fact.tenant, fact.header.datakey) if state.request else fact.slot == REQUEST_SLOT
    return changed(state, erased=True) if ours else state


def _decide(state: RunState, fact: Fact, command: AnyCommand) -> Decision:
    return Decision(command_id(state.run, fact.id, command.model_dump(mode="json")), command, fact.id)


def _end(state: RunState, fact: Fact) -> RunState:
    if not isinstance(fact.body, Answered) or fact.body.command not in state.outstanding.values():
        return state  # nobody has decided to end the run, or a write is still under way
    return changed(state, phase="ended", outstanding={}, ended_at=fact.time)


# --- the beginning: gather what the first generation needs -------------------------------------------


def _requested(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, RunRequested)
    if state.phase != "new" or fact.run != run_id(fact.tenant, event.key, segment_of_run(fact.run)):
        return state, _NOTHING  # nobody else's key names this run
    state = changed(
        state, phase="gathering", tenant=fact.tenant, decider=fact.header.decider, request=event,
        requested_at=fact.time, inputs=(fact.id,), datakey=fact.header.datakey, erased=False,
    )  # fmt: skip
    agent, commands = event.agent, [_recall(state)]
    if agent.tool_k or agent.tools:
        commands.append(SelectTools(always=agent.tools, forbidden=agent.forbidden, k=agent.tool_k))
    else:
        state = changed(state, gathered=state.gathered | {"tools"})
    if agent.knowledge_k:
        commands.append(_retrieve(state, agent))
    else:
        state = changed(state, gathered=state.gathered | {"knowledge"})
    commands.append(StartTimer(at=fact.time + timedelta(seconds=agent.budget.deadline_s), purpose="deadline"))
    return state, tuple(commands)


def _retrieve(state: RunState, agent: AgentSpec) -> AnyCommand:
    if state.before_3:
        return RetrieveKnowledge(collections=agent.collections, k=agent.knowledge_k)
    return RetrieveKnowledge(
        collections=agent.collections, k=agent.knowledge_k, host=agent.knowledge_host, filters=agent.filters
    )  # fmt: skip


def _recall(state: RunState) -> AnyCommand:
    request, at = _request_of(state), state.requested_at
    if at is None:
        raise ValueError("a run without a request recalls nothing")
    budget = request.agent.budget
    wanted = Recall(similar=0, facts=0, summary=False) if state.before_3 else request.agent.recall
    return RecallMemory(
        conversation=request.conversation, user=request.user, when_busy=request.agent.when_busy,
        deadline=at + timedelta(seconds=budget.deadline_s + budget.approval_s),
        history_tokens=budget.history_tokens, similar=wanted.similar, facts=wanted.facts,
        facts_when=wanted.facts_when, summary=wanted.summary,
    )  # fmt: skip


def _recalled(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, MemoryRecalled)
    state = changed(
        state, history=event.history, similar=event.similar, summary=event.summary, facts=event.facts, phase="gathering"
    )
    return _gathered(state, fact, "memory")


def _queued(state: RunState, fact: Fact) -> Step:
    if "release" in state.gathered:
        return changed(state, gathered=state.gathered - {"release"}), (_recall(state),)
    return changed(state, phase="queued"), _NOTHING


def _released(state: RunState, fact: Fact) -> Step:
    if state.phase == "gathering":  # the release overtook the answer that tells of the queue
        return changed(state, gathered=state.gathered | {"release"}), _NOTHING
    if state.phase != "queued":
        return state, _NOTHING
    return changed(state, phase="gathering"), (_recall(state),)


def _turn_refused(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, TurnRefused)
    failure = Failure(
        type="ConversationBusy", what="The conversation has an open run, and its agent refuses a second one.",
        why=f"run {event.by} is open", hint=f"milepost runs follow {event.by}",
    )  # fmt: skip
    return _finish(changed(state, failure=failure), EndRun(outcome="failed", error=failure.model_dump(mode="json")))


def _selected(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, ToolsSelected)
    state = changed(state, tools=tuple(each.card for each in event.tools), leaning=event.leaning)
    return _gathered(state, fact, "tools")


def _knowledge(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, KnowledgeRetrieved)
    return _gathered(changed(state, passages=event.passages), fact, "knowledge")


def _gathered(state: RunState, fact: Fact, what: str) -> Step:
    state = changed(state, gathered=state.gathered | {what}, inputs=(*state.inputs, fact.id))
    if state.phase == "gathering" and state.gathered >= {"memory", "tools", "knowledge"}:
        return _generate(state)
    return state, _NOTHING


# --- the middle: the model decides, tools act ---------------------------------------------------------


def _generate(state: RunState) -> Step:
    request = _request_of(state)
    if state.steps >= request.agent.budget.steps:
        return _fail(state, Failure(
            type="BudgetExceeded", what=f"The run took {state.steps} model turns without an answer.",
            why="the agent's step budget is spent", hint="raise budget.steps of the agent, or ask in smaller pieces",
        ))  # fmt: skip
    state, prompt_hash = prompt.digested(state)
    command = Generate(
        model=request.agent.model, host=request.agent.model_host, after=state.last_generate,
        inputs=state.inputs, prompt_hash=prompt_hash, sampling=request.agent.sampling,
        fallback=request.agent.fallback, priority=request.agent.priority,
    )  # fmt: skip
    return changed(state, phase="deciding", inputs=(), steps=state.steps + 1), (command,)


def _generated(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, Generated)
    said = event.generation
    calls = tuple({call.id: call for call in reversed(said.calls)}.values())[::-1]  # an id names one call
    message = Message(role="assistant", content=said.text, calls=calls, origin="model")
    state = changed(state, messages=(*state.messages, message), inputs=(fact.id,))
    if said.malformed:
        return _generate(changed(state, messages=(*state.messages, prompt.correction(said.malformed))))
    if not calls:
        state = changed(state, answer=said.text)
        return _close(state, "answered", fact.id)
    state = changed(state, phase="acting", open_calls={}, observations={}, generation_calls=tuple(call.id for call in calls))
    commands: list[AnyCommand] = []
    for call in calls:
        state, command = _open_call(state, call)
        if command is not None:
            commands.append(command)
    return _acted(state, tuple(commands))


def _open_call(state: RunState, call: ToolCall) -> tuple[RunState, AnyCommand | None]:
    card = next((card for card in state.tools if card.name == call.name), None)
    if card is None:
        return _observe(state, call, f"There is no tool {call.name!r}."), None
    if state.calls >= _request_of(state).agent.budget.calls:
        return _observe(state, call, "The run may make no more tool calls."), None
    writes = policy.changes_the_world(card)
    key = call_key(call.name, call.arguments) if writes else ""
    if writes and key in state.receipts:
        return _observe(state, call, f"This was done earlier in this run: {state.receipts[key]}"), None
    if writes and key in state.refusals:
        return _observe(state, call, "This was refused earlier in this run; do not ask for it again."), None
    if writes and any(call_key(each.call.name, each.call.arguments) == key for each in state.open_calls.values()):
        return _observe(state, call, "The same call is already under way."), None
    state = changed(state, calls=state.calls + 1, open_calls={**state.open_calls, call.id: OpenCall(call=call, card=card)})
    if writes:
        return state, PlanCall(call=call, card_hash=card.hash(), host=card.lane)
    return state, CallTool(call=call, card_hash=card.hash(), host=card.lane)


def _planned(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, CallPlanned)
    call = _call_of(event.command)
    open_call = replace(state.open_calls[call.id], plan=Plan(event=fact.id, planned=event))
    request = _request_of(state)
    if not policy.needs_approval(request.agent, open_call.card):
        state = changed(state, open_calls={**state.open_calls, call.id: open_call})
        return state, (_commit(open_call, approval=None),)
    expires = fact.time + timedelta(seconds=request.agent.budget.approval_s)
    ask = RequestApproval(call=call, plan=fact.id, approval_hash=policy.approval_hash(state.run, call, event), expires=expires)
    state = changed(state, open_calls={**state.open_calls, call.id: replace(open_call, asked_at=fact.time)})
    return state, (ask, StartTimer(at=expires, purpose="approval", about=call.id))


def _commit(open_call: OpenCall, approval: EventId | None) -> CallTool:
    plan = open_call.plan
    if plan is None:
        raise ValueError("a write without a plan is never committed")
    return CallTool(
        call=open_call.call, card_hash=open_call.card.hash(), host=open_call.card.lane, plan=plan.event,
        approval=approval, write_key=plan.planned.write_key,
    )  # fmt: skip


def _granted(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, ApprovalGranted)
    asked = event.command
    if not isinstance(asked, RequestApproval):
        return state, _NOTHING
    if event.approval_hash != asked.approval_hash or fact.time >= asked.expires:
        return _refuse(state, fact, asked.call, "The approval was for something else, or came too late.")
    commit = _commit(state.open_calls[asked.call.id], approval=fact.id)
    state = _waited(state, fact, asked.call)
    return state, (commit, *_clock_goes_on(state))


def _refused(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, ApprovalRefused)
    reason = f": {event.reason}" if event.reason else ""
    return _refuse(state, fact, _call_of(event.command), f"A person refused this call{reason}. Nothing was changed.")


def _refuse(state: RunState, fact: Fact, call: ToolCall, text: str) -> Step:
    state = _waited(state, fact, call)
    state = changed(state, refusals=state.refusals | {call_key(call.name, call.arguments)})
    state, commands = _acted(_observe(state, call, text, fact.id), _NOTHING)
    return state, (*commands, *_clock_goes_on(state))


def _waited(state: RunState, fact: Fact, call: ToolCall) -> RunState:
    """Nobody is asked about this call any more; while another one waits, the waiting goes on."""
    since = state.open_calls[call.id].asked_at or fact.time
    open_calls = {
        id: replace(each, asked_at=None if id == call.id else each.asked_at and min(each.asked_at, since))
        for id, each in state.open_calls.items()
    }
    state = changed(state, open_calls=open_calls)
    return state if _waits(state) else changed(state, waited=state.waited + max(fact.time - since, timedelta()))


def _waits(state: RunState) -> bool:
    return any(each.asked_at for each in state.open_calls.values())


def _clock_goes_on(state: RunState) -> tuple[AnyCommand, ...]:
    """A deadline that came while a person was asked is set anew when the waiting is over."""
    ticks = any(isinstance(each, StartTimer) and each.purpose == "deadline" for each in state.outstanding.values())
    if ticks or state.phase == "closing" or _waits(state):
        return _NOTHING
    return (StartTimer(at=due(state), purpose="deadline"),)


def due(state: RunState) -> datetime:
    """When the run must have ended: its budget of time, and what was waited for people."""
    if state.requested_at is None:
        raise ValueError("a run that was not requested is never due")
    return state.requested_at + timedelta(seconds=_request_of(state).agent.budget.deadline_s) + state.waited


def _returned(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, ToolReturned)
    call = _call_of(event.command)
    if isinstance(event.command, CallTool) and event.command.write_key:
        state = changed(state, receipts={**state.receipts, call_key(call.name, call.arguments): event.result.text})
    if not state.before_3:
        given = tuple((fact.id, result) for result in turn_results(call.name, event.result))
        state = changed(state, results=(*state.results, *given)[-KEPT_RESULTS:])
    return _acted(_observe(state, call, event.result.text, fact.id), _NOTHING)


def turn_results(tool: str, result: ToolResult) -> tuple[TurnResult, ...]:
    """What a tool gave, for later turns: each file or medium by its reference; if there is none, the text."""
    said = result.text[:RESULT_CHARACTERS]
    media = tuple(
        TurnResult(
            tool=tool, text=(part.text or said)[:RESULT_CHARACTERS], kind=part.kind, ref=part.ref, media_type=part.media_type
        )
        for part in result.parts
        if part.ref and len(f"{part.ref}{part.media_type}") <= REF_CHARACTERS
    )
    return media or (TurnResult(tool=tool, text=said),)


def _tool_failed(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, ToolFailed)
    text = f"The call failed, nothing was changed. {event.failure.what} {event.failure.why}".rstrip()
    return _acted(_observe(state, _call_of(event.command), text, fact.id), _NOTHING)


def _in_doubt(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, ToolInDoubt)
    return _unknown(state, fact, _call_of(event.command), event.failure)


def _unknown(state: RunState, fact: Fact, call: ToolCall, failure: Failure) -> Step:
    text = f"It is not known whether this happened; do not try again, tell the user. {failure.what}"
    state = changed(state, receipts={**state.receipts, call_key(call.name, call.arguments): text})
    return _acted(_observe(state, call, text, fact.id), _NOTHING)


def _observe(state: RunState, call: ToolCall, text: str, event: EventId | None = None) -> RunState:
    message = Message(role="tool", content=_readable(text), name=call.name, origin="tool")
    open_calls = {id: each for id, each in state.open_calls.items() if id != call.id}
    inputs = (*state.inputs, event) if event else state.inputs
    return changed(state, open_calls=open_calls, inputs=inputs, observations={**state.observations, call.id: message})


def _readable(text: str) -> str:
    """As much of a result as a prompt can hold; the whole stands in the log."""
    left = len(text) - OBSERVATION_CHARACTERS
    return text if left <= 0 else f"{text[:OBSERVATION_CHARACTERS]} ... ({left} more characters)"


def _acted(state: RunState, commands: tuple[AnyCommand, ...]) -> Step:
    if state.phase == "closing":
        return _closed_when_idle(state)
    if commands or state.open_calls:
        return state, commands
    results = tuple(state.observations[id] for id in state.generation_calls)
    return _generate(changed(state, messages=(*state.messages, *results)))


# --- the end: budgets, failures, cancel, closing ------------------------------------------------------


def _timer(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, TimerFired)
    timer = event.command
    if not isinstance(timer, StartTimer) or state.phase == "closing":
        return state, _NOTHING
    return _expired(state, fact, timer) if timer.purpose == "approval" else _deadline(state, fact)


def _expired(state: RunState, fact: Fact, timer: StartTimer) -> Step:
    asked = {id: ask for id, ask in state.approvals().items() if (ask.call.id, ask.expires) == (timer.about, timer.at)}
    if not asked:
        return state, _NOTHING
    left = {id: command for id, command in state.outstanding.items() if id not in asked}
    call = state.open_calls[timer.about].call
    return _refuse(changed(state, outstanding=left), fact, call, "Nobody approved this call in time. Nothing was changed.")


def _deadline(state: RunState, fact: Fact) -> Step:
    if _waits(state):
        return state, _NOTHING
    if fact.time < due(state):
        return state, _clock_goes_on(state)
    request = _request_of(state)
    return _fail(state, Failure(
        type="DeadlineExceeded", what=f"The run did not end within {request.agent.budget.deadline_s:g} s.",
        why="the agent's deadline passed", hint="raise budget.deadline_s of the agent, or look where the time went",
    ))  # fmt: skip


def _step_failed(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, StepFailed)
    command = event.command
    if isinstance(command, CallTool) and command.write_key:
        return _unknown(state, fact, command.call, event.failure)
    if isinstance(command, PlanCall | CallTool):
        text = f"The call failed. {event.failure.what} {event.failure.why}".rstrip()
        return _acted(_observe(state, command.call, text, fact.id), _NOTHING)
    if isinstance(command, StoreTurn):
        return _stored(state, fact)
    if isinstance(command, StartTimer):  # without its timer an approval would be open for ever
        return _expired(state, fact, command) if command.purpose == "approval" else (state, _NOTHING)
    return _fail(state, event.failure)


def _fail(state: RunState, failure: Failure) -> Step:
    if state.phase == "closing":
        return state, _NOTHING
    return _close(changed(state, failure=failure), "failed", None)


def _cancel(state: RunState, fact: Fact) -> Step:
    event = _expect(fact, CancelRequested)
    if state.phase in ("new", "closing"):
        return state, _NOTHING
    failure = Failure(type="Cancelled", what=f"Cancelled by {event.by}.", why=event.reason)
    return _close(changed(state, failure=failure), "cancelled", None)


def _close(state: RunState, outcome: str, answer_of: EventId | None) -> Step:
    """Give up what is open, except writes under way: their outcome must be known before the run ends."""
    if outcome == "answered":
        ending = EndRun(outcome="completed", answer_of=answer_of)
    else:
        error = state.failure.model_dump(mode="json") if state.failure else None
        ending = EndRun(outcome="failed" if outcome == "failed" else "cancelled", error=error)
    writes = {id: command for id, command in state.outstanding.items() if isinstance(command, CallTool) and command.write_key}
    keep = {command.call.id for command in writes.values()}
    open_calls = {id: each for id, each in state.open_calls.items() if id in keep}
    state = changed(state, phase="closing", outstanding=writes, open_calls=open_calls, ending=ending)
    return _closed_when_idle(state)


def _closed_when_idle(state: RunState) -> Step:
    if state.outstanding or state.ending is None:
        return state, _NOTHING
    request = _request_of(state)
    outcome = "answered" if state.ending.outcome == "completed" else state.ending.outcome
    return state, (
        StoreTurn(
            conversation=request.conversation, user=request.user, outcome=outcome, answer_of=state.ending.answer_of,
            results_of=tuple(dict.fromkeys(event for event, _ in state.results)),
        ),
    )  # fmt: skip


def _stored(state: RunState, fact: Fact) -> Step:
    return (state, (state.ending,)) if state.ending else (state, _NOTHING)


def _finish(state: RunState, ending: EndRun) -> Step:
    return changed(state, phase="closing", outstanding={}, ending=ending), (ending,)


def _request_of(state: RunState) -> RunRequested:
    if state.request is None:
        raise ValueError("the run was not requested")
    return state.request


def _call_of(command: AnyCommand) -> ToolCall:
    if isinstance(command, PlanCall | CallTool | RequestApproval):
        return command.call
    raise ValueError(f"{type(command).__name__} is about no call")


def _expect(fact: Fact, kind: type[_EventT]) -> _EventT:
    if not isinstance(fact.body, kind):
        raise TypeError(f"{type(fact.body).__name__} is no {kind.__name__}")
    return fact.body


_REACTIONS: dict[type[Event], Callable[[RunState, Fact], Step]] = {
    RunRequested: _requested,
    CancelRequested: _cancel,
    MemoryRecalled: _recalled,
    TurnQueued: _queued,
    TurnRefused: _turn_refused,
    TurnReleased: _released,
    TurnStored: _stored,
    ToolsSelected: _selected,
    KnowledgeRetrieved: _knowledge,
    Generated: _generated,
    CallPlanned: _planned,
    ToolReturned: _returned,
    ToolFailed: _tool_failed,
    ToolInDoubt: _in_doubt,
    ApprovalGranted: _granted,
    ApprovalRefused: _refused,
    TimerFired: _timer,
    StepFailed: _step_failed,
}
