"""The end of a run: budgets of time, failures, cancel, and the closing that waits for writes under way."""

from __future__ import annotations

from runtime.state import RunState, changed
from runtime.steps import NOTHING, Step, expect, request_of
from runtime.waiting import clock_goes_on, due, waits
from schemas.commands import CallTool, EndRun, KeepGrant, StoreTurn
from schemas.envelope import Fact
from schemas.events import Answered, AnyEvent, CancelRequested, Failure, RunCancelled, RunCompleted, RunFailed
from schemas.ids import EventId


def deadline(state: RunState, fact: Fact) -> Step:
    """The deadline's timer has fired."""
    if waits(state):
        return state, NOTHING
    if fact.time < due(state):
        return state, clock_goes_on(state)
    request = request_of(state)
    return fail(state, Failure(
        type="DeadlineExceeded", what=f"The run did not end within {request.agent.budget.deadline_s:g} s.",
        why="the agent's deadline passed", hint="raise budget.deadline_s of the agent, or look where the time went",
    ))  # fmt: skip


def cancelled(state: RunState, fact: Fact) -> Step:
    """Somebody asked to stop the run."""
    event = expect(fact, CancelRequested)
    if state.phase in ("new", "closing"):
        return state, NOTHING
    failure = Failure(type="Cancelled", what=f"Cancelled by {event.by}.", why=event.reason)
    return close(changed(state, failure=failure), "cancelled", None)


def called_off(state: RunState, fact: Fact) -> Step:
    """Somebody asked to stop a fork that is still held: nothing of it is under way."""
    event = expect(fact, CancelRequested)
    if state.phase == "closing":
        return state, NOTHING
    failure = Failure(type="Cancelled", what=f"Cancelled by {event.by}.", why=event.reason)
    ending = EndRun(outcome="cancelled", error=failure.model_dump(mode="json"))
    return finish(changed(state, failure=failure, open_calls={}), ending)


def fail(state: RunState, failure: Failure) -> Step:
    """The run cannot go on."""
    if state.phase == "closing":
        return state, NOTHING
    return close(changed(state, failure=failure), "failed", None)


def close(state: RunState, outcome: str, answer_of: EventId | None) -> Step:
    """Give up what is open, except writes under way: their outcome must be known before the run ends.

    Standing approvals are kept by their service, whatever becomes of the run.
    """
    if outcome == "answered":
        ending = EndRun(outcome="completed", answer_of=answer_of)
    else:
        error = state.failure.model_dump(mode="json") if state.failure else None
        ending = EndRun(outcome="failed" if outcome == "failed" else "cancelled", error=error)
    outstanding = {
        id: command for id, command in state.outstanding.items()
        if (isinstance(command, CallTool) and command.write_key) or isinstance(command, KeepGrant)
    }  # fmt: skip
    keep = {command.call.id for command in outstanding.values() if isinstance(command, CallTool)}
    open_calls = {id: each for id, each in state.open_calls.items() if id in keep}
    state = changed(state, phase="closing", outstanding=outstanding, open_calls=open_calls, ending=ending)
    return closed_when_idle(state)


def closed_when_idle(state: RunState) -> Step:
    """Remember the turn as soon as no write is under way; a fork is no turn of its conversation, and is not remembered."""
    busy = any(not isinstance(command, KeepGrant) for command in state.outstanding.values())
    if busy or state.ending is None:
        return state, NOTHING
    request = request_of(state)
    if request.fork:
        return state, (state.ending,)
    outcome = "answered" if state.ending.outcome == "completed" else state.ending.outcome
    return state, (
        StoreTurn(
            conversation=request.conversation, user=request.user, outcome=outcome, answer_of=state.ending.answer_of,
            results_of=tuple(dict.fromkeys(event for event, _ in state.results)),
        ),
    )  # fmt: skip


def stored(state: RunState, fact: Fact) -> Step:
    """The turn is remembered, or cannot be: either way the run ends."""
    return (state, (state.ending,)) if state.ending else (state, NOTHING)


def finish(state: RunState, ending: EndRun) -> Step:
    """End at once: nothing was done that could be remembered."""
    return changed(state, phase="closing", outstanding={}, ending=ending), (ending,)


def ended(state: RunState, fact: Fact) -> RunState:
    """The terminal event, if somebody has decided to end the run and no write is under way."""
    if not isinstance(fact.body, Answered) or fact.body.command not in state.outstanding.values():
        return state
    return changed(state, phase="ended", outstanding={}, ended_at=fact.time)


def ending_event(command: EndRun, state: RunState) -> AnyEvent:
    """The terminal event that a decision to end asks for."""
    if command.outcome == "completed":
        return RunCompleted(command=command, answer=state.answer or "")
    failure = Failure.model_validate(command.error or {"type": "Unknown", "what": "The run ended without a reason."})
    if command.outcome == "cancelled":
        return RunCancelled(command=command, by=failure.what, reason=failure.why)
    return RunFailed(command=command, failure=failure)
