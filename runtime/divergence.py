"""Why a replay differs: what the log says, what is decided now instead, what caused it, and the code that decides it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from runtime import advance, asking, calls, ending, gathering, generating, grounding, policy, prompt, spending, waiting, writes
from runtime.advance import Decision
from runtime.differing import Change, changes
from runtime.state import RunState
from schemas.canonical import canonical, digest
from schemas.commands import AnyCommand
from schemas.envelope import DECIDER, Fact
from schemas.events import EVENTS, Answered, AnyEvent, Event
from schemas.ids import END_SLOT, EventId
from schemas.tools import ToolCard

Kind: TypeAlias = Literal["decision", "ending", "gap", "altered", "twice", "slot", "foreign"]
Places: TypeAlias = Mapping[EventId, tuple[int, str]]
"""The number and the kind of each event so far, by its id."""


@dataclass(frozen=True, slots=True)
class Differing:
    """A field that is decided otherwise. path: a JSON Pointer into the command; made_by: the function that makes the field.

    of: what else it follows from, such as agent.budget.approval_s; empty if that is the log alone.
    """

    path: str
    how: Literal["changed", "removed", "added"]
    log: object
    now: object
    made_by: str = ""
    of: str = ""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where today's code decides otherwise than the log tells. event: the fact's position from 1.

    kind: decision - the event that caused it causes something else now; ending - the run ends otherwise; gap - the event that
    caused it is not in the log; altered - no event of the log causes what this one answers; twice - the same event stands in
    the log before; slot - another event stands in its place before; foreign - it is of another run or tenant.
    command: what the log answers, as JSON; fields: where the closest decision of the same kind that is made now differs;
    instead: the kinds of commands that are open now and that the log does not answer before. cause: the number and the kind of
    the event that causes it; code: the function that reacts to that kind. began, today: versions of the decider.
    """

    event: int
    slot: str
    type: str
    why: str
    kind: Kind = "decision"
    command: object = None
    fields: tuple[Differing, ...] = ()
    instead: tuple[str, ...] = ()
    cause: tuple[int, str] | None = None
    code: str = ""
    began: str = DECIDER
    today: str = DECIDER


def misplaced(fact: Fact, number: int, state: RunState, places: Places) -> Divergence | None:
    """What is wrong with a fact before anybody asks what it says: it is of another run, or its place is taken."""
    tenant = state.tenant or fact.tenant
    if (fact.run, fact.tenant) != (state.run, tenant):
        why = f"this event is of run {fact.run} of {fact.tenant}, the log is that of run {state.run} of {tenant}"
        return Divergence(number, fact.slot, fact.kind, why, "foreign", began=state.decider)
    before = places.get(fact.id)
    if before is None:
        return None
    first, kind = before
    if kind == fact.kind:
        why = f"event {first} stands here again"
        return Divergence(number, fact.slot, fact.kind, why, "twice", cause=before, began=state.decider)
    why = f"{fact.kind} stands in the slot of event {first}, {kind}: a slot takes one event, so there were two writers"
    return Divergence(number, fact.slot, fact.kind, why, "slot", cause=before, began=state.decider)


def differs(
    fact: Fact, command: AnyCommand, number: int, state: RunState, unanswered: Iterable[Decision], places: Places
) -> Divergence:
    """An answer to something that is not decided now."""
    cause = _cause_of(fact, command, places)
    where = None if cause is None else places.get(cause)
    open_now = [each for each in unanswered if where is None or each.cause == cause] or list(unanswered)
    closest = _closest(command, open_now)
    if closest is not None:
        where = where or places.get(closest.cause)
    kind: Kind = "decision" if where else "gap" if cause else "altered"
    said = command.model_dump(mode="json")
    fields = () if closest is None else _fields(command.kind, said, closest.command.model_dump(mode="json"))
    instead = tuple(sorted({each.command.kind for each in open_now} - {command.kind})) if closest is None else ()
    why, code = _why(fact.kind, command, kind, cause, fields, instead), reaction(where[1]) if where else ""
    return Divergence(number, fact.slot, fact.kind, why, kind, said, fields, instead, where, code, state.decider)


def ends_otherwise(
    fact: Fact, said: Answered, event: AnyEvent, number: int, state: RunState, cause: tuple[int, str]
) -> Divergence:
    """The run ends as the log tells, and with other words."""
    code, old, new = _name(ending.ending_event), said.model_dump(mode="json"), event.model_dump(mode="json")
    fields = tuple(Differing(each.path, each.how, each.old, each.new, code) for each in changes(old, new))
    why = f"the run ends with another {_names(fields)} now"
    return Divergence(
        number,
        fact.slot,
        fact.kind,
        why,
        "ending",
        said.command.model_dump(mode="json"),
        fields,
        (),
        cause,
        code,
        state.decider,
    )


def reaction(kind: str) -> str:
    """The function of the runtime that decides what follows from events of a kind."""
    found = next((event for event in EVENTS if event.__name__ == kind), Event)
    code = advance.reaction_to(found)
    return _name(code) if code else _name(advance.advance)


def _cause_of(fact: Fact, command: AnyCommand, places: Places) -> EventId | None:
    """The event that caused a command: the one from which, with the command, its id follows; it may not be in the log."""
    if fact.slot == END_SLOT:
        return next((EventId(each) for each in fact.causes), None)
    said = canonical(command.model_dump(mode="json"))
    candidates = (*fact.causes, *places)
    return next((EventId(each) for each in candidates if digest("command", fact.run, each, said) == fact.slot), None)


def _closest(command: AnyCommand, decisions: Iterable[Decision]) -> Decision | None:
    """Of the decisions of the same kind the one with the fewest differences, of the same call if it is about one."""
    call = getattr(command, "call", None)
    alike = [each for each in decisions if each.command.kind == command.kind]
    said = command.model_dump(mode="json")

    def distance(decision: Decision) -> tuple[bool, int]:
        other = getattr(decision.command, "call", None)
        another_call = call is not None and other is not None and call.id != other.id
        return another_call, sum(1 for _ in changes(said, decision.command.model_dump(mode="json")))

    return min(alike, key=distance, default=None)


def _fields(kind: str, said: object, now: object) -> tuple[Differing, ...]:
    return tuple(_differing(kind, each) for each in changes(said, now))


def _differing(kind: str, change: Change) -> Differing:
    name = change.path.split("/")[1] if "/" in change.path else ""
    made, of = _MADE.get((kind, name)) or _MADE.get(("", name)) or (None, "")
    return Differing(change.path, change.how, change.old, change.new, _name(made) if made else "", of)


def _why(
    event: str, command: AnyCommand, kind: Kind, cause: EventId | None, fields: tuple[Differing, ...], instead: tuple[str, ...]
) -> str:
    answers = f"{event} answers {command.kind}"
    if kind == "gap":
        return f"{answers}, and the event {cause} that caused it is not in the log"
    if fields:
        return f"{answers}, which is decided with another {_names(fields)} now"
    if kind == "decision" and instead:
        return f"{answers}, which is not decided now, but {', '.join(instead)}"
    if kind == "altered":
        return f"{answers}, which is not decided now: no event of the log causes it, or its command was changed"
    return f"{answers}, which is not decided now"


def _names(fields: tuple[Differing, ...]) -> str:
    return ", ".join(dict.fromkeys(each.path.lstrip("/").replace("/", ".") or "value" for each in fields))


def _name(code: Callable[..., object]) -> str:
    return f"{code.__module__}.{code.__qualname__}"


_Made: TypeAlias = tuple[Callable[..., object], str]
_WAIT = "agent.budget.approval_s"
# What makes a field, and what of the agent or the policy it follows from. "": commands of every kind.
_MADE: dict[tuple[str, str], _Made] = {
    ("Generate", "prompt_hash"): (prompt.digested, "agent.prompt, agent.instructions, agent.shares, agent.manner"),
    ("Generate", "model"): (generating.generate, "agent.model"),
    ("Generate", "host"): (generating.generate, "agent.model_host"),
    ("Generate", "sampling"): (generating.generate, "agent.sampling"),
    ("Generate", "fallback"): (generating.generate, "agent.fallback"),
    ("Generate", "priority"): (generating.generate, "agent.priority"),
    ("Generate", "inputs"): (generating.generate, ""),
    ("Generate", "after"): (generating.generate, ""),
    ("SelectTools", "always"): (gathering.requested, "agent.tools"),
    ("SelectTools", "forbidden"): (gathering.requested, "agent.forbidden"),
    ("SelectTools", "k"): (gathering.requested, "agent.tool_k"),
    ("RetrieveKnowledge", "collections"): (gathering.requested, "agent.collections"),
    ("RetrieveKnowledge", "k"): (gathering.requested, "agent.knowledge_k"),
    ("RetrieveKnowledge", "host"): (gathering.requested, "agent.knowledge_host"),
    ("RetrieveKnowledge", "filters"): (gathering.requested, "agent.filters"),
    ("RecallMemory", "deadline"): (gathering.requested, f"agent.budget.deadline_s, {_WAIT}"),
    ("RecallMemory", "when_busy"): (gathering.requested, "agent.when_busy"),
    ("RecallMemory", "history_tokens"): (gathering.requested, "agent.budget.history_tokens"),
    ("RecallMemory", "similar"): (gathering.requested, "agent.recall"),
    ("RecallMemory", "facts"): (gathering.requested, "agent.recall"),
    ("RecallMemory", "facts_when"): (gathering.requested, "agent.recall"),
    ("RecallMemory", "summary"): (gathering.requested, "agent.recall"),
    ("RequestApproval", "expires"): (writes.planned, f"verdict.expires_s, {_WAIT}"),
    ("RequestApproval", "approval_hash"): (policy.approval_hash, ""),
    ("RequestApproval", "why"): (writes.judged, "verdict.why"),
    ("RequestApproval", "approvers"): (writes.judged, "verdict.approvers"),
    ("RequestApproval", "not_by"): (writes.judged, "verdict.four_eyes"),
    ("AskPerson", "expires"): (asking.asked, _WAIT),
    ("StartTimer", "at"): (waiting.due, f"agent.budget.deadline_s, {_WAIT}, verdict.expires_s"),
    ("JudgeCall", "price"): (spending.price_of, ""),
    ("JudgeCall", "currency"): (spending.price_of, ""),
    ("CallTool", "answers"): (calls.call_tool, ""),
    ("CallTool", "approval"): (calls.call_tool, ""),
    ("CallTool", "write_key"): (calls.call_tool, ""),
    ("CallTool", "plan"): (calls.call_tool, ""),
    ("StoreTurn", "results_of"): (ending.closed_when_idle, ""),
    ("StoreTurn", "outcome"): (ending.close, ""),
    ("EndRun", "error"): (ending.fail, "agent.budget"),
    ("EndRun", "outcome"): (ending.close, ""),
    ("", "ungrounded"): (grounding.ungrounded, ""),
    ("", "card_hash"): (ToolCard.hash, ""),
    ("", "answer_of"): (ending.close, ""),
}
