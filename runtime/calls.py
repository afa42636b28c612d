"""Calls of tools: what is asked of their hosts, and what the model is told of their results."""

from __future__ import annotations

from runtime.ending import closed_when_idle
from runtime.generating import generate
from runtime.spending import counted
from runtime.state import OpenCall, RunState, changed
from runtime.steps import NOTHING, Step, call_of, expect, host_of
from schemas.commands import AnyCommand, CallTool, JudgeCall, PlanCall
from schemas.envelope import Fact
from schemas.events import EffectSettled, Failure, ToolFailed, ToolInDoubt, ToolReturned, TurnResult
from schemas.ids import EventId
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard, ToolResult, call_key

OBSERVATION_CHARACTERS = 12_000
# Of a turn's results, what later turns may use: so many of the last, each with so much of what it says.
KEPT_RESULTS = 8
RESULT_CHARACTERS = 500
REF_CHARACTERS = 500  # longer ones are no references: bytes written as a URL


def opened(state: RunState, call: ToolCall, card: ToolCard) -> RunState:
    """The state in which the call is under way."""
    return changed(state, calls=state.calls + 1, open_calls={**state.open_calls, call.id: OpenCall(call=call, card=card)})


def read(state: RunState, call: ToolCall, card: ToolCard) -> Step:
    """A call that changes nothing goes straight to its host."""
    state = opened(state, call, card)
    return state, (call_tool(state, state.open_calls[call.id]),)


def call_tool(state: RunState, open_call: OpenCall) -> CallTool:
    """The command that runs a call, with its plan and approval if it is a write, and with what was answered to the tool."""
    plan = open_call.plan
    return CallTool(
        call=open_call.call, card_hash=open_call.card.hash(), host=host_of(state, open_call.card),
        plan=plan.event if plan else None, approval=open_call.approval, write_key=plan.planned.write_key if plan else None,
        answers=tuple(each.event for each in open_call.replied),
    )  # fmt: skip


def earlier(state: RunState, call: ToolCall) -> str:
    """What the model is told of a write that it asks for again in the same run; empty if it never did."""
    key = call_key(call.name, call.arguments)
    if key in state.receipts:
        known = state.receipts[key]
        doubtful = key in state.doubts.values() and not state.before_4
        return known if doubtful else f"This was done earlier in this run: {known}"
    if key in state.refusals:
        return "This was refused earlier in this run; do not ask for it again."
    if any(call_key(each.call.name, each.call.arguments) == key for each in state.open_calls.values()):
        return "The same call is already under way."
    return ""


def returned(state: RunState, fact: Fact) -> Step:
    """The tool answered."""
    event = expect(fact, ToolReturned)
    call = call_of(event.command)
    if isinstance(event.command, CallTool) and event.command.write_key:
        state = changed(state, receipts={**state.receipts, call_key(call.name, call.arguments): event.result.text})
    if not state.before_3:
        given = tuple((fact.id, result) for result in turn_results(call.name, event.result))
        state = changed(state, results=(*state.results, *given)[-KEPT_RESULTS:])
    if not state.before_4:
        state = changed(state, returned=(*state.returned, (call, _readable(event.result.text))))
    return acted(observe(state, call, event.result.text, fact.id), NOTHING)


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


def failed(state: RunState, fact: Fact) -> Step:
    """The tool, or the gate before it, said no to a plan or a call: nothing was changed."""
    event = expect(fact, ToolFailed)
    text = f"The call failed, nothing was changed. {event.failure.what} {event.failure.why}".rstrip()
    return not_done(state, event.command, text, fact.id)


def not_done(state: RunState, command: AnyCommand, text: str, event: EventId) -> Step:
    """A call came to nothing, whatever else is under way for it; the model is told why."""
    call = call_of(command)
    if isinstance(command, CallTool) and command.write_key:
        state = counted(state, state.open_calls[call.id], -1)
    return acted(observe(_alone(state, call), call, text, event), NOTHING)


def _alone(state: RunState, call: ToolCall) -> RunState:
    """Plan and verdict go side by side; when one of them fails, nobody waits for the other."""
    left = {
        id: each for id, each in state.outstanding.items()
        if not (isinstance(each, PlanCall | JudgeCall) and each.call.id == call.id)
    }  # fmt: skip
    return state if len(left) == len(state.outstanding) else changed(state, outstanding=left)


def in_doubt(state: RunState, fact: Fact) -> Step:
    """Whether the effect happened cannot be known."""
    event = expect(fact, ToolInDoubt)
    return unknown(state, fact, call_of(event.command), event.failure)


def unknown(state: RunState, fact: Fact, call: ToolCall, failure: Failure) -> Step:
    """A write that may have happened is never tried again in this run."""
    text = f"It is not known whether this happened; do not try again, tell the user. {failure.what}"
    key = call_key(call.name, call.arguments)
    state = changed(state, receipts={**state.receipts, key: text}, doubts={**state.doubts, fact.slot: key})
    return acted(observe(state, call, text, fact.id), NOTHING)


def settled(state: RunState, fact: Fact) -> Step:
    """What was in doubt is known now: the model is told so if it asks for the same again. No command waits for this."""
    event = expect(fact, EffectSettled)
    key = state.doubts.get(event.call)
    if key is None:
        return state, NOTHING
    text = "It did not happen after all; nothing was changed."
    if event.happened:
        said = event.result.text if event.result else event.note
        text = f"It happened, as was found out later. {said}".rstrip()
    return changed(state, receipts={**state.receipts, key: text}), NOTHING


def observe(state: RunState, call: ToolCall, text: str, *events: EventId) -> RunState:
    """The state in which a call has its result. events: those that tell it."""
    message = Message(role="tool", content=_readable(text), name=call.name, origin="tool")
    open_calls = {id: each for id, each in state.open_calls.items() if id != call.id}
    inputs = (*state.inputs, *events) if events else state.inputs
    return changed(state, open_calls=open_calls, inputs=inputs, observations={**state.observations, call.id: message})


def _readable(text: str) -> str:
    """As much of a result as a prompt can hold; the whole stands in the log."""
    left = len(text) - OBSERVATION_CHARACTERS
    return text if left <= 0 else f"{text[:OBSERVATION_CHARACTERS]} ... ({left} more characters)"


def acted(state: RunState, commands: tuple[AnyCommand, ...]) -> Step:
    """The model goes on when every call of its turn has a result."""
    if state.phase == "closing":
        return closed_when_idle(state)
    if commands or state.open_calls:
        return state, commands
    results = tuple(state.observations[id] for id in state.generation_calls)
    return generate(changed(state, messages=(*state.messages, *results)))
