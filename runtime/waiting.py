"""Waiting for people: a run's clock stands while one is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from runtime.state import RunState, changed
from runtime.steps import NOTHING, request_of
from schemas.commands import AnyCommand, StartTimer
from schemas.envelope import Fact
from schemas.tools import ToolCall


def waits(state: RunState) -> bool:
    """Whether a person is asked something."""
    return any(each.asked_at for each in state.open_calls.values())


def waited(state: RunState, fact: Fact, call: ToolCall) -> RunState:
    """Nobody is asked about this call any more; while another one waits, the waiting goes on."""
    since = state.open_calls[call.id].asked_at or fact.time
    open_calls = {
        id: replace(each, asked_at=None if id == call.id else each.asked_at and min(each.asked_at, since))
        for id, each in state.open_calls.items()
    }
    state = changed(state, open_calls=open_calls)
    return state if waits(state) else changed(state, waited=state.waited + max(fact.time - since, timedelta()))


def clock_goes_on(state: RunState) -> tuple[AnyCommand, ...]:
    """A deadline that came while a person was asked is set anew when the waiting is over."""
    ticks = any(isinstance(each, StartTimer) and each.purpose == "deadline" for each in state.outstanding.values())
    if ticks or state.phase == "closing" or waits(state):
        return NOTHING
    return (StartTimer(at=due(state), purpose="deadline"),)


def due(state: RunState) -> datetime:
    """When the run must have ended: its budget of time, and what was waited for people."""
    if state.requested_at is None:
        raise ValueError("a run that was not requested is never due")
    return state.requested_at + timedelta(seconds=request_of(state).agent.budget.deadline_s) + state.waited
