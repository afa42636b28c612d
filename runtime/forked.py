"""What is different in a fork: it is held until it has the other run's answers, and what comes after changes nothing.

Its calls go to the log of the run that it leaves (RECORDED_LANE). What that does not hold is read from the world if the fork
may, and written never: the model is told what would have been done, or the write is taken as done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from runtime import ending, writes
from runtime.calls import acted, not_done, observe
from runtime.children import AGENT
from runtime.policy import changes_the_world
from runtime.spending import counted
from runtime.state import OpenCall, RunState, changed
from runtime.steps import NOTHING, RECORDED_LANE, Step, expect
from schemas.commands import AnyCommand, CallTool, EndRun, JudgeCall, KeepGrant, PlanCall, RecallMemory, StoreTurn
from schemas.envelope import Fact
from schemas.events import AnswerCopied, CancelRequested, ToolFailed
from schemas.tools import call_key

NOT_RECORDED = "NotRecorded"
"""The type of failure that says that a log does not hold a call."""


def while_held(state: RunState, fact: Fact, react: Callable[[RunState, Fact], Step]) -> Step:
    """A fact while answers are copied: one of them counts in its slot and at its own moment, and a person may call it off."""
    event = fact.body
    if not state.held:
        return state, NOTHING
    if isinstance(event, CancelRequested):
        return ending.called_off(state, fact)
    if not isinstance(event, AnswerCopied):
        return state, NOTHING
    said = replace(fact, header=fact.header.model_copy(update={"time": event.at}), body=event.answer)
    state, commands = react(changed(state, copied=state.copied + 1), said)
    if state.held:
        return state, commands
    state, more = writes.unasked(state, fact)
    return state, (*commands, *more)


def is_sent(state: RunState, command: AnyCommand) -> bool:
    """Whether anybody is asked to do this: of a fork nothing that others would remember, and no write but of the log.

    While it is held there is nobody to ask, only its end to state.
    """
    if state.fork is None or isinstance(command, EndRun):
        return True
    if state.held:
        return False
    if isinstance(command, RecallMemory | StoreTurn | JudgeCall | KeepGrant):
        return False
    return not writes_the_world(state, command)


def writes_the_world(state: RunState, command: AnyCommand) -> bool:
    """Whether this is a write that a fork sends to somebody who would do it."""
    if state.fork is None or not isinstance(command, CallTool):
        return False
    return command.write_key is not None and command.host != RECORDED_LANE


def is_missing(state: RunState, fact: Fact) -> bool:
    """Whether the log has no answer to a call of a fork."""
    event = expect(fact, ToolFailed)
    return state.fork is not None and event.command.host == RECORDED_LANE and event.failure.type == NOT_RECORDED


def not_recorded(state: RunState, fact: Fact) -> Step:
    """The other run did not call this: look at the world, if the fork may, and change nothing."""
    command = expect(fact, ToolFailed).command
    open_call = state.open_calls[command.call.id]
    if _may_look(state, command, open_call):
        return state, (command.model_copy(update={"host": open_call.card.lane}),)
    if not changes_the_world(open_call.card):
        text = "This call was not made: the run is a fork of another one, which did not make it."
        return not_done(state, command, text, fact.id)
    if writes.simulates(state) and state.phase != "closing":
        return _as_if_done(state, fact, open_call, planned=isinstance(command, CallTool))
    return not_done(state, command, writes.only_tried(open_call), fact.id)


def _may_look(state: RunState, command: PlanCall | CallTool, open_call: OpenCall) -> bool:
    """A plan changes nothing, nor does a tool that only reads - unless an agent stands behind it, whose run may write.

    A card that names the log as its host leads back here, again and again.
    """
    card = open_call.card
    looks = isinstance(command, PlanCall) or not changes_the_world(card)
    allowed = state.fork is not None and state.fork.reads == "live" and state.phase != "closing"
    return allowed and looks and AGENT not in card.tags and card.lane != RECORDED_LANE


def _as_if_done(state: RunState, fact: Fact, open_call: OpenCall, *, planned: bool) -> Step:
    call, text = open_call.call, writes.simulated(open_call)
    state = state if planned else counted(state, open_call)  # a planned one was counted when it was sent
    state = changed(state, receipts={**state.receipts, call_key(call.name, call.arguments): text})
    return acted(observe(state, call, text, fact.id), NOTHING)
