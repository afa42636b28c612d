"""The decision function: (state, fact) -> (state, decisions). Pure; replay is a for-loop over it.

Decisions caused by a fact depend on the facts before it alone, so every conductor that folds the same
prefix decides the same, with the same ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime import asking, calls, ending, forked, gathering, policy, prompt, writes
from runtime.generating import generate, used
from runtime.state import RunState, changed
from runtime.steps import NOTHING, Step, expect, request_of
from schemas.commands import (
    AnyCommand,
    AskPerson,
    CallTool,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Fact
from schemas.events import (
    TERMINAL,
    AnswerCopied,
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    CallPlanned,
    CancelRequested,
    EffectSettled,
    Event,
    Generated,
    GrantKept,
    KnowledgeRetrieved,
    MemoryRecalled,
    PersonAnswered,
    RunRequested,
    RunSealed,
    StepFailed,
    TimerFired,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
    TurnQueued,
    TurnRefused,
    TurnReleased,
    TurnStored,
)
from schemas.ids import REQUEST_SLOT, CommandId, EventId, command_id
from schemas.messages import Message
from schemas.sealing import Sealed
from schemas.tools import ToolCall


@dataclass(frozen=True, slots=True)
class Decision:
    """A command with the id that its cause and its content give it."""

    id: CommandId
    command: AnyCommand
    cause: EventId


def advance(state: RunState, fact: Fact) -> tuple[RunState, tuple[Decision, ...]]:
    """Fold one fact. A fact that answers nothing that is open (late, repeated, foreign) changes nothing."""
    event = fact.body
    if isinstance(event, Sealed):
        return _erased(state, fact), ()
    if state.phase == "ended" or fact.run != state.run or fact.tenant != (state.tenant or fact.tenant):
        return state, ()
    if isinstance(event, TERMINAL):
        return ending.ended(state, fact), ()
    if state.held or isinstance(event, AnswerCopied):
        state, commands = forked.while_held(state, fact, _react)
    else:
        state, commands = _react(state, fact)
    decisions = tuple(_decide(state, fact, command) for command in commands)
    if decisions:
        state = changed(
            state, outstanding={**state.outstanding, **{each.id: each.command for each in decisions}},
            last_generate=next((each.id for each in decisions if isinstance(each.command, Generate)), state.last_generate),
        )  # fmt: skip
    return state, decisions


def _react(state: RunState, fact: Fact) -> Step:
    event = fact.body
    if isinstance(event, Answered):
        slot = CommandId(fact.slot)
        if state.outstanding.get(slot) != event.command:
            return state, NOTHING
        left = dict(state.outstanding)
        del left[slot]
        state = changed(state, outstanding=left)
    return _REACTIONS[type(event)](state, fact)


def reaction_to(kind: type[Event]) -> Callable[[RunState, Fact], Step] | None:
    """What decides what follows from events of a kind; None where nothing does."""
    return _REACTIONS.get(kind)


def _erased(state: RunState, fact: Fact) -> RunState:
    """What was erased is not known, so nothing follows from it - if it was this run's, and not put there by somebody else."""
    ours = (state.tenant, state.datakey) == (fact.tenant, fact.header.datakey) if state.request else fact.slot == REQUEST_SLOT
    return changed(state, erased=True) if ours else state


def _decide(state: RunState, fact: Fact, command: AnyCommand) -> Decision:
    return Decision(command_id(state.run, fact.id, command.model_dump(mode="json")), command, fact.id)


def _generated(state: RunState, fact: Fact) -> Step:
    event = expect(fact, Generated)
    said = event.generation
    wanted = tuple({call.id: call for call in reversed(said.calls)}.values())[::-1]  # an id names one call
    message = Message(role="assistant", content=said.text, calls=wanted, origin="model")
    state = changed(used(state, said.usage), messages=(*state.messages, message), inputs=(fact.id,))
    if said.malformed:
        return generate(changed(state, messages=(*state.messages, prompt.correction(said.malformed))))
    if not wanted:
        return ending.close(changed(state, answer=said.text), "answered", fact.id)
    state = changed(state, phase="acting", open_calls={}, observations={}, generation_calls=tuple(call.id for call in wanted))
    commands: list[AnyCommand] = []
    for call in wanted:
        state, more = _called(state, call)
        commands.extend(more)
    return calls.acted(state, tuple(commands))


def _called(state: RunState, call: ToolCall) -> Step:
    """What becomes of a call that the model asks for."""
    card = next((card for card in state.tools if card.name == call.name), None)
    if card is None:
        return calls.observe(state, call, f"There is no tool {call.name!r}."), NOTHING
    if state.calls >= request_of(state).agent.budget.calls:
        return calls.observe(state, call, "The run may make no more tool calls."), NOTHING
    return (writes.write if policy.changes_the_world(card) else calls.read)(state, call, card)


def _fired(state: RunState, fact: Fact) -> Step:
    timer = expect(fact, TimerFired).command
    if not isinstance(timer, StartTimer) or state.phase == "closing":
        return state, NOTHING
    return ending.deadline(state, fact) if timer.purpose == "deadline" else _expired(state, fact, timer)


def _expired(state: RunState, fact: Fact, timer: StartTimer) -> Step:
    return (writes.expired if timer.purpose == "approval" else asking.expired)(state, fact, timer)


def _step_failed(state: RunState, fact: Fact) -> Step:
    event = expect(fact, StepFailed)
    match event.command:
        case CallTool() as command if command.write_key:
            return calls.unknown(state, fact, command.call, event.failure)
        case PlanCall() | CallTool() as command:
            text = f"The call failed. {event.failure.what} {event.failure.why}".rstrip()
            return calls.not_done(state, command, text, fact.id)
        case JudgeCall() as command:
            return writes.unjudged(state, fact, command)
        case AskPerson() as command:
            return asking.unasked(state, fact, command)
        case KeepGrant():  # the person is asked again another time
            return state, NOTHING
        case StoreTurn():
            return ending.stored(state, fact)
        case StartTimer() as timer:  # without its timer an approval or a question would be open for ever
            return (state, NOTHING) if timer.purpose == "deadline" else _expired(state, fact, timer)
    return ending.fail(state, event.failure)


def _tool_failed(state: RunState, fact: Fact) -> Step:
    return (forked.not_recorded if forked.is_missing(state, fact) else calls.failed)(state, fact)


def _sealed(state: RunState, _: Fact) -> Step:
    """A receipt tells of a run that has ended, and moves nothing."""
    return state, NOTHING


_REACTIONS: dict[type[Event], Callable[[RunState, Fact], Step]] = {
    RunRequested: gathering.requested,
    CancelRequested: ending.cancelled,
    MemoryRecalled: gathering.recalled,
    TurnQueued: gathering.queued,
    TurnRefused: gathering.refused,
    TurnReleased: gathering.released,
    TurnStored: ending.stored,
    ToolsSelected: gathering.selected,
    KnowledgeRetrieved: gathering.knowledge,
    Generated: _generated,
    CallPlanned: writes.planned,
    CallJudged: writes.judged,
    GrantKept: writes.grant_kept,
    ToolReturned: calls.returned,
    ToolFailed: _tool_failed,
    ToolInDoubt: calls.in_doubt,
    ToolAsked: asking.asked,
    PersonAnswered: asking.answered,
    EffectSettled: calls.settled,
    ApprovalGranted: writes.granted,
    ApprovalRefused: writes.refused,
    TimerFired: _fired,
    StepFailed: _step_failed,
    RunSealed: _sealed,
}
