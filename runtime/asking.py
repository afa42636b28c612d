"""Questions of tools: a person answers, and the same call goes on with what was answered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from runtime.calls import call_tool, not_done
from runtime.state import Replied, RunState, changed
from runtime.steps import CALLER_LANE, NOTHING, Step, expect, kept, request_of
from runtime.waiting import clock_goes_on, waited
from schemas.canonical import canonical
from schemas.commands import AskPerson, StartTimer
from schemas.envelope import Fact
from schemas.events import PersonAnswered, StepFailed, ToolAsked
from schemas.tools import ToolCall

QUESTIONS = 5  # of one call; a tool that goes on asking is not called again


def asked(state: RunState, fact: Fact) -> Step:
    """The tool wants to know something before it goes on; a run that is being closed asks nobody."""
    event = expect(fact, ToolAsked)
    open_call = state.open_calls[event.command.call.id]
    if state.phase == "closing":
        return not_done(state, event.command, "The tool's question came too late; nothing was changed.", fact.id)
    if len(open_call.replied) >= QUESTIONS:
        text = f"The tool asked more than {QUESTIONS} questions and is not called again; nothing was changed."
        return not_done(state, event.command, text, fact.id)
    expires = fact.time + timedelta(seconds=request_of(state).agent.budget.approval_s)
    ask = AskPerson(call=open_call.call, asked=fact.id, question=event.question, expires=expires)
    state = kept(state, replace(open_call, asked_at=fact.time))
    return state, (ask, StartTimer(at=expires, purpose="question", about=open_call.call.id))


def answered(state: RunState, fact: Fact) -> Step:
    """A person answered, or would not: the tool is called again and decides what it makes of that."""
    event = expect(fact, PersonAnswered)
    ask = event.command
    if fact.time >= ask.expires:
        return _nobody(state, fact, ask.call)
    content = event.content if event.accepted else None
    open_call = state.open_calls[ask.call.id]
    replied = Replied(event=fact.id, question=ask.question.id, content=content)
    state = waited(kept(state, replace(open_call, replied=(*open_call.replied, replied))), fact, ask.call)
    if content and open_call.card.lane != CALLER_LANE:  # what a client's tool says is a result, not a person's word
        state = changed(state, told=(*state.told, canonical(content).decode()))
    return state, (call_tool(state, state.open_calls[ask.call.id]), *clock_goes_on(state))


def expired(state: RunState, fact: Fact, timer: StartTimer) -> Step:
    """Nobody has answered in time, or no timer can say so."""
    waiting = state.asked(AskPerson)
    asked = {id: ask for id, ask in waiting.items() if (ask.call.id, ask.expires) == (timer.about, timer.at)}
    if not asked:
        return state, NOTHING
    left = {id: command for id, command in state.outstanding.items() if id not in asked}
    return _nobody(changed(state, outstanding=left), fact, state.open_calls[timer.about].call)


def unasked(state: RunState, fact: Fact, command: AskPerson) -> Step:
    """The question reaches nobody."""
    event = expect(fact, StepFailed)
    text = f"The tool's question could not be asked; nothing was changed. {event.failure.what}".rstrip()
    return _given_up(state, fact, command.call, text)


def _nobody(state: RunState, fact: Fact, call: ToolCall) -> Step:
    return _given_up(state, fact, call, "Nobody answered the tool's question in time; nothing was changed.")


def _given_up(state: RunState, fact: Fact, call: ToolCall, text: str) -> Step:
    state = waited(state, fact, call)
    state, commands = not_done(state, call_tool(state, state.open_calls[call.id]), text, fact.id)
    return state, (*commands, *clock_goes_on(state))
