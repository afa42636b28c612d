"""What every reaction to a fact is made of: the state it leads to and the commands it causes."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from runtime.state import OpenCall, RunState, changed
from schemas.commands import AnyCommand, AskPerson, CallTool, JudgeCall, PlanCall, RequestApproval
from schemas.envelope import Fact
from schemas.events import Event, RunRequested
from schemas.tools import ToolCall, ToolCard

Step: TypeAlias = tuple[RunState, tuple[AnyCommand, ...]]
NOTHING: tuple[AnyCommand, ...] = ()
RECORDED_LANE = "recorded"
"""The host of tools that answers a fork's calls from the log of the run that it leaves."""
CALLER_LANE = "caller"
"""The host of tools that clients bring with their requests, and answer for."""

_EventT = TypeVar("_EventT", bound=Event)


def expect(fact: Fact, kind: type[_EventT]) -> _EventT:
    """The event of a fact, which is of this kind."""
    if not isinstance(fact.body, kind):
        raise TypeError(f"{type(fact.body).__name__} is no {kind.__name__}")
    return fact.body


def request_of(state: RunState) -> RunRequested:
    """What the run was asked for."""
    if state.request is None:
        raise ValueError("the run was not requested")
    return state.request


def call_of(command: AnyCommand) -> ToolCall:
    """The call that a command is about."""
    if isinstance(command, PlanCall | JudgeCall | CallTool | RequestApproval | AskPerson):
        return command.call
    raise ValueError(f"{type(command).__name__} is about no call")


def host_of(state: RunState, card: ToolCard) -> str:
    """The lane that a run's calls of a tool go to: a fork asks the log first."""
    return card.lane if state.fork is None else RECORDED_LANE


def kept(state: RunState, open_call: OpenCall) -> RunState:
    """The state with what is known of an open call now."""
    return changed(state, open_calls={**state.open_calls, open_call.call.id: open_call})
