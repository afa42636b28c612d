"""A run's result as data: what `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from runtime.log import Stored
from runtime.state import RunState
from runtime.timeline import summary
from schemas.events import (
    Answered,
    ApprovalGranted,
    ApprovalRefused,
    CallPlanned,
    KnowledgeRetrieved,
    Passage,
    RunFailed,
    TimerFired,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
)


def result_of(state: RunState, facts: Sequence[Stored]) -> dict[str, object]:
    """Run id, outcome, answer, steps, calls, approvals and error, from the facts that led to the state."""
    request = state.request
    return {
        "run": state.run, "conversation": request.conversation if request else None, "outcome": state.outcome,
        "answer": state.answer if state.outcome == "completed" else None,
        "started": state.requested_at, "ended": state.ended_at, "ms": _ms(state.requested_at, state.ended_at),
        "steps": [step_of(stored, state.requested_at) for stored in facts if _is_step(stored)],
        "calls": [call for stored in facts if (call := _call(stored))],
        "approvals": _approvals(state, facts), "sources": [_source(each) for each in passages_of(facts)],
        "error": _error(facts),
    }  # fmt: skip


def step_of(stored: Stored, start: datetime | None) -> dict[str, object]:
    """One event in one line: when (ms since the run began), who, what."""
    fact = stored.fact
    return {"ms": _ms(start, fact.time), "who": fact.role, "type": fact.kind, "summary": summary(fact)}


def _ms(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds() * 1000, 1) if start and end else None


def _is_step(stored: Stored) -> bool:
    return isinstance(stored.fact.body, Answered) and not isinstance(stored.fact.body, TimerFired)


def _call(stored: Stored) -> dict[str, object] | None:
    match stored.fact.body:
        case ToolReturned(command=command, result=result, repeated=repeated):
            return {"tool": command.call.name, "arguments": command.call.arguments, "result": result.text, "repeated": repeated}
        case ToolFailed(command=command, failure=failure) | ToolInDoubt(command=command, failure=failure):
            return {"tool": command.call.name, "arguments": command.call.arguments, "error": failure.model_dump()}
    return None


def _approvals(state: RunState, facts: Sequence[Stored]) -> list[dict[str, object]]:
    plans: dict[str, CallPlanned] = {
        stored.fact.id: stored.fact.body for stored in facts if isinstance(stored.fact.body, CallPlanned)
    }
    asked = {id: (request, "waiting", "") for id, request in state.approvals().items()}
    for stored in facts:
        body = stored.fact.body
        if isinstance(body, ApprovalGranted | ApprovalRefused):
            word = "granted" if isinstance(body, ApprovalGranted) else "refused"
            asked[stored.fact.slot] = (body.command, word, body.by)  # type: ignore[index]  # a command's id
    return [
        {
            "id": id, "state": word, "by": by or None, "tool": request.call.name, "arguments": request.call.arguments,
            "preview": plans[request.plan].preview.model_dump(mode="json") if request.plan in plans else None,
            "expires": request.expires,
        }
        for id, (request, word, by) in asked.items()
    ]  # fmt: skip


def passages_of(facts: Sequence[Stored]) -> list[Passage]:
    """What the answer may be taken from, in the order in which the model is shown it."""
    return [each for stored in facts if isinstance(stored.fact.body, KnowledgeRetrieved) for each in stored.fact.body.passages]


def _source(passage: Passage) -> dict[str, object]:
    told = {"document", "title", "source", "heading", "start", "end", "page", "version", "hash", "similarity", "text"}
    return {"page": None, **passage.model_dump(mode="json", include=told)}


def _error(facts: Sequence[Stored]) -> dict[str, str] | None:
    for stored in facts:
        if isinstance(stored.fact.body, RunFailed):
            failure = stored.fact.body.failure
            return {"type": failure.type, "what": failure.what, "why": failure.why, "next": failure.hint}
    return None
